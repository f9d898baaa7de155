"""Sequences of eight pairs of picture and label and a query, for training: bursty ones and others.

A sequence is drawn as numbers of classes and exemplars, all sequences of a batch at once; the pool
turns them into features. The draw hangs on ``(seed, step)`` alone, so every decay sees the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.icl.classes import Pool
from mechbook.icl.config import PAIRS, IclConfig


@dataclass(frozen=True)
class Items:
    """Sequences by their numbers.

    Attributes:
        classes: ranks of the classes among those of the run, the query last.
        exemplars: which drawing of its class; no drawing comes twice in a sequence.
        labels: of the context.
        target: the label that the query asks for.
    """

    classes: Int[Tensor, "batch item"]
    exemplars: Int[Tensor, "batch item"]
    labels: Int[Tensor, "batch pair"]
    target: Int[Tensor, " batch"]


def frequencies(n_classes: int, zipf: float) -> Float[Tensor, " class"]:
    """How often a class is drawn: proportional to rank to the power of minus ``zipf``; sums to 1."""
    weights = torch.arange(1, n_classes + 1, dtype=torch.float64) ** -zipf
    return weights / weights.sum()


def distinct(
    p: Float[Tensor, " class"], batch: int, count: int, generator: torch.Generator
) -> Int[Tensor, "batch count"]:
    """Classes drawn one after the other without replacement, each with chances in proportion to p.

    Raises:
        ValueError: more than there are classes.
    """
    if count > len(p):
        raise ValueError(f"{count} different classes were asked for, and there are {len(p)}")
    ends = p.cumsum(0)
    starts = ends - p
    chosen: list[Tensor] = []
    for u in torch.rand(count, batch, dtype=torch.float64, generator=generator):
        # u runs over what the chosen classes leave of the unit interval; step over each of them.
        gone = torch.stack(chosen, 1).sort(1).values if chosen else torch.empty(batch, 0).long()
        place = u * (ends[-1] - p[gone].sum(1))
        for earlier in gone.unbind(1):
            place = torch.where(place >= starts[earlier], place + p[earlier], place)
        chosen.append(torch.searchsorted(ends, place, right=True).clamp(max=len(p) - 1))
    return torch.stack(chosen, 1)


def drawings(
    batch: int, count: int, exemplars: int | None, generator: torch.Generator
) -> Int[Tensor, "batch count"]:
    """Numbers of drawings, none twice in a row; zeros where exemplars have no number.

    Raises:
        ValueError: more than there are exemplars (more shots than exemplars).
    """
    if exemplars is None:
        return torch.zeros(batch, count, dtype=torch.long)
    if count > exemplars:
        raise ValueError(
            f"{count} drawings of a class were asked for, and there are {exemplars}; ask for fewer "
            "shots, or give classes with more exemplars"
        )
    return torch.rand(batch, exemplars, generator=generator).argsort(1)[:, :count]


def shuffled(
    values: Int[Tensor, "batch pair"], generator: torch.Generator
) -> Int[Tensor, "batch pair"]:
    """Each row in an order of its own."""
    return values.gather(1, torch.rand(values.shape, generator=generator).argsort(1))


def sample(
    config: IclConfig, exemplars: int | None, batch: int, generator: torch.Generator
) -> Items:
    """Draw training sequences.

    With probability ``p_bursty`` the context holds ``burst`` copies of different classes, shuffled,
    and the query is of the first of them; otherwise all nine classes are drawn independently. After
    Chan et al. 2022, except that the fillers are classes of their own here (theirs may repeat).
    """
    p = frequencies(config.n_classes, config.zipf)
    kinds = distinct(p, batch, len(config.burst), generator)
    copies = torch.arange(len(config.burst)).repeat_interleave(torch.tensor(config.burst))
    bursty = torch.cat([shuffled(kinds[:, copies], generator), kinds[:, :1]], 1)
    u = torch.rand(batch, PAIRS + 1, dtype=torch.float64, generator=generator)
    alone = torch.searchsorted(p.cumsum(0), u, right=True).clamp(max=len(p) - 1)
    is_bursty = torch.rand(batch, 1, generator=generator) < config.p_bursty
    classes = torch.where(is_bursty, bursty, alone)
    labels = classes % config.n_labels
    return Items(
        classes, drawings(batch, PAIRS + 1, exemplars, generator), labels[:, :-1], labels[:, -1]
    )


@dataclass(frozen=True)
class Stream:
    """The sequences of one run: a function of the step alone.

    Attributes:
        config: fixes the classes, the kind of sequences and the seed.
        pool: of its source.
    """

    config: IclConfig
    pool: Pool

    def items(self, step: int) -> Items:
        """The sequences of an update, by numbers."""
        draw = training.generator(self.config.seed, step)
        return sample(self.config, self.pool.exemplars, self.config.batch, draw)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The sequences of an update: ``inputs`` [batch, item, feature], ``labels``, ``target``."""
        draw = training.generator(self.config.seed, step)
        items = sample(self.config, self.pool.exemplars, self.config.batch, draw)
        classes = self.pool.choose(self.config.n_classes, self.config.seed)[items.classes]
        inputs = self.pool.draw(classes, items.exemplars, draw, augmented=True)
        return {"inputs": inputs, "labels": items.labels, "target": items.target}


def same_data(config: IclConfig) -> tuple:
    """What the sequences hang on, beyond what the members of an ensemble share."""
    return (config.seed, config.n_classes, config.p_bursty, config.zipf)
