"""Activations of a language model, and what becomes of its loss when an autoencoder stands in for them.

A place in the model is a hook of TransformerLens, such as ``blocks.2.hook_resid_post``. The first
position reads the end-of-text mark, which is the same for every text and much longer than all
others in many models; it is left out of the activations, and left alone when the rest is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook.language_model import score

Replacement = Callable[[Float[Tensor, "batch posn d_in"]], Float[Tensor, "batch posn d_in"]]
FIRST = 1
"""The first position that is used."""


@torch.no_grad()
def collect(
    model: Any, windows: Int[Tensor, "batch posn"], place: str, at_once: int = 32
) -> Float[Tensor, "row d_in"]:
    """Activations at a place, one row for each position after the first.

    Args:
        model: a ``TransformerBridge``.
        windows: rows that begin with the end-of-text mark, as long as the model reads or shorter.
        place: name of a hook.
        at_once: windows in one forward pass.

    Raises:
        ValueError: no text, too long a text, or a place that the model does not have.
    """
    score.check_length(model, windows.shape[1] - FIRST)
    check_place(model, place)
    stop = place.split(".")[1] if place.startswith("blocks.") else None
    layer = {} if stop is None else {"stop_at_layer": int(stop) + 1}
    rows = []
    for part in windows.split(at_once):
        _, cache = model.run_with_cache(part, names_filter=[place], **layer)
        rows.append(cache[place][:, FIRST:].flatten(0, 1).clone())
    return torch.cat(rows)


def check_place(model: Any, place: str) -> None:
    """Refuse a place that a model does not have.

    Raises:
        ValueError: with some that it has.
    """
    if place not in model.hook_dict:
        some = [name for name in model.hook_dict if "resid" in name or "mlp_out" in name]
        raise ValueError(f"the model has no place {place!r}; it has {', '.join(some[:6])} and more")


def scale_of(activations: Float[Tensor, "row d_in"]) -> float:
    """The factor that brings the mean length of activations to the root of ``d_in``.

    Prices of sparsity then mean the same for activations of any size.
    """
    return float(activations.shape[1] ** 0.5 / activations.norm(dim=-1).mean())


@dataclass(frozen=True)
class LossRecovered:
    """Cross-entropy in nats a token, with the activations at a place as they are, or replaced.

    Attributes:
        clean: as they are.
        patched: by the autoencoder's reconstruction.
        zero: by zeros.
        mean: by their mean.
    """

    clean: float
    patched: float
    zero: float
    mean: float

    @property
    def against_zero(self) -> float:
        """Share of the loss between zeros and the model itself that the reconstruction keeps."""
        return (self.zero - self.patched) / (self.zero - self.clean)

    @property
    def against_mean(self) -> float:
        """The same, between the mean and the model itself: the stricter of the two."""
        return (self.mean - self.patched) / (self.mean - self.clean)


@torch.no_grad()
def patched_loss(
    model: Any,
    windows: Int[Tensor, "batch posn+1"],
    place: str,
    replace: Replacement | None = None,
    at_once: int = 32,
) -> float:
    """Mean loss of the tokens after the first, with the activations at a place replaced.

    Args:
        model: a ``TransformerBridge``.
        windows: rows that begin with the end-of-text mark; the last token is only predicted.
        place: name of a hook.
        replace: from activations to what stands in for them; None leaves them.
        at_once: windows in one forward pass.

    Raises:
        ValueError: nothing to predict, or a place that the model does not have.
    """
    check_place(model, place)

    def hook(value: Float[Tensor, "batch posn d_in"], hook: Any) -> Tensor:
        assert replace is not None
        new = value.clone()
        new[:, FIRST:] = replace(value[:, FIRST:])
        return new

    hooks = [] if replace is None else [(place, hook)]
    with model.hooks(fwd_hooks=hooks):
        losses = score.token_losses(model, windows, at_once)
    return float(losses[:, FIRST:].mean())


def loss_recovered(
    model: Any,
    sae: Any,
    windows: Int[Tensor, "batch posn+1"],
    place: str,
    mean: Float[Tensor, " d_in"],
    scale: float = 1.0,
) -> LossRecovered:
    """How much of the model's loss survives when it goes on from the autoencoder's reconstruction.

    Args:
        model: a ``TransformerBridge``.
        sae: the autoencoder, of activations times ``scale``.
        windows: as for ``patched_loss``.
        place: where.
        mean: of the activations there.
        scale: factor by which activations were multiplied before training.
    """

    def loss(replace: Replacement | None) -> float:
        return patched_loss(model, windows, place, replace)

    return LossRecovered(
        clean=loss(None),
        patched=loss(lambda value: sae(value * scale) / scale),
        zero=loss(torch.zeros_like),
        mean=loss(lambda value: mean.expand_as(value)),
    )
