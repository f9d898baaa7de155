"""Figures of the chapter on in-context learning against weight decay. They only draw."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike

from mechbook import plotting


@plotting.style()
def panels(
    x: ArrayLike,
    rows: Mapping[str, Mapping[str, ArrayLike]],
    *,
    xlabel: str = "updates",
    xscale: str = "linear",
    references: Mapping[str, Mapping[str, float]] | None = None,
    marks: Mapping[str, float] | None = None,
    live: Mapping[str, Mapping[str, ArrayLike]] | None = None,
    logarithmic: Collection[str] = (),
    title: str = "",
) -> Figure:
    """Measures one above the other, each a mean over seeds in the band of its seeds.

    Args:
        x: positions, [point].
        rows: for each panel's label the named runs, [seed, point] or [point].
        xlabel: of the lowest panel.
        xscale: matplotlib's name of the scale.
        references: for a panel's label named horizontal lines.
        marks: named vertical lines, in all panels.
        live: for a panel's label the runs of this very session, by the names of ``rows``; they may
            end before ``x`` does.
        logarithmic: labels of panels with a logarithmic vertical axis.
        title: the finding.
    """
    fig = plotting.figure("page", 1.1 + 2.1 * len(rows))
    axes = np.atleast_1d(fig.subplots(len(rows), 1, sharex=True))
    for ax, (label, series) in zip(axes, rows.items(), strict=True):
        _bands(ax, np.asarray(x, dtype=float), series, (live or {}).get(label, {}))
        for value in (references or {}).get(label, {}).values():
            ax.axhline(value, color=plotting.GREY, linestyle=":", linewidth=1.8)
        for at in (marks or {}).values():
            ax.axvline(at, color=plotting.INK, linewidth=1, linestyle=":")
        ax.set(xscale=xscale, yscale="log" if label in logarithmic else "linear")
        ax.set_ylabel(textwrap.fill(label, 18))
    for name, at in (marks or {}).items():
        axes[0].annotate(
            name, (at, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=10.5
        )
    _ticks(axes[-1], xscale)
    axes[-1].set_xlabel(xlabel)
    _below(fig, axes[0], bool(live), list(dict.fromkeys(_names(references))))
    plotting.headline(fig, title)
    return fig


def _names(references: Mapping[str, Mapping[str, float]] | None) -> list[str]:
    return [name for named in (references or {}).values() for name in named]


def _bands(
    ax: Axes, x: np.ndarray, series: Mapping[str, ArrayLike], live: Mapping[str, ArrayLike]
) -> None:
    for color, (name, values) in zip(plotting.COLORS, series.items(), strict=False):
        runs = np.atleast_2d(np.asarray(values, dtype=float))
        if len(runs) > 1:
            ax.fill_between(x, runs.min(0), runs.max(0), color=color, alpha=0.2, linewidth=0)
        ax.plot(x, runs.mean(0), color=color, label=name)
        if name in live:
            own = np.asarray(live[name], dtype=float)
            ax.plot(x[: len(own)], own, color=plotting.INK, linestyle=(0, (4, 2)), zorder=4)
            ax.plot(x[: len(own)], own, "o", color=color, markeredgecolor=plotting.INK, zorder=5)


def _ticks(ax: Axes, xscale: str) -> None:
    if xscale == "log":
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif ax.get_xlim()[1] > 1000:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _below(fig: Figure, ax: Axes, live: bool = False, dotted: Sequence[str] = ()) -> None:
    """One legend for all panels, below them, in as many columns as the letters allow."""
    handles, names = ax.get_legend_handles_labels()
    if live:
        handles += ax.plot([], [], color=plotting.INK, linestyle=(0, (4, 2)))
        names = [*names, "this run"]
    for name in dotted:
        handles += ax.plot([], [], color=plotting.GREY, linestyle=":", linewidth=1.8)
        names = [*names, name]
    if len(names) < 2:
        return
    columns = len(names)
    while columns > 1 and max(map(len, names)) * columns > 6 * fig.get_figwidth():
        columns -= 1
    fig.legend(handles, names, loc="outside lower center", ncols=columns, columnspacing=1.4)


@plotting.style()
def peak_bars(
    decays: Sequence[float],
    series: Mapping[str, ArrayLike],
    *,
    references: Mapping[str, float],
    notes: int = 0,
    ylabel: str = "peak accuracy in context",
    title: str = "",
) -> Figure:
    """Bars side by side for each decay, their seeds as dots.

    Args:
        decays: in order.
        series: for each name the runs, [seed, decay].
        references: named horizontal lines, such as chance.
        notes: how many of the decays, from the left, are the notes' own; they stand on a tint.
        ylabel: what the height means.
        title: the finding.
    """
    fig = plotting.figure("page", 4.2)
    ax = fig.subplots()
    width = 0.8 / len(series)
    for i, (color, (name, values)) in enumerate(zip(plotting.COLORS, series.items(), strict=False)):
        runs = np.atleast_2d(np.asarray(values, dtype=float))
        places = np.arange(len(decays)) + (i - (len(series) - 1) / 2) * width
        ax.bar(places, runs.mean(0), width * 0.92, color=color, alpha=0.75, label=name)
        for run in runs:
            ax.plot(places, run, ".", color=plotting.INK, markersize=5)
    if notes:
        ax.axvspan(-0.5, notes - 0.5, color="#f1ecdf", zorder=0)
        place = ("data", "axes fraction")
        ax.annotate("the notes' decays", (-0.4, 1), xycoords=place, va="bottom", fontsize=10.5)
    for (name, value), style in zip(references.items(), (":", "--", "-."), strict=False):
        ax.axhline(value, color=plotting.INK, linestyle=style, linewidth=1.3, label=name)
    ax.set_xticks(range(len(decays)), [f"{decay:g}" for decay in decays], fontsize=11)
    ax.set(xlabel="decay", ylabel=ylabel, ylim=(0, 1.02), xlim=(-0.5, len(decays) - 0.5))
    ax.grid(False, axis="x")
    handles, names = ax.get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=2, columnspacing=1.4)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def attention(
    patterns: Mapping[str, ArrayLike],
    tokens: Sequence[str],
    match: ArrayLike,
    *,
    title: str = "",
) -> Figure:
    """Attention of every layer of some models on one episode: queries down, keys across.

    Rings mark the path: in the first layer from each label to the picture before it, in the last
    from the query to the labels of its own class.

    Args:
        patterns: for each model's name [layer, query, key].
        tokens: of the episode: picture, label, …, query.
        match: which pairs show the query's class, [pair].
        title: the finding.
    """
    models = {name: np.asarray(values, dtype=float) for name, values in patterns.items()}
    layers = len(next(iter(models.values())))
    fig = plotting.figure("page", 0.7 + 2.9 * len(models))
    axes = np.atleast_2d(fig.subplots(len(models), layers, sharex=True, sharey=True))
    for row, (name, cells) in zip(axes, models.items(), strict=True):
        for layer, ax in enumerate(row):
            image = ax.imshow(cells[layer], cmap=plotting.SEQUENTIAL, vmin=0, vmax=1)
            _rings(ax, layer, layers, np.asarray(match, dtype=bool))
            ax.set_title(f"{name}, layer {layer}", fontsize=11.5, fontweight="normal")
            ax.set_xticks(range(len(tokens)), tokens, fontsize=8)
            ax.set_yticks(range(len(tokens)), tokens, fontsize=8)
            ax.tick_params(length=0, pad=1)
            ax.grid(False)
    fig.colorbar(image, ax=axes, label="attention", shrink=0.6)
    fig.supxlabel("to", fontsize=12)
    plotting.headline(fig, title)
    return fig


def _rings(ax: Axes, layer: int, layers: int, match: np.ndarray) -> None:
    places = []
    if layer == 0 and layers > 1:
        places = [(2 * pair + 1, 2 * pair) for pair in range(len(match))]
    elif layer == layers - 1:
        places = [(2 * len(match), 2 * int(pair) + 1) for pair in np.flatnonzero(match)]
    for query, key in places:
        ax.add_patch(
            Circle((key, query), 0.62, fill=False, color=plotting.COLORS[1], linewidth=1.5)
        )


@plotting.style()
def path_and_answer(
    gaps: Mapping[str, ArrayLike],
    accuracies: Mapping[str, ArrayLike],
    *,
    stands: float,
    follows: float,
    ylabel: str,
    title: str = "",
) -> Figure:
    """Where a training goes in the plane of attention and answer; open ring at its end.

    Args:
        gaps: attention gap of each named cell over training, [step].
        accuracies: in context, of the same cells, [step].
        stands: gap from which the path counts as standing.
        follows: accuracy below which the answer does not follow it.
        ylabel: of the accuracies.
        title: the finding.
    """
    fig = plotting.figure("page", 4.0)
    ax = fig.subplots()
    ax.add_patch(Rectangle((stands, 0), 1.02 - stands, follows, color="#f6e3d8", zorder=0))
    ax.annotate(
        "path stands,\nanswer does not follow", (1.0, 0.02), ha="right", va="bottom", fontsize=10.5
    )
    for color, (name, values) in zip(plotting.COLORS, gaps.items(), strict=False):
        x, y = np.asarray(values, dtype=float), np.asarray(accuracies[name], dtype=float)
        ax.plot(x, y, "-", color=color, alpha=0.55, linewidth=1.4)
        ax.plot(x, y, ".", color=color, markersize=5, label=name)
        ax.plot(x[-1:], y[-1:], "o", color=color, markersize=10, markerfacecolor="none", mew=2)
    low = min(0.0, *(float(np.min(values)) for values in gaps.values()))
    ax.set(xlim=(low - 0.03, 1.02), ylim=(0, 1.03), ylabel=ylabel)
    ax.set_xlabel("attention gap of the best head")
    _below(fig, ax)
    plotting.headline(fig, title)
    return fig


@plotting.style()
def shares(
    names: Sequence[str],
    values: ArrayLike,
    intervals: ArrayLike,
    *,
    goal: float,
    xlabel: str,
    title: str = "",
) -> Figure:
    """Shares of the baseline with their intervals, against a goal.

    Args:
        names: one a row, the first on top.
        values: [row].
        intervals: lower and upper end, [row, 2]; drawn up to 2.
        goal: where success begins.
        xlabel: what the shares are of.
        title: the finding.
    """
    fig = plotting.figure("page", 1.7 + 0.45 * len(names))
    ax = fig.subplots()
    rows, ends = np.arange(len(names)), np.minimum(np.asarray(intervals, dtype=float), 2.0)
    ax.axvspan(goal, max(1.1, float(ends.max()) + 0.02), color="#dcefe6", zorder=0)
    ax.hlines(rows, ends[:, 0], ends[:, 1], color=plotting.COLORS[0], linewidth=5, alpha=0.5)
    ax.plot(np.asarray(values), rows, "o", color=plotting.INK)
    ax.axvline(goal, color=plotting.INK, linestyle="--", linewidth=1.3)
    ax.annotate(
        f"{goal:g}", (goal, 1.01), xycoords=("data", "axes fraction"), ha="center", va="bottom"
    )
    ax.set_yticks(rows, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(min(0.0, float(ends.min()) - 0.02), max(1.1, float(ends.max()) + 0.02))
    ax.set_xlabel(xlabel)
    plotting.headline(fig, title)
    return fig
