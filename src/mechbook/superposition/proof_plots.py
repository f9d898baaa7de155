"""Figures of the chapter of proofs. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from mechbook import plotting


def _title(fig: Figure, title: str) -> None:
    fig.suptitle(textwrap.fill(title, 48), x=0.012, ha="left", fontsize=13.5, fontweight="bold")


@plotting.style()
def planes(panels: Mapping[str, ArrayLike], *, title: str = "", names: bool = True) -> Figure:
    """Codes in the plane as arrows, one panel each, with the unit circle.

    Args:
        panels: for each panel's title its codes, [2, feature].
        title: the finding.
        names: write the feature's number beside each arrow.

    Raises:
        ValueError: codes that are not in the plane.
    """
    fig = plotting.figure("page", 1.1 + 5.6 / len(panels))
    axes = np.atleast_1d(fig.subplots(1, len(panels)))
    for ax, (name, codes) in zip(axes, panels.items(), strict=True):
        _plane(ax, np.asarray(codes, dtype=float), names)
        ax.set_title(name, fontsize=11, fontweight="normal")
    _title(fig, title)
    return fig


def _plane(ax: Axes, codes: np.ndarray, names: bool) -> None:
    if codes.ndim != 2 or len(codes) != 2:
        raise ValueError(f"codes have shape {codes.shape}; give [2, feature]")
    ax.add_patch(Circle((0, 0), 1, fill=False, color=plotting.GREY, linestyle=":"))
    ax.set(xlim=(-1.4, 1.7), ylim=(-1.4, 1.4), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    labels: dict[tuple[float, float], list[str]] = {}
    for i, (x, y) in enumerate(codes.T):
        color = plotting.COLORS[i % len(plotting.COLORS)]
        if np.hypot(x, y) < 0.06:
            x, y = 0.0, 0.0
            ax.plot(0, 0, "o", color=plotting.INK, markersize=4)
        else:
            arrow = {"arrowstyle": "-|>", "color": color, "lw": 2, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (x, y), (0, 0), arrowprops=arrow)
        labels.setdefault((round(float(x), 2), round(float(y), 2)), []).append(str(i + 1))
    for (x, y), numbers in labels.items() if names else ():
        _number(ax, x, y, ", ".join(numbers))


def _number(ax: Axes, x: float, y: float, text: str) -> None:
    """Write it just beyond the end of an arrow, or beside the origin."""
    length = float(np.hypot(x, y))
    out = (length + 0.12) / length if length else 0.0
    sides = {-1: "right", 0: "center", 1: "left"}, {-1: "top", 0: "center", 1: "bottom"}
    turns = [int(np.round(part / length)) if length else -1 for part in (x, y)]
    shift = 0.0 if length else -0.08
    place = (x * out + shift, y * out + shift)
    ax.text(*place, text, ha=sides[0][turns[0]], va=sides[1][turns[1]], fontsize=11)


@plotting.style()
def codes_and_gram(codes: ArrayLike, *, title: str = "") -> Figure:
    """Codes in the plane, and beside them all their dot products as numbers.

    Args:
        codes: [2, feature].
        title: the finding.
    """
    W = np.asarray(codes, dtype=float)
    G = W.T @ W
    fig = plotting.figure("page", 3.3)
    left, right = fig.subplots(1, 2)
    _plane(left, W, True)
    image = right.imshow(G, cmap=plotting.DIVERGING, vmin=-1, vmax=1)
    numbers = [str(i + 1) for i in range(len(G))]
    right.set_xticks(range(len(G)), numbers)
    right.set_yticks(range(len(G)), numbers)
    right.grid(False)
    for (i, j), value in np.ndenumerate(G):
        ink = plotting.PAPER if abs(value) > 0.6 else plotting.INK
        right.text(j, i, f"{value + 0.0:.2f}", ha="center", va="center", fontsize=11, color=ink)
    fig.colorbar(image, ax=right, label="dot product", shrink=0.9)
    _title(fig, title)
    return fig


@plotting.style()
def grams(
    matrices: Mapping[str, ArrayLike], *, title: str = "", unit: str = "dot product"
) -> Figure:
    """Gram matrices side by side, in one scale of colors.

    Args:
        matrices: [feature, feature] each, with the panel's title.
        title: the finding.
        unit: what the colors mean.
    """
    fig = plotting.figure("page", 1.3 + 4.6 / len(matrices))
    axes = np.atleast_1d(fig.subplots(1, len(matrices)))
    for ax, (name, values) in zip(axes, matrices.items(), strict=True):
        G = np.asarray(values, dtype=float)
        image = ax.imshow(G, cmap=plotting.DIVERGING, vmin=-1, vmax=1)
        ax.set_title(textwrap.fill(name, 60 // len(matrices)), fontsize=11, fontweight="normal")
        ax.set_xticks(range(len(G)), [str(i + 1) for i in range(len(G))])
        ax.set_yticks(range(len(G)), [str(i + 1) for i in range(len(G))])
        ax.grid(False)
    fig.colorbar(image, ax=list(axes), label=unit, shrink=0.8)
    _title(fig, title)
    return fig


@plotting.style()
def diagram(
    densities: ArrayLike,
    importances: ArrayLike,
    share: ArrayLike,
    lines: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    live: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """The phase diagram: what trained models do, with the lines of theory on top.

    Args:
        densities: of the cells, ascending.
        importances: of the cells, ascending; drawn on a logarithmic axis.
        share: share of the seeds whose codes are opposite, [importance, density].
        lines: for each name densities and importances.
        live: densities, importances and 0 or 1 for the models trained just now.
        title: the finding.
    """
    fig = plotting.figure("page", 4.6)
    ax = fig.subplots()
    x, y, cells = np.asarray(densities), np.asarray(importances), np.asarray(share)
    image = ax.pcolormesh(x, y, cells, cmap=plotting.SEQUENTIAL, vmin=0, vmax=1, shading="nearest")
    for (name, (px, py)), color in zip(lines.items(), ("#D55E00", plotting.PAPER), strict=False):
        ax.plot(px, py, color=plotting.INK, linewidth=4.5)
        ax.plot(px, py, color=color, linewidth=2.4, label=name)
    if live is not None:
        _marks(ax, *(np.asarray(part).ravel() for part in live))
    ax.set(yscale="log", xlabel="density of both features", ylabel="importance of the second")
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.set_yticks([0.1, 0.2, 0.5, 1.0], ["0.1", "0.2", "0.5", "1"])
    ax.minorticks_off()
    ax.grid(False)
    fig.colorbar(image, ax=ax, label="share of seeds with opposite codes")
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(
        handles, labels, loc="outside lower center", ncols=2, facecolor="#b9c0c9", frameon=True
    )
    _title(fig, title)
    return fig


def _marks(ax: Axes, x: np.ndarray, y: np.ndarray, opposite: np.ndarray) -> None:
    style: Any = {"linestyle": "", "clip_on": False, "zorder": 5}
    yes, no = opposite > 0.5, opposite <= 0.5
    ink, paper = plotting.INK, plotting.PAPER  # each mark has an edge that its ground cannot hide
    ax.plot(x[yes], y[yes], "D", color=paper, mec=ink, ms=6, label="live: opposite", **style)
    ax.plot(x[no], y[no], "o", color=ink, mec=paper, ms=6, label="live: not", **style)


@plotting.style()
def two_lines(
    x: ArrayLike,
    lines: Mapping[str, ArrayLike],
    marks: Mapping[str, float],
    *,
    xlabel: str,
    ylabel: str,
    top: float | None = None,
    title: str = "",
) -> Figure:
    """Named curves with named vertical lines.

    Args:
        x: positions.
        lines: values by name, [point].
        marks: positions of vertical lines by name.
        xlabel: horizontal axis.
        ylabel: vertical axis.
        top: where the vertical axis ends.
        title: the finding.
    """
    fig = plotting.figure("page", 4.2)
    ax = fig.subplots()
    for (name, values), dash in zip(lines.items(), ("-", "-", (0, (4, 2))), strict=False):
        ax.plot(np.asarray(x), np.asarray(values), linestyle=dash, label=name)
    for (name, at), dash in zip(marks.items(), (":", "--", "-."), strict=False):
        ax.axvline(at, color=plotting.INK, linestyle=dash, linewidth=1.4, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, top))
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    _title(fig, title)
    return fig


@plotting.style()
def unit_balls(
    dictionaries: Mapping[str, ArrayLike], points: Sequence[ArrayLike], *, title: str = ""
) -> Figure:
    """All points that cost at most 1 in Σ``|c|``: the hull of the atoms and their negatives.

    Args:
        dictionaries: for each panel's title the atoms, [2, atom].
        points: drawn in every panel.
        title: the finding.
    """
    from scipy.spatial import ConvexHull

    fig = plotting.figure("page", 3.9)
    axes = np.atleast_1d(fig.subplots(1, len(dictionaries)))
    for ax, (name, atoms) in zip(axes, dictionaries.items(), strict=True):
        D = np.asarray(atoms, dtype=float)
        corners = np.concatenate([D.T, -D.T])
        hull = corners[ConvexHull(corners).vertices]
        ax.fill(*hull.T, color="#d7e6f2", zorder=0)
        _plane(ax, D, True)
        for point in points:
            ax.plot(*np.asarray(point), "s", color=plotting.INK, markersize=5)
        ax.set_title(name, fontsize=11, fontweight="normal")
    shape = Line2D([], [], marker="s", linestyle="", color="#d7e6f2", markersize=12)
    fig.legend([shape], ["what Σ|c| ≤ 1 can reach"], loc="outside lower center")
    _title(fig, title)
    return fig
