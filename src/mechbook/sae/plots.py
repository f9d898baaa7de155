"""Figures of the chapter on sparse autoencoders. They only draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from mechbook import plotting


@plotting.style()
def plane(
    features: ArrayLike,
    latents: ArrayLike,
    prices: ArrayLike,
    lines: Mapping[str, ArrayLike],
    *,
    at: float,
    title: str = "",
) -> Figure:
    """A dictionary in two dimensions beside the truth, and its measures over the price.

    Args:
        features: true directions, [feature, 2].
        latents: those of the autoencoder, [latent, 2].
        prices: of sparsity.
        lines: measures by name, [seed, price].
        at: the price that is shown.
        title: the finding.
    """
    fig = plotting.figure("page", 3.4)
    left, right = fig.subplots(1, 2, width_ratios=(1, 1.35))
    for x, y in np.asarray(features):
        left.plot([0, x], [0, y], color=plotting.GREY, linewidth=6, alpha=0.45, zorder=1)
    for x, y in np.asarray(latents):
        left.annotate(
            "", (x, y), (0, 0), arrowprops={"arrowstyle": "-|>", "color": plotting.COLORS[1]}
        )
    left.set(
        xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1]
    )
    left.set_title("grey: true   arrows: latents", fontsize=11.5, fontweight="normal")
    _over_price(right, np.asarray(prices), lines, at)
    plotting.headline(fig, title)
    return fig


def _over_price(ax: Axes, prices: np.ndarray, lines: Mapping[str, ArrayLike], at: float) -> None:
    for color, (name, values) in zip(plotting.COLORS, lines.items(), strict=False):
        runs = np.atleast_2d(np.asarray(values))
        ax.plot(prices, runs.mean(0), "o-", color=color, label=name, markersize=4)
        ax.fill_between(prices, runs.min(0), runs.max(0), color=color, alpha=0.2, linewidth=0)
    ax.axvline(at, color=plotting.INK, linewidth=1.2, linestyle=":")
    ax.set(xscale="log", xlabel="price λ", ylim=(-0.03, 1.06))
    ax.set_xticks(prices, [f"{price:g}" for price in prices])
    ax.minorticks_off()
    ax.legend(loc="lower left", fontsize=11)


@plotting.style()
def pushes(
    z: ArrayLike,
    push: Mapping[str, ArrayLike],
    x: ArrayLike,
    cheapest: Mapping[str, ArrayLike],
    *,
    title: str = "",
) -> Figure:
    """How strongly a penalty pushes an activity down, and which activity is cheapest in the end.

    Args:
        z: activities.
        push: slope of each penalty there, by name.
        x: sizes of a feature.
        cheapest: the activity that costs least for each, by name.
        title: the finding.
    """
    fig = plotting.figure("page", 3.5)
    left, right = fig.subplots(1, 2)
    for ax, places, series in ((left, z, push), (right, x, cheapest)):
        for color, (name, values) in zip(plotting.COLORS, series.items(), strict=False):
            ax.plot(np.asarray(places), np.asarray(values), color=color, label=name)
        ax.legend(fontsize=11, loc="upper left")
    left.set(xlabel="activity z", ylabel="push toward zero")
    right.set(xlabel="size x of the feature", ylabel="cheapest z")
    plotting.headline(fig, title)
    return fig


@plotting.style()
def pareto(
    series: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    good: float = 0.9,
    truth: float | None = None,
    title: str = "",
) -> Figure:
    """Reconstruction over sparsity, a line a variant; filled where the features were recovered.

    Args:
        series: for each variant L0, variance explained and share recovered, each [setting, seed].
        good: share recovered from which a point is filled.
        truth: the true L0, marked.
        title: the finding.
    """
    fig = plotting.figure("page", 4.6)
    ax = fig.subplots()
    markers = "osD^vP*"
    for color, marker, (name, found) in zip(plotting.COLORS, markers, series.items(), strict=False):
        l0, explained, recovered = (np.asarray(part).mean(-1) for part in found)
        order = np.argsort(l0)
        ax.plot(l0[order], explained[order], color=color, linewidth=1.2, alpha=0.6)
        for at, height, share in zip(l0, explained, recovered, strict=True):
            face = color if share >= good else plotting.PAPER
            ax.plot(at, height, marker, color=color, markerfacecolor=face, markersize=8)
        ax.plot([], [], marker, color=color, label=name)
    if truth is not None:
        ax.axvline(truth, color=plotting.GREY, linestyle=":", label="true L0")
    ax.set(xscale="log", xlabel="latents active at once (L0)", ylabel="variance explained")
    ax.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    ax.minorticks_off()
    handles, names = ax.get_legend_handles_labels()
    handles.append(Line2D([], [], marker="o", color=plotting.INK, markerfacecolor="none", ls=""))
    fig.legend(
        handles, [*names, f"open: recovered < {good:g}"], loc="outside lower center", ncols=3
    )
    plotting.headline(fig, title)
    return fig


@plotting.style()
def activity(edges: ArrayLike, counts: ArrayLike, *, density: float, title: str = "") -> Figure:
    """How often a latent is how active, where it is active at all.

    Args:
        edges: of the bins, [bin+1].
        counts: positions in each, [bin].
        density: share of all positions where it is active.
        title: the finding.
    """
    fig = plotting.figure("half", 2.6)
    ax = fig.subplots()
    places = np.asarray(edges)
    ax.bar(places[:-1], np.asarray(counts), np.diff(places), align="edge", color=plotting.COLORS[0])
    ax.set(xlabel=f"activity (zero at {1 - density:.1%})", ylabel="positions")
    plotting.headline(fig, title)
    return fig


@plotting.style()
def quartiles(
    names: Sequence[str],
    values: ArrayLike,
    *,
    xlabel: str,
    highlight: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Median and quartiles of units of several kinds, one below the other.

    Args:
        names: of the kinds.
        values: lower quartile, median, upper quartile, [3, kind].
        xlabel: what is measured.
        highlight: kinds in the second color.
        title: the finding.
    """
    low, middle, high = np.asarray(values)
    fig = plotting.figure("page", 1.6 + 0.34 * len(names))
    ax = fig.subplots()
    places = np.arange(len(names))
    colors = [plotting.COLORS[1] if name in highlight else plotting.COLORS[0] for name in names]
    ax.hlines(places, low, high, color=colors, linewidth=7, alpha=0.35)
    ax.scatter(middle, places, color=colors, s=50, zorder=3)
    ax.axvline(0, color=plotting.INK, linewidth=0.8)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.grid(False, axis="y")
    ax.set_xlabel(xlabel)
    plotting.headline(fig, title)
    return fig
