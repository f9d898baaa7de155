"""Figures of the stream: the lens by depth, attribution, composition, length. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike

from mechbook import plotting
from mechbook.residual.decomposition import Attribution
from mechbook.residual.subspaces import SIDES, Composition


@plotting.style()
def by_depth(
    labels: Sequence[str],
    series: Mapping[str, ArrayLike],
    *,
    ylabel: str,
    title: str = "",
    live: Mapping[str, ArrayLike] | None = None,
    references: Mapping[str, float] | None = None,
) -> Figure:
    """Curves over the depths of the stream, [seed, depth] each, with the live run on top.

    Args:
        labels: of the depths.
        series: for each name the seeds.
        ylabel: what is drawn, with unit.
        title: the finding.
        live: for some names this run, [depth].
        references: named horizontal lines.
    """
    fig = plotting.lines_with_band(
        np.arange(len(labels)),
        series,
        xlabel="the stream after …",
        ylabel=ylabel,
        title=title,
        live=live,
        references=references,
        height=4.2 if len(series) + len(references or {}) < 3 else 5.0,
    )
    fig.axes[0].set_xticks(range(len(labels)), labels, rotation=30, ha="right")
    return fig


@plotting.style()
def lens_grid(
    guesses: Sequence[Sequence[str]],
    chance: ArrayLike,
    *,
    depths: Sequence[str],
    read: Sequence[str],
    answers: Sequence[str],
    title: str = "",
) -> Figure:
    """One text under the lens: the best guess at each depth and position.

    Args:
        guesses: the word that each depth would say, [depth][position].
        chance: the probability that it gives to the word that comes next, [depth, position].
        depths: labels of the depths, the earliest first; it is drawn at the bottom.
        read: the words that were read, one a position.
        answers: the words that came next.
        title: the finding.
    """
    cells = np.asarray(chance)[::-1]
    fig = plotting.figure("page", 4.3)
    ax = fig.subplots()
    image = ax.imshow(cells, aspect="auto", cmap=plotting.SEQUENTIAL, vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(cells):
        word = guesses[len(cells) - 1 - row][column]
        right = word == answers[column]
        ink = plotting.INK if value > 0.5 else plotting.PAPER
        weight = "bold" if right else "normal"
        ax.text(column, row, word, ha="center", va="center", color=ink, weight=weight, fontsize=11)
    ax.set_yticks(range(len(cells)), list(depths)[::-1])
    ax.set_xticks(range(len(read)), [f"{a}\n→{b}" for a, b in zip(read, answers, strict=True)])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set(xlabel="word read → word that came next")
    ax.set_title(textwrap.fill(title, 46))
    fig.colorbar(image, ax=ax, label="probability of next word", shrink=0.9)
    return fig


@plotting.style()
def attribution_bars(table: Attribution, kind: str, title: str = "") -> Figure:
    """What each component adds to the next word's logit and to the favorite's.

    Raises:
        ValueError: a kind of position that the table does not have.
    """
    if kind not in table.kinds:
        raise ValueError(f"kind {kind!r}; there are {', '.join(table.kinds)}")
    column, places = table.kinds.index(kind), np.arange(len(table.names))
    fig = plotting.figure("page", 6.2)
    ax = fig.subplots()
    series = {
        "the word that came next": (table.answer, -0.2, plotting.COLORS[0]),
        "the current word's favorite": (table.favorite, 0.2, plotting.COLORS[1]),
    }
    for label, (values, shift, color) in series.items():
        ax.barh(places + shift, values[:, column].numpy(), height=0.4, color=color, label=label)
    ax.axvline(0, color=plotting.INK, linewidth=0.8)
    ax.set_yticks(places, table.names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    low = min(float(table.answer.min()), float(table.favorite.min()))
    high = max(float(table.answer.max()), float(table.favorite.max()))
    ax.set_xlim(low - 0.1, high + 0.1)
    ax.set(xlabel="added to the logit (above the mean word)")
    ax.set_title(textwrap.fill(title, 42))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def composition_maps(found: Composition, *, early: int, late: int, title: str = "") -> Figure:
    """Composition of two layers' heads as three maps, in standard deviations from the null."""
    z = found.z.numpy()
    half = float(np.abs(z).max())
    fig = plotting.figure("page", 3.0)
    for ax, side, cells in zip(fig.subplots(1, 3, sharey=True), SIDES, z, strict=True):
        image = _cells(ax, cells, half)
        heads = range(cells.shape[1])
        ax.set_xticks(heads, [f"{late}.{head}" for head in heads])
        ax.set_title(side, fontsize=12, weight="normal", loc="center")
    writers = range(z.shape[1])
    fig.axes[0].set_yticks(writers, [f"{early}.{head}" for head in writers])
    fig.axes[0].set_ylabel("writer")
    fig.axes[1].set_xlabel("reader")
    fig.colorbar(image, ax=fig.axes, label="standard deviations", shrink=0.9)
    fig.suptitle(title, x=0.01, ha="left", weight="bold", fontsize=13.5)
    return fig


def _cells(ax: Axes, cells: Float[np.ndarray, "row column"], half: float) -> AxesImage:
    image = ax.imshow(cells, cmap=plotting.DIVERGING, vmin=-half, vmax=half, aspect="equal")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    for (row, column), value in np.ndenumerate(cells.astype(float)):
        ink = plotting.PAPER if abs(value) > 0.6 * half else plotting.INK
        ax.text(column, row, f"{round(value)}", ha="center", va="center", color=ink, fontsize=10.5)
    return image
