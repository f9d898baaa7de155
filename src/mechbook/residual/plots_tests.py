"""Figures of the tests: gradients, rotations, optimizers, reasons. They compute nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mechbook import plotting
from mechbook.plotting import COLORS, GREY, INK
from mechbook.residual.gradients import LayerGradients, Sweep
from mechbook.residual.reasons import Chains, Times

_FLOOR = 1e-17


@plotting.style()
def depth_sweeps(plain: Sequence[Sweep], residual: Sequence[Sweep]) -> Figure:
    """Gain of ∂y/∂x against depth: plain stacks on the left, residual ones on the right."""
    fig = plotting.figure(height=4.0)
    axes = fig.subplots(1, 2, sharey=True)
    labels = list(dict.fromkeys(sweep.label for sweep in [*plain, *residual]))
    for ax, sweeps, title in zip(
        axes, (plain, residual), ("y = F(x)", "y = x + F(x)"), strict=True
    ):
        for sweep in sweeps:
            color = COLORS[labels.index(sweep.label)]
            ax.fill_between(
                sweep.depths, sweep.gain.min(1), sweep.gain.max(1), color=color, alpha=0.2
            )
            ax.plot(
                sweep.depths, sweep.gain.mean(1), "o-", markersize=4, color=color, label=sweep.label
            )
            ax.plot(sweep.depths, np.maximum(sweep.median.mean(1), _FLOOR), ":", color=color)
        ax.axhline(1, color=INK, linewidth=0.8)
        ax.set(title=title, xscale="log", yscale="log", xlabel="depth (blocks)", ylim=(1e-17, 1e13))
        ax.set_xticks(sweeps[0].depths, [str(d) for d in sweeps[0].depths])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(fontsize=11, loc="lower left")
    axes[0].set_ylabel("stretch of ∂y/∂x")
    return fig


@plotting.style()
def path_lengths(
    shares: Mapping[str, Float[np.ndarray, "length seed"]],
    expected: Mapping[str, Float[np.ndarray, " length"]],
) -> Figure:
    """How much of the end-to-end Jacobian runs over how many branches, and the binomial law."""
    fig = plotting.figure(height=3.6)
    ax = fig.subplots()
    for (label, values), color in zip(shares.items(), COLORS, strict=False):
        seen = np.flatnonzero(expected[label] > 1e-3)  # the others would be a row of zeros
        ax.vlines(seen, values[seen].min(1), values[seen].max(1), color=color, lw=4, alpha=0.35)
        ax.plot(seen, values[seen].mean(1), "o", markersize=4, color=color, label=label)
        ax.plot(seen, expected[label][seen], "-", linewidth=1, color=color)
    ax.set(xlabel="branches on the path (0 = identity path)", ylabel="share of the squared size")
    ax.legend()
    return fig


@plotting.style()
def layer_gradient_lines(results: Sequence[LayerGradients]) -> Figure:
    """Gradient of each block's W_out, by placement of the norm, one line a depth."""
    fig = plotting.figure(height=3.8)
    placements = list(dict.fromkeys(result.placement for result in results))
    axes = fig.subplots(1, len(placements), sharey=True, squeeze=False)[0]
    for ax, placement in zip(axes, placements, strict=True):
        chosen = [result for result in results if result.placement == placement]
        for result, color in zip(chosen, COLORS, strict=False):
            layers = np.linspace(0, 1, result.depth)
            low, high = result.weights.min(0), result.weights.max(0)
            ax.fill_between(layers, low, high, color=color, alpha=0.2)
            ax.plot(layers, result.weights.mean(0), color=color, label=f"depth {result.depth}")
        ax.set(title=f"norm {'before' if placement == 'pre' else 'after'} ({placement})")
        ax.set(xlabel="block, first to last", yscale="log")
        ax.set_xticks([0, 1], ["first", "last"])
    axes[0].set_ylabel("‖∂loss/∂W_out‖")
    axes[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].legend()
    return fig


@plotting.style()
def rotation_errors(
    angles: Sequence[float], errors: Mapping[str, Float[np.ndarray, "seed angle"]]
) -> Figure:
    """Error of the logits against the angle by which the stream was turned."""
    fig = plotting.figure(height=3.8)
    ax = fig.subplots()
    for (label, values), color in zip(errors.items(), COLORS, strict=False):
        shown = np.maximum(values, 1e-8)
        ax.fill_between(angles, shown.min(0), shown.max(0), color=color, alpha=0.2)
        ax.plot(angles, np.exp(np.log(shown).mean(0)), "o-", markersize=4, color=color, label=label)
    ax.axhline(1e-5, color=GREY, linestyle=":", label="10⁻⁵")
    ax.set(xlabel="angle of the rotation (degrees)", ylabel="largest change of a logit (std)")
    ax.set(yscale="log", xticks=list(range(0, 181, 30)))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def logits_before_and_after(
    before: Mapping[str, Float[np.ndarray, " n"]], after: Mapping[str, Float[np.ndarray, " n"]]
) -> Figure:
    """Each logit before and after the rotation, one panel a norm."""
    fig = plotting.figure(height=2.9)
    axes = fig.subplots(1, len(before), squeeze=False)[0]
    for ax, (label, x) in zip(axes, before.items(), strict=True):
        limit = 1.05 * np.abs(x).max()
        ax.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=1)
        ax.plot(x, after[label], ".", markersize=3, color=COLORS[0])
        ax.set(title=label, xlim=(-limit, limit), ylim=(-limit, limit), xlabel="logit before")
        ax.set_aspect("equal")
    axes[0].set_ylabel("logit after")
    return fig


