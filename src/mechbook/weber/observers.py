"""Judges of "which side has more words?" whose inside is known: exact, and counting with noise.

Every judge, these and the networks and the endpoints, has one method: ``judge(trials)`` gives for
each trial the probability of answering *right*; not a number where it gave no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float
from scipy.stats import norm

from mechbook.weber.stimuli import Trial

NOISES = {"constant": 0.0, "root": 0.5, "scalar": 1.0}
"""Kinds of noise: the power of a count with which its standard deviation grows."""


class Observer(Protocol):
    """Whoever can be asked."""

    def judge(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """The probability of answering right, for each trial."""


def counts_of(trials: Sequence[Trial]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of words on the left and on the right, as floats.

    Raises:
        ValueError: no trials.
    """
    if not trials:
        raise ValueError("there are no trials; give at least one")
    m, n = np.array([(trial.m, trial.n) for trial in trials], dtype=float).T
    return m, n


@dataclass(frozen=True)
class Exact:
    """Counts without error; tosses a coin where the two are equal."""

    def judge(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """1 where the right side has more, 0 where it has less, one half where they are equal."""
        m, n = counts_of(trials)
        return (1 + np.sign(n - m)) / 2


@dataclass(frozen=True)
class Accumulator:
    """Adds up words with noise, and compares the two sums.

    A count of ``k`` is known up to a normal error of standard deviation ``size * k ** power``: the
    power is 0 (``constant``), ½ (``root``: each word adds an error of its own) or 1 (``scalar``).

    Attributes:
        noise: one of `NOISES`.
        size: standard deviation of the error of a count of one word, in words.
        bias: words added to the right side.
        lapse: share of trials answered by a coin.
    """

    noise: str = "scalar"
    size: float = 0.1
    bias: float = 0.0
    lapse: float = 0.0

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise ValueError(f"noise is {self.noise!r}; give one of {', '.join(NOISES)}")
        if not self.size > 0 or not 0 <= self.lapse <= 1:
            raise ValueError(f"{self}: the size is above 0, and the lapse from 0 to 1")

    def deviation(self, m: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Standard deviation of the difference of the two sums, in words."""
        power = 2 * NOISES[self.noise]
        return self.size * np.sqrt(np.asarray(m) ** power + np.asarray(n) ** power)

    def judge(self, trials: Sequence[Trial]) -> Float[np.ndarray, " trial"]:
        """The probability of right: a normal distribution function of the difference."""
        m, n = counts_of(trials)
        sure = norm.cdf((n - m + self.bias) / self.deviation(m, n))
        return self.lapse / 2 + (1 - self.lapse) * sure

    def jnd(self, mean: float) -> float:
        """The difference that is told at three in four trials, without lapses, near a mean."""
        count = np.array(mean)
        return float(norm.ppf(0.75) * self.deviation(count, count))


def choices(p_right: Float[np.ndarray, " trial"], seed: int = 0) -> Float[np.ndarray, " trial"]:
    """One answer a trial, 1 for right and 0 for left; what is not a number stays so."""
    p = np.asarray(p_right, dtype=float)
    drawn = (np.random.default_rng(seed).random(p.shape) < p).astype(float)
    return np.where(np.isnan(p), np.nan, drawn)
