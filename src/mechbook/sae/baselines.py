"""What an autoencoder has to beat: the same number of coordinates of a basis, or random directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook.sae.variants import SAEConfig, build

Reconstruct = Callable[[Float[Tensor, "*batch d_in"]], Float[Tensor, "*batch d_in"]]
"""From activations, as the model has them, to what stands in for them."""


def best_of(
    basis: Float[Tensor, "d_in component"], mean: Float[Tensor, " d_in"], count: int
) -> Reconstruct:
    """Keep of each activation the ``count`` largest of its coordinates in an orthonormal basis.

    With principal directions this is PCA at its best; with the unit matrix, single neurons.
    """

    def reconstruct(h: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_in"]:
        at = (h - mean) @ basis
        least = at.abs().topk(count, dim=-1).values[..., -1:]
        return (at * (at.abs() >= least)) @ basis.T + mean

    return reconstruct


def first_of(basis: Float[Tensor, "d_in component"], mean: Float[Tensor, " d_in"]) -> Reconstruct:
    """Project onto directions, the same for all activations."""
    return lambda h: (h - mean) @ basis @ basis.T + mean


def random_dictionary(
    config: SAEConfig, mean: Float[Tensor, " d_in"], scale: float, seed: int = 0
) -> Reconstruct:
    """An autoencoder as it starts, of activations times ``scale``, centered where it should be."""
    sae = build(config, seed)
    with torch.no_grad():
        sae.b_dec.copy_(mean * scale)
    return lambda h: sae(h * scale) / scale


def explained_at_best_length(
    h: Float[Tensor, "row d_in"], out: Float[Tensor, "row d_in"], mean: Float[Tensor, " d_in"]
) -> float:
    """Share of the variance that a reconstruction explains, all of it made longer or shorter by one factor.

    An untrained dictionary points somewhere, and its lengths mean nothing; so it is judged at its best.
    """
    h, out = h - mean, out - mean
    factor = (h * out).sum() / out.pow(2).sum()
    return float(1 - (h - factor * out).pow(2).sum() / h.pow(2).sum())
