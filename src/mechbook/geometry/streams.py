"""The residual stream of any ``TransformerBridge`` at a depth: reading it, and changing it at some positions.

Depth 0 is what the first block reads, depth L what the L-th block leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import pretrained

TEXTS = {
    "months": (
        "It was in the month of {}",
        "on the 10th of {}",
        "One morning in {}",
        "They came back to London in {}",
        "at the end of {}",
        "the first week of {}",
        "He was born in {}",
        "from the middle of {}",
    ),
    "weekdays": (
        "It was on {}",
        "He came back last {}",
        "She would see him next {}",
        "every {}",
        "from {}",
        "the night of {}",
    ),
}
"""Texts that end with the word; none names a season that would give a month away."""

Edit = Callable[[Float[Tensor, "batch d_model"]], Float[Tensor, "batch d_model"]]


def hook_name(model: Any, depth: int) -> str:
    """The hook of the stream at a depth.

    Raises:
        ValueError: no such depth.
    """
    if not 0 <= depth <= model.cfg.n_layers:
        raise ValueError(f"depth is {depth}; give 0 to {model.cfg.n_layers}, the number of layers")
    return f"blocks.{depth - 1}.hook_resid_post" if depth else "blocks.0.hook_resid_pre"


@torch.no_grad()
def read(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    position: int | Int[Tensor, " batch"] = -1,
    at_once: int = 256,
) -> Float[Tensor, "depth batch d_model"]:
    """The stream at one position of each text, at all depths.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts of one length.
        position: one for all texts, or one for each; negative ones count from the end.
        at_once: texts in one forward pass.

    Raises:
        ValueError: a position outside the texts, or texts longer than the model reads.
    """
    where = places(model, tokens, position)
    names = [hook_name(model, depth) for depth in range(model.cfg.n_layers + 1)]
    parts = []
    for first in range(0, len(tokens), at_once):
        part = slice(first, first + at_once)
        _, cache = model.run_with_cache(tokens[part], names_filter=names)
        rows = torch.arange(len(tokens[part]))
        parts.append(torch.stack([cache[name][rows, where[part]] for name in names]))
    return torch.cat(parts, 1)


def in_texts(
    model: Any, words: Sequence[str], texts: Sequence[str]
) -> Float[Tensor, "depth word d_model"]:
    """The stream at each word, a mean over texts that end with it, at all depths.

    Args:
        model: a ``TransformerBridge`` with a tokenizer.
        words: each of one token.
        texts: with ``{}`` at their end.

    Raises:
        ValueError: a text that does not end with ``{}``, or a word that is not one token.
    """
    found = []
    for text in texts:
        if not text.endswith("{}"):
            raise ValueError(f"{text!r} must end with {{}}, the place of the word")
        before = _ids(model, text.removesuffix("{}").strip())
        rows = [_ids(model, text.format(word)) for word in words]
        wrong = [w for w, row in zip(words, rows, strict=True) if len(row) != len(before) + 1]
        if wrong:
            raise ValueError(f"not one token after {text!r}: {', '.join(wrong)}; leave them out")
        start = pretrained.beginning(model)
        found.append(read(model, torch.tensor([[start, *row] for row in rows])))
    return torch.stack(found).mean(0)


def _ids(model: Any, text: str) -> list[int]:
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


@torch.no_grad()
def edited(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    depth: int,
    edit: Edit,
    position: int | Int[Tensor, " batch"] = -1,
) -> Float[Tensor, "batch vocabulary"]:
    """The logits after the last token, with the stream changed at one depth and position.

    Args:
        model: a ``TransformerBridge``.
        tokens: texts of one length.
        depth: 0 to the number of layers.
        edit: from the stream there [batch, d_model] to what stands in its place.
        position: one for all texts, or one for each.

    Raises:
        ValueError: no such depth or position.
    """
    where, rows = places(model, tokens, position), torch.arange(len(tokens))

    def change(stream: Tensor, hook: Any) -> Tensor:
        changed = stream.clone()
        changed[rows, where] = edit(stream[rows, where]).to(stream.dtype)
        return changed

    logits = model.run_with_hooks(tokens, fwd_hooks=[(hook_name(model, depth), change)])
    return logits[:, -1]


def places(
    model: Any, tokens: Int[Tensor, "batch posn"], position: int | Int[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """The position of each text, counted from 0.

    Raises:
        ValueError: a position outside the texts, or texts longer than the model reads.
    """
    size = tokens.shape[1]
    if not 1 <= size <= model.cfg.n_ctx:
        raise ValueError(f"the texts have {size} tokens; the model reads 1 to {model.cfg.n_ctx}")
    where = torch.as_tensor(position).expand(len(tokens))
    if bool((where < -size).any() or (where >= size).any()):
        raise ValueError(f"a position is outside the texts; give {-size} to {size - 1}")
    return where % size
