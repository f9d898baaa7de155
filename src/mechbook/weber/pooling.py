"""Four trained networks that differ in two things: sum or average, noise in each word or after pooling.

Every word is embedded and becomes a value of length 1; one attention head pools the values, and a
linear readout says left or right:

    value_i = unit(W_V (word_i + side_i))              each of length 1
    pooled  = Σ_i a_i (value_i + noise_i) + noise      a_i = 1/(n + m) or 1
    logit   = readout · pooled

The average's evidence is (n - m)/(n + m), the sum's n - m. Noise of fixed size in each word grows
like √(n + m) in a sum and shrinks like 1/√(n + m) in an average; noise after pooling does neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import norm
from torch import Tensor, nn

from mechbook import training
from mechbook.ensembles import train_ensemble
from mechbook.weber.psychometrics import Counts

POOLS = ("sum", "average")
PLACES = ("each word", "after pooling")


@dataclass(frozen=True)
class PoolingConfig:
    """One network, its task, and how it is trained (AdamW).

    Attributes:
        pool: one of `POOLS`.
        noise: one of `PLACES`: where the noise is added, in training and in use.
        level: standard deviation of the noise along any one direction, in values' lengths; for an
            average after pooling it is divided by `typical`, so that all four are about as hard.
        typical: number of words at which the four are about equally hard.
        n_types: words.
        d_model: width.
        low: fewest words a side in training.
        high: most words a side in training.
        steps: updates.
        batch: trials an update.
        learning_rate: of AdamW.
        seed: of weights and trials.
    """

    pool: str = "average"
    noise: str = "after pooling"
    level: float = 1.0
    typical: float = 40.0
    n_types: int = 50
    d_model: int = 16
    low: int = 1
    high: int = 40
    steps: int = 400
    batch: int = 256
    learning_rate: float = 3e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pool not in POOLS or self.noise not in PLACES:
            raise ValueError(
                f"pool {self.pool!r}, noise {self.noise!r}: the pools are {', '.join(POOLS)}, and "
                f"noise is in {' or '.join(PLACES)}"
            )
        if not self.level > 0 or not 1 <= self.low < self.high:
            raise ValueError(f"{self}: the level is above 0, and low from 1 to below high")

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise where it is added."""
        root = self.typical**0.5
        if self.noise == "each word":
            return self.level
        return self.level * root if self.pool == "sum" else self.level / root

    @property
    def exponent(self) -> float:
        """What theory says of JND ∝ mean^exponent."""
        if self.noise == "each word":
            return 0.5
        return 0.0 if self.pool == "sum" else 1.0


class Pooling(nn.Module):
    """The network; ``forward`` gives the logit of right."""

    def __init__(self, config: PoolingConfig):
        """Draw the weights."""
        super().__init__()
        draw, width = training.generator(config.seed), config.d_model
        self.words = nn.Parameter(torch.randn(config.n_types, width, generator=draw))
        self.sides = nn.Parameter(torch.randn(2, width, generator=draw))
        self.W_V = nn.Parameter(torch.randn(width, width, generator=draw) / width**0.5)
        self.readout = nn.Parameter(torch.randn(width, generator=draw) / width**0.5)
        self.average = config.pool == "average"

    def values(
        self, words: Int[Tensor, "batch posn"], sides: Int[Tensor, "batch posn"]
    ) -> Float[Tensor, "batch posn d_model"]:
        """What each word gives to the pool, of length 1."""
        values = (self.words[words] + self.sides[sides]) @ self.W_V
        return values / values.norm(dim=-1, keepdim=True)

    def forward(self, trials: dict[str, Tensor]) -> Float[Tensor, " batch"]:
        """Logits of right; see `sample` for the trials."""
        values = self.values(trials["words"], trials["sides"]) + trials["in words"]
        there = trials["there"].to(values.dtype)
        weights = there / there.sum(-1, keepdim=True) if self.average else there
        pooled = (weights[..., None] * values).sum(-2) + trials["in pool"]
        return pooled @ self.readout


