"""Changing the stream and looking at what follows: pushing it toward a word, and changing it in one place."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook.residual.decomposition import readout
from mechbook.residual.model import Run


@torch.no_grad()
def push(
    run: Run, generator: torch.Generator, *, strength: float, block: int, toward_word: bool = True
) -> float:
    """Share of positions whose best guess becomes a drawn word when the stream is pushed toward it.

    One word is drawn for each text. The push is added to the stream that a block reads, at all positions.

    Args:
        run: the model on held-out texts.
        generator: draws the words, and the directions of the control.
        strength: length of the push, in lengths of the stream at that place.
        block: the block in front of which the push is added.
        toward_word: along the word's column of the unembedding, gain included; if false along a
            random direction of the same length.

    Raises:
        ValueError: no such block.
    """
    if not 0 <= block < run.model.cfg.n_layers:
        raise ValueError(f"block is {block}; give 0 to {run.model.cfg.n_layers - 1}")
    tokens = run.texts.tokens[:, :-1]
    word = torch.randint(run.logits.shape[-1], (len(tokens),), generator=generator)
    direction = _word_directions(run.model)[word]
    if not toward_word:
        direction = torch.randn(direction.shape, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)

    def add(stream: Tensor, hook: Any) -> Tensor:
        return stream + strength * stream.norm(dim=-1, keepdim=True) * direction[:, None]

    logits = run.model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{block}.hook_resid_pre", add)])
    return float((logits.argmax(-1) == word[:, None]).float().mean())


def _word_directions(model: Any) -> Float[Tensor, "word d_model"]:
    """For each word the direction of the final stream that raises its logit above the others'."""
    end = readout(model)
    columns = (end.gain[:, None] * end.W_U).mT
    return (columns - columns.mean(0)).detach()


@torch.no_grad()
def spill(run: Run, block: int, position: int) -> dict[str, float]:
    """How far a change of the stream at one position reaches other positions, through each kind of part.

    The stream of each text at that position is replaced by that of the next text.

    Args:
        run: the model on held-out texts.
        block: the block whose attention and MLP are looked at.
        position: where the stream is changed.

    Returns:
        For "attention" and "MLP" the greatest change of the output at any other position.

    Raises:
        ValueError: no such position.
    """
    stream = run.cache[f"blocks.{block}.hook_resid_pre"]
    if not 0 <= position < stream.shape[1]:
        raise ValueError(f"position is {position}; give 0 to {stream.shape[1] - 1}")
    changed = stream.clone()
    changed[:, position] = stream[:, position].roll(1, 0)
    others = torch.arange(stream.shape[1]) != position
    part = run.model.blocks[block]
    maps = {"attention": lambda x: part.attn(part.ln1(x)), "MLP": lambda x: part.mlp(part.ln2(x))}
    return {
        name: float((_first(f(changed)) - _first(f(stream)))[:, others].abs().max())
        for name, f in maps.items()
    }


def _first(output: Any) -> Tensor:
    """The output itself, where a module also returns its pattern."""
    return output[0] if isinstance(output, tuple) else output
