"""Where attention heads look, and what a model does without them. Works on any ``TransformerBridge``.

A head is named by its layer and its number in the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Head = tuple[int, int]


# --- where to look ----------------------------------------------------------------------------


def places(tokens: Int[Tensor, "batch posn"]) -> dict[str, Bool[Tensor, "batch query key"]]:
    """For each query the keys that each kind of head looks at, told from the tokens alone.

    Returns:
        ``previous token``: one back. ``two back``. ``duplicate token``: all earlier occurrences of
        the query's token. ``induction``: the positions after those. ``first``: the text's first
        position (for queries after it).
    """
    length = tokens.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril(-1)
    same = (tokens[:, :, None] == tokens[:, None, :]) & before
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    posn = torch.arange(length)
    return {
        "previous token": (posn[:, None] - 1 == posn).expand_as(same),
        "two back": (posn[:, None] - 2 == posn).expand_as(same),
        "duplicate token": same,
        "induction": after,
        "first": (before & (posn == 0)).expand_as(same),
    }


def attention_paid(
    pattern: Float[Tensor, "batch head query key"], where: Bool[Tensor, "batch query key"]
) -> Float[Tensor, " head"]:
    """The attention that each head pays to some keys, mean over the queries that have any.

    Raises:
        ValueError: no query has any.
    """
    asking = where.any(-1).sum()
    if asking == 0:
        raise ValueError("no query has such a key; give texts in which tokens come again")
    return (pattern * where[:, None]).sum((0, 2, 3)) / asking


@torch.no_grad()
def patterns(
    model: Any, tokens: Int[Tensor, "batch posn"]
) -> Float[Tensor, "layer batch head query key"]:
    """The attention patterns of all layers.

    Raises:
        ValueError: the text is longer than the model reads.
    """
    _require_length(model, tokens)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(tokens, names_filter=names)
    return torch.stack([cache[name] for name in names])


def head_scores(
    model: Any, tokens: Int[Tensor, "batch posn"], at_once: int = 64
) -> dict[str, Float[Tensor, "layer head"]]:
    """The mean attention of every head to each kind of key, see `places`.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts in which tokens come again.
        at_once: texts in one forward pass.

    Raises:
        ValueError: nothing is repeated, or the texts are longer than the model reads.
    """
    wanted = places(tokens)
    asking = {kind: where.any(-1).sum(1) for kind, where in wanted.items()}
    if not asking["duplicate token"].any():
        raise ValueError("no token comes twice; give texts in which tokens come again")
    sums = {kind: torch.zeros(model.cfg.n_layers, model.cfg.n_heads) for kind in wanted}
    for first in range(0, len(tokens), at_once):
        part = slice(first, first + at_once)
        seen = patterns(model, tokens[part])
        for kind, where in wanted.items():
            sums[kind] += torch.einsum("lbhqk,bqk->lh", seen, where[part].to(seen)).cpu()
    return {kind: sums[kind] / asking[kind].sum() for kind in wanted}


def highest(values: Float[Tensor, "layer head"], count: int) -> list[Head]:
    """The heads with the highest values, highest first."""
    order = values.flatten().argsort(descending=True, stable=True)[:count].tolist()
    return [divmod(place, values.shape[1]) for place in order]


def _require_length(model: Any, tokens: Int[Tensor, "batch posn"]) -> None:
    if not 1 <= tokens.shape[1] <= model.cfg.n_ctx:
        raise ValueError(
            f"the texts have {tokens.shape[1]} tokens; the model reads 1 to {model.cfg.n_ctx}"
        )


# --- without them -----------------------------------------------------------------------------


def require_heads(model: Any, chosen: Iterable[Head]) -> list[Head]:
    """The heads as a list.

    Raises:
        ValueError: a head that the model has not.
    """
    size, found = (model.cfg.n_layers, model.cfg.n_heads), list(chosen)
    for layer, head in found:
        if not (0 <= layer < size[0] and 0 <= head < size[1]):
            raise ValueError(
                f"no head {layer}.{head}; there are {size[0]} layers of {size[1]} heads, "
                "counted from 0"
            )
    return found


def replaced(
    model: Any, chosen: Iterable[Head], new: Callable[[Tensor], Tensor]
) -> AbstractContextManager:
    """While this context is open, what some heads mix (``z``) is replaced.

    Args:
        model: a ``TransformerBridge``.
        chosen: pairs of layer and head.
        new: from a layer's ``z`` [batch posn head d_head], of the chosen heads only, to what
            stands in its place, in a shape that broadcasts.

    Raises:
        ValueError: a head that the model has not.
    """
    layers: dict[int, list[int]] = {}
    for layer, head in require_heads(model, chosen):
        layers.setdefault(layer, []).append(head)

    def at(own: Sequence[int]) -> Callable[..., Tensor]:
        def hook_function(z: Tensor, hook: Any) -> Tensor:
            changed = z.clone()
            changed[:, :, own] = new(z[:, :, own]).expand_as(z[:, :, own])
            return changed

        return hook_function

    hooks = [(f"blocks.{layer}.attn.hook_z", at(own)) for layer, own in layers.items()]
    return model.hooks(fwd_hooks=hooks)


def zeroed(model: Any, chosen: Iterable[Head]) -> AbstractContextManager:
    """While this context is open, some heads write nothing (but their bias)."""
    return replaced(model, chosen, torch.zeros_like)


def averaged(model: Any, chosen: Iterable[Head]) -> AbstractContextManager:
    """While this context is open, some heads write the same everywhere: their mean of the pass."""
    return replaced(model, chosen, lambda z: z.mean((0, 1)))


def resampled(model: Any, chosen: Iterable[Head]) -> AbstractContextManager:
    """While this context is open, some heads write what they would for the next text of the batch.

    Raises:
        ValueError: in the forward pass, for a batch of one text, which has no other.
    """
    return replaced(model, chosen, from_next_text)


def from_next_text(values: Tensor) -> Tensor:
    """For each text what the one before it in the batch has; texts along the first axis.

    Raises:
        ValueError: a batch of one text.
    """
    if len(values) < 2:
        raise ValueError("there is one text and no other to take from; give two texts or more")
    return values.roll(1, 0)
