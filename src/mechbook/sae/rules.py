"""What a latent is about, by rule: never more than a rule, and scored on text that it was not made from.

A rule says when a latent should be active: at some tokens, after some tokens, at a kind of token.
`describe` tries them all on one half of the texts, keeps the best, and scores it on the other half:
F1, the harmonic mean of how often the rule is right and how much of the latent's activity it covers
(each position counted by how active the latent is there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook.language_model import lens

NOTHING = "no simple rule"
GOOD = 0.5
"""Below this F1 on other text a rule is not worth telling."""
MARGIN = 0.1
"""By so much it must beat the rule "everywhere", which is not bad for a latent that is often active."""
MOST_TOKENS = 8
"""A list of tokens longer than this is no simple rule."""


@dataclass(frozen=True)
class Rule:
    """When a latent should be active.

    Attributes:
        kind: ``token`` (at these), ``after`` (the token before is one of these) or ``class``.
        types: numbers of the tokens that count.
        words: the rule in words.
        f1: on text that it was not made from; 0 to 1.
        always: F1 of the rule "everywhere", on the same text.
    """

    kind: str
    types: tuple[int, ...]
    words: str
    f1: float
    always: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the rule says when the latent is active, and better than "everywhere" would."""
        return self.f1 >= max(GOOD, self.always + MARGIN)

    def __str__(self) -> str:
        """The words, or that there are none."""
        return self.words if self.good else NOTHING


def describe(
    values: Float[Tensor, "text posn"],
    tokens: Int[Tensor, "text posn"],
    names: Sequence[str],
    classes: Int[np.ndarray, " n_types"] | None = None,
) -> Rule:
    """The best simple rule for a latent, made from every other text, scored on the rest.

    Args:
        values: the latent's activity (negative numbers count as silence); position 0 is left out.
        tokens: the texts.
        names: of all types of the vocabulary.
        classes: the kind of each type, as in `lens.kinds`; without it, no classes are tried.

    Raises:
        ValueError: shapes that differ, or fewer than two texts.
    """
    if values.shape != tokens.shape or len(tokens) < 2:
        raise ValueError(
            f"values {list(values.shape)}, tokens {list(tokens.shape)}; give the same shape, "
            "two texts or more"
        )
    z, here, before = values[:, 1:].clamp(min=0), tokens[:, 1:], tokens[:, :-1]
    made, other = slice(0, None, 2), slice(1, None, 2)
    candidates = [
        *_token_rules("token", "at", z[made], here[made], names),
        *_token_rules("after", "after", z[made], before[made], names),
        *_class_rules(classes),
    ]

    def scored(kind: str, types: Sequence[int], part: slice) -> float:
        asked = before[part] if kind == "after" else here[part]
        return f1(z[part], torch.isin(asked, torch.tensor(list(types))))

    def worth(candidate: tuple[str, list[int], str]) -> float:
        kind, types, _ = candidate
        return scored(kind, types, made) - 0.01 * (2 if kind == "class" else len(types))

    kind, types, words = max(candidates, key=worth)  # a longer list must earn its length
    always = f1(z[other], torch.ones_like(z[other], dtype=torch.bool))
    return Rule(kind, tuple(types), words, scored(kind, types, other), always)


def f1(values: Float[Tensor, "*position"], told: Bool[Tensor, "*position"]) -> float:
    """F1 of a rule: precision by position, coverage by activity. 0 where nothing is active."""
    active = values > 0
    if not bool(active.any()) or not bool(told.any()):
        return 0.0
    precision = float((active & told).sum() / told.sum())
    covered = float(values[told].sum() / values.sum())
    return 2 * precision * covered / (precision + covered) if precision + covered else 0.0


def _token_rules(
    kind: str, word: str, z: Tensor, asked: Tensor, names: Sequence[str]
) -> list[tuple[str, list[int], str]]:
    """Lists of the tokens that have most of the activity: the first; the first two; and so on."""
    mass = torch.bincount(asked.flatten(), z.flatten().double(), len(names))
    order = [int(i) for i in mass.argsort(descending=True)[:MOST_TOKENS] if mass[i] > 0]
    found = []
    for count in range(1, len(order) + 1):
        listed = ", ".join(f"“{names[i]}”" for i in order[:count])
        found.append((kind, order[:count], f"{word} {listed}"))
    return found or [(kind, [], NOTHING)]


