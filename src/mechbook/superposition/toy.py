"""The toy model of superposition: many sparse features, few dimensions, and back again.

    h = W x            [hidden]    from [feature], linear
    x̂ = ReLU(Wᵀ h + b) [feature]   the same matrix, transposed, and a bias

Names and shapes are those of Elhage et al., "Toy Models of Superposition" (2022): W is ``[hidden,
feature]``, its *columns* are the directions of the features. A feature is a number from 0 to 1
that is zero with probability S; its density ``1 - S`` is the probability that it is there. A
member of an ensemble is one density with one seed; the seed draws the start and the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechbook import training
from mechbook.ensembles import train_ensemble

HELD_OUT, UNSEEN = 16384, 1_000_003
"""Examples on which all members of an ensemble are compared, and the seed that draws them."""
RELATIONS = ("independent", "correlated", "anticorrelated")


@dataclass(frozen=True)
class Features:
    """How the features of the data come and go.

    Attributes:
        n: how many there are.
        relation: ``independent``; or in groups of ``group`` neighbors, which are all there or all
            absent (``correlated``; their sizes are drawn apart), or of which at most one is there
            (``anticorrelated``). In each case a feature is there with the same probability.
        group: features in a group.
        signed: sizes from -1 to 1 instead of from 0 to 1.
    """

    n: int = 5
    relation: str = "independent"
    group: int = 2
    signed: bool = False

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ValueError(f"relation is {self.relation!r}; give one of {', '.join(RELATIONS)}")
        if self.n < 1 or self.group < 1 or (self._grouped and self.n % self.group):
            raise ValueError(
                f"{self.n} features do not make groups of {self.group}; give a whole number of "
                "groups, or relation='independent'"
            )

    @property
    def _grouped(self) -> bool:
        return self.relation != "independent"

    def check(self, density: float) -> float:
        """Return the density if data can have it.

        Raises:
            ValueError: it is no probability, or so high that features which exclude each other
                would be there more than always.
        """
        most = 1 / self.group if self.relation == "anticorrelated" else 1.0
        if not 0 <= density <= most:
            raise ValueError(
                f"density is {density}; give a probability from 0 to {most:g} (1 - S, where S is "
                "the probability that a feature is zero)"
            )
        return float(density)

    def values(
        self,
        coins: Float[Tensor, "*batch feature"],
        sizes: Float[Tensor, "*batch feature"],
        density: float | Float[Tensor, ""],
    ) -> Float[Tensor, "*batch feature"]:
        """Data from uniform numbers: a coin for each feature (or group), and how large it is.

        The same numbers give for a higher density the same data with more features in them.
        """
        size = 2 * sizes - 1 if self.signed else sizes
        if not self._grouped:
            return size * (coins < density)
        coin = coins[..., :: self.group].repeat_interleave(self.group, dim=-1)
        if self.relation == "correlated":
            return size * (coin < density)
        turn = torch.arange(self.n, device=coins.device) % self.group
        return size * ((coin >= turn * density) & (coin < (turn + 1) * density))


def sample(
    features: Features, density: float, batch: int, generator: torch.Generator
) -> Float[Tensor, "batch feature"]:
    """Draw data.

    Raises:
        ValueError: a density that the features cannot have.
    """
    coins, sizes = torch.rand(2, batch, features.n, generator=generator)
    return features.values(coins, sizes, features.check(density))


# --- the model --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ToyConfig:
    """The model and how it is trained (Adam, the rate falling to nothing along a cosine).

    Attributes:
        features: the data.
        n_hidden: dimensions of the bottleneck, at most as many as features.
        importance: the error of feature ``i`` counts ``importance ** i``; or one weight a feature.
        relu: whether the output is clipped at zero; without it the model is linear.
        neurons: whether the hidden units are clipped at zero as well; without it they are a linear
            bottleneck, whose axes nothing singles out.
        activity: a price for the hidden units' activity, added to the loss: the sum of their
            absolute values, times this.
        steps: updates.
        batch: examples an update.
        learning_rate: at the start.
        start: size of a new model's weights (normal, divided by the root of ``n_hidden``).
    """

    features: Features = Features()
    n_hidden: int = 2
    importance: float | tuple[float, ...] = 0.85
    relu: bool = True
    neurons: bool = False
    activity: float = 0.0
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 3e-2
    start: float = 0.3

    def __post_init__(self) -> None:
        if not 1 <= self.n_hidden <= self.features.n:
            raise ValueError(
                f"n_hidden is {self.n_hidden} for {self.features.n} features; a bottleneck has "
                "from 1 to as many dimensions as there are features"
            )
        weights = self.importance if isinstance(self.importance, tuple) else (self.importance,)
        if min(weights) < 0 or (len(weights) > 1 and len(weights) != self.features.n):
            raise ValueError(
                f"importance is {self.importance}; give one number or one a feature, none negative"
            )

    @property
    def weights(self) -> Float[Tensor, " feature"]:
        """How much each feature's squared error counts."""
        if isinstance(self.importance, tuple):
            return torch.tensor(self.importance)
        return self.importance ** torch.arange(self.features.n).float()


