"""Computing in superposition: more absolute values than neurons, and what little data makes of it.

    h = ReLU(W₁ x)        [hidden]   from [feature], sizes from -1 to 1
    ŷ = ReLU(W₂ h + b)    [feature]  should be ``|x|``

Without superposition ``|x| = ReLU(x) + ReLU(-x)`` takes two neurons a feature, so 40 neurons do 20 of
100 features (Elhage et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechbook import training
from mechbook.ensembles import train_ensemble
from mechbook.superposition import geometry
from mechbook.superposition.toy import UNSEEN, Features, Toy, ToyConfig


@dataclass(frozen=True)
class AbsoluteConfig:
    """The network for ``|x|`` and how it is trained (Adam, cosine).

    Attributes:
        n: features.
        n_hidden: neurons.
        importance: the error of feature ``i`` counts ``importance ** i``.
        steps: updates.
        batch: examples an update.
        learning_rate: at the start.
    """

    n: int = 100
    n_hidden: int = 40
    importance: float = 1.0
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        if min(self.n, self.n_hidden) < 1 or self.importance < 0:
            raise ValueError(
                f"{self}: give at least one feature and one neuron, and no negative importance"
            )

    @property
    def dedicated(self) -> int:
        """Features that get two neurons each if none share."""
        return min(self.n, self.n_hidden // 2)


class Absolute(nn.Module):
    """ŷ = ReLU(W₂ ReLU(W₁ x) + b)."""

    def __init__(self, config: AbsoluteConfig, seed: int = 0):
        """Draw both matrices."""
        super().__init__()
        draw = training.generator(seed)
        n, m = config.n, config.n_hidden
        self.W1 = nn.Parameter(torch.randn(m, n, generator=draw) / n**0.5)  # [hidden, feature]
        self.W2 = nn.Parameter(torch.randn(n, m, generator=draw) / m**0.5)  # [feature, hidden]
        self.b = nn.Parameter(torch.zeros(n))

    def forward(self, x: Float[Tensor, "batch feature"]) -> Float[Tensor, "batch feature"]:
        """The network's guess of ``|x|``."""
        return ((x @ self.W1.T).relu() @ self.W2.T + self.b).relu()


@dataclass(frozen=True)
class Computed:
    """Trained networks.

    Attributes:
        densities: of the data.
        W1: [density, seed, hidden, feature].
        error: mean squared error of each feature over that of the best constant, on data that no
            training saw, [density, seed, feature]. 0 is perfect; 1 is not computed at all.
    """

    densities: tuple[float, ...]
    W1: Float[Tensor, "density seed hidden feature"]
    error: Float[Tensor, "density seed feature"]

    @property
    def worth(self) -> Float[Tensor, "density seed"]:
        """How many whole features all that is computed amounts to: the errors gone, added up.

        With a neuron for each sign of a feature it is half the number of neurons.
        """
        return (1 - self.error).clamp(min=0).sum(-1)


def train(
    config: AbsoluteConfig,
    densities: Sequence[float],
    seeds: Sequence[int],
    progress: bool | None = None,
) -> Computed:
    """Train one network for every density and seed, all in one program.

    Raises:
        ValueError: no density, no seed, or a density that is no probability above 0.
    """
    features = Features(config.n, signed=True)
    chances = [features.check(density) for density in densities]
    if not chances or not len(seeds) or min(chances) <= 0:
        raise ValueError(
            f"densities {list(chances)}, {len(seeds)} seeds; give one of each at least, and "
            "densities above 0"
        )
    models = [Absolute(config, seed) for _ in chances for seed in seeds]
    settings = torch.tensor(chances).repeat_interleave(len(seeds))
    weights = config.importance ** torch.arange(config.n)

    def errors(model: Any, draws: Tensor, density: Tensor) -> Float[Tensor, " feature"]:
        x = features.values(draws[0], draws[1], density)
        return (model(x) - x.abs()).pow(2).mean(0)

    def batches(step: int) -> Tensor:
        shape = (2, config.batch, config.n)
        own = [torch.rand(*shape, generator=training.generator(s, step + 1)) for s in seeds]
        return torch.stack(own).repeat(len(chances), 1, 1, 1)

    ensemble, _ = train_ensemble(
        models,
        # Divided by the density, so that rare features train as fast as frequent ones.
        lambda model, draws, density: (weights * errors(model, draws, density)).sum() / density,
        batches=batches,
        settings=settings,
        optimizer=torch.optim.Adam,
        lr=config.learning_rate,
        scheduler=lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, config.steps),
        steps=config.steps,
        label="absolute values",
        progress=progress,
    )
    unseen = torch.rand(2, 8192, config.n, generator=training.generator(UNSEEN))
    with torch.no_grad():
        found = ensemble.map(errors, unseen, settings, shared=(0,))
    shape = (len(chances), len(seeds))
    found = found.reshape(*shape, -1) / constant_error(torch.tensor(chances))[:, None, None]
    W1 = dict(ensemble.named_parameters())["member/W1"].detach()
    return Computed(tuple(chances), W1.reshape(*shape, *W1.shape[1:]), found)


