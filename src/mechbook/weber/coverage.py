"""Does the bench tell the truth? Answers simulated from known judges, thousands of times: coverage and power.

An interval of 95 % must hold the true value in 95 of 100 experiments. A test at the level of 5 %
must reject in 5 of 100 where nothing is there, and its power is how often it rejects elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr
from scipy.stats import binomtest, chi2

from mechbook.weber import likelihood, scaling
from mechbook.weber.likelihood import Array, three_quarters
from mechbook.weber.psychometrics import Counts, step_of
from mechbook.weber.stimuli import NOTES, Design, pairs

LEVEL = 0.95


@dataclass(frozen=True)
class Truth:
    """A judge with a normal curve whose threshold is a power of the mean, and what it is shown.

    Attributes:
        exponent: of JND ∝ mean^exponent.
        jnd: at the geometric mean of the design's means, in words.
        bias: in standard deviations of its noise, towards right.
        design: what is shown.
    """

    exponent: float = 1.0
    jnd: float = 1.5
    bias: float = 0.0
    design: Design = NOTES

    def __post_init__(self) -> None:
        if not self.jnd > 0:
            raise ValueError(f"jnd is {self.jnd}; give a threshold above 0 words")


def cells(design: Design) -> Counts:
    """The cells of a design with their numbers of trials, and no answer yet."""
    shown = pairs(design)
    keys = np.stack([shown.mean, shown.difference], -1)
    found, number = np.unique(keys, axis=0, return_counts=True)
    return Counts(found[:, 0], found[:, 1], np.zeros(len(found)), number.astype(float))


def p_right(truth: Truth) -> Float[Array, " cell"]:
    """The judge's probability of right in each cell of its design."""
    empty = cells(truth.design)
    ratio = np.log(empty.mean) - np.log(empty.mean).mean()
    slope = three_quarters("normal") / truth.jnd * np.exp(-truth.exponent * ratio)
    return ndtr(truth.bias + slope * empty.difference)


def simulate(truth: Truth, simulations: int, seed: int = 0) -> Float[Array, "simulation cell"]:
    """Answers *right* by cell in each of many experiments.

    Raises:
        ValueError: fewer than one simulation.
    """
    if simulations < 1:
        raise ValueError(f"simulations is {simulations}; give 1 or more")
    number = cells(truth.design).trials.astype(int)
    p = p_right(truth)
    drawn = np.random.default_rng(seed).binomial(number, p, (simulations, len(p)))
    return drawn.astype(float)


# --- the exponent -----------------------------------------------------------------------------


def exponents(truth: Truth, right: Float[Array, "simulation cell"]) -> dict[str, Array]:
    """The exponent of every experiment, and whether its likelihood interval holds the true one.

    Returns:
        ``estimate`` and ``covered`` (0 or 1), one value an experiment.
    """
    shown = cells(truth.design)
    free = likelihood.power(shown.difference, shown.mean)
    held = likelihood.power(shown.difference, shown.mean, truth.exponent)
    best = likelihood.fit_many(right, shown.trials, free)
    true = likelihood.fit_many(right, shown.trials, held)
    covered = 2 * (best.value - true.value) <= chi2.ppf(LEVEL, 1)
    return {"estimate": best.theta[:, 2], "covered": covered.astype(float)}


def interaction_p(
    truth: Truth, right: Float[Array, "simulation cell"]
) -> Float[Array, " simulation"]:
    """The p-value of `scaling.interaction_test` in every experiment."""
    shown = cells(truth.design)
    models = (scaling.one_slope(shown), scaling.slopes_by_mean(shown, biases=True))
    small, large = (likelihood.fit_many(right, shown.trials, model).value for model in models)
    degrees = len(models[1].names) - len(models[0].names)
    return chi2.sf(np.maximum(0, 2 * (large - small)), degrees)


def power(truth: Truth, simulations: int = 1000, level: float = 0.05, seed: int = 0) -> float:
    """How often the interaction test rejects the notes' prediction for this judge."""
    p = interaction_p(truth, simulate(truth, simulations, seed))
    return float((p < level).mean())


# --- the threshold at one mean ----------------------------------------------------------------


def thresholds(truth: Truth, simulations: int, draws: int, seed: int = 0) -> dict[str, Array]:
    """Both intervals of the threshold at the design's one mean, in many experiments.

    Returns:
        ``estimate`` (0 where the answers are a step); ``low``, ``high`` and ``bootstrap`` (whether
        the bootstrap interval holds the true one); ``likelihood`` (whether that of
        `psychometrics.jnd_interval` does).

    Raises:
        ValueError: the design has more than one mean.
    """
    shown = cells(truth.design)
    if len(shown.means) != 1:
        raise ValueError(f"the design has {len(shown.means)} means; give one with a single mean")
    model = scaling.one_slope(shown)
    right = simulate(truth, simulations, seed)
    fits = likelihood.fit_many(right, shown.trials, model)
    steps = np.array([step_of(replace(shown, right=row)) is not None for row in right])
    soft = likelihood.fit_many(right + 0.5, shown.trials + 1, model)
    theta = np.where(steps[:, None], soft.theta, fits.theta)
    estimate = np.where(steps, 0.0, _jnd(fits.theta[:, 1]))
    low, high = _bootstrap(theta, shown, model, draws, seed + 1)
    held = likelihood.held_slope(shown.difference, three_quarters("normal") / truth.jnd)
    true = likelihood.fit_many(right, shown.trials, held).value
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "bootstrap": ((low <= truth.jnd) & (truth.jnd <= high)).astype(float),
        "likelihood": (2 * (fits.value - true) <= chi2.ppf(LEVEL, 1)).astype(float),
    }


