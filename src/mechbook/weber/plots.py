"""Figures of the chapter on Weber's law. They only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from mechbook import plotting
from mechbook.weber.psychometrics import Counts, Curve


@plotting.style()
def psychometric(
    counts: Counts, curves: Mapping[float, Curve], *, over: str = "difference", title: str = ""
) -> Figure:
    """Answers and fitted curves, one color a mean.

    Args:
        counts: the answers.
        curves: for each mean drawn its curve.
        over: ``difference`` (n - m) or ``ratio`` ((n - m) / (n + m)) along the axis: where the
            curves lie on each other, the answers depend on that alone.
        title: the finding.

    Raises:
        ValueError: another axis, or more means than colors.
    """
    if over not in ("difference", "ratio") or len(curves) > len(plotting.COLORS):
        raise ValueError(
            f"over={over!r}, {len(curves)} means: difference or ratio, at most 7 means"
        )
    fig = plotting.figure("page", 3.9)
    ax = fig.subplots()
    for color, (mean, curve) in zip(plotting.COLORS, curves.items(), strict=False):
        cells, scale = counts.at(mean), 1.0 if over == "difference" else 1 / (2 * mean)
        x = np.linspace(cells.difference.min(), cells.difference.max(), 201)
        share = cells.right / np.maximum(cells.trials, 1)
        ax.plot(cells.difference * scale, share, "o", color=color, markersize=5)
        ax.plot(x * scale, curve.probability(x), color=color, label=f"mean {mean:g}")
    names = {"difference": "n − m, in words", "ratio": "(n − m) / (n + m)"}
    ax.set(xlabel=names[over], ylabel="answers right", ylim=(-0.03, 1.03))
    plotting.headline(fig, title)
    fig.legend(loc="outside lower center", ncols=min(4, len(curves)))
    return fig


@plotting.style()
def thresholds(
    means: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    laws: Mapping[str, float] | None = None,
    ylabel: str = "JND, in words",
    title: str = "",
) -> Figure:
    """Thresholds over means on two logarithmic axes, where a power law is a straight line.

    Args:
        means: [mean].
        series: for each name thresholds, [mean] or [seed, mean]; what is not above 0 is left out.
        laws: for each name an exponent, drawn as a grey line through the middle of the figure.
        ylabel: what is drawn.
        title: the finding.
    """
    fig = plotting.figure("page", 4.1)
    ax = fig.subplots()
    x = np.asarray(means, dtype=float)
    for color, (name, values) in zip(plotting.COLORS, series.items(), strict=False):
        runs = np.atleast_2d(np.asarray(values, dtype=float))
        runs = np.where((runs > 0) & np.isfinite(runs), runs, np.nan)
        ax.plot(x, runs.T, color=color, alpha=0.35, linewidth=0.9)
        ax.plot(x, np.nanmedian(runs, 0), "o-", color=color, label=name)
    middle = np.exp(np.mean([np.nanmean(np.log(line.get_ydata())) for line in ax.lines]))
    for style, (name, gamma) in zip(("-", "--", ":"), (laws or {}).items(), strict=False):
        line = middle * (x / np.exp(np.log(x).mean())) ** gamma
        ax.plot(
            x, line, color=plotting.GREY, linestyle=style, linewidth=1.4, label=f"slope of {name}"
        )
    ax.set(xscale="log", yscale="log", xlabel="mean of the two counts, in words", ylabel=ylabel)
    ax.set_xticks(x, [f"{value:g}" for value in x])
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.minorticks_off()
    plotting.headline(fig, title)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def shares(
    x: ArrayLike,
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    xlabel: str,
    ylabel: str,
    wanted: float | None = None,
    title: str = "",
) -> Figure:
    """Shares with their intervals, such as coverage or power over the number of trials.

    Args:
        x: [point].
        series: for each name (value, low, high) a point.
        xlabel: of x.
        ylabel: of the shares.
        wanted: a share to compare with.
        title: the finding.
    """
    fig = plotting.figure("page", 3.7)
    ax = fig.subplots()
    places = np.asarray(x, dtype=float)
    for color, (name, points) in zip(plotting.COLORS, series.items(), strict=False):
        value, low, high = np.array(points).T
        ax.errorbar(places, value, [value - low, high - value], fmt="o-", color=color, label=name)
    if wanted is not None:
        ax.axhline(wanted, color=plotting.GREY, linestyle=":", label=f"{wanted:g}")
    ax.set(xscale="log", xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks(places, [f"{value:g}" for value in places])
    ax.minorticks_off()
    plotting.headline(fig, title)
    fig.legend(loc="outside lower center", ncols=3)
    return fig


@plotting.style()
def exponents(
    found: Mapping[str, ArrayLike], predicted: Mapping[str, float], *, title: str = ""
) -> Figure:
    """The exponent of each seed of each kind of network, and what theory says.

    Args:
        found: for each kind the exponents, [seed].
        predicted: for each kind the exponent of theory.
        title: the finding.

    Raises:
        ValueError: kinds without a prediction.
    """
    if set(found) - set(predicted):
        raise ValueError(f"no prediction for {sorted(set(found) - set(predicted))}")
    fig = plotting.figure("page", 1.2 + 0.55 * len(found))
    ax = fig.subplots()
    for place, (name, values) in enumerate(found.items()):
        own = np.asarray(values, dtype=float)
        ax.plot(own, np.full(len(own), place), "o", color=plotting.COLORS[0], alpha=0.6)
        ax.plot(predicted[name], place, "|", color=plotting.COLORS[1], markersize=26, mew=3)
    ax.set_yticks(range(len(found)), list(found))
    ax.invert_yaxis()
    ax.set(xlabel="exponent (blue: a seed, orange: theory)", ylim=(len(found) - 0.5, -0.5))
    plotting.headline(fig, title)
    return fig
