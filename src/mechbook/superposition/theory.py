"""What can be proved about codes of features: identities, bounds, optima, and what breaks them.

The codes are the *columns* of W, ``[hidden, feature]``, as in the notes (there U) and in the toy
model. Everything is exact arithmetic in double precision: expected losses are closed forms in the
Gram matrix ``G = WᵀW``, not averages over samples. With ``L = diag(importance)``, centered features
of covariance C and the best bias, the linear tied autoencoder ``x̂ = WᵀWx + b`` loses ::

    Σ_i I_i E (x̂_i - x_i)² = trace( L (G - I) C (G - I) )      and, for C = I,  ‖L^{1/2}(G - I)‖²
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

Codes = Float[np.ndarray, "hidden feature"]
Weights = Float[np.ndarray, " feature"]


def _codes(W: Codes) -> Codes:
    codes = np.asarray(W, dtype=np.float64)
    if codes.ndim != 2 or not codes.size or not np.isfinite(codes).all():
        raise ValueError(
            f"codes have shape {codes.shape}; give finite numbers [hidden, feature], a column each"
        )
    return codes


def _importance(importance: Weights | Sequence[float] | None, n: int) -> Weights:
    weights = np.ones(n) if importance is None else np.asarray(importance, dtype=np.float64)
    if weights.shape != (n,) or not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ValueError(
            f"importance is {weights.tolist()}; give {n} numbers, one a feature, none negative"
        )
    return weights


def _sizes(n: int, m: int) -> None:
    if min(n, m) < 1 or int(n) != n or int(m) != m:
        raise ValueError(f"{n} codes in {m} dimensions; give whole numbers of at least 1")


# --- codes ------------------------------------------------------------------------------------


def ring(n: int, length: float = 1.0) -> Float[np.ndarray, "2 feature"]:
    """Codes of one length in the plane at equal angles; a pentagon for n = 5.

    Raises:
        ValueError: fewer than one code, or a negative length.
    """
    _sizes(n, 2)
    if length < 0:
        raise ValueError(f"length is {length}; give 0 or more")
    angles = 2 * np.pi * np.arange(n) / n
    return length * np.stack([np.cos(angles), np.sin(angles)])


def collapsed(n: int, m: int) -> Codes:
    """Unit codes, n of them, on m orthonormal directions, shared as evenly as possible."""
    _sizes(n, m)
    return np.eye(m)[:, np.arange(n) % m]


def turned(share: float) -> Float[np.ndarray, "2 3"]:
    """Three codes in the plane on the way from two orthogonal ones to the 120° frame.

    Their Gram matrix is the orthogonal projection ``I - vvᵀ``, with v turning from the third axis
    (``share`` 0: the third feature is dropped) to the diagonal (1: all three have √(2/3)).

    Raises:
        ValueError: a share outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; give 0 (two orthogonal codes) to 1 (120° frame)")
    angle = share * np.arccos(1 / np.sqrt(3))
    side = np.sin(angle) / np.sqrt(2)
    v = np.array([side, side, np.cos(angle)])
    first = np.array([1.0, -1.0, 0.0]) / np.sqrt(2)
    rows = np.stack([first, np.cross(v, first)])  # an orthonormal basis of what is not v
    return np.array([[1, 1], [-1, 1]]) / np.sqrt(2) @ rows


def icosahedron() -> Float[np.ndarray, "3 6"]:
    """Six unit codes in space along the axes of an icosahedron, all pairs at one angle."""
    golden = (1 + np.sqrt(5)) / 2
    corners = [(0, 1, golden), (1, golden, 0), (golden, 0, 1)]
    corners += [(0, -1, golden), (-1, golden, 0), (golden, 0, -1)]
    return unit(np.array(corners).T)


def unit(W: Codes) -> Codes:
    """Each code divided by its length.

    Raises:
        ValueError: a code of length zero.
    """
    codes = _codes(W)
    lengths = np.linalg.norm(codes, axis=0)
    if not (lengths > 0).all():
        zero = np.flatnonzero(lengths == 0).tolist()
        raise ValueError(f"codes {zero} have length zero and no direction; leave them out")
    return codes / lengths


def gram(W: Codes) -> Float[np.ndarray, "feature feature"]:
    """All dot products of codes, G = WᵀW."""
    codes = _codes(W)
    return codes.T @ codes


# --- losses -----------------------------------------------------------------------------------


