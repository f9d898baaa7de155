"""All that the page of a latent shows: where it is active, in which texts, what it writes, its like.

The notes' two halves of a dashboard are both here: *what data makes it fire* (`histogram`,
`examples`) and *which logits it promotes* (`promoted`); with what a latent's neighbors are
(`nearest`, `together`) and what a simple rule says about it (`rules.describe`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mechbook import artifacts
from mechbook.language_model import lens, weights
from mechbook.sae import readers, rules
from mechbook.sae.readers import Reader
from mechbook.sae.reading import activity, check_latents, drawn, names_of, shipped_texts

NAME = "sae-dashboard"
BANDS = {
    "strongest": (1.0, 1.0),
    "strong": (0.75, 0.95),
    "middle": (0.4, 0.6),
    "weak": (0.05, 0.25),
}
"""Groups of examples, as quantiles of a latent's activity where it is active."""


@dataclass(frozen=True)
class Example:
    """A piece of text around a position at which a latent is active.

    Attributes:
        tokens: the piece.
        values: the latent's activity at each of its tokens.
        peak: place, in the piece, of the position that was chosen.
    """

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    peak: int


@dataclass(frozen=True)
class Card:
    """The page of a latent.

    Attributes:
        latent: its number.
        density: share of the positions at which it is active.
        largest: its greatest activity.
        edges: of the histogram of its activity, where active.
        counts: positions in each bin.
        examples: by group, see `BANDS`.
        up: tokens that it promotes most, with what it adds to their logits (see `promoted`).
        down: tokens that it demotes most.
        nearest: latents whose directions are nearest, with their cosines.
        together: latents that are active at the same positions, with their overlap (Jaccard).
        rule: what a simple rule says, on other text than it was made from.
        f1: how good that rule is.
        token_share: how much of its activity the current token alone explains.
    """

    latent: int
    density: float
    largest: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    examples: dict[str, tuple[Example, ...]]
    up: tuple[tuple[str, float], ...]
    down: tuple[tuple[str, float], ...]
    nearest: tuple[tuple[int, float], ...]
    together: tuple[tuple[int, float], ...]
    rule: str
    f1: float
    token_share: float


# --- what makes it fire -----------------------------------------------------------------------


