"""Figures of the chapter on linear representations. They only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting


@plotting.style()
def arrows(
    points: Mapping[str, ArrayLike],
    pairs: Sequence[tuple[str, str]],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Figure:
    """Named points of the plane, and arrows from one to another.

    Args:
        points: name → [2].
        pairs: start and end of each arrow.
        xlabel: what lies across.
        ylabel: what lies up.
        title: the finding.
    """
    fig = plotting.figure("half", 3.6)
    ax = fig.subplots()
    for name, place in points.items():
        x, y = np.asarray(place, dtype=float)
        ax.plot(x, y, "o", color=plotting.COLORS[0])
        ax.annotate(name, (x, y), xytext=(6, 6), textcoords="offset points")
    for start, end in pairs:
        first, last = (tuple(np.asarray(points[name], dtype=float)) for name in (start, end))
        look = {"arrowstyle": "->", "color": plotting.COLORS[1], "lw": 2}
        ax.annotate("", xy=last, xytext=first, arrowprops=look)
    ax.margins(0.25)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def dumbbells(
    names: Sequence[str],
    ends: ArrayLike,
    *,
    labels: tuple[str, str],
    xlabel: str,
    title: str = "",
) -> Figure:
    """For each name two points on a line, and the way from the first to the second.

    Args:
        names: one a row, the first on top.
        ends: [row, two].
        labels: what the first and the second point are.
        xlabel: what lies across.
        title: the finding.

    Raises:
        ValueError: not one name a row, or not two points.
    """
    points = np.asarray(ends, dtype=float)
    if points.shape != (len(names), 2):
        raise ValueError(f"{len(names)} names for points of shape {points.shape}; give [row, 2]")
    fig = plotting.figure("page", 1.7 + 0.3 * len(names))
    ax = fig.subplots()
    places = np.arange(len(names))
    ax.hlines(places, *points.T, color=plotting.GREY, linewidth=2, zorder=1)
    for column, (label, mark) in enumerate(zip(labels, "os", strict=True)):
        color = plotting.COLORS[column]
        ax.plot(points[:, column], places, mark, color=color, markersize=7, label=label)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    _legend(fig, ax)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def ellipse(
    around: ArrayLike, vectors: Mapping[str, ArrayLike], *, title: str = "", limit: float = 3.0
) -> Figure:
    """The unit vectors of an inner product on the plane, the unit circle, and some vectors.

    Args:
        around: points of the ellipse, [point, 2].
        vectors: name → [2].
        title: the finding.
        limit: how far the axes go.
    """
    ring = np.asarray(around, dtype=float)
    turn = np.linspace(0, 2 * np.pi, 200)
    fig = plotting.figure("half", 3.9)
    ax = fig.subplots()
    ax.plot(
        np.cos(turn), np.sin(turn), color=plotting.GREY, linestyle=":", label="length 1, standard"
    )
    ax.plot(ring[:, 0], ring[:, 1], color=plotting.COLORS[0], label="length 1, this one")
    for color, (name, place) in zip(plotting.COLORS[1:], vectors.items(), strict=False):
        x, y = np.asarray(place, dtype=float)
        ax.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": color, "lw": 2})
        side, shift = ("left", 4) if x >= 0 else ("right", -4)
        ax.annotate(
            name, (x, y), xytext=(shift, 4), textcoords="offset points", ha=side, color=color
        )
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    fig.legend(loc="outside lower center", ncols=1)
    plotting.headline(fig, title)
    return fig


def _legend(fig: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)))


@plotting.style()
def curves(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    control: Mapping[str, ArrayLike] | None = None,
    xscale: str = "linear",
) -> Figure:
    """Named curves, and the range of a control's draws behind them.

    Args:
        x: [point].
        series: name → [point].
        xlabel: what x is.
        ylabel: what is measured.
        title: the finding.
        control: name → [draw, point], drawn grey: the mean, and a band from the lowest to the highest.
        xscale: matplotlib's name of the scale.
    """
    fig = plotting.figure("page", 3.9)
    ax = fig.subplots()
    places = np.asarray(x, dtype=float)
    for line, (name, draws) in zip(("--", ":"), (control or {}).items(), strict=False):
        runs = np.atleast_2d(np.asarray(draws, dtype=float))
        ax.fill_between(places, runs.min(0), runs.max(0), color="#b9c0c9", linewidth=0)
        ax.plot(places, runs.mean(0), line, color=plotting.GREY, label=name)
    for color, (name, values) in zip(plotting.COLORS, series.items(), strict=False):
        ax.plot(
            places,
            np.asarray(values, dtype=float),
            color=color,
            marker="o",
            markersize=4,
            label=name,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale)
    _legend(fig, ax)
    plotting.headline(fig, title)
    return fig