class Toy(nn.Module):
    """x̂ = ReLU(Wᵀ W x + b).

    Args:
        config: shapes, and whether there is a ReLU.
        seed: of the start.
    """

    def __init__(self, config: ToyConfig, seed: int = 0):
        """Draw W and set b to zero."""
        super().__init__()
        draw = training.generator(seed)
        start = torch.randn(config.n_hidden, config.features.n, generator=draw)
        self.W = nn.Parameter(config.start * start / config.n_hidden**0.5)  # [hidden, feature]
        self.b = nn.Parameter(torch.zeros(config.features.n))  # [feature]
        self.relu, self.neurons = config.relu, config.neurons

    def hidden(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch hidden"]:
        """Squeeze."""
        h = x @ self.W.T
        return h.relu() if self.neurons else h

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """Squeeze and bring back."""
        out = self.hidden(x) @ self.W + self.b
        return out.relu() if self.relu else out


@dataclass(frozen=True)
class Trained:
    """Trained members, [density, seed, …].

    Attributes:
        config: what they have in common.
        densities: of the data.
        W: [density, seed, hidden, feature].
        b: [density, seed, feature].
        loss: on data that no training saw, the same for all members, [density, seed].
        start: the W that they started from.
    """

    config: ToyConfig
    densities: tuple[float, ...]
    W: Float[Tensor, "density seed hidden feature"]
    b: Float[Tensor, "density seed feature"]
    loss: Float[Tensor, "density seed"]
    start: Float[Tensor, "density seed hidden feature"]


def train(
    config: ToyConfig,
    densities: Sequence[float],
    seeds: Sequence[int],
    progress: bool | None = None,
    data: Sequence[int] | None = None,
) -> Trained:
    """Train one model for every density and every seed, all in one program.

    Args:
        config: of the model and its training.
        densities: one or more.
        seeds: of the starts, and of the data unless ``data`` is given.
        progress: whether there is a bar, see `mechbook.training`.
        data: as many other seeds for the data: the same starts, seeing other examples.

    Raises:
        ValueError: no density or no seed, a density that the features cannot have, or another
            number of seeds for the data than for the starts.
    """
    draws = seeds if data is None else data
    if len(draws) != len(seeds):
        raise ValueError(f"{len(seeds)} starts, {len(draws)} seeds for the data; give as many")
    if not len(densities) or not len(seeds):
        raise ValueError(f"{len(densities)} densities, {len(seeds)} seeds; give at least one each")
    chances = [config.features.check(density) for density in densities]
    models = [Toy(config, seed) for _ in chances for seed in seeds]
    start = torch.stack([model.W.detach().clone() for model in models])
    loss = _loss(config)
    settings = torch.tensor(chances).repeat_interleave(len(seeds))
    ensemble, _ = train_ensemble(
        models,
        loss,
        batches=lambda step: _draws(config, draws, step, len(chances)),
        settings=settings,
        optimizer=torch.optim.Adam,
        lr=config.learning_rate,
        scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, config.steps
        ),
        steps=config.steps,
        label="toy models",
        progress=progress,
    )
    unseen = _draws(replace(config, batch=HELD_OUT), [UNSEEN], 0, 1)[0]
    with torch.no_grad():
        held_out = ensemble.map(loss, unseen, settings, shared=(0,))
    W, b = (dict(ensemble.named_parameters())[f"member/{name}"].detach() for name in ("W", "b"))
    sorted_out = (t.unflatten(0, (len(chances), len(seeds))) for t in (W, b, held_out, start))
    return Trained(config, tuple(chances), *sorted_out)


def _loss(config: ToyConfig) -> Any:
    """The loss of one member: squared errors, each times its feature's importance."""
    features, weights = config.features, config.weights

    def loss(model: Any, draws: Float[Tensor, "two batch feature"], density: Tensor) -> Tensor:
        x = features.values(draws[0], draws[1], density)
        error = (weights * (model(x) - x).pow(2)).sum(-1).mean()
        if not config.activity:
            return error
        return error + config.activity * model.hidden(x).abs().sum(-1).mean()

    return loss


def _draws(
    config: ToyConfig, seeds: Sequence[int], step: int, copies: int
) -> Float[Tensor, "member two batch feature"]:
    """Uniform numbers for coins and sizes; every density of a seed gets the same."""
    shape = (2, config.batch, config.features.n)
    own = [torch.rand(*shape, generator=training.generator(seed, step + 1)) for seed in seeds]
    return torch.stack(own).repeat(copies, 1, 1, 1)