def _jnd(slope: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(
            slope > 0, three_quarters("normal") / np.where(slope > 0, slope, 1.0), np.inf
        )


def _bootstrap(
    theta: Array, shown: Counts, model: likelihood.Model, draws: int, seed: int
) -> tuple[Array, Array]:
    """Percentile ends for every experiment, a hundred experiments at a time."""
    generator, ends = np.random.default_rng(seed), []
    for part in np.array_split(theta, max(1, len(theta) // 100)):
        p = ndtr(model.predictor(part)[0])
        again = generator.binomial(shown.trials.astype(int), p[:, None], (len(p), draws, len(p[0])))
        flat = again.reshape(-1, again.shape[-1]).astype(float)
        slope = likelihood.fit_many(flat, shown.trials, model).theta[:, 1]
        jnd = _jnd(slope).reshape(len(p), draws)
        ends.append(np.quantile(jnd, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1, method="nearest"))
    low, high = np.concatenate(ends, 1)
    return low, high


# --- shares -----------------------------------------------------------------------------------


def share(hits: Float[Array, " simulation"]) -> tuple[float, float, float]:
    """A share of experiments with its own interval (Wilson, 95 %): value, low, high.

    Raises:
        ValueError: no experiments.
    """
    found = np.asarray(hits, dtype=float)
    if not found.size:
        raise ValueError("there are no experiments; give at least one")
    ends = binomtest(int(found.sum()), found.size).proportion_ci(LEVEL, method="wilson")
    return float(found.mean()), float(ends.low), float(ends.high)


PER_SIZE = (10, 20, 40, 100)
JNDS = (0.75, 1.5, 3.0)


def make_coverage(
    simulations: int = 2000, draws: int = 200
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The artifact ``weber-coverage``: coverage and power of the chapter's analysis.

    Columns: ``quantity`` (``exponent``: likelihood interval over the three means; ``interaction``:
    p-value of the test, in ``estimate``; ``bootstrap`` and ``likelihood``: the two intervals of the
    threshold at a mean of 20), ``exponent``, ``jnd`` (true), ``per_size`` (trials),
    ``simulation``, ``estimate``, ``covered`` (for ``interaction``: 1 where p ≥ 0.05).
    """
    rows: list[dict[str, Array]] = []
    for exponent in scaling.LAWS.values():
        for jnd in JNDS:
            for per_size in PER_SIZE:
                truth = Truth(exponent, jnd, design=replace(NOTES, per_size=per_size))
                rows += _exponent_rows(truth, simulations, seed=len(rows))
    for jnd in JNDS:
        for per_size in PER_SIZE:
            truth = Truth(0.0, jnd, design=Design(means=(20,), per_size=per_size))
            found = thresholds(truth, simulations, draws, seed=len(rows))
            for kind in ("bootstrap", "likelihood"):
                rows.append(_rows(kind, truth, found["estimate"], found[kind]))
    columns = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    about = (
        "Estimates, coverage of 95 % intervals and p-values of simulated judges of known exponent"
    )
    return columns, {"about": about, "seeds": list(range(len(rows)))}


def _exponent_rows(truth: Truth, simulations: int, seed: int) -> list[dict[str, Array]]:
    right = simulate(truth, simulations, seed)
    found, p = exponents(truth, right), interaction_p(truth, right)
    return [
        _rows("exponent", truth, found["estimate"], found["covered"]),
        _rows("interaction", truth, p, (p >= 1 - LEVEL).astype(float)),
    ]


def _rows(quantity: str, truth: Truth, estimate: Array, covered: Array) -> dict[str, Array]:
    size = len(estimate)
    return {
        "quantity": np.full(size, quantity),
        "exponent": np.full(size, truth.exponent),
        "jnd": np.full(size, truth.jnd),
        "per_size": np.full(size, truth.design.per_size),
        "simulation": np.arange(size),
        "estimate": np.asarray(estimate, dtype=float),
        "covered": np.asarray(covered, dtype=float),
    }


def select(table: dict[str, Array], quantity: str, **held: float) -> dict[str, Array]:
    """The rows of a quantity with some columns held, such as ``exponent=1, per_size=10``.

    Raises:
        ValueError: no such rows.
    """
    rows = table["quantity"] == quantity
    for name, value in held.items():
        rows = rows & np.isclose(table[name], value)
    if not rows.any():
        raise ValueError(f"no rows of {quantity!r} with {held}")
    return {name: column[rows] for name, column in table.items()}


def power_table(
    table: dict[str, Array], jnd: float, per_sizes: Sequence[int] = PER_SIZE
) -> dict[str, list[float]]:
    """For each law how often the interaction test rejects, by number of trials a size."""
    return {
        law: [
            1
            - share(select(table, "interaction", exponent=gamma, jnd=jnd, per_size=k)["covered"])[0]
            for k in per_sizes
        ]
        for law, gamma in scaling.LAWS.items()
    }
