"""Training: the book's loop, with a schedule, a validation curve and arithmetic of 16 bits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.language_model.corpus import Windows

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class TrainingConfig:
    """How the model is trained (AdamW, linear warmup, cosine decay, clipped gradients).

    Attributes:
        passes: how often the training text is read.
        batch: windows an update.
        learning_rate: the highest.
        last: the lowest at the end, as a share of the highest.
        warmup: updates until the highest.
        weight_decay: of the matrices in the blocks; embeddings, norms and biases have none.
        clip: longest gradient.
        measure_every: updates from one measurement of the validation loss to the next.
        measure_on: validation windows for that, at even distances.
        seed: of the order of the windows.
    """

    passes: float = 1.0
    batch: int = 32
    learning_rate: float = 3e-3
    last: float = 0.02
    warmup: int = 300
    weight_decay: float = 0.1
    clip: float = 1.0
    measure_every: int = 250
    measure_on: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.passes <= 0 or min(self.batch, self.warmup, self.measure_every) < 1:
            raise ValueError(f"{self}: passes above 0; batch, warmup, measure_every 1 or more")

    def steps(self, windows: int) -> int:
        """Updates in all."""
        return math.ceil(self.passes * windows / self.batch)


def run(
    model: TransformerBridge,
    train: Windows,
    validation: Windows,
    config: TrainingConfig,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int = 250,
    progress: bool | None = None,
) -> training.History:
    """Train the model in place.

    The history has ``validation`` (nats a token) and ``seconds`` (since this process started).

    Raises:
        TrainingError: see `training.train`.
    """
    device = next(model.parameters()).device
    steps = config.steps(len(train))
    optimizer = torch.optim.AdamW(
        _groups(model, config), lr=config.learning_rate, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(config, step, steps))
    held_out, began = validation.evenly(config.measure_on), time.perf_counter()

    def loss(model: Any, step: int) -> Tensor:
        return next_token_loss(model, train.batch(step, config.batch, config.seed).to(device))

    def measure(model: Any, step: int) -> Mapping[str, float]:
        losses = [next_token_loss(model, part.to(device)) for part in held_out.split(config.batch)]
        sizes = [len(part) for part in held_out.split(config.batch)]
        mean = sum(float(x) * n for x, n in zip(losses, sizes, strict=True)) / sum(sizes)
        return {"validation": mean, "seconds": time.perf_counter() - began}

    return training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=schedule,
        steps=steps,
        clip=config.clip,
        metrics=measure,
        metrics_every=config.measure_every,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        settings={**asdict(config), "windows": len(train)},
        label="language model",
        progress=progress,
        unit="tokens",
        units_a_step=config.batch * train.length,
    )


def next_token_loss(model: Any, tokens: Int[Tensor, "batch posn+1"]) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats a token, matrix products in bfloat16."""
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        logits = model(tokens[:, :-1])
    return CrossEntropy.apply(logits.flatten(0, 1), tokens[:, 1:].flatten())


class CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of 16-bit logits, a few rows at a time in 32 bits.

    The same function as ``torch.nn.functional.cross_entropy(logits.float(), target)``; that one
    keeps the logits of all rows in 32 bits, and for 8,192 types the traffic took about a third of
    the time of an update on the two cores where it was profiled.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, logits: Float[Tensor, "row token"], target: Int[Tensor, " row"]
    ) -> Float[Tensor, ""]:
        """The loss; the gradient is found on the way, while the rows are at hand."""
        gradient = torch.empty_like(logits)
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        for first in range(0, len(logits), 64):
            part = slice(first, first + 64)
            guesses, answer = logits[part].float().log_softmax(-1), target[part, None]
            right = guesses.gather(1, answer)
            total -= right.sum()
            gradient[part] = guesses.exp_().scatter_(1, answer, right.exp() - 1)
        ctx.save_for_backward(gradient)
        return total / len(logits)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        """Softmax minus the right answer, divided by the number of rows."""
        (gradient,) = ctx.saved_tensors
        return gradient * (outer[0] / len(gradient)).to(gradient.dtype), None


def _groups(model: TransformerBridge, config: TrainingConfig) -> list[dict[str, Any]]:
    """Weight decay for the matrices of the blocks, none for the rest; each tensor once."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, tensor in model.original_model.named_parameters():
        (decayed if tensor.ndim > 1 and "layers" in name else free).append(tensor)
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate at an update, as a share of the highest."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
    return min((step + 1) / config.warmup, 1.0) * (config.last + (1 - config.last) * cosine)
