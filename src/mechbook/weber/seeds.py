"""The artifact ``weber-seeds``: four pooling networks and five transformers, several seeds each, measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mechbook.weber import mechanism, pooling, scaling, transformer
from mechbook.weber.psychometrics import Counts, fit_curve
from mechbook.weber.transformer import ModelConfig, Task, TrainingConfig

MEANS = (8, 10, 15, 20, 30)
"""Means inside the range of training."""
OUTSIDE = (40, 50, 60)
"""Means beyond it."""
STEPS = (25, 50, 75, 100, 150, 200, 300, 400, 600, 800)
POOLING_MEANS = (5, 10, 20, 30, 40, 60)


@dataclass(frozen=True)
class Variant:
    """One kind of transformer.

    Attributes:
        name: for the table.
        task: what it learns.
        model: its shape.
    """

    name: str
    task: Task
    model: ModelConfig


SHAPE = ModelConfig(d_model=32)
VARIANTS = (
    Variant("no positions", Task(), replace(SHAPE, positions="none")),
    Variant("learned positions", Task(), SHAPE),
    Variant("no positions, small differences", Task(largest=8), replace(SHAPE, positions="none")),
    Variant("learned positions, small differences", Task(largest=8), SHAPE),
    Variant("no positions, no MLPs", Task(), replace(SHAPE, positions="none", mlps=False)),
)


def accuracy(counts: Counts) -> float:
    """Share of answers that name the longer side."""
    right = np.where(counts.difference > 0, counts.right, counts.trials - counts.right)
    return float(right.sum() / counts.trials.sum())


def jnd(counts: Counts, link: str = "normal") -> float:
    """The threshold; not a number where all answers are on one side."""
    try:
        return fit_curve(counts, link=link).jnd
    except ValueError:
        return math.nan


def measure(found: transformer.Answers) -> dict[tuple[str, float], float]:
    """What is kept of a transformer's answers, by quantity and mean (0: all means together).

    ``slope``, ``bias`` and ``noise`` of `transformer.evidence`, ``accuracy``, ``jnd`` of the
    choices at each mean; ``exponent`` of the evidence, and ``statistic``, the likelihood ratio of
    `scaling.interaction_test` on the choices (one degree of freedom less than there are means;
    it is 0 where every answer is right, and then says nothing).
    """
    evidence, kept = transformer.evidence(found), {}
    for index, mean in enumerate(evidence.means.tolist()):
        cells = found.chosen.at(mean)
        for name in ("slope", "bias", "noise"):
            kept[name, mean] = float(getattr(evidence, name)[index])
        kept["accuracy", mean], kept["jnd", mean] = accuracy(cells), jnd(cells)
    kept["accuracy", 0.0], kept["exponent", 0.0] = accuracy(found.chosen), evidence.exponent
    return kept | {("statistic", 0.0): _statistic(found.chosen)}


def _statistic(counts: Counts) -> float:
    try:
        return scaling.interaction_test(counts).statistic
    except ValueError:
        return math.nan


def run(variant: Variant, seed: int, steps: tuple[int, ...] = STEPS) -> tuple[Any, list[tuple]]:
    """Train one transformer and measure it on the way; the model, and rows of the table."""
    model = transformer.build(variant.task, replace(variant.model, seed=seed))
    config = TrainingConfig(steps=steps[-1], measure_at=steps, seed=seed)
    quantities: list[tuple[str, float]] = []

    def measured(model: Any) -> dict[str, Any]:
        kept = measure(transformer.answers(model, variant.task, means=MEANS, per_cell=32))
        quantities[:] = list(kept)
        return {"values": np.array(list(kept.values()))}

    history = transformer.train(model, variant.task, config, measure=measured, progress=False)
    rows = [
        (variant.name, seed, int(step), *quantity, float(value))
        for step, values in zip(history.metric_steps, history.metrics["values"], strict=True)
        if step in (0, *steps)
        for quantity, value in zip(quantities, values, strict=True)
    ]
    for where, kept in _at_the_end(model, variant).items():
        rows += [
            (variant.name, seed, steps[-1], f"{where}: {q}", a, v) for (q, a), v in kept.items()
        ]
    return model, rows


def _at_the_end(model: Any, variant: Variant) -> dict[str, dict[tuple[str, float], float]]:
    """Beyond the means of training; and with the last MLP writing nothing, where there is one."""
    found = {
        "outside": measure(transformer.answers(model, variant.task, means=OUTSIDE, per_cell=32))
    }
    if variant.model.mlps:
        with mechanism.without_mlp(model, variant.model.n_layers - 1):
            inside = transformer.answers(model, variant.task, means=MEANS, per_cell=32)
        found["without the last MLP"] = measure(inside)
    return found


def pooled(config: pooling.PoolingConfig, seeds: int) -> list[tuple]:
    """Train one of the four pooling networks for several seeds; rows of the table."""
    configs = [replace(config, seed=seed) for seed in range(seeds)]
    rows = []
    for own, model in zip(configs, pooling.train(configs, progress=False), strict=True):
        name = f"{own.pool}, noise {'in ' if own.noise == 'each word' else ''}{own.noise}"
        counts = pooling.answers(model, own, means=POOLING_MEANS)
        found, low = scaling.exponent(counts), (name, own.seed, own.steps)
        rows += [(*low, "jnd", float(mean), jnd(counts.at(mean))) for mean in counts.means]
        ends = {"exponent": found.value, "exponent, low": found.low, "exponent, high": found.high}
        rows += [(*low, quantity, 0.0, value) for quantity, value in ends.items()]
        rows.append((*low, "statistic", 0.0, _statistic(counts)))
    return rows


def make_seeds(seeds: int = 5) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact: columns ``variant``, ``seed``, ``step``, ``quantity``, ``mean`` (0: all), ``value``."""
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows = [row for config in pooling.FOUR for row in pooled(config, seeds)]
    for variant in VARIANTS:
        for seed in range(seeds):
            rows += run(variant, seed)[1]
            print(f"{variant.name}, seed {seed} done", flush=True)
    names = ("variant", "seed", "step", "quantity", "mean", "value")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    about = "Thresholds and exponents of networks that compare two counts, over seeds and training"
    return columns, {"about": about, "seeds": list(range(seeds))}


def values(
    table: Mapping[str, np.ndarray], variant: str, quantity: str, mean: float = 0.0
) -> Float[np.ndarray, "seed step"]:
    """A quantity of the artifact for every seed, at every step at which it was measured.

    Raises:
        ValueError: no such rows.
    """
    rows = (table["variant"] == variant) & (table["quantity"] == quantity)
    rows &= table["mean"] == mean
    if not rows.any():
        raise ValueError(f"no rows of {quantity!r} at mean {mean:g} for {variant!r}")
    seeds, steps = (np.unique(table[name][rows]) for name in ("seed", "step"))
    order = np.lexsort([table["step"][rows], table["seed"][rows]])
    return table["value"][rows][order].reshape(len(seeds), len(steps))
