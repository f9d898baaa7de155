"""The chapter's measurements on a pretrained model, from what the local disk holds."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechbook import composition, heads, pretrained, training
from mechbook.heads import Head
from mechbook.induction.circuits import Head as Matrices
from mechbook.induction.task import Task, sample

PASSAGE = 40
"""Random tokens in a passage, which the model reads twice."""
KINDS = ("previous token", "duplicate token", "induction")


def report(name: str) -> str:
    """Heads by their jobs, and their composition; one line where there is no model.

    Args:
        name: of the model, such as ``gpt2``, or a local folder.
    """
    try:
        model = pretrained.load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    scores = heads.head_scores(model, repeated(model))
    best = {kind: heads.highest(scores[kind], 4) for kind in KINDS}
    lines = [f"{name}: {model.cfg.n_layers} layers of {model.cfg.n_heads} heads; attention paid on"]
    lines += [f"random tokens read twice (layer.head, {PASSAGE} tokens a passage)"]
    for kind, found in best.items():
        said = ", ".join(f"{i}.{j} ({scores[kind][i, j]:.2f})" for i, j in found)
        lines.append(f"  {kind}: {said}")
    return "\n".join([*lines, *_composition_lines(model, best)])


def repeated(model: Any, batch: int = 8, seed: int = 0) -> Int[Tensor, "batch posn"]:
    """The mark that begins a text, a passage of different random tokens, and the same again.

    Raises:
        ValueError: the tokenizer has no mark to begin a text with.
    """
    mark = pretrained.beginning(model)
    n_types = min(model.cfg.d_vocab, len(model.tokenizer))
    others = torch.tensor([i for i in range(n_types) if i != mark])
    size = min(PASSAGE, (model.cfg.n_ctx - 1) // 2, len(others))
    task = Task(len(others), shortest=size, longest=size, length=2 * size, distinct=True)
    passages = others[sample(task, batch, training.generator(seed)).tokens]
    return torch.cat([torch.full((batch, 1), mark), passages], 1)


def matrices(model: Any, layer: int) -> Matrices:
    """The heads of one layer, as they are stored: the gains of the norm before them are not in."""
    found = (getattr(model, name)[layer].detach() for name in ("W_Q", "W_K", "W_V", "W_O"))
    return Matrices(*found)


def _composition_lines(model: Any, best: dict[str, list[Head]]) -> list[str]:
    """Composition of the best previous-token head with the best induction head after it."""
    (early, writer), *_ = best["previous token"]
    late = [head for head in best["induction"] if head[0] > early]
    if not late:
        return ["  no induction head stands after the best previous-token head"]
    layer, reader = late[0]
    write, read = matrices(model, early)[writer][None], matrices(model, layer)[reader][None]
    found = composition.compose(write.OV, read.QK, read.OV, training.generator(0), draws=30)
    said = ", ".join(
        f"{side} {z:.1f}" for side, z in zip(composition.SIDES, found.z[:, 0, 0], strict=True)
    )
    title = f"  composition of {early}.{writer} with {layer}.{reader}, in standard deviations"
    return [f"{title} from a turned writer: {said}"]
