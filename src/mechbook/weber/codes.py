"""Two ideas of the notes, each with one experiment: the CDF as a code for magnitudes, and drift-diffusion.

A magnitude x with density p is coded as f(x) from 0 to 1, a small normal error is added, and two
codes are compared. Two draws are confused where they are close, at a rate of ∫ p(x)² / f'(x) dx
for small errors; with ∫ f' = 1 the least is at f' ∝ p: the code is the CDF, a rank. For the squared
error of one magnitude, ∫ p / f'², the least is at f' ∝ p^(1/3) instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit
from scipy.stats import norm

Array = np.ndarray


@dataclass(frozen=True)
class Magnitudes:
    """A density on a grid.

    Attributes:
        x: the grid, increasing.
        p: share of the magnitudes at each point; sums to 1.
    """

    x: Float[Array, " point"]
    p: Float[Array, " point"]


def power_law(power: float, largest: float = 100.0, points: int = 400) -> Magnitudes:
    """Magnitudes from 1 to ``largest`` with density ∝ x^-power (0: all alike; 1: alike in log x).

    Raises:
        ValueError: ``largest`` is not above 1, or fewer than ten points.
    """
    if not largest > 1 or points < 10:
        raise ValueError(f"largest={largest}, points={points}: give more than 1, and 10 or more")
    x = np.linspace(1, largest, points)
    return Magnitudes(x, x**-power / (x**-power).sum())


def code(magnitudes: Magnitudes, power: float) -> Float[Array, " point"]:
    """The code from 0 to 1 whose steepness is ∝ p^power: 0 is linear, 1 is the CDF."""
    steps = magnitudes.p**power
    middle = steps.cumsum() - steps / 2
    return middle / steps.sum()


def confusion(magnitudes: Magnitudes, f: Float[Array, " point"], noise: float) -> float:
    """How often two different magnitudes, drawn apart, are put in the wrong order.

    Args:
        magnitudes: what they are drawn from.
        f: their code.
        noise: standard deviation of the error of one code, above 0.
    """
    wrong = norm.cdf(-abs(f[:, None] - f) / (noise * 2**0.5))
    both = magnitudes.p[:, None] * magnitudes.p
    np.fill_diagonal(both, 0.0)
    return float((wrong * both).sum() / both.sum())


def squared_error(magnitudes: Magnitudes, f: Float[Array, " point"], noise: float) -> float:
    """Mean squared error of the best guess of one magnitude from its noisy code."""
    seen = np.linspace(-5 * noise, 1 + 5 * noise, 800)
    joint = magnitudes.p[:, None] * norm.pdf(seen, f[:, None], noise)
    density = joint.sum(0)
    guess = (joint * magnitudes.x[:, None]).sum(0) / np.maximum(density, 1e-300)
    errors = (magnitudes.x[:, None] - guess) ** 2
    return float((joint * errors).sum() * (seen[1] - seen[0]))


def best_power(magnitudes: Magnitudes, measure: str, noise: float, powers: Array) -> float:
    """The power of the density at which a measure is least, among those given.

    Raises:
        ValueError: ``measure`` is neither ``confusion`` nor ``squared error``.
    """
    known = {"confusion": confusion, "squared error": squared_error}
    if measure not in known:
        raise ValueError(f"measure is {measure!r}; give one of {', '.join(known)}")
    values = [known[measure](magnitudes, code(magnitudes, a), noise) for a in powers]
    return float(powers[int(np.argmin(values))])


# --- drift-diffusion --------------------------------------------------------------------------


@dataclass(frozen=True)
class Diffusion:
    """Evidence that drifts and jitters from 0 until it meets a bound, +bound or -bound.

    Attributes:
        drift: evidence a unit of time.
        bound: of either side, above 0.
        noise: standard deviation of the jitter in one unit of time, above 0.
    """

    drift: float
    bound: float
    noise: float = 1.0

    def __post_init__(self) -> None:
        if not (self.bound > 0 and self.noise > 0):
            raise ValueError(f"{self}: bound and noise are above 0")

    @property
    def p_upper(self) -> float:
        """Probability of the upper bound: σ(2 · drift · bound / noise²), a logistic function."""
        return float(expit(2 * self.drift * self.bound / self.noise**2))

    @property
    def mean_time(self) -> float:
        """Mean time to either bound: (bound / drift) tanh(drift · bound / noise²)."""
        if self.drift == 0:
            return (self.bound / self.noise) ** 2
        return float(self.bound / self.drift * np.tanh(self.drift * self.bound / self.noise**2))


def simulate(
    diffusion: Diffusion, runs: int, *, step: float = 0.002, seed: int = 0
) -> tuple[Float[Array, " run"], Float[Array, " run"]]:
    """Run it in small steps of time.

    Args:
        diffusion: its parameters.
        runs: how many.
        step: in units of (bound / noise)², the time that noise alone needs.
        seed: of the jitter.

    Returns:
        Whether the upper bound was met (1 or 0), and when.
    """
    draw = np.random.default_rng(seed)
    short = step * (diffusion.bound / diffusion.noise) ** 2
    where, time, upper = np.zeros(runs), np.zeros(runs), np.full(runs, np.nan)
    going = np.ones(runs, dtype=bool)
    while going.any():
        jitter = draw.standard_normal(int(going.sum())) * diffusion.noise * short**0.5
        where[going] += diffusion.drift * short + jitter
        time[going] += short
        met = going & (abs(where) >= diffusion.bound)
        upper[met] = where[met] > 0
        going &= ~met
    return upper, time


def identifiable(diffusion: Diffusion, times: bool, by: float = 1e-4) -> int:
    """How many of drift, bound and noise the averages can tell: the rank of their derivative.

    Args:
        diffusion: where it is taken, with a drift that is not 0.
        times: whether mean times are measured, or choices alone.
        by: relative change of each parameter.
    """
    base = np.array([diffusion.drift, diffusion.bound, diffusion.noise])

    def seen(values: Array) -> Array:
        made = Diffusion(*values.tolist())
        return np.array([made.p_upper, made.mean_time][: 1 + times])

    columns = [
        (seen(base * (1 + by * row)) - seen(base * (1 - by * row))) / (2 * by) for row in np.eye(3)
    ]
    return int(np.linalg.matrix_rank(np.stack(columns, -1), tol=1e-6))