def frame_potential(W: Codes) -> float:
    """Σ over ordered pairs i ≠ j of (w_i · w_j)²: the notes' loss for equal importance."""
    G = gram(W)
    return float((G**2).sum() - (np.diag(G) ** 2).sum())


def lowest_potential(n: int, m: int) -> float:
    """The least frame potential of n unit codes in m dimensions: n²/m - n, or 0 where n ≤ m.

    Source: Benedetto & Fickus, "Finite normalized tight frames" (2003).

    Raises:
        ValueError: n or m below 1.
    """
    _sizes(n, m)
    return max(n * n / m, n) - n


def pairwise_loss(W: Codes, importance: Weights | None = None) -> float:
    """The notes' weighted loss, as they write it: Σ_i I_i Σ_{j≠i} (w_i · w_j)²."""
    codes = _codes(W)
    n = codes.shape[1]
    weights = _importance(importance, n)
    pairs = [(i, j) for i, j in product(range(n), repeat=2) if i != j]
    return float(sum(weights[i] * (codes[:, i] @ codes[:, j]) ** 2 for i, j in pairs))


def matrix_loss(W: Codes, importance: Weights | None = None) -> float:
    """‖L^{1/2}(G - I)‖², a matrix product: the linear tied autoencoder's loss for C = I.

    For codes of length one it is `pairwise_loss`; otherwise each code adds ``I_i (‖w_i‖² - 1)²``.
    """
    G = gram(W)
    root = np.sqrt(_importance(importance, len(G)))
    return float(np.linalg.norm(root[:, None] * (G - np.eye(len(G)))) ** 2)


def box_as_read(W: Codes, importance: Weights | None = None) -> float:
    """½ ‖L ⊛ (G - L)‖², elementwise: the garbled box of the notes, read with the line below it.

    An elementwise product with a diagonal matrix keeps nothing but the diagonal.
    """
    G = gram(W)
    L = np.diag(_importance(importance, len(G)))
    return float(0.5 * np.linalg.norm(L * (G - L)) ** 2)


def linear_loss(
    W: Codes,
    importance: Weights | None = None,
    covariance: Float[np.ndarray, "feature feature"] | None = None,
) -> float:
    """Expected loss of ``x̂ = WᵀWx + b`` with the best b: trace(L (G - I) C (G - I)).

    Raises:
        ValueError: an importance that is negative or does not fit, or a C that is no covariance.
    """
    G = gram(W)
    weights = _importance(importance, len(G))
    C = _covariance(covariance, len(G))
    off = G - np.eye(len(G))
    return float((weights * np.einsum("ij,jk,ki->i", off, C, off)).sum())


def _covariance(C: Float[np.ndarray, "feature feature"] | None, n: int) -> np.ndarray:
    given = np.eye(n) if C is None else np.asarray(C, dtype=np.float64)
    fits = given.shape == (n, n) and np.allclose(given, given.T)
    if not fits or np.linalg.eigvalsh(given)[0] < -1e-9:
        raise ValueError(
            f"a covariance of shape {given.shape} for {n} features; give a symmetric matrix "
            f"[{n}, {n}] without negative eigenvalues"
        )
    return given


def row_space(W: Codes) -> Float[np.ndarray, "feature feature"]:
    """The orthogonal projection onto what the bottleneck keeps of the features (the rows of W)."""
    codes = _codes(W)
    return np.linalg.pinv(codes) @ codes


def best_readout_loss(W: Codes, importance: Weights | None = None) -> float:
    """Expected loss with the best linear readout of Wx in the place of Wᵀ (C = I).

    That readout is the pseudo-inverse, and the loss Σ_i I_i (1 - P_ii), P the `row_space`.
    """
    P = row_space(W)
    return float((_importance(importance, len(P)) * (1 - np.diag(P))).sum())


def lowest_loss(importance: Weights | Sequence[float], m: int) -> float:
    """The least loss of the linear tied autoencoder for C = I: the n - m smallest importances.

    Raises:
        ValueError: m below 1 or above the number of features, or a negative importance.
    """
    weights = _importance(importance, len(importance))
    if not 1 <= m <= len(weights):
        raise ValueError(
            f"m is {m} for {len(weights)} features; a bottleneck has from 1 to as many dimensions"
        )
    return float(np.sort(weights)[: len(weights) - m].sum())


def off_projection(W: Codes) -> float:
    """How far G is from being a projection: the greatest entry of ``|G² - G|``."""
    G = gram(W)
    return float(np.abs(G @ G - G).max())