@plotting.style()
def left_out(errors: Mapping[str, Float[np.ndarray, " seed"]]) -> Figure:
    """Error of the logits when one tensor is left unturned, on a log scale."""
    names = list(errors)
    fig = plotting.figure(height=1.2 + 0.27 * len(names))
    ax = fig.subplots()
    for place, name in enumerate(names):
        values = np.maximum(errors[name], 1e-8)
        color = COLORS[0] if name == names[0] else COLORS[1]
        ax.hlines(place, values.min(), values.max(), color=color, linewidth=4, alpha=0.4)
        ax.plot(np.exp(np.log(values).mean()), place, "o", color=color)
    ax.set_yticks(range(len(names)), names, fontsize=11)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="largest change of a logit (std)")
    return fig


@plotting.style()
def kurtosis_over_training(
    table: Mapping[str, np.ndarray], *, live: Mapping[str, np.ndarray] | None = None
) -> Figure:
    """Kurtosis over the axes, and in turned axes, against the training step, by optimizer."""
    fig = plotting.figure(height=3.8)
    axes = fig.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(np.asarray(table["optimizer"])))
    columns = ("kurtosis", "kurtosis_turned")
    for ax, column, title in zip(axes, columns, ("its own axes", "random axes"), strict=True):
        for name, color in zip(names, COLORS, strict=False):
            steps, values = _by_step(table, name, column)
            ax.fill_between(steps, values.min(1), values.max(1), color=color, alpha=0.2)
            ax.plot(steps, values.mean(1), color=color, label=name)
        if live is not None:
            steps, values = _by_step(live, str(live["optimizer"][0]), column)
            ax.plot(steps, values[:, 0], "--", color=INK, label="this run")
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set(title=title, xlabel="step")
    axes[0].set_ylabel("excess kurtosis")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def _by_step(
    table: Mapping[str, np.ndarray], optimizer: str, column: str
) -> tuple[np.ndarray, np.ndarray]:
    here = np.asarray(table["optimizer"]) == optimizer
    step, values = np.asarray(table["step"])[here], np.asarray(table[column])[here]
    steps = np.unique(step)
    return steps, np.stack([values[step == s] for s in steps])


@plotting.style()
def curves_by_depth(
    curves: Mapping[str, Float[np.ndarray, "layer seed"]],
    *,
    ylabel: str,
    yscale: str = "linear",
    chance: float | None = None,
) -> Figure:
    """Named curves over depth with the range of the seeds."""
    fig = plotting.figure(height=3.5)
    ax = fig.subplots()
    for (label, values), color in zip(curves.items(), COLORS, strict=False):
        layers = np.arange(len(values))
        ax.fill_between(layers, values.min(1), values.max(1), color=color, alpha=0.2)
        ax.plot(layers, values.mean(1), color=color, label=label)
    if chance is not None:
        ax.axhline(chance, color=GREY, linestyle=":", label="chance")
    ax.set(xlabel="after block", ylabel=ylabel, yscale=yscale)
    ax.legend()
    return fig


@plotting.style()
def training_losses(
    curves: Mapping[str, Float[np.ndarray, "step seed"]], *, ylabel: str, yscale: str = "log"
) -> Figure:
    """Training losses with the range of the seeds."""
    fig = plotting.figure(height=3.4)
    ax = fig.subplots()
    for (label, values), color in zip(curves.items(), COLORS, strict=False):
        shown = np.maximum(values, 1e-6)
        steps = np.arange(len(values))
        ax.fill_between(steps, shown.min(1), shown.max(1), color=color, alpha=0.2)
        ax.plot(steps, shown.mean(1), color=color, label=label)
    ax.set(xlabel="training step", ylabel=ylabel, yscale=yscale)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


@plotting.style()
def chains_and_times(chains: Chains, times: Times) -> Figure:
    """Steps that wait for each other, and measured time, against the length of the sequence."""
    fig = plotting.figure(height=3.5)
    left, right = fig.subplots(1, 2)
    left.plot(chains.lengths, chains.rnn, "o-", label="recurrent")
    left.plot(chains.lengths, chains.attention, "o-", label="attention")
    left.plot(chains.lengths, chains.generation, "o-", label="attention, generating")
    left.set(title="operations that wait")
    right.plot(times.lengths, 1e3 * times.rnn, "o-", label="recurrent")
    right.plot(times.lengths, 1e3 * times.attention, "o-", label="attention")
    right.set(title="time (ms)")
    for ax, lengths in ((left, chains.lengths), (right, times.lengths)):
        ax.set(xlabel="sequence length", xscale="log", yscale="log")
        ax.set_xticks(lengths, [str(length) for length in lengths])
        ax.xaxis.set_minor_formatter(NullFormatter())
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig
