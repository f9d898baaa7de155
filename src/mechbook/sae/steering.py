"""Cause and effect: take a latent out, or put more of it in, and see what the model says next.

A latent of size z adds ``z · direction`` to the stream. To ablate it is to take that away, and
nothing else: the autoencoder's error stays in, so that the effect is the latent's alone. The control
takes away a vector of the same length at the same positions, in a random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mechbook import training
from mechbook.language_model import lens
from mechbook.sae.activations import FIRST, check_place
from mechbook.sae.readers import Reader
from mechbook.sae.reading import activity, check_latents

_OWN_STREAM = 1 << 29
"""Added to a seed: a random direction must not be one that the autoencoder itself started from."""

Change = Callable[[Float[Tensor, "batch posn d_in"]], Float[Tensor, "batch posn d_in"]]


@torch.no_grad()
def log_probabilities(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    place: str,
    change: Change | None = None,
    where: Bool[Tensor, "batch posn"] | None = None,
) -> Float[Tensor, "place n_types"]:
    """What the model says at some positions, with its activations at a place changed.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts that begin with the end-of-text mark; the first position is left alone.
        place: name of a hook.
        change: from activations to others; None leaves them.
        where: the positions; every text's last one without.

    Raises:
        ValueError: a place that the model does not have.
    """
    check_place(model, place)

    def hook(value: Float[Tensor, "batch posn d_in"], hook: Any) -> Tensor:
        assert change is not None
        new = value.clone()
        new[:, FIRST:] = change(value[:, FIRST:])
        return new

    layers = model.cfg.n_layers
    last = f"blocks.{layers - 1}.hook_resid_post"
    with model.hooks(fwd_hooks=[] if change is None else [(place, hook)]):
        _, cache = model.run_with_cache(tokens, names_filter=[last], stop_at_layer=layers)
    # only these positions are decoded: the vocabulary is what takes the time
    stream = cache[last][:, -1] if where is None else cache[last][where]
    return lens.decode(model, stream).log_softmax(-1)


def ablate(reader: Reader, latent: int, direction: Float[Tensor, " d_in"] | None = None) -> Change:
    """Take away what a latent writes, wherever it is active; as much along another direction.

    Args:
        reader: the autoencoder.
        latent: which.
        direction: the latent's own, where none is given; of the length that is given.

    Raises:
        ValueError: a latent that is not there.
    """
    check_latents(reader, [latent])
    taken = reader.directions[latent] if direction is None else direction
    return lambda h: h - reader.encode(h)[..., latent, None] * taken


def ablate_random(reader: Reader, latent: int, seed: int = 0) -> Change:
    """Take away as much, at the same positions, in a random direction."""
    return ablate(reader, latent, _random_like(reader, latent, seed))


def _random_like(reader: Reader, latent: int, seed: int) -> Float[Tensor, " d_in"]:
    """A random direction as long as a latent's."""
    check_latents(reader, [latent])
    own = reader.directions[latent]
    draw = torch.randn(len(own), generator=training.generator(seed + _OWN_STREAM, latent))
    return own.norm() * normalize(draw, dim=0)


def steer(direction: Float[Tensor, " d_in"], strength: float) -> Change:
    """Add so many times a direction, at every position."""
    return lambda h: h + strength * direction


@dataclass(frozen=True)
class Effect:
    """What an ablation does, at the positions where the latent is active.

    Attributes:
        active: where the latent is active, in the texts that were read.
        own: Kullback-Leibler divergence in nats between what the model said and says then, at those
            positions.
        random: the same for a vector of the same length in a random direction.
        change: mean change of the log probability of each token there.
        random_change: the same for the random direction.
    """

    active: Bool[Tensor, "batch posn"]
    own: Float[Tensor, " place"]
    random: Float[Tensor, " place"]
    change: Float[Tensor, " n_types"]
    random_change: Float[Tensor, " n_types"]

    @property
    def ratio(self) -> float:
        """How many times the random direction's effect the latent's own is, mean over mean."""
        return float(self.own.mean() / self.random.mean())


@torch.no_grad()
def ablation_effect(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "batch posn"],
    latent: int,
    most: int = 64,
    seed: int = 0,
) -> Effect:
    """Ablate a latent, and a random direction, and compare what the model says then.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latent: which.
        most: texts that are read, at most, the first in which the latent is active.
        seed: of the random direction.

    Raises:
        ValueError: the latent is silent on these texts.
    """
    active = activity(model, reader, tokens, [latent])[..., 0] > 0
    texts = active.any(-1).nonzero().flatten()[:most]
    if not len(texts):
        raise ValueError(f"latent {latent} is silent on these texts; give more texts, or another")
    some, where = tokens[texts], active[texts]
    before = log_probabilities(model, some, reader.place, None, where)
    results = []
    for change in (ablate(reader, latent), ablate_random(reader, latent, seed)):
        after = log_probabilities(model, some, reader.place, change, where)
        results += [divergence(before, after), (after - before).mean(0)]
    return Effect(where, results[0], results[2], results[1], results[3])