def off_frame(W: Codes) -> float:
    """How far W is from an optimum for equal importance: the greatest entry of ``|WWᵀ - I|``."""
    codes = _codes(W)
    return float(np.abs(codes @ codes.T - np.eye(len(codes))).max())


def interference(W: Codes) -> Float[np.ndarray, " feature"]:
    """What the other features do to each: Σ_{j≠i} (w_i · w_j)²."""
    G = gram(W)
    return (G**2).sum(1) - np.diag(G) ** 2


# --- descent ----------------------------------------------------------------------------------


def gradient(
    W: Codes,
    importance: Weights | None = None,
    covariance: Float[np.ndarray, "feature feature"] | None = None,
) -> Codes:
    """The gradient of `linear_loss`: 2W (L(G - I)C + C(G - I)L)."""
    G = gram(W)
    weights, off = _importance(importance, len(G)), G - np.eye(len(G))
    half = weights[:, None] * (off if covariance is None else off @ covariance)
    return 2 * np.asarray(W) @ (half + half.T)


def descend(
    W: Codes,
    importance: Weights | None = None,
    covariance: Float[np.ndarray, "feature feature"] | None = None,
    steps: int = 4000,
    rate: float = 0.01,
) -> Codes:
    """Plain gradient descent on `linear_loss` from a given start.

    Raises:
        ValueError: it left all bounds; the rate is too large for codes this long.
    """
    codes = _codes(W).copy()
    for _ in range(steps):
        codes = codes - rate * gradient(codes, importance, covariance)
        if not np.abs(codes).max() < 1e6:
            raise ValueError(f"descent with rate {rate} diverges; give a smaller rate")
    return codes


def nearest_frame(W: Codes) -> Codes:
    """(WWᵀ)^{-1/2} W, W with all its singular values set to one (its polar factor).

    Raises:
        ValueError: codes that do not span all dimensions.
    """
    left, values, right = np.linalg.svd(_codes(W), full_matrices=False)
    if len(values) < len(W) or values[-1] <= 1e-12 * values[0]:
        raise ValueError("the codes do not span all dimensions; use fewer dimensions")
    return left @ right


def spread_out(n: int, m: int, seed: int = 0, importance: Weights | None = None) -> Codes:
    """Unit codes from a random start at a minimum of `pairwise_loss` (L-BFGS).

    Raises:
        ValueError: n or m below 1.
    """
    _sizes(n, m)
    weights = _importance(importance, n)
    both = weights[:, None] + weights  # the pair i, j counts I_i + I_j

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = flat.reshape(m, n)
        length = np.linalg.norm(free, axis=0)
        codes = free / length
        G = codes.T @ codes * (1 - np.eye(n))
        along = 2 * codes @ (both * G)
        along -= codes * (codes * along).sum(0)
        return float((both * G**2).sum() / 2), (along / length).ravel()

    start = np.random.default_rng(seed).normal(size=(m, n))
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 1e-15})
    return unit(found.x.reshape(m, n))


# --- bounds -----------------------------------------------------------------------------------


def coherence(W: Codes) -> float:
    """The greatest ``|cosine|`` between two codes.

    Raises:
        ValueError: fewer than two codes, or one of length zero.
    """
    G = gram(unit(W))
    if len(G) < 2:
        raise ValueError("one code has no angle with another; give two or more")
    return float(np.abs(G - np.diag(np.diag(G))).max())


def welch_bound(n: int, m: int) -> float:
    """No n unit codes in m dimensions have a smaller greatest ``|cosine|``: √((n-m)/(m(n-1))).

    Source: Welch, "Lower bounds on the maximum cross correlation of signals" (1974).

    Raises:
        ValueError: fewer than two codes, or no dimension.
    """
    _sizes(n, m)
    if n < 2:
        raise ValueError("one code has no angle with another; give two or more")
    return float(np.sqrt(max(n - m, 0) / (m * (n - 1))))


def sign_codes(n: int, m: int, seed: int = 0) -> Codes:
    """Random unit codes, n of them, with entries ±1/√m."""
    _sizes(n, m)
    return np.random.default_rng(seed).choice([-1.0, 1.0], size=(m, n)) / np.sqrt(m)


def promised(m: int, cosine: float) -> int:
    """How many codes with all ``|cosines|`` below a bound are sure to exist: ⌊exp(m cosine²/4)⌋.

    The argument is that of Johnson & Lindenstrauss (1984): random codes, and a union over pairs.

    Raises:
        ValueError: no dimension, or a cosine that is not between 0 and 1.
    """
    _sizes(1, m)
    if not 0 < cosine < 1:
        raise ValueError(f"cosine is {cosine}; give a number between 0 and 1")
    return int(np.exp(m * cosine**2 / 4))


