"""Latents, neurons, principal components and random directions, all scored in the same way.

How much of a unit is the current token, and how often a simple rule says when it is active
(`mechbook.sae.rules`): numbers mean something only beside those of units that nobody calls features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mechbook import training
from mechbook.language_model import lens
from mechbook.sae import rules
from mechbook.sae.readers import Reader
from mechbook.sae.reading import activity, names_of

NEURONS, COORDINATES = "neurons of the MLP", "single neurons"
PRINCIPAL, RANDOM = "principal components", "random directions"


@torch.no_grad()
def streams(
    model: Any, tokens: Int[Tensor, "text posn"], place: str, at_once: int = 16
) -> Float[Tensor, "text posn d"]:
    """Activations at a place, every position of every text."""
    rows = []
    for part in tokens.split(at_once):
        _, cache = model.run_with_cache(part, names_filter=[place])
        rows.append(cache[place])
    return torch.cat(rows)


def units(
    model: Any,
    readers: Mapping[str, Reader],
    tokens: Int[Tensor, "text posn"],
    count: int = 256,
    seed: int = 0,
) -> Iterator[tuple[str, Float[Tensor, "text posn unit"]]]:
    """Values of some units of every kind on some texts, kind by kind; all at random.

    Args:
        model: the language model.
        readers: autoencoders by name, of one place.
        tokens: texts that begin with the end-of-text mark.
        count: units of each kind, at most.
        seed: of the choice.
    """
    draw = training.generator(seed)

    def some(number: int) -> list[int]:
        return torch.randperm(number, generator=draw)[:count].tolist()

    for name, reader in readers.items():
        yield name, activity(model, reader, tokens, some(reader.sae.config.d_sae))
    place = next(iter(readers.values())).place
    h = streams(model, tokens, place)
    h = h - h[:, 1:].flatten(0, 1).mean(0)
    rows, d = h[:, 1:].flatten(0, 1), h.shape[-1]
    V = torch.linalg.eigh(rows.T @ rows).eigenvectors.flip(1)
    yield PRINCIPAL, h @ V[:, :count]
    yield COORDINATES, h[..., some(d)]
    yield RANDOM, h @ normalize(torch.randn(d, min(count, d), generator=draw), dim=0)
    mlp = f"{place.rsplit('.', 1)[0]}.mlp.hook_post"
    yield NEURONS, streams(model, tokens, mlp)[..., some(model.cfg.d_mlp)]


def scores(
    model: Any,
    readers: Mapping[str, Reader],
    tokens: Int[Tensor, "text posn"],
    count: int = 256,
    share: float = 0.01,
) -> dict[str, rules.Scores]:
    """Units of every kind, scored where they are strongest; see `rules.score_units`.

    Args:
        model: the language model.
        readers: autoencoders by name, of one place.
        tokens: texts that begin with the end-of-text mark.
        count: units of each kind, at most.
        share: of the positions, the strongest, that count for every unit.
    """
    names, classes = names_of(model), lens.kinds(model.tokenizer.backend_tokenizer).of_type
    return {
        kind: rules.score_units(values, tokens, names, classes, share)
        for kind, values in units(model, readers, tokens, count)
    }


def summary(found: Mapping[str, rules.Scores]) -> dict[str, dict[str, float]]:
    """Of each kind: the quartiles of the token's share, and how many units have a good rule."""
    told = {}
    for kind, scored in found.items():
        low, middle, high = np.quantile(scored.token_share.numpy(), [0.25, 0.5, 0.75])
        told[kind] = {
            "token share": float(middle),
            "token share, lower quartile": float(low),
            "token share, upper quartile": float(high),
            "ruled": scored.ruled,
        }
    return told