@torch.no_grad()
def ratios(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "batch posn"],
    latents: Sequence[int],
    most: int = 16,
) -> Float[Tensor, "latent two"]:
    """For each latent its effect over that of a random direction, and of another latent's direction.

    Means of the divergence, at the positions where the latent is active, over that of the same
    length taken away in a random direction, or in the direction of the next latent of the list.
    Latents that are silent on the texts are left out.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latents: two or more.
        most: texts for each latent, at most.

    Raises:
        ValueError: fewer than two latents, or all of them silent.
    """
    if len(latents) < 2:
        raise ValueError(f"{len(latents)} latents; give two or more")
    values, found = activity(model, reader, tokens, latents), []
    for i, latent in enumerate(latents):
        active = values[..., i] > 0
        texts = active.any(-1).nonzero().flatten()[:most]
        if not len(texts):
            continue
        some, where = tokens[texts], active[texts]
        before = log_probabilities(model, some, reader.place, None, where)
        other = latents[(i + 1) % len(latents)]
        sizes = []
        for direction in (None, _random_like(reader, latent, 0), reader.directions[other]):
            change = ablate(reader, latent, direction)
            after = log_probabilities(model, some, reader.place, change, where)
            sizes.append(divergence(before, after).mean())
        found.append(torch.stack([sizes[0] / sizes[1], sizes[0] / sizes[2]]))
    if not found:
        raise ValueError("every latent is silent on these texts; give more texts, or others")
    return torch.stack(found)


@torch.no_grad()
def aimed_ratios(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "batch posn"],
    latents: Sequence[int],
    most: int = 16,
) -> Float[Tensor, " latent"]:
    """The same with a vector that is aimed: along the unembedding of the most probable token.

    It shows what a direction that matters to the next token does at a latent's length.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latents: whose positions and lengths; those that are silent on the texts are left out.
        most: texts for each latent, at most.

    Raises:
        ValueError: all of them are silent.
    """
    values, found = activity(model, reader, tokens, latents), []
    for i, latent in enumerate(latents):
        active = values[..., i] > 0
        texts = active.any(-1).nonzero().flatten()[:most]
        if not len(texts):
            continue
        some, where = tokens[texts], active[texts]
        before = log_probabilities(model, some, reader.place, None, where)
        length = reader.directions[latent].norm()
        aimed = length * normalize(model.W_U[:, int(before.mean(0).argmax())], dim=0)
        sizes = []
        for direction in (aimed, _random_like(reader, latent, 0)):
            after = log_probabilities(
                model, some, reader.place, ablate(reader, latent, direction), where
            )
            sizes.append(divergence(before, after).mean())
        found.append(sizes[0] / sizes[1])
    if not found:
        raise ValueError("every latent is silent on these texts; give more texts, or others")
    return torch.stack(found)


def divergence(
    before: Float[Tensor, "*place n_types"], after: Float[Tensor, "*place n_types"]
) -> Float[Tensor, "*place"]:
    """Kullback-Leibler divergence in nats, of log probabilities before and after."""
    return (before.exp() * (before - after)).sum(-1).clamp(min=0)


@torch.no_grad()
def steering_curve(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "batch posn"],
    latent: int,
    types: Int[Tensor, " chosen"],
    strengths: Float[Tensor, " strength"],
    seed: int = 0,
) -> tuple[Float[Tensor, " strength"], Float[Tensor, " strength"]]:
    """Probability of some tokens, together, at the last position, over how much of a latent is added.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark.
        latent: whose direction.
        types: the tokens.
        strengths: in sizes of a latent.
        seed: of the random direction.

    Returns:
        With the latent's direction, and with a random one of the same length; means over texts.
    """
    curves = []
    for direction in (reader.directions[latent], _random_like(reader, latent, seed)):
        said = [
            log_probabilities(model, tokens, reader.place, steer(direction, float(s)))
            for s in strengths
        ]
        curves.append(torch.stack([p.exp()[:, types].sum(-1).mean() for p in said]))
    return curves[0], curves[1]


@torch.no_grad()
def lifts(
    model: Any,
    reader: Reader,
    tokens: Int[Tensor, "batch posn"],
    latents: Sequence[int],
    types: Sequence[Int[Tensor, " chosen"]],
    sizes: Sequence[float],
    seed: int = 0,
) -> Float[Tensor, "latent two"]:
    """How many times as probable some tokens become when a latent is added, and a random direction.

    Args:
        model: the language model.
        reader: the autoencoder.
        tokens: texts that begin with the end-of-text mark; their last positions are looked at.
        latents: whose directions.
        types: for each latent the tokens.
        sizes: for each latent how much of it is added.
        seed: of the random directions.

    Raises:
        ValueError: not one list of tokens and one size a latent.
    """
    if not len(latents) == len(types) == len(sizes):
        raise ValueError(
            f"{len(latents)} latents, {len(types)} lists of tokens, {len(sizes)} sizes; give one each"
        )
    before = log_probabilities(model, tokens, reader.place).exp()
    found = []
    for latent, chosen, size in zip(latents, types, sizes, strict=True):
        base = before[:, chosen].sum(-1).mean()
        for direction in (reader.directions[latent], _random_like(reader, latent, seed)):
            said = log_probabilities(model, tokens, reader.place, steer(direction, size)).exp()
            found.append(said[:, chosen].sum(-1).mean() / base)
    return torch.stack(found).view(-1, 2)