# --- data -------------------------------------------------------------------------------------


def sparse_features(
    n: int, density: float, batch: int, seed: int = 0, together: str = "independent"
) -> Float[np.ndarray, "batch feature"]:
    """Centered features, normal where they are there, so that E[s_i²] is the density.

    Args:
        n: features.
        density: probability that one is there.
        batch: how many draws.
        seed: of the draws.
        together: ``independent``, or ``never``: at most one of them is there.

    Raises:
        ValueError: a density that is no probability, or too high for features that exclude each
            other; another word for ``together``.
    """
    _sizes(n, 1)
    if together not in ("independent", "never"):
        raise ValueError(f"together is {together!r}; give independent or never")
    most = 1.0 if together == "independent" else 1 / n
    if not 0 <= density <= most:
        raise ValueError(f"density is {density}; give a probability from 0 to {most:g}")
    draw = np.random.default_rng(seed)
    if together == "independent":
        there = draw.random((batch, n)) < density
    else:
        there = np.arange(n) == np.floor(draw.random((batch, 1)) / max(density, 1e-300))
    return draw.normal(size=(batch, n)) * there


def squared_errors(
    W: Codes, s: Float[np.ndarray, "batch feature"]
) -> Float[np.ndarray, "batch feature"]:
    """(ŝ - s)² for the tied linear readout ŝ = WᵀWs, one row a draw.

    Raises:
        ValueError: another number of features in s than in W.
    """
    G = gram(W)
    if np.ndim(s) != 2 or np.shape(s)[1] != len(G):
        raise ValueError(
            f"features of shape {np.shape(s)} for {len(G)} codes; give [batch, feature]"
        )
    return (s @ G - s) ** 2


def uniform_grid(n: int, points: int) -> Float[np.ndarray, "batch feature"]:
    """A regular grid of midpoints in the cube [0, 1]^n: always-there features, without chance.

    Raises:
        ValueError: no feature, no point, or more than ten million rows.
    """
    _sizes(n, points)
    if points**n > 10**7:
        raise ValueError(f"{points}^{n} rows are too many; give fewer points or features")
    axis = (np.arange(points) + 0.5) / points
    return np.stack(np.meshgrid(*[axis] * n, indexing="ij"), -1).reshape(-1, n)


def toy_loss(
    W: Codes,
    bias: Weights,
    x: Float[np.ndarray, "batch feature"],
    importance: Weights | None = None,
    relu: bool = True,
) -> float:
    """Mean loss of ReLU(WᵀWx + b), or without the ReLU, on given features.

    Raises:
        ValueError: an importance that is negative or does not fit.
    """
    G = gram(W)
    out = x @ G + bias
    error = ((np.maximum(out, 0) if relu else out) - x) ** 2
    return float((error * _importance(importance, len(G))).sum(1).mean())


def one_at_a_time(n: int, points: int = 8) -> Float[np.ndarray, "batch feature"]:
    """Features of which exactly one is there, at sizes evenly spread over 0 to 1; and none at all."""
    _sizes(n, points)
    sizes = (np.arange(points) + 0.5) / points
    each = (np.eye(n)[:, None] * sizes[:, None]).reshape(-1, n)
    return np.concatenate([each, np.zeros((1, n))])


def least_found(n: int, m: int, relu: bool = True, restarts: int = 12, seed: int = 0) -> float:
    """The least loss on `one_at_a_time` that minimizing over W and b finds, over random starts."""
    _sizes(n, m)
    x, draw = one_at_a_time(n), np.random.default_rng(seed)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        W, b = flat[: m * n].reshape(m, n), flat[m * n :]
        out = x @ W.T @ W + b
        kept = (out > 0) if relu else np.ones_like(out)
        error = 2 * (out * kept - x) * kept / len(x)
        by_W = W @ (x.T @ error + error.T @ x)
        value = (((out * kept) - x) ** 2).sum() / len(x)
        return float(value), np.concatenate([by_W.ravel(), error.sum(0)])

    starts = [np.r_[draw.normal(size=m * n), np.zeros(n)] for _ in range(restarts)]
    options = {"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-10}
    found = [minimize(loss, s, jac=True, method="L-BFGS-B", options=options) for s in starts]
    return float(min(result.fun for result in found))