def _class_rules(classes: Int[np.ndarray, " n_types"] | None) -> list[tuple[str, list[int], str]]:
    if classes is None:
        return []
    kinds = [(i, name) for i, name in enumerate(lens.KINDS) if (classes == i).any()]
    return [("class", np.flatnonzero(classes == i).tolist(), f"at any {name}") for i, name in kinds]


# --- beyond the token -------------------------------------------------------------------------


def token_share(values: Float[Tensor, "text posn"], tokens: Int[Tensor, "text posn"]) -> float:
    """Share of a latent's variance that the current token alone explains, on other text.

    The mean for each token comes from every other text (with the mean of all counted in once, so
    that rare tokens are not believed too much), the error from the rest; and then the other way
    round. 1: a lookup of the token. 0 or below: the token alone tells nothing.

    Args:
        values: the latent's activity, or a neuron's, or a projection; position 0 is left out.
        tokens: the texts.

    Raises:
        ValueError: shapes that differ, fewer than two texts, or values that never vary.
    """
    if values.shape != tokens.shape or len(tokens) < 2:
        raise ValueError(
            f"values {list(values.shape)}, tokens {list(tokens.shape)}; give the same shape, "
            "two texts or more"
        )
    z, here = values[:, 1:].double(), tokens[:, 1:]
    total = (z - z.mean()).pow(2).sum()
    if not float(total) > 0:
        raise ValueError("the values never vary; leave silent latents out")
    halves = slice(0, None, 2), slice(1, None, 2)
    error = sum(_error(z, here, made, other) for made, other in (halves, halves[::-1]))
    return float(1 - error / total)


def _error(z: Tensor, here: Tensor, made: slice, other: slice) -> Tensor:
    """Squared error on ``other`` of the token means of ``made``."""
    size = int(here.max()) + 1
    count = torch.bincount(here[made].flatten(), minlength=size)
    mass = torch.bincount(here[made].flatten(), z[made].flatten(), size)
    mean = (mass + z[made].mean()) / (count + 1)
    return (z[other] - mean[here[other]]).pow(2).sum()


@dataclass(frozen=True)
class Scores:
    """Units of one kind, scored the same way as all others.

    Attributes:
        token_share: how much of each the current token explains, see `token_share`.
        f1: of each unit's best rule, see `describe`.
        good: whether that rule is good.
    """

    token_share: Float[Tensor, " unit"]
    f1: Float[Tensor, " unit"]
    good: Bool[Tensor, " unit"]

    @property
    def ruled(self) -> float:
        """Share of the units for which a simple rule is good."""
        return float(self.good.float().mean())


def strongest(
    values: Float[Tensor, "text posn unit"], share: float = 0.01
) -> Float[Tensor, "text posn unit"]:
    """What of each unit is above its own quantile: active at no more than a share of the positions.

    So units that are always a little active can be scored as sparse ones are. Position 0 is silent.
    """
    flat = values[:, 1:].flatten(0, 1)
    keep = max(1, round(share * len(flat)))
    least = flat.topk(min(keep + 1, len(flat)), dim=0).values[-1].clamp(min=0)
    above = (values - least).clamp(min=0)
    above[:, 0] = 0
    return above


def score_units(
    values: Float[Tensor, "text posn unit"],
    tokens: Int[Tensor, "text posn"],
    names: Sequence[str],
    classes: Int[np.ndarray, " n_types"] | None = None,
    share: float = 0.01,
) -> Scores:
    """Score latents, neurons or projections by their strongest positions; silent ones are left out.

    Args:
        values: of each unit; of a signed one only what is above zero counts.
        tokens: the texts.
        names: as in `describe`.
        classes: as in `describe`.
        share: of the positions that count, see `strongest`.

    Raises:
        ValueError: every unit is silent.
    """
    sparse = strongest(values, share)
    units = [z for z in sparse.unbind(-1) if bool((z > 0).any())]
    if not units:
        raise ValueError("every unit is silent on these texts; give more texts, or other units")
    shares = [token_share(z, tokens) for z in units]
    rules = [describe(z, tokens, names, classes) for z in units]
    good = torch.tensor([rule.good for rule in rules])
    return Scores(torch.tensor(shares), torch.tensor([rule.f1 for rule in rules]), good)
