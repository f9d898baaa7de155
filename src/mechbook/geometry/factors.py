"""A synthetic language of independent factors, in which the theorem's assumptions hold, or one fails.

Each word is a choice of values for every concept, and its vector is ``γ = z G + rest``: the concepts'
values z (±½) times the concepts' directions G, which are far from orthogonal. Where all values occur
with all others equally often, ``Cov(z)`` is diagonal, so ``Cov(γ) = Gᵀ Cov(z) G`` and
``G Cov(γ)⁻¹ Gᵀ = Cov(z)⁻¹`` is diagonal too: the causal inner product makes the concepts orthogonal.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import training

VARIANTS = (
    "as assumed",
    "correlated words",
    "curved concept",
    "correlated rest",
    "noise everywhere",
)


@dataclass(frozen=True)
class Language:
    """A synthetic language.

    Attributes:
        n_concepts: binary concepts; there are ``2**n_concepts`` words, or copies of them.
        n_rest: dimensions that no concept uses.
        copies: words for each combination of values; they differ in the rest.
        variant: ``as assumed``; ``correlated words`` (of the words in which the first two
            concepts differ, only the share ``left`` is in the vocabulary); ``curved concept`` (a
            concept's step depends on another's value); ``correlated rest`` (what no concept
            uses leans on the first two concepts' values); ``noise everywhere`` (words also
            differ at random along the concepts' own dimensions).
        left: that share, 0 to 1.
        seed: of the directions and of the rest.
    """

    n_concepts: int = 6
    n_rest: int = 10
    copies: int = 64
    variant: str = "as assumed"
    left: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}; give one of {', '.join(VARIANTS)}")
        if not 2 <= self.n_concepts <= 12 or self.n_rest < 0 or self.copies < 1:
            raise ValueError(f"{self}: give 2 to 12 concepts, a rest of 0 or more, 1 copy or more")
        if self.n_rest and self.copies <= self.n_rest:
            raise ValueError(f"{self}: give more copies than dimensions of the rest")
        if not 0 < self.left <= 1:
            raise ValueError(f"left is {self.left}; give a share above 0, 1 at most")


@dataclass(frozen=True)
class Words:
    """The words of a language.

    Attributes:
        values: of the concepts, -½ or ½.
        gamma: the words' vectors.
        directions: G, the concepts' directions: the mean step between words that differ in that concept alone.
    """

    values: Float[Tensor, "word concept"]
    gamma: Float[Tensor, "word d"]
    directions: Float[Tensor, "concept d"]


def speak(language: Language) -> Words:
    """Make the words of a language, in 64 bits.

    The rest is whitened within the copies of each combination, so that the sample's covariance is
    the population's and ``as assumed`` is exact.
    """
    draw = training.generator(language.seed)
    size = language.n_concepts + language.n_rest
    mix = torch.randn(size, size, generator=draw, dtype=torch.float64)
    G, others = mix[: language.n_concepts], mix[language.n_concepts :]
    G = G + G.mean(0)  # far from orthogonal: all concepts share a part
    values = _values(language)
    rest = _rest(language, len(values), draw)
    if language.variant == "correlated rest" and language.n_rest:
        rest[:, 0] += 2 * values[:, 0] + 2 * values[:, 1]
    gamma = values @ G + rest @ others
    if language.variant == "curved concept":
        gamma = gamma + _curve(values, G)
    if language.variant == "noise everywhere":
        gamma = gamma + torch.randn(gamma.shape, generator=draw, dtype=torch.float64)
    return Words(values, gamma, _mean_steps(values, gamma))


def _mean_steps(values: Tensor, gamma: Tensor) -> Float[Tensor, "concept d"]:
    """From -½ to ½ of one concept, all others kept: the mean over their combinations."""
    combinations, which = torch.unique(values, dim=0, return_inverse=True)
    means = torch.stack([gamma[which == k].mean(0) for k in range(len(combinations))])
    up = combinations > 0  # all combinations are there, as many with ½ as with -½
    return torch.stack([means[has].mean(0) - means[~has].mean(0) for has in up.mT])


def _values(language: Language) -> Float[Tensor, "word concept"]:
    """All combinations, ``copies`` times; without most of those in which the first two differ."""
    combinations = torch.tensor(
        list(itertools.product((-0.5, 0.5), repeat=language.n_concepts)), dtype=torch.float64
    )
    if language.variant != "correlated words":
        return combinations.repeat_interleave(language.copies, 0)
    agree = combinations[:, 0] == combinations[:, 1]
    few = max(1, round(language.left * language.copies))
    return combinations.repeat_interleave(torch.where(agree, language.copies, few), 0)


def _rest(language: Language, words: int, draw: torch.Generator) -> Float[Tensor, "word rest"]:
    """What no concept uses: noise with mean 0 and covariance I, and uncorrelated with the values."""
    if not language.n_rest:
        return torch.zeros(words, 0, dtype=torch.float64)
    noise = torch.randn(words, language.n_rest, generator=draw, dtype=torch.float64)
    values = _values(language)
    known = torch.cat([values, torch.ones(words, 1, dtype=torch.float64)], 1)
    noise = noise - known @ torch.linalg.lstsq(known, noise).solution
    factor = torch.linalg.cholesky(noise.mT @ noise / words)
    return torch.linalg.solve_triangular(factor, noise.mT, upper=False).mT


def _curve(values: Tensor, G: Tensor) -> Tensor:
    """The first concept's step grows and turns with the second's value."""
    return 4 * (values[:, :1] * (values[:, 1:2] + 0.5)) * G[2 % len(G)]
