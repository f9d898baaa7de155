"""Figures over the depth of a model: curves, and a text under the logit lens. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting


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