def constant_error(density: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """Mean squared error of the best constant: the variance of ``|x|``, ``p/3 - p²/4``.

    ``|x|`` is uniform on 0 to 1 with probability p and 0 otherwise.
    """
    return density / 3 - density**2 / 4


def make_absolute(
    seeds: int = 8, densities: Sequence[float] = (0.3, 0.1, 0.03, 0.01)
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``superposition-absolute``: what the networks compute, for several seeds.

    Columns: ``density``, ``seed``, ``quantity`` (``worth``, and ``touched``: features that move a
    neuron, a mean over the neurons that anything moves), ``value``.

    Raises:
        ValueError: no seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    found = train(AbsoluteConfig(), densities, range(seeds))
    rows = []
    for i, density in enumerate(found.densities):
        for seed in range(seeds):
            rows.append((density, seed, "worth", float(found.worth[i, seed])))
            rows.append((density, seed, "touched", touched(found.W1[i, seed])))
    about = "Absolute values of a hundred features from forty neurons, over the density"
    card = {"about": about, "seeds": list(range(seeds))}
    return geometry.columns(rows, ("density", "seed", "quantity", "value")), card


def touched(W1: Float[Tensor, "hidden feature"], share: float = 0.3) -> float:
    """Features with a weight of at least ``share`` of the neuron's largest, a mean over neurons."""
    size = W1.abs()
    most = size.amax(-1, keepdim=True)
    return float((size >= share * most)[most[:, 0] > 0.1].float().sum(-1).mean())


# --- few examples -----------------------------------------------------------------------------


@dataclass(frozen=True)
class LimitedConfig:
    """A toy model that sees the same few examples again and again.

    Attributes:
        n: features.
        n_hidden: dimensions of the bottleneck.
        density: of the features; every example is then brought to length 1.
        steps: updates, each with all examples.
        learning_rate: the highest.
        weight_decay: of all weights.
        warmup: updates until the highest rate.
    """

    n: int = 200
    n_hidden: int = 2
    density: float = 0.02
    steps: int = 3000
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    warmup: int = 100

    def rate(self, step: int) -> float:
        """The learning rate at an update, as a share of the highest."""
        return min(1.0, (step + 1) / self.warmup) * max(0.0, 1 - step / self.steps) ** 0.5


@dataclass(frozen=True)
class Limited:
    """Models trained on few examples.

    Attributes:
        W: [seed, hidden, feature].
        h: the hidden vectors of the training examples, [seed, example, hidden].
        train: mean squared error on the examples, summed over features, [seed].
        test: the same on examples that no training saw.
    """

    W: Float[Tensor, "seed hidden feature"]
    h: Float[Tensor, "seed example hidden"]
    train: Float[Tensor, " seed"]
    test: Float[Tensor, " seed"]

    @property
    def kept(self) -> Float[Tensor, " seed"]:
        """How many features are represented, see `geometry.REPRESENTED`."""
        return geometry.represented(self.W).double().sum(-1)


def examples(
    config: LimitedConfig, count: int, generator: torch.Generator
) -> Float[Tensor, "example feature"]:
    """Examples of length 1, none of them empty."""
    sizes, coins = torch.rand(2, count, config.n, generator=generator)
    x = sizes * (coins < config.density)
    x[torch.arange(count), torch.randint(config.n, (count,), generator=generator)] += 1e-3
    return x / x.norm(dim=-1, keepdim=True)


def train_limited(
    config: LimitedConfig, count: int, seeds: Sequence[int], progress: bool | None = None
) -> Limited:
    """Train on ``count`` examples, another set for each seed.

    Raises:
        ValueError: no example.
    """
    if count < 1:
        raise ValueError(f"count is {count}; give 1 example or more")
    own = torch.stack([examples(config, count, training.generator(seed, 7)) for seed in seeds])
    shape = ToyConfig(Features(config.n), config.n_hidden, 1.0, start=(2 / config.n) ** 0.5)
    ensemble, history = train_ensemble(
        [Toy(shape, seed) for seed in seeds],
        lambda model, x, _: _squared(model, x),
        batches=lambda step: own,
        optimizer=torch.optim.Adam,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        scheduler=lambda o: torch.optim.lr_scheduler.LambdaLR(o, config.rate),
        steps=config.steps,
        label=f"{count} examples",
        progress=progress,
    )
    unseen = examples(config, 4096, training.generator(UNSEEN))
    with torch.no_grad():
        test = ensemble.map(_squared, unseen, shared=(0,))
    W = dict(ensemble.named_parameters())["member/W"].detach()
    h = torch.einsum("sef,smf->sem", own, W)
    return Limited(W, h, torch.tensor(history.loss[-1]), test)


def _squared(model: Any, x: Float[Tensor, "example feature"]) -> Float[Tensor, ""]:
    return (model(x) - x).pow(2).sum(-1).mean()


COUNTS = (3, 5, 8, 15, 30, 60, 120, 250, 500, 1000, 2000)


def make_limited(
    seeds: int = 8, config: LimitedConfig | None = None, counts: Sequence[int] = COUNTS
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``superposition-limited``: errors over the number of examples, several seeds.

    Columns: ``examples``, ``seed``, ``quantity`` (``train``, ``test``, ``kept``, see `Limited`),
    ``value``.

    Raises:
        ValueError: no seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows = []
    for count in counts:
        found = train_limited(config or LimitedConfig(), count, range(seeds))
        for name in ("train", "test", "kept"):
            rows += [(count, s, name, v) for s, v in enumerate(getattr(found, name).tolist())]
        print(f"{count} examples done", flush=True)
    about = "Toy models trained on few examples, 200 features in two dimensions"
    card = {"about": about, "seeds": list(range(seeds))}
    return geometry.columns(rows, ("examples", "seed", "quantity", "value")), card
