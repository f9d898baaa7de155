"""Maximum likelihood for answers of two kinds: one data set by scipy, thousands at once by scoring.

    P(right) = λ/2 + (1 - λ) F(η)        η = a function of the parameters, one value a cell

λ is the share of trials answered by a coin (lapses); F, the link, is the normal distribution
function, as for a judge with normal noise, or the logistic one. Fisher scoring with damping is
known as Levenberg-Marquardt; here all data sets take their steps together, as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import expit, ndtr, ndtri, xlogy

Array = np.ndarray
Predictor = Callable[[Array], tuple[Array, Array]]

MOST_LAPSES = 0.2
LINKS = ("normal", "logistic")
STEEPEST = 40.0
"""Largest slope that is looked for, in units of η a word: a step, for whole numbers of words."""
_WIDE = (-60.0, 60.0)


def three_quarters(link: str) -> float:
    """The η at which F is three quarters: a threshold is this over the slope.

    Raises:
        ValueError: no such link.
    """
    if link not in LINKS:
        raise ValueError(f"link is {link!r}; give one of {', '.join(LINKS)}")
    return float(ndtri(0.75)) if link == "normal" else float(np.log(3))


def _curve(eta: Array, link: str) -> tuple[Array, Array]:
    """F(η) and its derivative."""
    if link == "normal":
        return ndtr(eta), np.exp(-(eta**2) / 2) / np.sqrt(2 * np.pi)
    rising = expit(eta)
    return rising, rising * (1 - rising)


@dataclass(frozen=True)
class Model:
    """η as a function of parameters, and the link.

    Attributes:
        names: of the parameters.
        start: where the search begins.
        bounds: lowest and highest value of each.
        predictor: parameters ``[batch, parameter]`` → η ``[batch, cell]`` and its derivative
            ``[batch, cell, parameter]``.
        link: one of `LINKS`.
    """

    names: tuple[str, ...]
    start: tuple[float, ...]
    bounds: tuple[tuple[float, float], ...]
    predictor: Predictor
    link: str = "normal"

    def __post_init__(self) -> None:
        three_quarters(self.link)


def linear(
    columns: Float[Array, "cell parameter"], names: tuple[str, ...], link: str = "normal"
) -> Model:
    """η is a sum of columns, each times its parameter (probit or logistic regression)."""

    def predictor(theta: Array) -> tuple[Array, Array]:
        return theta @ columns.T, np.broadcast_to(columns, (len(theta), *columns.shape))

    steep = [(-STEEPEST, STEEPEST) if "slope" in name else _WIDE for name in names]
    return Model(names, (0.0,) * len(names), tuple(steep), predictor, link)


def power(
    difference: Float[Array, " cell"],
    mean: Float[Array, " cell"],
    exponent: float | None = None,
    link: str = "normal",
) -> Model:
    """η = bias + slope · (mean / centre)^-exponent · difference; the centre is the geometric mean.

    Args:
        difference: ``n - m`` of each cell.
        mean: of the two counts, in each cell.
        exponent: held at this value; free without.
        link: one of `LINKS`.
    """
    ratio = np.log(mean) - np.log(mean).mean()

    def predictor(theta: Array) -> tuple[Array, Array]:
        gamma = theta[:, 2:] if exponent is None else np.full((len(theta), 1), exponent)
        scaled = np.exp(-gamma * ratio) * difference
        parts = [np.ones_like(scaled), scaled]
        parts += [-theta[:, 1:2] * ratio * scaled] if exponent is None else []
        return theta[:, :1] + theta[:, 1:2] * scaled, np.stack(parts, -1)

    names, start = ("bias", "slope", "exponent"), (0.0, 0.5, 0.5)
    bounds = (_WIDE, (-STEEPEST, STEEPEST), (-3.0, 4.0))
    free = 3 if exponent is None else 2
    return Model(names[:free], start[:free], bounds[:free], predictor, link)


def held_slope(difference: Float[Array, " cell"], slope: float, link: str = "normal") -> Model:
    """η = bias + slope · difference, where only the bias is free."""

    def predictor(theta: Array) -> tuple[Array, Array]:
        return theta + slope * difference, np.ones((len(theta), len(difference), 1))

    return Model(("bias",), (0.0,), (_WIDE,), predictor, link)


# --- the likelihood ---------------------------------------------------------------------------


def probability(eta: Array, lapse: Array | float = 0.0, link: str = "normal") -> Array:
    """P(right) of η, with lapses, kept off 0 and 1 by what a float can tell."""
    p = lapse / 2 + (1 - np.asarray(lapse)) * _curve(eta, link)[0]
    return np.clip(p, 1e-12, 1 - 1e-12)


def log_likelihood(right: Array, trials: Array, p: Array) -> Array:
    """Of counts of right answers, without the binomial coefficients; a sum over the last axis."""
    return (xlogy(right, p) + xlogy(trials - right, 1 - p)).sum(-1)


@dataclass(frozen=True)
class Fits:
    """Maximum-likelihood fits.

    Attributes:
        theta: the model's parameters, ``[batch, parameter]``.
        lapse: ``[batch]``.
        value: log-likelihood, ``[batch]``.
    """

    theta: Array
    lapse: Array
    value: Array


@dataclass(frozen=True)
class _State:
    """Where all searches stand: parameters with the lapse last, likelihood, its slope, its bend."""

    where: Array
    value: Array
    gradient: Array
    information: Array


def fit_many(
    right: Float[Array, "batch cell"],
    trials: Float[Array, " cell"],
    model: Model,
    *,
    lapse: float | None = 0.0,
    steps: int = 80,
) -> Fits:
    """Fit a model to many data sets of the same cells by damped Fisher scoring.

    Args:
        right: answers *right* in each cell.
        trials: in each cell.
        model: for η.
        lapse: held at this value; None fits it, from 0 to `MOST_LAPSES`.
        steps: at most.
    """
    low, high = (np.array([bound[i] for bound in model.bounds]) for i in (0, 1))
    given = 0.02 if lapse is None else lapse
    ends = (0.0, MOST_LAPSES) if lapse is None else (lapse, lapse)
    low, high = np.append(low, ends[0]), np.append(high, ends[1])
    where = np.tile(np.append(model.start, given), (len(right), 1))
    state = _state(where, right, trials, model)
    damping = np.full(len(right), 1e-3)
    for _ in range(steps):
        tried = np.clip(state.where + _step(state, damping, low, high), low, high)
        new = _state(tried, right, trials, model)
        better = new.value > state.value
        gain = np.where(better, new.value - state.value, 0.0)
        damping = np.clip(np.where(better, damping / 5, damping * 8), 1e-9, 1e9)
        state = _chosen(better, new, state)
        if (gain < 1e-10).all() and (better | (damping > 1e6)).all():
            break
    return Fits(state.where[:, :-1], state.where[:, -1], state.value)


def _state(where: Array, right: Array, trials: Array, model: Model) -> _State:
    lapse = where[:, -1:]
    eta, slopes = model.predictor(where[:, :-1])
    rising, steep = _curve(eta, model.link)
    p = probability(eta, lapse, model.link)
    of_eta = (1 - lapse) * steep
    moves = np.concatenate([of_eta[..., None] * slopes, (0.5 - rising)[..., None]], -1)
    weight = 1 / (p * (1 - p))
    gradient = np.einsum("bc,bcp->bp", (right - trials * p) * weight, moves)
    weighted = moves * (trials * weight)[..., None]
    information = np.swapaxes(weighted, 1, 2) @ moves
    return _State(where, log_likelihood(right, trials, p), gradient, information)


def _step(state: _State, damping: Array, low: Array, high: Array) -> Array:
    """The damped step of every search, without the parameters that press against a bound."""
    stuck = (state.where <= low) & (state.gradient <= 0)
    stuck |= (state.where >= high) & (state.gradient >= 0)
    free = ~stuck
    both = free[:, :, None] & free[:, None, :]
    matrix = np.where(both, state.information, 0.0)
    diagonal = np.einsum("bpp->bp", matrix)
    added = damping[:, None] * (diagonal + 1e-6) + stuck + 1e-10
    matrix = matrix + added[:, :, None] * np.eye(matrix.shape[-1])
    gradient = np.where(free, state.gradient, 0.0)
    return np.clip(np.linalg.solve(matrix, gradient[..., None])[..., 0], -4, 4)


def _chosen(better: Array, new: _State, old: _State) -> _State:
    def pick(one: Array, other: Array) -> Array:
        return np.where(better.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    return _State(
        pick(new.where, old.where),
        pick(new.value, old.value),
        pick(new.gradient, old.gradient),
        pick(new.information, old.information),
    )


def fit_one(
    right: Float[Array, " cell"],
    trials: Float[Array, " cell"],
    model: Model,
    *,
    lapse: float | None = 0.0,
) -> Fits:
    """Fit one data set by `scipy.optimize.minimize` (L-BFGS-B); arrays with a batch of one.

    Lapses that are free are searched from the fit without lapses and from the model's own start.
    """
    if lapse is not None:
        return _minimized(right, trials, model, np.array(model.start), lapse)
    without = fit_one(right, trials, model)
    starts = [np.append(without.theta[0], 0.02), np.append(model.start, 0.05)]
    found = [_minimized(right, trials, model, start, None) for start in starts]
    return max(found, key=lambda fits: float(fits.value[0]))


def _minimized(
    right: Array, trials: Array, model: Model, start: Array, lapse: float | None
) -> Fits:
    free = lapse is None
    bounds = [*model.bounds, *([(0.0, MOST_LAPSES)] if free else [])]
    scale = max(1.0, float(trials.sum()))  # keeps the first steps short

    def negative(theta: Array) -> tuple[float, Array]:
        full = theta if lapse is None else np.append(theta, lapse)
        state = _state(full[None], right[None], trials, model)
        return -float(state.value[0]) / scale, -state.gradient[0, : len(theta)] / scale

    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 2000}
    found = minimize(negative, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    theta = found.x[:-1] if free else found.x
    last = found.x[-1:] if free else np.array([lapse])
    return Fits(theta[None], last.astype(float), np.array([-found.fun * scale]))
