"""Fixed questions for a trained model: held-out classes, swapped labels, what only weights can know.

Five kinds, all with eight pairs and a query:

``icl``
    two held-out classes, four drawings each, labels 0 and 1 at random: only the context can tell.
``novel``
    held-out classes in the layout of a bursty training context, with different labels at random.
``swap``
    classes of the training, but the query's class and the next one have swapped their labels; the
    context's answer is the target, the weights' answer is ``own``.
``iwl``
    classes of the training, the query's class and label absent from the context: only the weights
    can tell.
``ciwl``
    classes of the training in the training's layout, with their own labels: both can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook import training
from mechbook.icl.classes import Pool
from mechbook.icl.config import PAIRS, IclConfig
from mechbook.icl.sequences import distinct, drawings, frequencies, shuffled

KINDS = ("icl", "novel", "swap", "iwl", "ciwl")
FIXED = 2**32 - 17
"""The first of the seeds of episodes; runs have small ones."""


@dataclass(frozen=True)
class Episodes:
    """Questions of one kind.

    Attributes:
        inputs: features of the pictures, the query last.
        labels: of the context.
        target: the right answer.
        own: the label that the query's class had in training; -1 for held-out classes.
        match: where the context shows the query's class.
        n_labels: labels that may be said.
    """

    inputs: Float[Tensor, "episode item feature"]
    labels: Int[Tensor, "episode pair"]
    target: Int[Tensor, " episode"]
    own: Int[Tensor, " episode"]
    match: Bool[Tensor, "episode pair"]
    n_labels: int

    @property
    def offered(self) -> Bool[Tensor, "episode label"]:
        """The labels that stand in the context."""
        absent = torch.zeros(len(self.labels), self.n_labels, dtype=torch.bool)
        return absent.scatter(1, self.labels, True)


def make(kind: str, config: IclConfig, pool: Pool, count: int | None = None) -> Episodes:
    """Episodes of a kind, always the same for the same config (``icl``, ``novel``: for any seed).

    Raises:
        ValueError: an unknown kind, or too few classes or exemplars for it.
    """
    if kind not in KINDS:
        raise ValueError(f"the kind is {kind!r}; give one of {', '.join(KINDS)}")
    seen = kind in ("swap", "iwl", "ciwl")
    draw = training.generator(config.seed if seen else 0, FIXED + KINDS.index(kind))
    classes, labels, target, own = _LAYOUTS[kind](config, pool, count or config.episodes, draw)
    match = classes[:, :-1] == classes[:, -1:]
    table = pool.choose(config.n_classes, config.seed) if seen else pool.holdout
    exemplars = drawings(len(classes), PAIRS + 1, pool.exemplars, draw)
    inputs = pool.draw(table[classes], exemplars, draw)
    return Episodes(inputs, labels, target, own, match, config.n_labels)


def _burst(
    kinds: Int[Tensor, "episode kind"], copies: tuple[int, ...], draw: torch.Generator
) -> Int[Tensor, "episode pair"]:
    """Which of an episode's kinds stands where, shuffled."""
    places = torch.arange(len(copies)).repeat_interleave(torch.tensor(copies))
    return shuffled(places.expand(len(kinds), -1), draw)


def _few_shot(config: IclConfig, pool: Pool, count: int, draw: torch.Generator) -> tuple:
    return _held_out(config, pool, count, draw, (PAIRS // 2, PAIRS // 2), n_labels=2)


def _novel(config: IclConfig, pool: Pool, count: int, draw: torch.Generator) -> tuple:
    return _held_out(config, pool, count, draw, config.burst, config.n_labels)


def _held_out(
    config: IclConfig,
    pool: Pool,
    count: int,
    draw: torch.Generator,
    copies: tuple[int, ...],
    n_labels: int,
) -> tuple:
    if len(pool.holdout) < len(copies):
        raise ValueError(
            f"{len(pool.holdout)} classes are held out, and an episode needs {len(copies)} "
            "(ways); hold out more"
        )
    kinds = distinct(frequencies(len(pool.holdout), 0), count, len(copies), draw)
    names = distinct(frequencies(n_labels, 0), count, len(copies), draw)
    places = _burst(kinds, copies, draw)
    classes = torch.cat([kinds.gather(1, places), kinds[:, :1]], 1)
    return classes, names.gather(1, places), names[:, 0], torch.full_like(names[:, 0], -1)


def _of_training(
    config: IclConfig, count: int, kinds: int, draw: torch.Generator
) -> Int[Tensor, "episode kind"]:
    """Classes of the training, all with different labels."""
    used = min(config.n_labels, config.n_classes)
    label = distinct(frequencies(used, 0), count, kinds, draw)
    many = (config.n_classes - 1 - label) // config.n_labels + 1
    turn = (torch.rand(label.shape, dtype=torch.float64, generator=draw) * many).long()
    return label + config.n_labels * turn


def _swap(config: IclConfig, pool: Pool, count: int, draw: torch.Generator) -> tuple:
    kinds = _of_training(config, count, len(config.burst), draw)
    own = kinds % config.n_labels
    names = torch.cat([own[:, [1, 0]], own[:, 2:]], 1)
    places = _burst(kinds, config.burst, draw)
    classes = torch.cat([kinds.gather(1, places), kinds[:, :1]], 1)
    return classes, names.gather(1, places), names[:, 0], own[:, 0]


def _absent(config: IclConfig, pool: Pool, count: int, draw: torch.Generator) -> tuple:
    classes = _of_training(config, count, PAIRS + 1, draw)
    own = classes % config.n_labels
    return classes, own[:, :-1], own[:, -1], own[:, -1]


def _copy(config: IclConfig, pool: Pool, count: int, draw: torch.Generator) -> tuple:
    kinds = _of_training(config, count, len(config.burst), draw)
    places = _burst(kinds, config.burst, draw)
    classes = torch.cat([kinds.gather(1, places), kinds[:, :1]], 1)
    own = classes % config.n_labels
    return classes, own[:, :-1], own[:, -1], own[:, -1]


_LAYOUTS = {"icl": _few_shot, "novel": _novel, "swap": _swap, "iwl": _absent, "ciwl": _copy}
