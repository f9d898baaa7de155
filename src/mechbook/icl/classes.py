"""Classes and their exemplars: drawings, Gaussian clouds, and small glyphs for tests; held-out ones apart.

A pool holds all classes of a source. Which of them are held out is fixed for all runs; which of the
others a run sees is drawn by its seed, so that 100 classes are a subset of the 1,600 of that seed.
Whatever is fitted (principal components) is fitted once, without the held-out classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.icl import omniglot
from mechbook.icl.config import PAIRS, IclConfig

SPLIT = 0
"""Seed of the choice of held-out classes, the same for every run."""
GAUSSIANS = 8192
"""Gaussian classes to choose from."""
SHIFT, TURN = 2.0, 12.0
"""Greatest shift in pixels (of 28) and turn in degrees of an augmented drawing."""


@dataclass(frozen=True)
class Pool:
    """All classes of a source.

    Attributes:
        table: the exemplars; version 0 as they are, the others shifted and turned.
        train: classes that may be seen.
        holdout: classes never seen.
        noise: ε of Gaussian classes, whose table holds the means; 0 for drawings.
    """

    table: Float[Tensor, "class exemplar version feature"]
    train: Int[Tensor, " class"]
    holdout: Int[Tensor, " class"]
    noise: float = 0.0

    @property
    def exemplars(self) -> int | None:
        """Drawings of a class; None where there is no end of them."""
        return None if self.noise else self.table.shape[1]

    def draw(
        self,
        classes: Int[Tensor, "*item"],
        exemplars: Int[Tensor, "*item"],
        generator: torch.Generator,
        augmented: bool = False,
    ) -> Float[Tensor, "*item feature"]:
        """The features of items, in float32.

        A Gaussian class gives x = (μ + ε η) / √(1 + ε²) with fresh η of variance 1 / D in each
        dimension (Reddy 2024), whatever the exemplar. With ``augmented`` the version is drawn.
        """
        versions = self.table.shape[2]
        version = torch.zeros_like(classes)
        if augmented and versions > 1:
            version = torch.randint(versions, classes.shape, generator=generator)
        found = self.table[classes, exemplars % self.table.shape[1], version]
        if self.noise:
            eta = torch.randn(found.shape, generator=generator) / found.shape[-1] ** 0.5
            found = (found + self.noise * eta) / (1 + self.noise**2) ** 0.5
        return found

    def choose(self, n_classes: int, seed: int) -> Int[Tensor, " class"]:
        """The classes that a run sees, in the order of their frequency; c has label c mod L.

        Raises:
            ValueError: more classes than there are.
        """
        if n_classes > len(self.train):
            raise ValueError(
                f"{n_classes} classes were asked for, but {len(self.train)} may be seen "
                f"({len(self.holdout)} are held out); give at most so many"
            )
        order = torch.randperm(len(self.train), generator=training.generator(seed, 2**32 - 1))
        return self.train[order[:n_classes]]


def pool(config: IclConfig, data: Path | str | None = None) -> Pool:
    """All classes of a run's source.

    Args:
        config: its source, features and held-out classes are used.
        data: for Omniglot, the file or folder, see ``omniglot.load``.

    Raises:
        ValueError: no data or broken data, too few classes to hold some out, or fewer exemplars
            than a sequence needs.
    """
    key = (config.source, config.features, config.n_features, config.side, config.noise)
    found = _pool(*key, config.versions, config.n_holdout, None if data is None else str(data))
    if found.exemplars is not None and found.exemplars < PAIRS + 1:
        raise ValueError(
            f"a class has {found.exemplars} exemplars, but a sequence may show it {PAIRS + 1} "
            "times (shots and query); give classes with more drawings"
        )
    return found


@lru_cache(maxsize=4)
def _pool(
    source: str,
    features: str,
    n_features: int,
    side: int,
    noise: float,
    versions: int,
    n_holdout: int,
    data: str | None,
) -> Pool:
    if source == "gaussian":
        return gaussians(GAUSSIANS, n_holdout, n_features, noise)
    images = glyphs(side=side) if source == "glyphs" else omniglot.load(data, side)
    bare = split(images.flatten(2)[:, :, None], n_holdout)
    moved = [images, *(_moved(images, version) for version in range(1, versions))]
    table = torch.stack([version.flatten(2) for version in moved], 2)
    return (
        with_components(bare, table, n_features)
        if features == "pca"
        else replace(bare, table=table)
    )


def split(table: Float[Tensor, "class exemplar version feature"], n_holdout: int) -> Pool:
    """A pool with so many classes held out, chosen by `SPLIT`.

    Raises:
        ValueError: there would be none left.
    """
    if not 0 < n_holdout < len(table):
        raise ValueError(
            f"n_holdout is {n_holdout}, and there are {len(table)} classes; hold out 1 or more, "
            "and leave some to be seen"
        )
    order = torch.randperm(len(table), generator=training.generator(SPLIT))
    return Pool(table, order[:-n_holdout].sort().values, order[-n_holdout:].sort().values)


def gaussians(n_train: int, n_holdout: int, n_features: int, noise: float) -> Pool:
    """Gaussian classes: means with variance 1 / D in each dimension (Reddy 2024).

    Raises:
        ValueError: noise of 0, which would leave a class a single exemplar.
    """
    if not noise > 0:
        raise ValueError(f"noise is {noise}; give Gaussian classes a spread above 0")
    draw = training.generator(SPLIT, 1)
    means = torch.randn(n_train + n_holdout, 1, 1, n_features, generator=draw) / n_features**0.5
    every = torch.arange(n_train + n_holdout)
    return Pool(means, every[:n_train], every[n_train:], noise)


def with_components(
    bare: Pool, table: Float[Tensor, "class exemplar version pixel"], n_components: int
) -> Pool:
    """The pool in whitened principal components, fitted on the plain drawings that may be seen.

    Raises:
        ValueError: more components than pixels or drawings.
    """
    seen = bare.table[bare.train, :, 0].flatten(0, 1).double()
    if n_components > min(seen.shape):
        raise ValueError(f"n_features is {n_components}; give at most {min(seen.shape)} components")
    mean = seen.mean(0)
    variance, vectors = torch.linalg.eigh((seen - mean).T @ (seen - mean) / (len(seen) - 1))
    # Each direction has two signs; the one with the greatest entry above zero is the same everywhere.
    greatest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * greatest.sign()
    kept = vectors[:, -n_components:].flip(1) / variance[-n_components:].flip(0).sqrt()
    flat = [(part.double() - mean) @ kept for part in table.flatten(1, 2).split(64)]
    whitened = torch.cat(flat).float().unflatten(1, table.shape[1:3])
    return replace(bare, table=whitened)


def _moved(
    images: Float[Tensor, "class exemplar row column"], version: int
) -> Float[Tensor, "class exemplar row column"]:
    """Each drawing shifted and turned a little, by amounts of its own."""
    flat = images.flatten(0, 1)[:, None]
    draw = training.generator(SPLIT, 100 + version)
    angle, *shift = (2 * torch.rand(3, len(flat), generator=draw) - 1) * torch.tensor(
        [[TURN * np.pi / 180], [SHIFT / 14], [SHIFT / 14]]
    )
    rows = [torch.stack([angle.cos(), -angle.sin(), shift[0]], 1)]
    rows += [torch.stack([angle.sin(), angle.cos(), shift[1]], 1)]
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(flat.shape), False)
    moved = torch.nn.functional.grid_sample(flat, grid, align_corners=False)
    return moved.view(images.shape)


def glyphs(
    n_classes: int = 48, n_exemplars: int = 12, side: int = 12, strokes: int = 3
) -> Float[Tensor, "class exemplar row column"]:
    """Small drawings for tests: each class a few strokes, each exemplar with trembling ends."""
    draw = training.generator(SPLIT, 2)
    ends = torch.rand(n_classes, 1, strokes, 2, 2, generator=draw)
    tremble = 0.04 * torch.randn(n_classes, n_exemplars, strokes, 2, 2, generator=draw)
    start, stop = (side * (0.1 + 0.8 * (ends + tremble))).unbind(-2)
    along = torch.linspace(0, 1, 16)[:, None]
    dots = start[..., None, :] + along * (stop - start)[..., None, :]
    grid = torch.arange(side) + 0.5
    rows, columns = (torch.exp(-((grid - dots[..., axis, None]) ** 2)) for axis in (0, 1))
    ink = einsum(
        rows,
        columns,
        "kind exemplar stroke dot row, kind exemplar stroke dot column -> kind exemplar row column",
    )
    return ink.clamp(max=1)
