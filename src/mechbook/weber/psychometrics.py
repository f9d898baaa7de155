"""The psychometric function: from answers to a threshold, a bias, and how sure both are.

    P(right) = λ/2 + (1 - λ) F(bias + slope · (n - m))

JND is the difference that takes the curve, without its lapses, from one half to three quarters:
z / slope with F(z) = 3/4 (0.674… for a normal F, ln 3 for a logistic one). PSE, the point of
subjective equality, is the difference at which both answers are equally likely: -bias / slope.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import xlogy
from scipy.stats import chi2

from mechbook.weber import likelihood
from mechbook.weber.likelihood import STEEPEST, Array, three_quarters
from mechbook.weber.stimuli import Trial


@dataclass(frozen=True)
class Counts:
    """Answers by cell: one mean and one signed difference each.

    Attributes:
        mean: of the two counts of words, as the design has it.
        difference: ``n - m``.
        right: answers *right*; a sum of probabilities is allowed.
        trials: answers in all.
        unanswered: trials without an answer, which count nowhere else.
    """

    mean: Float[Array, " cell"]
    difference: Float[Array, " cell"]
    right: Float[Array, " cell"]
    trials: Float[Array, " cell"]
    unanswered: int = 0

    def __post_init__(self) -> None:
        shapes = {np.shape(a) for a in (self.mean, self.difference, self.right, self.trials)}
        if len(shapes) != 1 or len(shapes.pop()) != 1:
            raise ValueError("counts: give one mean, difference, right and trials for each cell")
        if (np.asarray(self.right) < 0).any() or (self.right > self.trials + 1e-9).any():
            raise ValueError("counts: answers right are from 0 to the number of trials")

    def at(self, mean: float) -> Counts:
        """The cells of one mean.

        Raises:
            ValueError: there are none.
        """
        rows = self.mean == mean
        if not rows.any():
            raise ValueError(f"no cell has a mean of {mean}; there are {self.means.tolist()}")
        cells = [a[rows] for a in (self.mean, self.difference, self.right, self.trials)]
        return Counts(cells[0], cells[1], cells[2], cells[3], self.unanswered)

    @property
    def means(self) -> Float[Array, " mean"]:
        """The means, each once, in order."""
        return np.unique(self.mean)


def collect(trials: Sequence[Trial], p_right: Float[Array, " trial"]) -> Counts:
    """Sort answers into cells; trials without an answer (not a number) are counted apart.

    Raises:
        ValueError: no trials, a probability outside 0 to 1, or as many answers as trials are not
            given.
    """
    p = np.asarray(p_right, dtype=float)
    if not trials or p.shape != (len(trials),):
        raise ValueError(f"{len(trials)} trials and answers of shape {p.shape}; give one for each")
    answered = ~np.isnan(p)
    if ((p[answered] < 0) | (p[answered] > 1)).any():
        raise ValueError("a probability of right lies outside 0 to 1")
    keys = np.array([(trial.mean, trial.difference) for trial in trials])
    cells, index = np.unique(keys, axis=0, return_inverse=True)
    right = np.bincount(index.ravel()[answered], p[answered], len(cells))
    number = np.bincount(index.ravel()[answered], minlength=len(cells)).astype(float)
    return Counts(cells[:, 0], cells[:, 1], right, number, int((~answered).sum()))


# --- one curve --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """A fitted psychometric function.

    Attributes:
        slope: in units of η a word; `STEEPEST` where the answers are a step.
        bias: in units of η, towards right.
        lapse: share of trials answered by a coin.
        value: log-likelihood.
        separable: whether one difference parts all answers, so that the true slope is infinite.
        step: the differences between which such a step lies; else nothing.
        link: F, one of `likelihood.LINKS`.
    """

    slope: float
    bias: float
    lapse: float
    value: float
    separable: bool = False
    step: tuple[float, float] | None = None
    link: str = "normal"

    @property
    def jnd(self) -> float:
        """The threshold in words; 0 for a step; infinite where the slope is not above 0."""
        if self.separable:
            return 0.0
        return three_quarters(self.link) / self.slope if self.slope > 0 else math.inf

    @property
    def pse(self) -> float:
        """The difference at which both answers are equally likely, in words."""
        if self.step is not None:
            return sum(self.step) / 2
        return -self.bias / self.slope if self.slope else math.nan

    def probability(self, difference: Array) -> Array:
        """P(right) at some differences."""
        eta = self.bias + self.slope * np.asarray(difference)
        return likelihood.probability(eta, self.lapse, self.link)


def require_answers(counts: Counts) -> None:
    """Refuse data to which no curve can be fitted.

    Raises:
        ValueError: no answers at all, all on one side, or all at one difference.
    """
    if not counts.trials.sum() > 0:
        raise ValueError("there is no answer to fit; give at least one answered trial")
    share = counts.right.sum() / counts.trials.sum()
    if share in (0.0, 1.0):
        side = "right" if share else "left"
        raise ValueError(
            f"all answers are {side!r}: the point where the judge changes sides lies outside the "
            "design, and no threshold follows. Show larger differences, or calibrate the bias"
        )
    if len(np.unique(counts.difference[counts.trials > 0])) < 2:
        raise ValueError("all answers are at one difference; a curve needs at least two")


def step_of(counts: Counts) -> tuple[float, float] | None:
    """The differences between which a step parts all answers, left below and right above.

    At one difference, where the step may lie, answers may be mixed; its difference is then given
    twice. None where no step does it.
    """
    seen = counts.trials > 0
    difference, index = np.unique(counts.difference[seen], return_inverse=True)
    right = np.bincount(index, counts.right[seen])
    left = np.bincount(index, (counts.trials - counts.right)[seen])
    highest_left = difference[left > 0].max(initial=-math.inf)
    lowest_right = difference[right > 0].min(initial=math.inf)
    return (float(highest_left), float(lowest_right)) if highest_left <= lowest_right else None


def fit_curve(counts: Counts, *, lapse: float | None = 0.0, link: str = "normal") -> Curve:
    """The curve of greatest likelihood through the answers at one mean, or at several taken together.

    Args:
        counts: the answers.
        lapse: held at this share; None fits it (it needs many trials at large differences).
        link: F, one of `likelihood.LINKS`.

    Raises:
        ValueError: see `require_answers`.
    """
    require_answers(counts)
    fits = likelihood.fit_one(counts.right, counts.trials, _line(counts, link), lapse=lapse)
    (bias, slope), step = fits.theta[0].tolist(), step_of(counts)
    return Curve(
        slope=STEEPEST if step else slope,
        bias=bias,
        lapse=0.0 if step else float(fits.lapse[0]),
        value=float(fits.value[0]),
        separable=step is not None,
        step=step,
        link=link,
    )


def _line(counts: Counts, link: str) -> likelihood.Model:
    columns = np.stack([np.ones_like(counts.difference), counts.difference], -1)
    return likelihood.linear(columns, ("bias", "slope"), link)


def jnd_interval(counts: Counts, curve: Curve, level: float = 0.95) -> tuple[float, float]:
    """The thresholds that a likelihood-ratio test does not reject, lowest and highest.

    It starts at 0 where a step is not rejected, and ends at infinity where chance is not.

    Args:
        counts: the answers.
        curve: fitted to them.
        level: of the interval.
    """
    allowed = curve.value - chi2.ppf(level, 1) / 2
    lapse = curve.lapse if curve.lapse > 0 else 0.0

    def above(slope: float) -> float:
        model = likelihood.held_slope(counts.difference, slope, curve.link)
        fit = likelihood.fit_one(counts.right, counts.trials, model, lapse=lapse)
        return float(fit.value[0]) - allowed

    z, lowest = three_quarters(curve.link), max(0.0, curve.slope)
    if above(lowest) < 0:  # significantly worse than chance
        return math.inf, math.inf
    low = z / brentq(above, lowest, STEEPEST) if above(STEEPEST) < 0 else 0.0
    return low, (math.inf if above(0.0) >= 0 else z / brentq(above, 0.0, lowest))


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of a curve: lowest and highest value of each, and how many it rests on."""

    jnd: tuple[float, float]
    pse: tuple[float, float]
    slope: tuple[float, float]
    draws: int


