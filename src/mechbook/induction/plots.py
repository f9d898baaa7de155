"""Figures of the chapter on induction heads. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from mechbook import plotting


@plotting.style()
def phases(
    steps: ArrayLike,
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    at: float | None = None,
    title: str = "",
) -> Figure:
    """Several measures of one training, one above the other, with a mark at one step.

    Args:
        steps: updates at which they were measured.
        panels: for each panel's label the named lines, [measured] or [seed, measured].
        at: where the mark stands.
        title: the finding.
    """
    fig = plotting.figure("page", 1.0 + 1.7 * len(panels))
    axes = np.atleast_1d(fig.subplots(len(panels), 1, sharex=True))
    for ax, (label, lines) in zip(axes, panels.items(), strict=True):
        for color, (name, values) in zip(plotting.COLORS, lines.items(), strict=False):
            runs = np.atleast_2d(np.asarray(values))
            ax.plot(np.asarray(steps), runs.mean(0), color=color, label=name)
            if len(runs) > 1:
                ax.plot(np.asarray(steps), runs.T, color=color, alpha=0.3, linewidth=0.8)
        if at is not None:
            ax.axvline(at, color=plotting.INK, linewidth=1, linestyle=":")
        ax.set_ylabel(textwrap.fill(label, 16))
        if len(lines) > 1:
            ax.legend(loc="best", fontsize=11)
    axes[-1].set_xlabel("updates")
    plotting.headline(fig, title)
    return fig


@plotting.style()
def patterns(
    attention: ArrayLike,
    tokens: Sequence[str],
    *,
    names: Sequence[str],
    marks: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Attention of some heads on one text: queries down, keys across.

    Args:
        attention: [head, query, key].
        tokens: the text.
        names: of the heads.
        marks: [query, key], true where a ring is drawn: where a head would look in theory.
        title: the finding.
    """
    cells = np.asarray(attention)
    fig = plotting.figure("page", 3.9)
    axes = np.atleast_1d(fig.subplots(1, len(cells), sharey=True))
    image = _patterns(list(axes), cells, tokens, names, marks)
    fig.supxlabel("to", fontsize=12)
    fig.colorbar(image, ax=list(axes), label="attention", shrink=0.8)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def forming(
    attention: ArrayLike,
    tokens: Sequence[str],
    *,
    names: Sequence[str],
    marks: ArrayLike,
    steps: ArrayLike,
    lines: Mapping[str, ArrayLike],
    at: float,
    title: str = "",
) -> Figure:
    """A moment of a training: where it stands on the curves, and what the heads look at.

    Args:
        attention: [head, query, key], at this moment.
        tokens: the text.
        names: of the heads.
        marks: [query, key], true where a ring is drawn.
        steps: updates at which the curves were measured.
        lines: named curves, all from 0 to 1, [measured].
        at: the update of this moment.
        title: the finding.
    """
    fig = plotting.figure("page", 6.2)
    grid = fig.add_gridspec(2, 1, height_ratios=(1, 1.6))
    top, bottom = (fig.add_subfigure(grid[row]) for row in range(2))
    ax = top.subplots()
    for name, values in lines.items():
        ax.plot(np.asarray(steps), np.asarray(values), label=name)
    ax.axvline(at, color=plotting.INK, linestyle=":")
    ax.set(xlabel="updates", ylim=(-0.03, 1.05))
    top.legend(loc="outside upper center", ncols=len(lines), fontsize=11)
    axes = list(bottom.subplots(1, len(names), sharey=True))
    image = _patterns(axes, np.asarray(attention), tokens, names, marks)
    bottom.supxlabel("to", fontsize=12)
    bottom.colorbar(image, ax=axes, label="attention", shrink=0.8)
    plotting.headline(fig, title)
    return fig


def _patterns(
    axes: Sequence[Axes],
    cells: np.ndarray,
    tokens: Sequence[str],
    names: Sequence[str],
    marks: ArrayLike | None,
) -> AxesImage:
    """Draw a pattern into each of the axes; the last image, for a color bar."""
    for ax, name, values in zip(axes, names, cells, strict=True):
        image = ax.imshow(values, cmap=plotting.SEQUENTIAL, vmin=0, vmax=1)
        if marks is not None:
            _rings(ax, np.asarray(marks))
        ax.set_xticks(range(len(tokens)), list(tokens), fontsize=9, rotation=90)
        ax.set_yticks(range(len(tokens)), list(tokens), fontsize=9)
        ax.set_title(name, fontsize=12)
        ax.grid(False)
    axes[0].set_ylabel("from")
    return image


def _rings(ax: Axes, marks: np.ndarray) -> None:
    for query, key in np.argwhere(marks):
        ax.add_patch(Circle((key, query), 0.42, fill=False, color=plotting.COLORS[1], linewidth=1))


@plotting.style()
def eigenvalues(found: Mapping[str, ArrayLike], null: ArrayLike, *, title: str = "") -> Figure:
    """Eigenvalues in the complex plane, each head's divided by its largest, beside random heads'.

    Args:
        found: for each head its eigenvalues.
        null: those of random heads, all in one.
        title: the finding.
    """
    fig = plotting.figure("page", 3.0)
    axes = np.atleast_1d(fig.subplots(1, 1 + len(found), sharex=True, sharey=True))
    groups = {**found, "random heads": null}
    for ax, (name, values), number in zip(axes, groups.items(), range(len(groups)), strict=True):
        points = np.asarray(values)
        points = points / np.abs(points).max()
        color = plotting.GREY if name == "random heads" else plotting.COLORS[number]
        ax.plot(points.real, points.imag, "o", color=color, markersize=4, alpha=0.7)
        ax.axhline(0, color=plotting.INK, linewidth=0.6)
        ax.axvline(0, color=plotting.INK, linewidth=0.6)
        ax.set_title(name, fontsize=12)
        ax.set_aspect("equal")
    axes[0].set_ylabel("imaginary part")
    fig.supxlabel("real part (largest eigenvalue: length 1)", fontsize=12)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def circuits(
    found: Mapping[str, ArrayLike],
    *,
    xlabels: Sequence[str],
    ylabel: str,
    title: str = "",
) -> Figure:
    """Circuits from token to token, side by side, each on its own two-sided scale.

    Args:
        found: for each name a matrix, [row, column].
        xlabels: what the columns of each are.
        ylabel: what the rows are.
        title: the finding.
    """
    fig = plotting.figure("page", 3.4)
    axes = np.atleast_1d(fig.subplots(1, len(found)))
    for ax, (name, values), xlabel in zip(axes, found.items(), xlabels, strict=True):
        cells = np.asarray(values)
        half = np.abs(cells).max()
        ax.imshow(cells, cmap=plotting.DIVERGING, vmin=-half, vmax=half, interpolation="nearest")
        ax.set_title(name, fontsize=12)
        ax.set_xlabel(xlabel)
        ax.grid(False)
    axes[0].set_ylabel(ylabel)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def gains(
    gain: ArrayLike, series: Mapping[str, ArrayLike], *, ylabel: str, title: str = ""
) -> Figure:
    """What follows when what a head writes is multiplied; the model as it is has a gain of 1."""
    fig = plotting.figure("page", 3.8)
    ax = fig.subplots()
    for name, values in series.items():
        ax.plot(np.asarray(gain), np.asarray(values), "o-", label=name, markersize=4)
    ax.axvline(1, color=plotting.INK, linestyle=":", linewidth=1)
    ax.set(xlabel="gain (1: as it is, 0: left out)", ylabel=ylabel)
    plotting.headline(fig, title)
    fig.legend(loc="outside lower center", ncols=3)
    return fig
