"""Activations whose features are known: those of a toy model of superposition, or of given directions.

    x: features, most of them zero [feature];   h = W x  [hidden]

W is that of a trained toy model (`toy_truth`), so that the features interfere as a network lets
them, or random directions (`random_truth`). Some features may have a child: a second feature that
is only ever there together with its parent, as "Paris" is only there together with "a city".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import training
from mechbook.sae.training import Data
from mechbook.superposition import toy
from mechbook.superposition.toy import Features, ToyConfig

_OWN_STREAM = 1 << 30
"""Added to a seed: the data are not those that the toy model was trained on."""


@dataclass(frozen=True)
class Truth:
    """Where activations come from.

    Attributes:
        W: directions of the features, its columns.
        density: probability that a feature is there.
        parents: the first so many features have a child each, the next so many.
        child_share: probability that a child is there, given its parent.
        signed: sizes from -1 to 1 instead of from 0 to 1.
        noise: standard deviation of what is added to each number of an activation.
    """

    W: Float[Tensor, "hidden feature"]
    density: float = 0.05
    parents: int = 0
    child_share: float = 0.5
    signed: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1 or not 0 <= self.child_share <= 1:
            raise ValueError(
                f"density is {self.density}, child_share {self.child_share}; give probabilities"
            )
        if not 0 <= 2 * self.parents <= self.n:
            raise ValueError(
                f"{self.parents} parents and as many children among {self.n} features; at most half "
                "of the features are parents"
            )

    @property
    def n(self) -> int:
        """How many features there are."""
        return self.W.shape[1]

    @property
    def directions(self) -> Float[Tensor, "feature hidden"]:
        """The features' directions as rows of length 1 (zero, where a feature has none)."""
        return torch.nn.functional.normalize(self.W.T, dim=-1)

    @property
    def interference(self) -> float:
        """Root mean square of the cosines between different features."""
        cosines = self.directions @ self.directions.T
        off = cosines[~torch.eye(self.n, dtype=torch.bool)]
        return float(off.pow(2).mean().sqrt())

    def sample(
        self, batch: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch feature"], Float[Tensor, "batch hidden"]]:
        """Draw features and the activations that they make."""
        x = toy.sample(Features(self.n, signed=self.signed), self.density, batch, generator)
        if self.parents:
            x = self._with_children(x, generator)
        h = x @ self.W.T
        if self.noise:
            h = h + self.noise * torch.randn(h.shape, generator=generator)
        return x, h

    def _with_children(
        self, x: Float[Tensor, "batch feature"], generator: torch.Generator
    ) -> Float[Tensor, "batch feature"]:
        p = self.parents
        coins, sizes = torch.rand(2, len(x), p, generator=generator)
        there = (x[:, :p] != 0) & (coins < self.child_share)
        return torch.cat([x[:, :p], sizes * there, x[:, 2 * p :]], 1)

    def data(self, seeds: Sequence[int], batch: int = 512, copies: int = 1) -> Data:
        """Fresh activations for every update; every price gets those of its seed."""

        def draw(step: int) -> Float[Tensor, "member batch hidden"]:
            streams = [training.generator(seed + _OWN_STREAM, step) for seed in seeds]
            rows = [self.sample(batch, stream)[1] for stream in streams]
            return torch.stack(rows).repeat(copies, 1, 1)

        return draw

    def held_out(
        self, batch: int = 16384
    ) -> tuple[Float[Tensor, "batch feature"], Float[Tensor, "batch hidden"]]:
        """Features and activations that no training draws, the same for all."""
        return self.sample(batch, training.generator(_OWN_STREAM - 1))


def toy_truth(
    n: int,
    n_hidden: int,
    density: float = 0.05,
    seed: int = 0,
    steps: int = 3000,
    data_density: float | None = None,
) -> Truth:
    """The directions of a toy model, trained here with all features equally important.

    Args:
        n: features.
        n_hidden: dimensions of the activations.
        density: of the data that the model is trained on.
        seed: of the toy model.
        steps: of its training.
        data_density: of the activations, where it is another.
    """
    config = ToyConfig(Features(n), n_hidden, importance=1.0, steps=steps, learning_rate=1e-2)
    trained = toy.train(config, [density], [seed], progress=False)
    return Truth(trained.W[0, 0], data_density or density)


def random_truth(n: int, n_hidden: int, density: float = 0.05, seed: int = 0) -> Truth:
    """Random directions of length 1."""
    W = torch.randn(n_hidden, n, generator=training.generator(seed + _OWN_STREAM))
    return Truth(torch.nn.functional.normalize(W, dim=0), density)