def sample(
    config: PoolingConfig,
    m: Int[Tensor, " batch"],
    n: Int[Tensor, " batch"],
    draw: torch.Generator,
) -> dict[str, Tensor]:
    """Trials with these counts: random words, their sides, and the noise of this presentation."""
    longest, batch = int((m + n).max()), len(m)
    posn = torch.arange(longest)
    there: Bool[Tensor, "batch posn"] = posn < (m + n)[:, None]
    in_words = torch.zeros(batch, 1, 1)
    in_pool = torch.zeros(batch, config.d_model)
    if config.noise == "each word":
        shape = (batch, longest, config.d_model)
        in_words = config.deviation * torch.randn(shape, generator=draw)
    else:
        in_pool = config.deviation * torch.randn(batch, config.d_model, generator=draw)
    return {
        "words": torch.randint(config.n_types, (batch, longest), generator=draw),
        "sides": (posn >= m[:, None]).long(),
        "there": there,
        "in words": in_words,
        "in pool": in_pool,
        "right": (n > m).float(),
    }


def training_counts(config: PoolingConfig, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Counts of a batch in training: uniform, and never equal."""
    shape = (config.batch,)
    m = torch.randint(config.low, config.high + 1, shape, generator=draw)
    n = torch.randint(config.low, config.high, shape, generator=draw)
    return m, n + (n >= m)


def _loss(model: Any, trials: dict[str, Tensor], setting: Any) -> Tensor:
    logits = model(trials)
    return nn.functional.binary_cross_entropy_with_logits(logits, trials["right"])


def train(configs: Sequence[PoolingConfig], *, progress: bool | None = None) -> list[Pooling]:
    """Train networks that differ in their seed alone, as one program.

    Raises:
        ValueError: they differ in more than their seed, or there is none.
    """
    if len({PoolingConfig(**{**vars(c), "seed": 0}) for c in configs}) != 1:
        raise ValueError("give one or more settings that differ in nothing but their seed")
    draws = [config.seed for config in configs]

    def batches(step: int) -> dict[str, Tensor]:
        own = []
        for config, seed in zip(configs, draws, strict=True):
            draw = training.generator(seed + 1_000, step)
            m, n = training_counts(config, draw)
            m[0], n[0] = config.high, config.high - 1  # one shape for all members
            own.append(sample(config, m, n, draw))
        return {name: torch.stack([trials[name] for trials in own]) for name in own[0]}

    ensemble, _ = train_ensemble(
        [Pooling(config) for config in configs],
        _loss,
        steps=configs[0].steps,
        batches=batches,
        lr=configs[0].learning_rate,
        label=f"{configs[0].pool}, noise {configs[0].noise}",
        progress=progress,
    )
    return [member for member in ensemble.members() if isinstance(member, Pooling)]


@torch.no_grad()
def answers(
    model: Any,
    config: PoolingConfig,
    *,
    means: Sequence[int] = (10, 20, 30),
    differences: Sequence[int] = (2, 4, 6, 8),
    per_cell: int = 200,
    seed: int = 1_000_003,
) -> Counts:
    """What the network chooses, each trial once, with fresh words and fresh noise.

    Args:
        model: trained, or not.
        config: its noise.
        means: of the two counts.
        differences: sizes, even, so that every mean is met exactly; each with both signs.
        per_cell: trials for each mean and signed difference.
        seed: of words and noise.

    Raises:
        ValueError: an odd difference, or one that leaves a side empty.
    """
    if any(size % 2 or not 0 < size < 2 * min(means) for size in differences):
        raise ValueError(f"differences {list(differences)}: give even ones above 0, below 2 · mean")
    rows = [(a, s * d) for a in means for d in differences for s in (-1, 1)]
    right = []
    for index, (mean, difference) in enumerate(rows):
        m = torch.full((per_cell,), mean - difference // 2)
        trials = sample(config, m, m + difference, training.generator(seed, index))
        right.append(float((model(trials) > 0).sum()))
    mean_of, difference_of = np.array(rows, dtype=float).T
    return Counts(mean_of, difference_of, np.array(right), np.full(len(rows), float(per_cell)))


def ideal_jnd(config: PoolingConfig, mean: float) -> float:
    """The threshold in words of a readout along one direction, with values of exactly ±1 on it.

    The closed form behind the four exponents: z₃/₄ times the noise over what one word more changes.
    """
    words, z = 2 * mean, float(norm.ppf(0.75))
    if config.noise == "each word":
        return z * config.level * words**0.5
    return z * config.deviation * (1.0 if config.pool == "sum" else words)


FOUR = tuple(PoolingConfig(pool, noise) for pool, noise in itertools.product(POOLS, PLACES))
"""The four networks."""
