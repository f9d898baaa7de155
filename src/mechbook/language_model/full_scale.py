"""The chapter's measurements on a pretrained model: what the local disk holds, and nothing that is not there."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechbook import heads, pretrained, training
from mechbook.language_model import induction, lens, score

PASSAGE = 50
"""Tokens of a random passage, which the model reads twice."""
PASSAGES = 8


def report(name: str, text: str) -> str:
    """Loss, lens and induction of a pretrained model in a few lines; one line where there is none.

    Args:
        name: of the model, such as ``gpt2``, or a local folder.
        text: of any length, read one window after another.

    Raises:
        ValueError: the text is empty, or the tokenizer has no mark to begin a text with.
    """
    try:
        model = pretrained.load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    cfg, size = model.cfg, sum(parameter.numel() for parameter in model.parameters())
    first = f"{name}: {size:,} parameters, {cfg.n_layers} layers of {cfg.n_heads} heads"
    return "\n".join([first, *_text_lines(model, text), *_induction_lines(model)])


def cut(model: Any, text: str) -> list[Int[Tensor, "1 posn+1"]]:
    """A text in windows as long as the model can read, each after the mark that begins a text.

    Raises:
        ValueError: the text is empty, or the tokenizer has no such mark.
    """
    ids = model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise ValueError("the text is empty; give at least one word")
    start = torch.tensor([pretrained.beginning(model)])
    return [torch.cat([start, part])[None] for part in torch.tensor(ids).split(model.cfg.n_ctx)]


def repeated_passages(model: Any, seed: int = 0) -> Int[Tensor, "batch posn"]:
    """Random tokens read twice, see `induction.repeated`; shorter where the model is small."""
    n_types = min(model.cfg.d_vocab, len(model.tokenizer))
    half = min(PASSAGE, (model.cfg.n_ctx - 1) // 2, n_types - 1)
    draw = training.generator(seed)
    return induction.repeated(n_types, half, PASSAGES, draw, end=pretrained.beginning(model))


def _text_lines(model: Any, text: str) -> list[str]:
    windows = cut(model, text)
    loss = torch.cat([score.token_losses(model, window)[0] for window in windows])
    depths = torch.cat([lens.lens_loss(model, window).loss[:, 0] for window in windows], 1)
    per_character = float(loss.sum()) / len(text)
    return [
        f"on the text: {loss.mean():.3f} nats a token ({len(loss):,} tokens), "
        f"{per_character:.3f} nats a character",
        "decoded early:",
        *(
            f"  after {depth:2d} layers: {float(row.mean()):6.3f} nats a token"
            for depth, row in enumerate(depths[::2])
        ),
    ]


def _induction_lines(model: Any) -> list[str]:
    tokens = repeated_passages(model)
    gain, scores = induction.gain(model, tokens), induction.head_scores(model, tokens)
    best = heads.highest(scores.induction, 4)
    said = ", ".join(f"{i}.{j} ({scores.induction[i, j]:.2f})" for i, j in best)
    enough = int((scores.induction >= induction.LEAST).sum())
    return [
        f"random tokens, read twice: {gain.first[1:].mean():.2f} nats a token, "
        f"then {gain.second[1:].mean():.2f}; gain {gain.value:.2f}",
        f"heads that look most at what followed (layer.head, mean attention): {said}; "
        f"{enough} with {induction.LEAST} or more",
    ]