def bootstrap(
    counts: Counts, curve: Curve, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Percentile intervals of the parametric bootstrap: new answers drawn from the fitted curve.

    For a step they say nothing (new answers from a step are the same step), so there the curve
    from which answers are drawn is softened as if each cell had one half answer more of each kind.

    Raises:
        ValueError: fewer than 100 draws, or a level outside 0 to 1.
    """
    if draws < 100 or not 0 < level < 1:
        raise ValueError(f"draws={draws}, level={level}: give 100 or more, and a level in 0 to 1")
    source = curve if not curve.separable else _softened(counts, curve.link)
    p = source.probability(counts.difference)
    number = counts.trials.round().astype(int)
    right = np.random.default_rng(seed).binomial(number, p, (draws, len(p)))
    held = None if curve.lapse > 0 else 0.0
    model = _line(counts, curve.link)
    fits = likelihood.fit_many(right.astype(float), number, model, lapse=held)
    bias, slope = fits.theta.T
    with np.errstate(divide="ignore", invalid="ignore"):
        jnd = np.where(slope > 0, three_quarters(curve.link) / slope, math.inf)
        pse = np.where(slope != 0, -bias / slope, math.nan)
    ends = [(1 - level) / 2, (1 + level) / 2]
    jnd_ends, pse_ends, slope_ends = (_quantiles(v, ends) for v in (jnd, pse, slope))
    return Intervals(jnd_ends, pse_ends, slope_ends, draws)


def _quantiles(values: Array, ends: Sequence[float]) -> tuple[float, float]:
    """Quantiles that infinite values may enter (no interpolation between draws)."""
    low, high = np.nanquantile(values, ends, method="nearest")
    return float(low), float(high)


def _softened(counts: Counts, link: str) -> Curve:
    more = replace(counts, right=counts.right + 0.5, trials=counts.trials + 1)
    return fit_curve(more, link=link)


# --- how well it fits -------------------------------------------------------------------------


@dataclass(frozen=True)
class Goodness:
    """How far the answers lie from the curve.

    Attributes:
        deviance: twice the log-likelihood that a curve through every cell would gain.
        p_value: share of data sets drawn from the curve, and fitted again, that lie as far or
            farther.
    """

    deviance: float
    p_value: float


def goodness_of_fit(counts: Counts, curve: Curve, *, draws: int = 1000, seed: int = 0) -> Goodness:
    """The deviance, and its p-value by the parametric bootstrap (cells are too small for χ²)."""
    number = counts.trials.round().astype(int)
    p = curve.probability(counts.difference)
    right = np.random.default_rng(seed).binomial(number, p, (draws, len(p))).astype(float)
    held = None if curve.lapse > 0 else 0.0
    fits = likelihood.fit_many(right, number, _line(counts, curve.link), lapse=held)
    null = deviance(right, number, fits.value)
    own = float(deviance(counts.right, counts.trials, curve.value))
    return Goodness(own, float((1 + (null >= own - 1e-9).sum()) / (1 + draws)))


def deviance(right: Array, trials: Array, value: Array | float) -> Array:
    """Twice the log-likelihood that each cell's own share has over ``value``; over the last axis."""
    share = np.divide(right, trials, out=np.full(np.shape(right), 0.5), where=trials > 0)
    best = (xlogy(right, share) + xlogy(trials - right, 1 - share)).sum(-1)
    return 2 * (best - value)
