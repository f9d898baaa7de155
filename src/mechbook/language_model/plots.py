"""Figures of the chapter on the language model. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mechbook import plotting

_PALE = colormaps[plotting.SEQUENTIAL].reversed()  # pale: expected, dark: a surprise


@plotting.style()
def ladder(books: Mapping[str, ArrayLike], *, start: float, title: str = "") -> Figure:
    """Nats a token of each way to predict, one dot a book; the bar is the mean over books.

    Args:
        books: for each predictor its books, from the worst to the best.
        start: what a guess without any knowledge costs.
        title: the finding.
    """
    fig = plotting.figure("page", 1.3 + 0.55 * len(books))
    ax = fig.subplots()
    for row, values in enumerate(books.values()):
        dots = np.asarray(values)
        ax.barh(row, dots.mean(), color=plotting.COLORS[0], alpha=0.35, height=0.6)
        ax.plot(dots, np.full(len(dots), row), "o", color=plotting.COLORS[0], alpha=0.6, ms=4)
        ax.text(dots.max() + 0.12, row, f"{dots.mean():.2f}", va="center", fontsize=12)
    ax.axvline(start, color=plotting.INK, linestyle="--", linewidth=1)
    ax.text(start, -0.75, "no knowledge", ha="right", fontsize=11)
    ax.set_yticks(range(len(books)), list(books))
    ax.set_ylim(len(books) - 0.5, -1.1)
    ax.grid(False, axis="y")
    ax.set(xlim=(0, start + 0.3), xlabel="nats a token (less is better)")
    ax.set_title(textwrap.fill(title, 44))
    return fig


@plotting.style()
def curve(
    tokens: ArrayLike,
    validation: ArrayLike,
    *,
    references: Mapping[str, float],
    title: str = "",
    runs: ArrayLike | None = None,
) -> Figure:
    """The loss during training, over tokens read, with named levels beside it.

    Args:
        tokens: read so far, [measured], in thousands or millions as the label says.
        validation: [measured], the run to be drawn as a line.
        references: named horizontal lines.
        title: the finding.
        runs: other seeds, [seed, measured], drawn as a band.
    """
    fig = plotting.figure("page", 4.2)
    ax = fig.subplots()
    x = np.asarray(tokens) / 1e6
    if runs is not None:
        seeds = np.asarray(runs)
        label = f"{len(seeds)} seeds"
        ax.fill_between(
            x, seeds.min(0), seeds.max(0), color=plotting.COLORS[0], alpha=0.25, label=label
        )
    ax.plot(x, np.asarray(validation), color=plotting.COLORS[0], label="model")
    for color, (name, level) in zip(plotting.COLORS[1:], references.items(), strict=False):
        ax.axhline(level, color=color, linestyle="--", linewidth=1.4, label=f"{name} {level:.2f}")
    ax.set(xlabel="million tokens read", ylabel="nats a token, held-out text")
    ax.set_title(textwrap.fill(title, 44))
    fig.legend(loc="outside lower center", ncols=3)
    return fig


@plotting.style()
def lines(
    series: Mapping[str, ArrayLike],
    *,
    x: ArrayLike | None = None,
    xlabel: str,
    ylabel: str,
    title: str = "",
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Named lines over positions, counted from 0, or over ``x``; ``marks`` are vertical lines."""
    fig = plotting.figure("page", 4.2)
    ax = fig.subplots()
    for name, values in series.items():
        line = np.asarray(values)
        ax.plot(np.arange(len(line)) if x is None else np.asarray(x), line, label=name)
    for name, place in (marks or {}).items():
        ax.axvline(place, color=plotting.INK, linestyle=":", linewidth=1)
        ax.text(place, ax.get_ylim()[1], f" {name}", va="top", fontsize=11)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(textwrap.fill(title, 44))
    fig.legend(loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def surprise(
    tokens: Sequence[str],
    loss: Float[np.ndarray, " token"],
    *,
    title: str = "",
    unit: str = "nats",
    most: float = 10.0,
    letters: int = 54,
) -> Figure:
    """A text whose words are colored by how much they surprised the model.

    Args:
        tokens: the text; pieces of words begin with ``##``.
        loss: nats of each token.
        title: the finding.
        unit: of the colors.
        most: where the color scale ends.
        letters: in a line.
    """
    rows = _broken(tokens, letters)
    fig = plotting.figure("page", min(12.0, 1.5 + 0.36 * len(rows)))
    ax = fig.subplots()
    norm = Normalize(0, most)
    place = 0
    for row, words in enumerate(rows):
        _write_row(ax, row, words, loss[place : place + len(words)], norm, letters)
        place += len(words)
    ax.set(xlim=(0, letters), ylim=(len(rows) - 0.3, -0.7))
    ax.axis("off")
    ax.set_title(textwrap.fill(title, 44))
    bar = fig.colorbar(ScalarMappable(norm, _PALE), ax=ax, location="bottom", shrink=0.6, pad=0.02)
    bar.set_label(f"{unit} by which a word surprised")
    return fig


def _broken(tokens: Sequence[str], letters: int) -> list[list[str]]:
    """The tokens in rows of at most so many letters."""
    rows: list[list[str]] = [[]]
    for token in tokens:
        if sum(len(word) + 1 for word in rows[-1]) + len(token) > letters:
            rows.append([])
        rows[-1].append(token)
    return rows


def _write_row(
    ax: Axes, row: int, words: Sequence[str], loss: ArrayLike, norm: Normalize, letters: int
) -> None:
    column = 0.0
    for word, value in zip(words, np.asarray(loss), strict=True):
        fill = _PALE(norm(value))
        bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 0.5
        ax.text(
            column,
            row,
            word.removeprefix("##"),
            family="monospace",
            fontsize=6.0 * 1.62 * 54 / letters,
            color=plotting.INK if bright else plotting.PAPER,
            va="center",
            bbox={"facecolor": fill, "edgecolor": "none", "pad": 1.2},
        )
        column += len(word.removeprefix("##")) + 1


@plotting.style()
def reliability(series: Mapping[str, tuple[ArrayLike, ArrayLike]], *, title: str = "") -> Figure:
    """How often guesses of a given confidence are right; the diagonal is an honest model."""
    fig = plotting.figure("page", 4.2)
    ax = fig.subplots()
    ax.plot([0, 1], [0, 1], color=plotting.INK, linestyle="--", linewidth=1, label="honest")
    for (name, (confidence, accuracy)), marker in zip(series.items(), "os^D", strict=False):
        ax.plot(np.asarray(confidence), np.asarray(accuracy), marker=marker, label=name)
    ax.set(xlabel="probability of the best guess", ylabel="how often it is right")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_title(textwrap.fill(title, 44))
    fig.legend(loc="outside lower center", ncols=3)
    return fig


@plotting.style()
def next_words(words: Sequence[str], chances: ArrayLike, *, title: str = "") -> Figure:
    """The most probable next words and their probabilities."""
    fig = plotting.figure("page", 1.2 + 0.34 * len(words))
    ax = fig.subplots()
    values = np.asarray(chances)
    drawn = ax.barh(range(len(words)), values, color=plotting.COLORS[0], height=0.7)
    ax.bar_label(drawn, fmt="{:.2f}", fontsize=11, padding=3)
    ax.set_yticks(range(len(words)), list(words))
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set(xlim=(0, 1.08), xlabel="probability of the next word")
    ax.set_title(textwrap.fill(title, 44))
    return fig
