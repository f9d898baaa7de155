"""Planted features: activations whose labels are known, to see whether a rule finds the label again.

Features that are there at a token, after a token, at a kind of token, and some that are there by
chance, for which no rule should be found, are written into a few dimensions. An autoencoder takes
them apart, and `rules.describe` names what it found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.sae import recovery, rules
from mechbook.sae.rules import Rule
from mechbook.sae.training import TrainingConfig, shuffled, train
from mechbook.sae.truth import random_truth
from mechbook.sae.variants import SAEConfig

HOW = TrainingConfig(steps=3000, learning_rate=3e-3, price_warm_up=300, measure_every=3000)


@dataclass(frozen=True)
class Planted:
    """Features with labels, on real text.

    Attributes:
        kinds: of each feature: ``token``, ``after``, ``class`` or ``chance``.
        types: tokens that its label names; none for those that are there by chance.
        x: sizes, [text, posn, feature].
    """

    kinds: tuple[str, ...]
    types: tuple[tuple[int, ...], ...]
    x: Float[Tensor, "text posn feature"]

    def is_right(self, feature: int, rule: Rule) -> bool:
        """Whether a rule is the label; for features of chance, whether there is no good rule."""
        if self.kinds[feature] == "chance":
            return not rule.good
        same = rule.kind == self.kinds[feature] and set(rule.types) == set(self.types[feature])
        return rule.good and same


def plant(
    tokens: Int[Tensor, "text posn"],
    classes: Int[np.ndarray, " n_types"],
    each: int = 4,
    chance: float = 0.02,
    seed: int = 0,
) -> Planted:
    """Plant features at the most frequent tokens, after others, at classes, and by chance.

    Args:
        tokens: the texts; position 0 stays empty.
        classes: the kind of each type.
        each: features of each kind but classes, of which there are two, the rarest.
        chance: how often those of chance are there.
        seed: of sizes (from a half to 1) and of chance.
    """
    draw = training.generator(seed)
    common = torch.bincount(tokens[:, 1:].flatten()).argsort(descending=True).tolist()
    labels: list[tuple[str, tuple[int, ...]]] = []
    labels += [("token", (i,)) for i in common[1 : 2 * each : 2]]
    labels += [("after", (i,)) for i in common[0 : 2 * each : 2]]
    often = np.bincount(classes[tokens[:, 1:].flatten().numpy()])
    for number in [int(i) for i in often.argsort() if often[i]][:2]:
        labels.append(("class", tuple(np.flatnonzero(classes == number).tolist())))
    labels += [("chance", ())] * each
    x = torch.zeros(*tokens.shape, len(labels))
    for i, (kind, types) in enumerate(labels):
        asked = tokens[:, :-1] if kind == "after" else tokens[:, 1:]
        there = torch.isin(asked, torch.tensor(types))
        if kind == "chance":
            there = torch.rand(asked.shape, generator=draw) < chance
        x[:, 1:, i] = there * (0.5 + 0.5 * torch.rand(asked.shape, generator=draw))
    return Planted(tuple(k for k, _ in labels), tuple(t for _, t in labels), x)


@dataclass(frozen=True)
class Check:
    """What came of a planted text.

    Attributes:
        found: whether each feature has a latent of its own.
        rules: what `rules.describe` says of the latent that was paired with it.
        right: whether that is the label.
        shuffled: whether it would be, with the latent's activity dealt out anew over all positions.
    """

    found: tuple[bool, ...]
    rules: tuple[Rule, ...]
    right: tuple[bool, ...]
    shuffled: tuple[bool, ...]


def check(
    planted: Planted,
    tokens: Int[Tensor, "text posn"],
    names: Sequence[str],
    classes: Int[np.ndarray, " n_types"],
    d_in: int = 12,
    price: float = 0.05,
    seed: int = 0,
    how: TrainingConfig = HOW,
) -> Check:
    """Squeeze planted features into ``d_in`` dimensions, take them apart, and name what was found.

    Args:
        planted: from `plant`.
        tokens: its texts.
        names: of the types.
        classes: the kind of each type.
        d_in: dimensions.
        price: of sparsity.
        seed: of directions, start and data.
        how: the training.
    """
    n = len(planted.kinds)
    directions = random_truth(n, d_in, seed=seed).directions
    h = planted.x[:, 1:].flatten(0, 1) @ directions
    data = shuffled(h, 512, [seed])
    sae = train(SAEConfig(d_in, n), how, data, [price], [seed], progress=False).sae()
    with torch.no_grad():
        z = sae.encode(planted.x @ directions)
    z[:, 0] = 0
    found = recovery.match(sae.W_dec.detach(), directions, (z > 0).any(0).any(0))
    told = [rules.describe(z[..., i], tokens, names, classes) for i in found.latent.tolist()]
    mixed = [rules.describe(_dealt(z[..., i], seed), tokens, names, classes)
             for i in found.latent.tolist()]  # fmt: skip
    return Check(
        tuple((found.cosine > recovery.MATCHED).tolist()),
        tuple(told),
        tuple(planted.is_right(i, rule) for i, rule in enumerate(told)),
        tuple(planted.is_right(i, rule) for i, rule in enumerate(mixed)),
    )


def _dealt(z: Float[Tensor, "text posn"], seed: int) -> Float[Tensor, "text posn"]:
    """The same activity at other positions (the first of each text stays silent)."""
    inner = z[:, 1:].flatten()
    order = torch.randperm(len(inner), generator=training.generator(seed))
    new = z.clone()
    new[:, 1:] = inner[order].view_as(z[:, 1:])
    return new
