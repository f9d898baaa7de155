"""The drawings of the chapter: directions in the plane, WᵀW, shapes over sparsity, levels, cases."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting


@plotting.style()
def model(W: ArrayLike, b: ArrayLike, *, title: str = "", reach: float = 1.6) -> Figure:
    """A toy model with two hidden dimensions: directions, WᵀW with the biases, and lengths.

    Args:
        W: [2, feature].
        b: [feature].
        title: the finding.
        reach: half the width of the plane that is drawn.
    """
    columns, biases = np.asarray(W), np.asarray(b)
    fig = plotting.figure("page", 3.3)
    plane, matrix, bias, length = fig.subplots(1, 4, width_ratios=(1.25, 1.25, 0.25, 0.7))
    _directions(plane, columns, reach)
    order = [str(i) for i in range(columns.shape[1])]
    cells = columns.T @ columns
    image = matrix.imshow(cells, cmap=plotting.DIVERGING, vmin=-1.2, vmax=1.2)
    bias.imshow(biases[:, None], cmap=plotting.DIVERGING, vmin=-1.2, vmax=1.2)
    length.barh(range(len(order)), np.linalg.norm(columns, axis=0), color=_colors(len(order)))
    for ax, name in ((matrix, "WᵀW"), (bias, "b"), (length, "length")):
        ax.set_title(name, fontsize=12, fontweight="normal")
        ax.set_yticks(range(len(order)), order)
        ax.grid(False)
    matrix.set_xticks(range(len(order)), order)
    bias.set_xticks([])
    length.set(xlim=(0, 1.3), ylim=(len(order) - 0.5, -0.5))
    length.set_box_aspect(1.8)
    fig.colorbar(image, ax=[matrix, bias, length], orientation="horizontal", shrink=0.5, pad=0.02)
    _title(fig, title)
    return fig


def _title(fig: Figure, title: str) -> None:
    lines = textwrap.fill(title, 48, break_long_words=False)
    fig.suptitle(lines, x=0.012, ha="left", fontsize=13.5, fontweight="bold")


def _colors(number: int) -> list[str]:
    return [plotting.COLORS[i % len(plotting.COLORS)] for i in range(number)]


def _directions(ax: Axes, columns: np.ndarray, reach: float) -> None:
    for i, (x, y) in enumerate(columns.T):
        color = _colors(i + 1)[i]
        ax.plot([0, x], [0, y], color=color)
        ax.plot(x, y, "o", color=color, markersize=5)
        if np.hypot(x, y) > 0.2:
            ax.text(1.18 * x, 1.18 * y, str(i), ha="center", va="center", fontsize=11)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    ax.set_title("features", fontsize=12, fontweight="normal")
    ax.set_xticks([-1, 0, 1])
    ax.set_yticks([-1, 0, 1])


@plotting.style()
def pairs(
    densities: ArrayLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    title: str = "",
) -> Figure:
    """Shares of pairs over the density, one panel a kind of data; each series [density, seed].

    Lines are means over the seeds, bands two standard errors of them.
    """
    x = np.asarray(densities)
    fig = plotting.figure("page", 3.9)
    axes = np.atleast_1d(fig.subplots(1, len(panels), sharey=True))
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    for ax, (panel, series) in zip(axes, panels.items(), strict=True):
        for name, values in series.items():
            runs, color = np.asarray(values), plotting.COLORS[names.index(name)]
            mean, error = runs.mean(1), 2 * runs.std(1) / runs.shape[1] ** 0.5
            ax.fill_between(x, mean - error, mean + error, color=color, alpha=0.2, linewidth=0)
            ax.plot(x, mean, "o-", color=color, markersize=4)
        ax.set(xscale="log", xlabel="density 1 − S", ylim=(-0.03, 1.03))
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
        ax.set_title(panel, fontsize=12, fontweight="normal")
    axes[0].set_ylabel("share of the pairs")
    for name in names:
        axes[0].plot([], [], "o-", color=plotting.COLORS[names.index(name)], label=name)
    fig.legend(loc="outside lower center", ncols=3)
    _title(fig, title)
    return fig


@plotting.style()
def dimensions(
    densities: ArrayLike,
    found: Sequence[ArrayLike],
    shapes: Mapping[str, float],
    *,
    title: str = "",
) -> Figure:
    """Every represented feature's dimensionality over the sparsity, with the shapes' own values.

    Args:
        densities: [density].
        found: for each density the D of the represented features.
        shapes: horizontal lines.
        title: the finding.
    """
    fig = plotting.figure("page", 4.0)
    ax = fig.subplots()
    for density, values in zip(np.asarray(densities), found, strict=True):
        places = np.full(len(np.asarray(values)), 1 / density)
        jitter = 1 + 0.012 * np.linspace(-1, 1, len(places))
        ax.plot(places * jitter, values, "o", color=plotting.COLORS[0], markersize=3, alpha=0.5)
    ticks = [1, 1.5, 2, 3, 4, 6, 10]
    ax.set(xscale="log", xlabel="1 / (1 − S)", ylabel="dimensionality D", ylim=(0, 1.05))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    for name, value in shapes.items():
        ax.axhline(value, color=plotting.COLORS[1], linewidth=1, linestyle=":")
        right = ax.get_xlim()[1]
        ax.text(right, value, f" {name}", va="center", fontsize=11, color=plotting.INK)
    _title(fig, title)
    return fig


@plotting.style()
def levels(loss: ArrayLike, shape: Sequence[str], *, title: str = "") -> Figure:
    """The losses of many restarts in order, each marked with the shape that it ended in."""
    order = np.argsort(np.asarray(loss))
    values, names = np.asarray(loss)[order], np.asarray(shape)[order]
    fig = plotting.figure("page", 3.2)
    ax = fig.subplots()
    for name, color, marker in zip(dict.fromkeys(names), plotting.COLORS, "osD^vPX", strict=False):
        rows = np.flatnonzero(names == name)
        ax.plot(
            rows, values[rows], marker, color=color, markersize=5, label=f"{name} ({len(rows)})"
        )
    ax.set(xlabel="restarts, from the lowest loss", ylabel="loss")
    fig.legend(loc="outside lower center", ncols=3)
    _title(fig, title)
    return fig


@plotting.style()
def cases(found: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """What units do when each feature is there alone: a matrix [unit, feature] for each case."""
    fig = plotting.figure("page", 4.8)
    axes = fig.subplots(2, 2).flatten()
    for ax, (name, values) in zip(axes, found.items(), strict=True):
        cells = np.asarray(values)
        image = ax.imshow(cells, cmap=plotting.DIVERGING, vmin=-1.2, vmax=1.2, aspect="auto")
        ax.set_title(name, fontsize=12, fontweight="normal")
        ax.grid(False)
        ax.set_xticks(range(0, cells.shape[1], 5 if cells.shape[1] > 8 else 1))
        ax.set_yticks(range(0, cells.shape[0], 5 if cells.shape[0] > 8 else 1))
    fig.supxlabel("feature that is there alone", fontsize=12)
    fig.supylabel("unit", fontsize=12)
    fig.colorbar(image, ax=list(axes), label="response", shrink=0.7)
    _title(fig, title)
    return fig
