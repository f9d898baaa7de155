"""What of the past a prediction uses: the same tokens predicted from several versions of their past.

One token has many pasts here: as the book has it; with all words before it in random order; with
only those shuffled that a trigram does not see; and without those. What each version costs says
what it took away. After Khandelwal et al. 2018, *Sharp Nearby, Fuzzy Far Away*, who disturbed the
past of recurrent language models in these ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook import training
from mechbook.language_model import induction
from mechbook.language_model.corpus import Windows

NEAR = 2
"""Tokens before the predicted one that a trigram sees."""
VERSIONS = (
    "as it is",
    "all shuffled",
    "far words shuffled",
    "far words gone",
    "far words from elsewhere",
)


@dataclass(frozen=True)
class Targets:
    """Tokens to predict, each with the window up to it.

    Attributes:
        window: number of the window of each.
        posn: place in the row that the model reads (the end-of-text mark is at 0).
    """

    window: Int[np.ndarray, " target"]
    posn: Int[np.ndarray, " target"]


def targets(
    windows: Windows, which: Int[np.ndarray, " window"], per_window: int, seed: int, first: int = 32
) -> Targets:
    """Draw ``per_window`` tokens of each window that have ``first`` tokens or more before them.

    Only tokens where the last ``NEAR`` before them begin with a word, so that no word is cut
    between near and far; fewer, where a window has fewer of these.
    """
    draw = np.random.default_rng(seed)
    found: list[tuple[int, int]] = []
    for number in which:
        start = windows.starts[number]
        begins = windows.stream.begins[start : start + windows.length]
        posn = np.arange(first + 1, windows.length + 1)
        posn = posn[begins[posn - 1 - NEAR]]  # row place p holds token p - 1 of the window
        chosen = draw.permutation(posn)[:per_window]
        found += [(int(number), int(place)) for place in sorted(chosen)]
    window, posn = np.array(found).reshape(-1, 2).T
    return Targets(window, posn)


def losses(
    model: Any, windows: Windows, where: Targets, seed: int
) -> dict[str, Float[Tensor, " target"]]:
    """Nats of each target, for each of ``VERSIONS`` of its past.

    "Far words from elsewhere" come from the window that stands half of all windows further on.
    """
    draw = training.generator(seed)

    def elsewhere(number: int) -> Int[Tensor, " posn"]:
        return windows.take(np.array([(number + len(windows) // 2) % len(windows)]))[0]

    rows: dict[str, list[Tensor]] = {version: [] for version in VERSIONS}
    for number, posn in zip(where.window, where.posn, strict=True):
        row = windows.take(np.array([number]))[0]
        start = windows.starts[number]
        begins = torch.from_numpy(windows.stream.begins[start : start + windows.length])
        rows["as it is"].append(row)
        rows["all shuffled"].append(_shuffled(row, begins, int(posn), draw))
        rows["far words shuffled"].append(_shuffled(row, begins, int(posn) - NEAR, draw))
        rows["far words from elsewhere"].append(
            _with_far_words_of(elsewhere(number), row, int(posn))
        )
        rows["far words gone"].append(torch.cat([row[:1], row[posn - NEAR : posn + 1]]))
    posn = torch.from_numpy(where.posn)
    places = {version: posn for version in VERSIONS}
    places["far words gone"] = torch.full_like(posn, NEAR + 1)
    return {
        version: induction.losses_at(model, torch.stack(rows[version]), places[version])
        for version in VERSIONS
    }


def _with_far_words_of(
    other: Int[Tensor, " posn"], row: Int[Tensor, " posn"], posn: int
) -> Int[Tensor, " posn"]:
    """The row with another row's tokens before the last ``NEAR`` of them before place ``posn``."""
    return torch.cat([row[:1], other[1 : posn - NEAR], row[posn - NEAR :]])


def _shuffled(
    row: Int[Tensor, " posn"], begins: Bool[Tensor, " length"], end: int, draw: torch.Generator
) -> Int[Tensor, " posn"]:
    """The row with the words before place ``end`` in random order; pieces of a word stay together."""
    word = begins[: end - 1].long().cumsum(0)
    order = torch.rand(int(word.max()) + 1, generator=draw)[word].argsort(stable=True)
    return torch.cat([row[:1], row[1:end][order], row[end:]])


def unigram_losses(
    windows: Windows, where: Targets, counts: Int[np.ndarray, " type"]
) -> Float[Tensor, " target"]:
    """Nats of each target for whoever knows how frequent it is (one added to each count)."""
    ids = windows.stream.ids[windows.starts[where.window] + where.posn - 1].astype(np.int64)
    share = (counts + 1) / (counts + 1).sum()
    return torch.from_numpy(-np.log(share[ids])).float()


def cost(found: Mapping[str, Float[Tensor, " target"]], version: str) -> Float[Tensor, " target"]:
    """By how many nats each target is harder in a version than as it is."""
    return found[version] - found["as it is"]
