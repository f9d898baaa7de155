"""Figures of the two chapters on geometry. They only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting

SHORT = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Names of the months that fit beside a point."""


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


@plotting.style()
def turntable(
    points: ArrayLike,
    names: Sequence[str] = SHORT,
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
) -> Figure:
    """Items in the plane, joined in their order and back to the first.

    Args:
        points: [item, 2].
        names: of the items.
        title: the finding.
        xlabel: what lies across.
        ylabel: what lies up.

    Raises:
        ValueError: not one name an item.
    """
    places = np.asarray(points, dtype=float)
    if places.ndim != 2 or places.shape[1] != 2 or len(names) != len(places):
        raise ValueError(f"{len(names)} names for points of shape {places.shape}; give [item, 2]")
    fig = plotting.figure("half", 3.8)
    ax = fig.subplots()
    closed = np.concatenate([places, places[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=plotting.GREY, linewidth=1, zorder=1)
    colors = np.linspace(0, 1, len(places), endpoint=False)
    ax.scatter(places[:, 0], places[:, 1], c=colors, cmap="twilight", s=45, zorder=2)
    for name, (x, y) in zip(names, places, strict=True):
        ax.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=11)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.15)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def shares(
    measured: Mapping[str, ArrayLike],
    null: Mapping[str, ArrayLike] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Shares of the harmonics, one panel a set of points, over the range that shuffles cover.

    Args:
        measured: name → [harmonic].
        null: name → [order, harmonic].
        title: the finding.
    """
    fig = plotting.figure("page", 1.2 + 1.5 * len(measured))
    axes = np.atleast_1d(fig.subplots(len(measured), 1, squeeze=True))
    for ax, (name, values) in zip(axes, measured.items(), strict=True):
        heights = np.asarray(values, dtype=float)
        places = np.arange(1, len(heights) + 1)
        ax.bar(places, heights, 0.6, color=plotting.COLORS[0])
        if null and name in null:
            low, high = np.percentile(np.asarray(null[name]), [5, 95], axis=0)
            ax.vlines(places, low, high, color=plotting.INK, linewidth=5, alpha=0.45)
        ax.set(ylabel="share", xticks=places)
        ax.set_title(name, fontsize=12.5)
    axes[-1].set_xlabel("harmonic: times around")
    plotting.headline(fig, title)
    return fig


@plotting.style()
def flip_curves(
    x: ArrayLike,
    kinds: Mapping[str, ArrayLike],
    intervals: Mapping[str, ArrayLike] | None = None,
    *,
    panels: Sequence[str],
    xlabel: str,
    title: str = "",
) -> Figure:
    """Flip rates of several interventions, one panel beside another.

    Args:
        x: depths or strengths, [point].
        kinds: name → [panel, point].
        intervals: name → [panel, two, point]: low and high ends.
        panels: labels.
        xlabel: what x is.
        title: the finding.
    """
    fig = plotting.figure("page", 4.4)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    for i, (ax, panel) in enumerate(zip(axes, panels, strict=True)):
        for number, (name, values) in enumerate(kinds.items()):
            color = plotting.COLORS[number % len(plotting.COLORS)]
            line = ("-", "--")[number // len(plotting.COLORS)]
            heights = np.asarray(values, dtype=float)[i]
            ax.plot(x, heights, line, color=color, marker="o", markersize=4, label=name)
            if intervals and name in intervals:
                low, high = np.asarray(intervals[name], dtype=float)[i]
                ax.fill_between(
                    np.asarray(x, float), low, high, color=color, alpha=0.18, linewidth=0
                )
        ax.set_title(panel, fontsize=12.5)
        ax.set_xlabel(xlabel)
        ax.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("flips to the month meant")
    _legend(fig, axes[0])
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
        control: name → [draw, point], drawn as a grey band from the lowest to the highest.
        xscale: matplotlib's name of the scale.
    """
    fig = plotting.figure("page", 3.9)
    ax = fig.subplots()
    places = np.asarray(x, dtype=float)
    for name, draws in (control or {}).items():
        runs = np.atleast_2d(np.asarray(draws, dtype=float))
        ax.fill_between(places, runs.min(0), runs.max(0), color="#b9c0c9", linewidth=0, label=name)
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
