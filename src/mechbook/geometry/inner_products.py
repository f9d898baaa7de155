"""Inner products on a space of words: the axioms, the causal one, its rivals, and a change of coordinates.

Vectors are rows, ``⟨u, v⟩ = u M vᵀ`` with a symmetric positive definite matrix M, the metric. All in
64 bits: a metric is the inverse of a covariance, and what is nearly singular there is large here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Form = Callable[[Tensor, Tensor], Tensor]

EXAMPLE = torch.tensor([[2.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
"""The metric of the notes' example on the plane (their lecture 31)."""


def example(u: Float[Tensor, "*batch 2"], v: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
    """The notes' example, written out: ``2u₁v₁ - u₁v₂ - v₁u₂ + u₂v₂``."""
    (u1, u2), (v1, v2) = u.unbind(-1), v.unbind(-1)
    return 2 * u1 * v1 - u1 * v2 - v1 * u2 + u2 * v2


# --- axioms -----------------------------------------------------------------------------------


def violations(
    form: Form, size: int, generator: torch.Generator, draws: int = 1000
) -> dict[str, float]:
    """How far a function of two vectors is from an inner product, by axiom, on random vectors.

    Args:
        form: takes two batches of vectors [draw, size] and gives [draw].
        size: number of coordinates.
        generator: draws the vectors.
        draws: how many.

    Returns:
        ``symmetry`` and ``linearity``: the greatest violation; ``positivity``: the lowest
        ``(u, u) / |u|²`` found, which must be above 0.

    Raises:
        ValueError: ``size`` or ``draws`` below 1.
    """
    if min(size, draws) < 1:
        raise ValueError(f"size={size}, draws={draws}: give 1 or more of each")
    u, v, w = torch.randn(3, draws, size, generator=generator, dtype=torch.float64)
    a, b = torch.randn(2, draws, 1, generator=generator, dtype=torch.float64)
    combined = form(u, a * v + b * w) - (a[:, 0] * form(u, v) + b[:, 0] * form(u, w))
    return {
        "positivity": float((form(u, u) / u.pow(2).sum(-1)).min()),
        "symmetry": float((form(u, v) - form(v, u)).abs().max()),
        "linearity": float(combined.abs().max()),
    }


def metric_of(form: Form, size: int) -> Float[Tensor, "size size"]:
    """The matrix of an inner product in the standard basis: entry ``(i, j)`` is ``(e_i, e_j)``."""
    basis = torch.eye(size, dtype=torch.float64)
    rows = [form(basis[i].expand(size, size), basis) for i in range(size)]
    return torch.stack(rows)


def require_metric(M: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The matrix in 64 bits.

    Raises:
        ValueError: not square, not symmetric, or not positive definite.
    """
    M = M.double()
    if M.ndim != 2 or M.shape[0] != M.shape[1]:
        raise ValueError(f"a metric is a square matrix; this has shape {list(M.shape)}")
    if not torch.allclose(M, M.mT, rtol=1e-6, atol=1e-9 * float(M.abs().max())):
        raise ValueError("a metric is symmetric; this matrix is not: give (M + M.T) / 2 if meant")
    lowest = float(torch.linalg.eigvalsh(M)[0])
    if lowest <= 0:
        raise ValueError(
            f"a metric is positive definite; this matrix has the eigenvalue {lowest:.3g}"
        )
    return M


def inner(
    u: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, "*batch"]:
    """``⟨u, v⟩ = u M vᵀ``, for each pair of vectors."""
    return ((u @ M) * v).sum(-1)


def length(u: Float[Tensor, "*batch d"], M: Float[Tensor, "d d"]) -> Float[Tensor, "*batch"]:
    """The length ``√⟨u, u⟩``."""
    return inner(u, u, M).clamp_min(0).sqrt()


def angle(
    u: Float[Tensor, "*batch d"], v: Float[Tensor, "*batch d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, "*batch"]:
    """The angle between two vectors, in radians.

    Raises:
        ValueError: a vector of length 0, which has no angle.
    """
    lengths = length(u, M) * length(v, M)
    if bool((lengths == 0).any()):
        raise ValueError("a vector has length 0, so there is no angle; leave it out")
    return (inner(u, v, M) / lengths).clamp(-1, 1).acos()


def unit_ellipse(M: Float[Tensor, "2 2"], points: int = 200) -> Float[Tensor, "point 2"]:
    """The vectors of the plane that have length 1 under M: an ellipse."""
    M = require_metric(M)
    turn = torch.linspace(0, 2 * torch.pi, points, dtype=torch.float64)
    around = torch.stack([turn.cos(), turn.sin()], -1)
    return around / length(around, M)[:, None]


def cosines(vectors: Float[Tensor, "n d"], M: Float[Tensor, "d d"]) -> Float[Tensor, "n n"]:
    """The cosines between all pairs of vectors under M.

    Raises:
        ValueError: a vector of length 0.
    """
    gram = vectors @ M @ vectors.mT
    lengths = gram.diagonal().clamp_min(0).sqrt()
    if bool((lengths == 0).any()):
        raise ValueError("a vector has length 0, so there is no cosine; leave it out")
    return gram / torch.outer(lengths, lengths)


# --- the causal inner product and its rivals --------------------------------------------------


def covariance(gamma: Float[Tensor, "word d"]) -> Float[Tensor, "d d"]:
    """The covariance of the words' vectors, each word counted once.

    Raises:
        ValueError: fewer than two words, or all of one vector.
    """
    gamma = gamma.detach().double()
    if len(gamma) < 2:
        raise ValueError(f"{len(gamma)} words have no covariance; give two or more")
    centred = gamma - gamma.mean(0)
    cov = centred.mT @ centred / len(gamma)
    if not bool(cov.diagonal().max() > 0):
        raise ValueError("all words have one and the same vector; their covariance is 0")
    return cov


def power(cov: Float[Tensor, "d d"], alpha: float, ridge: float = 0.0) -> Float[Tensor, "d d"]:
    """``Cov^(-alpha)``: 0 is the Euclidean metric, 1 the causal inner product, ½ half of whitening.

    Args:
        cov: a covariance.
        alpha: the power.
        ridge: added to every variance, as a share of the mean variance. With fewer words than
            dimensions, or directions that no word uses, the covariance is singular and has no
            inverse: then a ridge (0.01, say) must be chosen, and it is a choice: the unused
            directions, whose variance it makes up, get the greatest weights.

    Raises:
        ValueError: the covariance is singular and ``ridge`` is 0, or the ridge is negative.
    """
    values, vectors = _spectrum(cov, ridge)
    if alpha != 0:
        _require_invertible(values)
    return (vectors * values**-alpha) @ vectors.mT


def _spectrum(cov: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    if ridge < 0:
        raise ValueError(f"ridge is {ridge}; give 0 or a small positive share, such as 0.01")
    values, vectors = torch.linalg.eigh(cov.double())
    return values + ridge * values.mean(), vectors


def _require_invertible(values: Tensor) -> None:
    lowest = float(values[0] / values[-1])
    if lowest < 1e-10:
        raise ValueError(
            f"the covariance is singular (its lowest variance is {lowest:.1e} of its highest), so "
            "it has no inverse; give ridge=0.01 or more words than dimensions"
        )


def causal(gamma: Float[Tensor, "word d"], ridge: float = 0.0) -> Float[Tensor, "d d"]:
    """The causal inner product ``Cov(γ)⁻¹`` (Park, Choe & Veitch 2023): whitening, in other words.

    Raises:
        ValueError: as in `covariance` and `power`.
    """
    return power(covariance(gamma), 1.0, ridge)


def rivals(
    cov: Float[Tensor, "d d"], generator: torch.Generator
) -> dict[str, Float[Tensor, "d d"]]:
    """Metrics to compare ``Cov⁻¹`` with; each lacks one thing that it has.

    Returns:
        ``Euclidean``; ``diagonal`` (each coordinate by its own variance, no correlations);
        ``first axis`` and ``second axis`` (`one_axis`: of most and of second variance);
        ``shuffled spectrum`` (the axes of the covariance, its inverse variances dealt out at
        random); ``random axes`` (the inverse variances on axes drawn at random); ``random``
        (``A Aᵀ`` with normal entries); ``wrong way`` (``Cov`` itself, the power -1 with the wrong sign).

    Raises:
        ValueError: as in `power`.
    """
    values, vectors = _spectrum(cov, 0.0)
    _require_invertible(values)
    size = len(values)
    order = torch.randperm(size, generator=generator)
    draw = torch.randn(size, size, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(draw).Q
    weights = 1 / values
    return {
        "Euclidean": torch.eye(size, dtype=torch.float64),
        "diagonal": torch.diag(1 / cov.double().diagonal()),
        "first axis": one_axis(cov, 1),
        "second axis": one_axis(cov, 2),
        "shuffled spectrum": (vectors * weights[order]) @ vectors.mT,
        "random axes": (axes * weights) @ axes.mT,
        "random": draw @ draw.mT,
        "wrong way": (vectors * values) @ vectors.mT,
    }


def one_axis(cov: Float[Tensor, "d d"], rank: int) -> Float[Tensor, "d d"]:
    """The inverse variance along one axis of the covariance, the mean variance of the others along all others.

    Args:
        cov: a covariance.
        rank: of the axis; 1 is that of the greatest variance.

    Raises:
        ValueError: no such axis, or as in `power`.
    """
    values, vectors = _spectrum(cov, 0.0)
    _require_invertible(values)
    if not 1 <= rank <= len(values):
        raise ValueError(f"rank is {rank}; give 1 to {len(values)}")
    own = len(values) - rank
    others = torch.arange(len(values)) != own
    weights = torch.where(others, 1 / values[others].mean(), 1 / values)
    return (vectors * weights) @ vectors.mT


def reparametrised(M: Float[Tensor, "d d"], A: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The metric after ``γ' = A γ``: ``A⁻ᵀ M A⁻¹``, which leaves every inner product as it was.

    Raises:
        ValueError: A has no inverse.
    """
    A = A.double()
    if float(torch.linalg.cond(A)) > 1e12:
        raise ValueError("A has no inverse (its condition number is above 1e12); give another")
    inverse = torch.linalg.inv(A)
    return inverse.mT @ M @ inverse


def riesz(gamma: Float[Tensor, "*batch d"], M: Float[Tensor, "d d"]) -> Float[Tensor, "*batch d"]:
    """The vector λ with ``⟨γ, v⟩ = λ · v`` for every v: ``λ = M γ``.

    It takes a direction that is *measured* (of the unembedding) to one that is *added* (to the
    stream); with ``M = Cov(γ)⁻¹`` adding it leaves alone what is causally separable.
    """
    return gamma @ M


def diagonality(G: Float[Tensor, "concept d"], M: Float[Tensor, "d d"]) -> float:
    """The greatest absolute cosine between two of the concepts under M: 0 where ``G M Gᵀ`` is diagonal.

    Raises:
        ValueError: fewer than two concepts, or one of length 0.
    """
    if len(G) < 2:
        raise ValueError(f"{len(G)} concepts have no pair; give two or more")
    found = cosines(G.double(), M).abs()
    return float(found[~torch.eye(len(G), dtype=torch.bool)].max())


def between(
    directions: Float[Tensor, "pairing 2 d"], M: Float[Tensor, "d d"]
) -> Float[Tensor, " pairing"]:
    """The absolute cosine of each two directions under M.

    Raises:
        ValueError: a direction of length 0.
    """
    one, other = directions.double().unbind(1)
    return angle(one, other, M).cos().abs()


def of_concepts(
    G: Float[Tensor, "concept concept"], weights: Float[Tensor, " concept"]
) -> Float[Tensor, "concept concept"]:
    """The metric under which the concepts of a basis are orthogonal, with these squared lengths.

    ``M = G⁻¹ diag(weights) G⁻ᵀ``, the one solution of ``G M Gᵀ = diag(weights)``: one for each
    choice of positive weights.

    Raises:
        ValueError: G is no basis, or a weight is not positive.
    """
    G = G.double()
    if G.ndim != 2 or G.shape[0] != G.shape[1] or float(torch.linalg.cond(G)) > 1e12:
        raise ValueError(f"G has shape {list(G.shape)}; give as many independent concepts as dims")
    if weights.shape != G.shape[:1] or not bool((weights > 0).all()):
        raise ValueError("give one positive weight a concept")
    inverse = torch.linalg.inv(G)
    return (inverse * weights) @ inverse.mT
