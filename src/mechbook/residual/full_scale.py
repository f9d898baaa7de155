"""The chapter's logit lens on a pretrained model: what the local cache holds, and nothing that is not there."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import pretrained
from mechbook.pretrained import find, main

__all__ = ["early_logits", "find", "lens_report", "load", "main"]

load = partial(pretrained.load, module="mechbook.residual.full_scale")
"""`pretrained.load`, which names this module as the one that fetches a model."""


@torch.no_grad()
def early_logits(model: Any, prompt: str) -> Float[Tensor, "depth word"]:
    """The lens at the last position, after the embedding and after each layer.

    The model's own modules do the decoding, so a LayerNorm with its bias is decoded as it should be.
    """
    _, cache = model.run_with_cache(prompt)
    depths = [cache["blocks.0.hook_resid_pre"]]
    depths += [cache[f"blocks.{layer}.hook_resid_post"] for layer in range(model.cfg.n_layers)]
    return torch.stack([model.unembed(model.ln_final(stream))[0, -1] for stream in depths])


def lens_report(name: str, prompt: str, word: str) -> str:
    """One line a depth: the best guess, and the rank and probability of a word; one line where there is no model.

    Args:
        name: of the model, such as ``gpt2``.
        prompt: the text whose next word is asked for.
        word: one token, with its leading space.
    """
    try:
        model = load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    logits = early_logits(model, prompt)
    token = int(model.to_single_token(word))
    lines = [f"{name}: {prompt!r}"]
    for depth, row in enumerate(logits):
        rank = int((row > row[token]).sum())
        chance = float(row.softmax(-1)[token])
        guess = model.tokenizer.decode([int(row.argmax())])
        lines.append(
            f"after {depth:2d} layers: {guess!r:14} {word!r} has rank {rank}, p = {chance:.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