def histogram(
    values: Float[Tensor, "text posn"], bins: int = 20
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges and counts of a latent's activity where it is active.

    Raises:
        ValueError: it is never active.
    """
    active = values[values > 0]
    if not len(active):
        raise ValueError("the latent is silent on these texts; give more texts, or another latent")
    counts, edges = np.histogram(active.numpy(), bins, (0.0, float(active.max())))
    return tuple(edges.tolist()), tuple(counts.tolist())


def examples(
    values: Float[Tensor, "text posn"],
    tokens: Int[Tensor, "text posn"],
    names: Sequence[str],
    count: int = 4,
    around: int = 9,
    bands: Mapping[str, tuple[float, float]] = BANDS,
) -> dict[str, tuple[Example, ...]]:
    """Pieces of text by how active the latent is in them, at most one of each text in a group.

    Args:
        values: of the latent.
        tokens: the texts.
        names: of the types.
        count: examples in a group.
        around: tokens before and after the position.
        bands: for each group the quantiles of activity, of the active positions, from and to; from
            1 on, the strongest are taken in order; otherwise those at even distances.
    """
    places = values.nonzero()
    places = places[(values[tuple(places.T)] > 0)]
    ranked = places[values[tuple(places.T)].argsort(descending=True)]
    groups: dict[str, tuple[Example, ...]] = {}
    for name, (low, high) in bands.items():
        if low >= 1:
            some = _one_a_text(ranked)[:count]
        else:
            first, last = (round((1 - share) * len(ranked)) for share in (high, low))
            inside = _one_a_text(ranked[first:last])
            some = inside[
                np.linspace(0, len(inside) - 1, min(count, len(inside))).round().astype(int)
            ]
        groups[name] = tuple(
            _piece(values, tokens, names, (int(at[0]), int(at[1])), around) for at in some
        )
    return groups


def _one_a_text(places: Int[Tensor, "place 2"]) -> Int[Tensor, "kept 2"]:
    """The first place of each text, in their order."""
    first: dict[int, int] = {}
    for i, text in enumerate(places[:, 0].tolist()):
        first.setdefault(text, i)
    return places[list(first.values())]


def _piece(
    values: Tensor, tokens: Tensor, names: Sequence[str], at: tuple[int, int], around: int
) -> Example:
    text, posn = at
    part = slice(max(1, posn - around), posn + around + 1)
    words = tuple(names[int(i)] for i in tokens[text, part])
    sizes = tuple(round(float(v), 2) for v in values[text, part])
    return Example(words, sizes, posn - part.start)


# --- what it writes, and its like -------------------------------------------------------------


@torch.no_grad()
def promoted(
    model: Any, direction: Float[Tensor, " d_model"], names: Sequence[str], count: int = 8
) -> tuple[tuple[tuple[str, float], ...], tuple[tuple[str, float], ...]]:
    """Tokens that a direction of the stream speaks for, and against: through the last norm and ``W_U``.

    What later layers make of the direction is left out, and so is everything else that is in the
    stream: the direction goes through the norm alone. Only the order means something.

    Returns:
        The most promoted, and the most demoted, each with its logit less the mean of all.
    """
    logits = lens.decode(model, direction[None, None])[0, 0]
    logits = logits - logits.mean()
    order = logits.argsort(descending=True).tolist()
    told = [tuple((names[i], round(float(logits[i]), 2)) for i in part)
            for part in (order[:count], order[::-1][:count])]  # fmt: skip
    return told[0], told[1]


def nearest(
    directions: Float[Tensor, "latent d_in"], latent: int, count: int = 5
) -> tuple[tuple[int, float], ...]:
    """The latents whose directions are nearest, with their cosines."""
    unit = normalize(directions, dim=-1)
    cosines = unit @ unit[latent]
    cosines[latent] = -2
    best = cosines.topk(min(count, len(cosines) - 1))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((i, round(value, 3)) for i, value in pairs)


@torch.no_grad()
def overlaps(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "text posn"],
    latents: Sequence[int],
    at_once: int = 16,
) -> Float[Tensor, "chosen latent"]:
    """Of the positions at which one of two latents is active, the share at which both are."""
    which = check_latents(reader, latents)
    both, often = (
        torch.zeros(len(which), reader.sae.config.d_sae),
        torch.zeros(reader.sae.config.d_sae),
    )
    for part in tokens.split(at_once):
        active = (activity(model, reader, part) > 0).flatten(0, 1).float()
        both += active[:, which].T @ active
        often += active.sum(0)
    either = often[which][:, None] + often[None] - both
    return both / either.clamp(min=1)


def together(
    overlap: Float[Tensor, " latent"], latent: int, count: int = 5
) -> tuple[tuple[int, float], ...]:
    """The latents that are active at the same positions as one."""
    other = overlap.clone()
    other[latent] = -1
    best = other.topk(min(count, len(other) - 1))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple((i, round(value, 3)) for i, value in pairs if value > 0)


# --- cards ------------------------------------------------------------------------------------


def cards(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "text posn"],
    latents: Sequence[int],
    count: int = 4,
) -> list[Card]:
    """The pages of some latents; those that are silent on the texts have none.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latents: which.
        count: examples in a group.

    Raises:
        ValueError: a latent that is not there.
    """
    names, classes = names_of(model), lens.kinds(model.tokenizer.backend_tokenizer).of_type
    values = activity(model, reader, tokens, latents)
    overlap = overlaps(model, reader, tokens, latents)
    made = []
    for i, latent in enumerate(latents):
        z = values[..., i]
        if bool((z > 0).sum() >= 2) and bool((z > 0).any(-1).sum() >= 2):
            card = _card(model, reader, latent, z, tokens, names, classes, overlap[i], count)
            made.append(card)
    return made


def _card(
    model: Any,
    reader: Reader,
    latent: int,
    z: Float[Tensor, "text posn"],
    tokens: Int[Tensor, "text posn"],
    names: Sequence[str],
    classes: Int[np.ndarray, " n_types"],
    overlap: Float[Tensor, " latent"],
    count: int,
) -> Card:
    edges, counts = histogram(z)
    up, down = promoted(model, reader.directions[latent], names)
    rule = rules.describe(z, tokens, names, classes)
    return Card(
        latent=latent,
        density=float((z[:, 1:] > 0).float().mean()),
        largest=float(z.max()),
        edges=tuple(round(edge, 3) for edge in edges),
        counts=counts,
        examples=examples(z, tokens, names, count),
        up=up,
        down=down,
        nearest=nearest(reader.directions, latent),
        together=together(overlap, latent),
        rule=str(rule),
        f1=rule.f1,
        token_share=rules.token_share(z, tokens),
    )


def card_from(entry: Mapping[str, Any]) -> Card:
    """A card from what the artifact holds.

    Raises:
        ArtifactError: something is missing.
    """
    try:
        shown = {
            name: tuple(Example(tuple(e["tokens"]), tuple(e["values"]), e["peak"]) for e in group)
            for name, group in entry["examples"].items()
        }
        lists = {k: tuple(map(tuple, entry[k])) for k in ("up", "down", "nearest", "together")}
        rows = {k: tuple(entry[k]) for k in ("edges", "counts")}
        return Card(**{**entry, **lists, **rows, "examples": shown})
    except (KeyError, TypeError) as error:
        raise artifacts.ArtifactError(
            f"{NAME} holds no whole card ({error!r}); `python -m mechbook make {NAME}` makes it again"
        ) from error


def load(*, data: Path = artifacts.DATA) -> list[Card]:
    """The cards that ship with the book.

    Raises:
        ArtifactError: missing or damaged.
    """
    return [card_from(entry) for entry in artifacts.load_json(NAME, data=data)["latents"]]


def make_dashboard(count: int = 256, seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """The artifact ``sae-dashboard``: the cards of latents of the TopK autoencoder, drawn at random.

    Raises:
        ValueError: no latent.
    """
    if count < 1:
        raise ValueError(f"count is {count}; give 1 or more")
    model, reader = weights.load(), readers.load("topk")
    tokens = shipped_texts(model)
    made = cards(model, reader, tokens, drawn(reader, count, seed))
    about = (
        f"{len(made)} of {reader.sae.config.d_sae} latents of the TopK autoencoder, drawn at random, "
        f"on {len(tokens)} texts that the language model wrote"
    )
    names = ("language-model", readers.NAME, "language-model-samples")
    inputs = {name: artifacts.checksum(name) for name in names}
    content = {
        "place": reader.place,
        "d_sae": reader.sae.config.d_sae,
        "positions": tokens[:, 1:].numel(),
    }
    return (
        content | {"latents": [asdict(card) for card in made]},
        {"about": about, "seeds": [seed], "inputs": inputs},
    )
