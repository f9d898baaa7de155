"""The notes' loose questions, each as a small experiment: Gaussian latents, inversion, linear and PCA."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mechbook import training
from mechbook.sae import recovery
from mechbook.sae.experiments import run
from mechbook.sae.truth import Truth
from mechbook.sae.variants import SAEConfig


def excess_kurtosis(values: Float[Tensor, "row latent"]) -> Float[Tensor, " latent"]:
    """Fourth moment of each column over its variance squared, less 3: zero for a Gaussian."""
    centered = values - values.mean(0)
    return centered.pow(4).mean(0) / centered.pow(2).mean(0).pow(2) - 3


def kurtosis_of(weights: str, inputs: str, n: int = 64, latents: int = 256, seed: int = 0) -> float:
    """Median excess kurtosis of ``x W`` for weights and inputs of a kind: whose shape is it?

    Args:
        weights: ``gaussian`` or ``signs`` (plus or minus one).
        inputs: ``gaussian`` or ``sparse`` (one number in fifty is there).
        n: numbers in an input.
        latents: columns of the weights.
        seed: of everything.

    Raises:
        ValueError: another kind.
    """
    if weights not in ("gaussian", "signs") or inputs not in ("gaussian", "sparse"):
        raise ValueError(
            f"weights {weights!r}, inputs {inputs!r}; weights are 'gaussian' or 'signs', inputs "
            "'gaussian' or 'sparse'"
        )
    draw = training.generator(seed)
    W, x = torch.randn(n, latents, generator=draw), torch.randn(20000, n, generator=draw)
    if inputs == "sparse":
        x = x * (torch.rand(x.shape, generator=draw) < 0.02)
    return float(excess_kurtosis(x @ (W.sign() if weights == "signs" else W)).median())


def inverted(truth: Truth, active: int, count: int = 100, seed: int = 0) -> dict[str, float]:
    """Share of the features' power that is got back from ``h = W x``, with W known.

    ``straight``: the pseudo-inverse, the shortest x that fits. ``least sum``: of all x that fit and
    are nowhere negative the one with the least sum, a linear program.

    Args:
        truth: whose W.
        active: features that are there at once, drawn at random, sizes from 0 to 1.
        count: examples.
        seed: of the examples.

    Raises:
        ValueError: more active features than there are.
    """
    if not 1 <= active <= truth.n:
        raise ValueError(f"active is {active}; there are {truth.n} features, give 1 to {truth.n}")
    draw = training.generator(seed, active)
    places = torch.rand(count, truth.n, generator=draw).argsort(-1)[:, :active]
    sizes = torch.rand(count, active, generator=draw)
    x = torch.zeros(count, truth.n).scatter(-1, places, sizes).double()
    W = truth.W.double()
    h = x @ W.T
    guesses = {
        "straight": h @ torch.linalg.pinv(W).T,
        "least sum": torch.stack([least_sum(W, row) for row in h]),
    }
    return {k: float(1 - (x - v).pow(2).sum() / x.pow(2).sum()) for k, v in guesses.items()}


def least_sum(
    W: Float[Tensor, "hidden feature"], h: Float[Tensor, " hidden"]
) -> Float[Tensor, " feature"]:
    """The x ≥ 0 with ``W x = h`` whose sum is least (`scipy.optimize.linprog`).

    Raises:
        ValueError: no such x fits.
    """
    found = linprog(np.ones(W.shape[1]), A_eq=W.numpy(), b_eq=h.numpy(), bounds=(0, None))
    if found.x is None:
        raise ValueError(f"no x without negative numbers gives this h: {found.message}")
    return torch.from_numpy(found.x)


def promised(truth: Truth) -> float:
    """Features that may be there at once for L1 to find them for certain: below ``(1 + 1/μ)/2``.

    μ is the greatest cosine between two of them, of either sign (Donoho and Elad, 2003).
    """
    cosines = truth.directions @ truth.directions.T
    mu = float((cosines - torch.eye(truth.n)).abs().max())
    return (1 + 1 / mu) / 2


def principal(h: Float[Tensor, "row d_in"], count: int) -> Float[Tensor, "d_in count"]:
    """The first principal directions of activations, as columns of length 1."""
    centered = (h - h.mean(0)).double()
    return torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)[:, :count].to(h.dtype)


def fading_truth(n: int = 10, factor: float = 0.75, seed: int = 0) -> Truth:
    """Features at right angles, each shorter than the one before: activations with unlike principal axes."""
    square = torch.randn(n, n, generator=training.generator(seed))
    lengths = factor ** torch.arange(n)
    return Truth(torch.linalg.qr(square).Q * lengths, 0.2)


def linear_against_pca(width: int = 4, seed: int = 0) -> dict[str, float]:
    """A linear autoencoder without a price, narrower than its input, and PCA of the same size.

    The activations are those of `fading_truth`; where all directions vary alike PCA has nothing to choose.

    Returns:
        ``autoencoder`` and ``PCA``: shares of variance explained on held-out activations;
        ``same subspace``: least cosine between the two subspaces; ``same axes``: median over
        latents of the greatest cosine with a principal direction.
    """
    truth = fading_truth()
    config = SAEConfig(truth.n, width, "linear", penalty="none", decoder="free")
    sae = run(config, truth, [0.0], [seed]).sae()
    _, h = truth.held_out()
    V, mean = principal(h, width), h.mean(0)
    rows = sae.W_dec.detach()
    basis = torch.linalg.qr(rows.T).Q
    nearest = cosine_similarity(rows[:, None], V.T[None], dim=-1).abs().amax(1)
    with torch.no_grad():
        return {
            "autoencoder": float(recovery.explained(h, sae(h))),
            "PCA": float(recovery.explained(h, (h - mean) @ V @ V.T + mean)),
            "same subspace": float(torch.linalg.svdvals(basis.T @ V).min()),
            "same axes": float(nearest.median()),
        }
