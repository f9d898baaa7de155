"""Figures of the chapter on the geometry of months. They only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting

SHORT = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
"""Names of the months that fit beside a point."""


@plotting.style()
def turntable(
    panels: Mapping[str, ArrayLike],
    names: Mapping[str, Sequence[str]] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Items in the plane, joined in their order and back to the first; one panel beside another.

    Args:
        panels: title → points, [item, 2].
        names: title → the items' names in their order around; months by default.
        title: the finding.

    Raises:
        ValueError: not one name an item.
    """
    wide = len(panels) > 1
    fig = plotting.figure("page" if wide else "half", 3.7 if wide else 3.9)
    axes = np.atleast_1d(fig.subplots(1, len(panels)))
    for ax, (name, points) in zip(axes, panels.items(), strict=True):
        _ring(ax, np.asarray(points, dtype=float), (names or {}).get(name, SHORT))
        if wide:
            ax.set_title(name, fontsize=12.5)
    plotting.headline(fig, title)
    return fig


def _ring(ax: Axes, places: np.ndarray, names: Sequence[str]) -> None:
    if places.ndim != 2 or places.shape[1] != 2 or len(names) != len(places):
        raise ValueError(f"{len(names)} names for points of shape {places.shape}; give [item, 2]")
    closed = np.concatenate([places, places[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=plotting.GREY, linewidth=1, zorder=1)
    colors = np.linspace(0, 1, len(places), endpoint=False)
    look: dict[str, Any] = {
        "cmap": "twilight",
        "edgecolors": plotting.INK,
        "linewidths": 0.5,
        "zorder": 2,
    }
    ax.scatter(places[:, 0], places[:, 1], c=colors, s=45, **look)
    centre, size = places.mean(0), np.ptp(places, 0).max()
    for name, place in zip(names, places, strict=True):
        out = place - centre
        away = 9 * out / max(np.linalg.norm(out), 1e-9 * size or 1)
        where: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 11, "zorder": 3}
        ax.annotate(name, place, xytext=1.6 * away, textcoords="offset points", **where)
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.2)


@plotting.style()
def harmonics(
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
    rows = -(-len(measured) // 2) if len(measured) > 1 else 1
    fig = plotting.figure("page", 1.3 + 2.0 * rows)
    axes = fig.subplots(rows, min(2, len(measured)), squeeze=False, sharey=True).flatten()
    for ax, (name, values) in zip(axes, measured.items(), strict=False):
        heights = np.asarray(values, dtype=float)
        places = np.arange(1, len(heights) + 1)
        ax.bar(places, heights, 0.6, color=plotting.COLORS[0], label="measured")
        if null and name in null:
            low, high = np.percentile(np.asarray(null[name]), [5, 95], axis=0)
            ax.vlines(
                places, low, high, color=plotting.INK, linewidth=5, alpha=0.5,
                label="other orders, 5th to 95th percentile",
            )  # fmt: skip
        ax.set(xticks=places)
        ax.set_title(name, fontsize=12.5)
    for ax in axes[len(measured) :]:
        ax.set_visible(False)
    for ax in axes[max(0, len(measured) - 2) : len(measured)]:
        ax.set_xlabel("harmonic: times around")
    axes[0].set_ylabel("share of variance")
    _legend(fig, axes[0])
    plotting.headline(fig, title)
    return fig


@plotting.style()
def flips(
    x: ArrayLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    intervals: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    *,
    live: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    xlabel: str,
    ylabel: str = "answer becomes the month meant",
    title: str = "",
) -> Figure:
    """Shares of answers for several interventions, one panel beside another.

    Args:
        x: depths or strengths, [point].
        panels: panel → name → [point].
        intervals: panel → name → [two, point]: low and high ends.
        live: this run, panel → name → [point], drawn as crosses.
        xlabel: what x is.
        ylabel: what is counted.
        title: the finding.
    """
    fig = plotting.figure("page", 4.6)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    places = np.asarray(x, dtype=float)
    for ax, (panel, kinds) in zip(axes, panels.items(), strict=True):
        for number, (name, values) in enumerate(kinds.items()):
            color = plotting.COLORS[number % len(plotting.COLORS)]
            mark = "osD^vPX"[number % 7]
            ax.plot(places, np.asarray(values, float), color=color, marker=mark, label=name)
            ends = (intervals or {}).get(panel, {}).get(name)
            if ends is not None:
                low, high = np.asarray(ends, dtype=float)
                ax.fill_between(places, low, high, color=color, alpha=0.18, linewidth=0)
            run = (live or {}).get(panel, {}).get(name)
            if run is not None:
                ax.plot(places, np.asarray(run, float), "x", color=plotting.INK, zorder=4)
        ax.set(xlabel=xlabel, ylim=(-0.04, 1.04), xticks=places[:: 1 + len(places) // 10])
        ax.set_title(panel, fontsize=12.5)
    if live:
        axes[0].plot([], [], "x", color=plotting.INK, label="this run")
    axes[0].set_ylabel(ylabel)
    _legend(fig, axes[0])
    plotting.headline(fig, title)
    return fig


def _legend(fig: Figure, ax: Axes) -> None:
    handles, names = ax.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=min(3, len(names)))
