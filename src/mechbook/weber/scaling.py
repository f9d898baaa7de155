"""How the threshold grows with the mean: constant, root or proportional (Weber), and the notes' prediction.

The exponent is that of JND ∝ mean^exponent: 0 where the answers depend on n - m alone, 1 where they
depend on (n - m) / (n + m) alone, which is Weber's law.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import chi2, linregress, t

from mechbook.weber import likelihood
from mechbook.weber.likelihood import Array, Model, three_quarters
from mechbook.weber.psychometrics import Counts, require_answers

LAWS = {"constant": 0.0, "root": 0.5, "Weber": 1.0}
_ENDS = (-3.0, 4.0)


def _require_means(counts: Counts, least: int = 2) -> None:
    require_answers(counts)
    if len(counts.means) < least:
        raise ValueError(
            f"the answers are at {len(counts.means)} mean; comparing means needs at least {least}"
        )


# --- the exponent from the answers ------------------------------------------------------------


@dataclass(frozen=True)
class Exponent:
    """The exponent of greatest likelihood, from all answers at once.

    Attributes:
        value: of JND ∝ mean^value.
        low: lower end of its likelihood interval; infinite where the answers set none.
        high: upper end.
        jnd: at the geometric mean of the cells' means, in words.
    """

    value: float
    low: float
    high: float
    jnd: float


def exponent(
    counts: Counts, *, lapse: float | None = 0.0, link: str = "normal", level: float = 0.95
) -> Exponent:
    """Fit one curve whose slope is a power of the mean; the interval is that of the likelihood ratio.

    Raises:
        ValueError: answers that no curve fits, or at one mean only.
    """
    _require_means(counts)
    best = likelihood.fit_one(counts.right, counts.trials, _power(counts, link), lapse=lapse)
    value = float(best.theta[0, 2])
    slope = float(best.theta[0, 1])
    allowed = float(best.value[0]) - chi2.ppf(level, 1) / 2

    def above(gamma: float) -> float:
        held = _power(counts, link, gamma)
        fit = likelihood.fit_one(counts.right, counts.trials, held, lapse=lapse)
        return float(fit.value[0]) - allowed

    low, high = (_crossing(above, value, end) for end in _ENDS)
    return Exponent(value, low, high, three_quarters(link) / slope if slope > 0 else math.inf)


def _power(counts: Counts, link: str, gamma: float | None = None) -> Model:
    return likelihood.power(counts.difference, counts.mean, gamma, link)


def _crossing(above, inside: float, end: float) -> float:  # type: ignore[no-untyped-def]
    """Where the likelihood falls below what is allowed, from ``inside`` towards ``end``."""
    if above(end) > 0 or inside == end:
        return math.copysign(math.inf, end)
    return float(brentq(above, inside, end, xtol=1e-4))


@dataclass(frozen=True)
class Law:
    """One law's fit: its log-likelihood, its number of parameters, and Akaike's criterion."""

    name: str
    value: float
    parameters: int

    @property
    def aic(self) -> float:
        """2 · parameters - 2 · log-likelihood; smaller is better."""
        return 2 * self.parameters - 2 * self.value


def compare_laws(counts: Counts, *, lapse: float | None = 0.0, link: str = "normal") -> list[Law]:
    """Fit the laws of `LAWS`, a free exponent, and a slope of its own at each mean; best first.

    Raises:
        ValueError: answers that no curve fits, or at one mean only.
    """
    _require_means(counts)
    models = {name: _power(counts, link, gamma) for name, gamma in LAWS.items()}
    models["free exponent"] = _power(counts, link)
    models["a slope for each mean"] = slopes_by_mean(counts, link=link)
    found = []
    for name, model in models.items():
        fit = likelihood.fit_one(counts.right, counts.trials, model, lapse=lapse)
        number = len(model.names) + (lapse is None)
        found.append(Law(name, float(fit.value[0]), number))
    return sorted(found, key=lambda law: law.aic)


# --- the notes' prediction --------------------------------------------------------------------


def slopes_by_mean(counts: Counts, biases: bool = False, link: str = "normal") -> Model:
    """η = bias + a slope for each mean · (n - m); with ``biases``, a bias for each mean too."""
    at = (counts.mean[:, None] == counts.means).astype(float)
    first = at if biases else np.ones((len(at), 1))
    names = ("bias",) * first.shape[1] + ("slope",) * at.shape[1]
    return likelihood.linear(np.hstack([first, at * counts.difference[:, None]]), names, link)


def one_slope(counts: Counts, biases: bool = True, link: str = "normal") -> Model:
    """η = bias + slope · (n - m), the same slope at all means; a bias for each mean, or one."""
    at = (counts.mean[:, None] == counts.means).astype(float)
    first = at if biases else np.ones((len(at), 1))
    names = ("bias",) * first.shape[1] + ("slope",)
    return likelihood.linear(np.hstack([first, counts.difference[:, None]]), names, link)


@dataclass(frozen=True)
class RatioTest:
    """A likelihood-ratio test: the statistic, its degrees of freedom, and the p-value by χ²."""

    statistic: float
    degrees: int
    p_value: float


def interaction_test(
    counts: Counts, *, lapse: float | None = 0.0, link: str = "normal"
) -> RatioTest:
    """Does the slope change with the mean? The notes say no, Weber's law says yes.

    Both models give each mean a bias of its own; they differ only in whether the slope is one.

    Raises:
        ValueError: answers that no curve fits, or at one mean only.
    """
    large = slopes_by_mean(counts, biases=True, link=link)
    return _ratio(counts, one_slope(counts, link=link), large, lapse)


def interaction_bootstrap(
    counts: Counts, *, draws: int = 1000, seed: int = 0, link: str = "normal"
) -> float:
    """The p-value of `interaction_test` by the parametric bootstrap, without lapses.

    With few trials the statistic is larger by chance than χ² says: in the notes' design the test
    at 5 % then rejects about twice too often (`coverage`). Here it is compared with that of answers
    drawn from the fit with one slope.

    Raises:
        ValueError: answers that no curve fits, at one mean only, or fewer than 100 draws.
    """
    if draws < 100:
        raise ValueError(f"draws is {draws}; give 100 or more")
    own = interaction_test(counts, link=link).statistic
    small, large = one_slope(counts, link=link), slopes_by_mean(counts, biases=True, link=link)
    fit = likelihood.fit_one(counts.right, counts.trials, small)
    p = likelihood.probability(small.predictor(fit.theta)[0], 0.0, link)
    number = counts.trials.round().astype(int)
    right = np.random.default_rng(seed).binomial(number, p, (draws, len(number))).astype(float)
    few, many = (likelihood.fit_many(right, number, model).value for model in (small, large))
    return float((1 + (2 * (many - few) >= own - 1e-9).sum()) / (1 + draws))


def additive_test(counts: Counts, *, lapse: float | None = 0.0, link: str = "normal") -> RatioTest:
    """Does n + m by itself move the answers to one side? It tests a bias of sides, not Weber's law.

    Raises:
        ValueError: answers that no curve fits, or at one mean only.
    """
    small = one_slope(counts, biases=False, link=link)
    return _ratio(counts, small, one_slope(counts, link=link), lapse)


def _ratio(counts: Counts, small: Model, large: Model, lapse: float | None) -> RatioTest:
    _require_means(counts)
    values = [
        float(likelihood.fit_one(counts.right, counts.trials, model, lapse=lapse).value[0])
        for model in (small, large)
    ]
    degrees = len(large.names) - len(small.names)
    statistic = max(0.0, 2 * (values[1] - values[0]))
    return RatioTest(statistic, degrees, float(chi2.sf(statistic, degrees)))


# --- the exponent from thresholds -------------------------------------------------------------


@dataclass(frozen=True)
class LogLog:
    """A straight line through log JND against log mean: its slope, with an interval.

    With two means there is a slope and no interval (infinite ends).
    """

    value: float
    low: float
    high: float


def log_log(
    means: Sequence[float] | Float[Array, " mean"],
    jnds: Sequence[float] | Float[Array, " mean"],
    level: float = 0.95,
) -> LogLog:
    """The exponent from thresholds alone, by least squares.

    Raises:
        ValueError: fewer than two means, or a threshold that is 0 or infinite and has no logarithm.
    """
    x, y = np.asarray(means, dtype=float), np.asarray(jnds, dtype=float)
    if x.shape != y.shape or len(np.unique(x)) < 2:
        raise ValueError("give a threshold for each mean, and at least two means")
    if not (np.isfinite(y) & (y > 0)).all():
        raise ValueError(
            f"thresholds {y.tolist()}: 0 (a step) and infinity (chance) have no logarithm. Leave "
            "those means out, or show more trials or other differences there"
        )
    line = linregress(np.log(x), np.log(y))
    wide = math.inf if len(x) < 3 else float(t.ppf((1 + level) / 2, len(x) - 2)) * line.stderr
    return LogLog(float(line.slope), float(line.slope - wide), float(line.slope + wide))
