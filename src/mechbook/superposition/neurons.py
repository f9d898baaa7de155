"""A privileged basis: what happens when a layer is turned before its ReLU, and who stands on its axes.

The layer of a toy model is ``f(W x)``, with ``f`` the ReLU (neurons) or nothing (a linear
bottleneck). Turned by R and turned back it is ``Rᵀ f(R W x)``. Without the ReLU that is the same;
with it, it is another function, because the ReLU acts along the axes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import training
from mechbook.superposition import geometry, toy


def turn(
    v: Float[Tensor, "*batch two"],
) -> Float[Tensor, "*batch two"]:
    """The notes' basis: ``x' = (x + y)/√2``, ``y' = (x - y)/√2``. Twice, it is the identity."""
    x, y = v.unbind(-1)
    return torch.stack([x + y, x - y], -1) / 2**0.5


def turned_relu(v: Float[Tensor, "*batch two"], factor: float = 0.5) -> Float[Tensor, "*batch two"]:
    """The ReLU written in the turned basis, as the notes do.

    ``factor · (max(x'+y', 0) ± max(x'-y', 0))``; the notes' factor is ½.
    """
    x, y = v.unbind(-1)
    first, second = (x + y).relu(), (x - y).relu()
    return factor * torch.stack([first + second, first - second], -1)


def rotations(
    size: int, count: int, generator: torch.Generator
) -> Float[Tensor, "count size size"]:
    """Random orthogonal matrices, none likelier than another (Haar measure).

    The signs of R's diagonal are taken out of the QR decomposition, without which it would not be
    even (Mezzadri 2007).
    """
    factors = torch.linalg.qr(torch.randn(count, size, size, generator=generator))
    return factors.Q * factors.R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def partial_turn(
    size: int, degrees: float, generator: torch.Generator
) -> Float[Tensor, "size size"]:
    """A rotation about a random axis that turns no direction by more than ``degrees``."""
    free = torch.randn(size, size, generator=generator)
    skew = free - free.T
    skew = skew / torch.linalg.matrix_norm(skew, 2)
    return torch.linalg.matrix_exp(torch.deg2rad(torch.tensor(degrees)) * skew)


def turned_loss(
    trained: toy.Trained,
    density: int,
    R: Float[Tensor, "hidden hidden"],
    batch: int = 8192,
    seed: int = toy.UNSEEN,
) -> Float[Tensor, " seed"]:
    """The loss of trained members whose layer is turned by R before its ReLU, and back after it.

    Args:
        trained: the members.
        density: which of its densities, counted from 0.
        R: the rotation.
        batch: examples that it is measured on.
        seed: that draws them.
    """
    config = trained.config
    x = toy.sample(config.features, trained.densities[density], batch, training.generator(seed, 1))
    W, b = trained.W[density], trained.b[density]
    h = torch.einsum("bf,smf->sbm", x, W) @ R.T
    back = (h.relu() if config.neurons else h) @ R
    out = torch.einsum("sbm,smf->sbf", back, W) + b[:, None]
    out = out.relu() if config.relu else out
    return (config.weights * (out - x).pow(2)).sum(-1).mean(-1)


def firing(
    W: Float[Tensor, "seed hidden feature"], x: Float[Tensor, "batch feature"], floor: float = 0.01
) -> float:
    """Share of the neurons ReLU(W x) above ``floor``, over neurons, examples and seeds."""
    return float((torch.einsum("bf,smf->sbm", x, W) > floor).float().mean())


def not_undone(h: Float[Tensor, "batch hidden"], R: Float[Tensor, "hidden hidden"]) -> float:
    """Share of the variance of ReLU(h) that no linear map of ReLU(R h) brings back.

    The best affine map, by least squares.
    """
    wanted = h.relu()
    given = torch.cat([(h @ R.T).relu(), torch.ones(len(h), 1)], -1)
    missing = wanted - given @ torch.linalg.lstsq(given, wanted).solution
    return float(missing.pow(2).sum() / (wanted - wanted.mean(0)).pow(2).sum())


# --- who stands on the axes -------------------------------------------------------------------


def alignment(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m"]:
    """How much of a feature's squared length lies on its largest neuron, a mean over features.

    Over those that are represented; 1 if each stands on an axis, 0 if none is represented.
    """
    length = geometry.norms(W)
    kept = (length >= geometry.REPRESENTED).to(W.dtype)
    share = W.abs().amax(-2).pow(2) / length.pow(2).clamp(min=1e-12)
    return (share * kept).sum(-1) / kept.sum(-1).clamp(min=1)


def alignment_null(
    W: Float[Tensor, "*m hidden feature"], count: int, generator: torch.Generator
) -> Float[Tensor, "*m turn"]:
    """The alignment of the same features in randomly turned bases: WᵀW stays as it is."""
    R = rotations(W.shape[-2], count, generator)
    return torch.stack([alignment(one @ W) for one in R], -1)
