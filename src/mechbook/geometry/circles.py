"""Is it a circle? The share of each harmonic against shuffles, a probe that leaves items out, circles from counts.

Everything here takes plain arrays: n items in their order around the circle, one row each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

FEW = 7
"""Up to so many items, all cyclic orders are counted: (n-1)!/2, 360 for weekdays."""


@dataclass(frozen=True)
class Circularity:
    """How circular some points are.

    Attributes:
        shares: of the variance, by harmonic 1 to n//2; they add up to 1.
        null: the same for other orders of the items.
        exact: whether the null holds every order once (the given one included).
    """

    shares: Float[np.ndarray, " harmonic"]
    null: Float[np.ndarray, "order harmonic"]
    exact: bool

    @property
    def p_values(self) -> Float[np.ndarray, " harmonic"]:
        """For each harmonic, the share of orders that reach the measured share.

        Of a sample, (1 + reached) / (1 + sampled), which is never 0.
        """
        reached = (self.null >= self.shares - 1e-12).sum(0)
        return reached / len(self.null) if self.exact else (1 + reached) / (1 + len(self.null))

    @property
    def first(self) -> float:
        """The share of the first harmonic: 1 for a perfect circle, 2/(n-1) on average by chance."""
        return float(self.shares[0])

    @property
    def p_value(self) -> float:
        """Of the first harmonic."""
        return float(self.p_values[0])


def harmonic_shares(points: Float[np.ndarray, "item d"]) -> Float[np.ndarray, " harmonic"]:
    """The share of the points' variance in each harmonic of their order.

    The points, minus their mean, are a sum of waves that go around once, twice, … up to n/2 times;
    the squared sizes of the waves add up to the variance (Parseval).

    Raises:
        ValueError: fewer than three items, all points alike, or values that are not finite.
    """
    return _shares(_centred(points))


def circularity(
    points: Float[np.ndarray, "item d"],
    *,
    orders: int = 1000,
    seed: int = 0,
    keep: Sequence[int] = (),
) -> Circularity:
    """Harmonic shares and their distribution over other orders of the same points.

    Args:
        points: in their order around the circle.
        orders: random orders, where there are too many to count them all (more than 7 items).
        seed: of the random orders.
        keep: items that keep their places in the random orders: those that are odd for another
            reason, such as March and May, which are other words as well.

    Raises:
        ValueError: as in `harmonic_shares`, ``orders`` below 1, or items to keep that there are
            not, or that leave fewer than three to move.
    """
    centred = _centred(points)
    items, free = len(centred), np.setdiff1d(np.arange(len(centred)), keep)
    exact = items <= FEW and not len(keep)
    if orders < 1:
        raise ValueError(f"orders is {orders}; give 1 or more")
    if len(free) < 3 or len(free) + len(set(keep)) != items:
        raise ValueError(
            f"keep is {list(keep)}; give places of the {items} items that leave three or more to move"
        )
    chosen = cyclic_orders(items) if exact else random_orders(items, orders, seed, keep)
    # the shares need the points' inner products alone, which are few where dimensions are many
    gram = centred @ centred.T
    null = np.stack([_shares_of_gram(gram[np.ix_(order, order)]) for order in chosen])
    return Circularity(_shares_of_gram(gram), null, exact)


def cyclic_orders(items: int) -> Iterator[Int[np.ndarray, " item"]]:
    """Every order of items around a circle once: starting point and sense make no difference."""
    for rest in itertools.permutations(range(1, items)):
        if rest[0] < rest[-1] or items < 3:
            yield np.array([0, *rest])


def random_orders(
    items: int, orders: int, seed: int, keep: Sequence[int] = ()
) -> Iterator[Int[np.ndarray, " item"]]:
    """Orders drawn at random, in which some items keep their places."""
    generator = np.random.default_rng(seed)
    free = np.setdiff1d(np.arange(items), keep)
    for _ in range(orders):
        order = np.arange(items)
        order[free] = generator.permutation(free)
        yield order


def _centred(points: Float[np.ndarray, "item d"]) -> Float[np.ndarray, "item d"]:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) < 3:
        raise ValueError(
            f"the points have shape {points.shape}; a circle needs three items or more, one a row"
        )
    if not np.isfinite(points).all():
        raise ValueError("a point is not finite; leave it out or repair it")
    centred = points - points.mean(0)
    scale = np.abs(points).max()
    if not np.abs(centred).max() > 1e-12 * max(scale, 1e-300):
        raise ValueError("all points are one and the same; they have no variance to share out")
    return centred


def _shares(centred: np.ndarray) -> np.ndarray:
    return _shares_of_gram(centred @ centred.T)


def _shares_of_gram(gram: Float[np.ndarray, "item item"]) -> Float[np.ndarray, " harmonic"]:
    """The waves' squared sizes: the diagonal of ``F gram F*``, harmonics k and n-k together."""
    items = len(gram)
    spectrum = np.fft.fft(np.fft.ifft(gram, axis=1), axis=0).diagonal().real
    half = items // 2
    folded = spectrum[1 : half + 1] + spectrum[::-1][:half]
    if items % 2 == 0:
        folded[-1] /= 2
    return folded / folded.sum()


# --- a probe that leaves items out ------------------------------------------------------------


def waves(items: int, harmonic: int = 1) -> Float[np.ndarray, "item two"]:
    """Cosine and sine of each item's angle."""
    angles = 2 * np.pi * harmonic * np.arange(items) / items
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def probe_r2(
    points: Float[np.ndarray, "item d"],
    *,
    components: int = 5,
    leave_out: int = 1,
    harmonic: int = 1,
    seed: int = 0,
) -> float:
    """R² of a linear probe for cosine and sine of the items' angles, on items it has not seen.

    Twelve points in eleven or more dimensions fit any labels in sample, so items are left out: the
    principal components and the least squares are those of the other items.

    Args:
        points: in their order around the circle.
        components: principal components that the probe reads.
        leave_out: items left out together.
        harmonic: how often the angle goes around.
        seed: of the order in which items are left out, where they are more than one.

    Returns:
        1 for a perfect prediction; about 0 or below by chance.

    Raises:
        ValueError: as in `harmonic_shares`, or too few items are left to fit.
    """
    points = np.asarray(points, dtype=np.float64)
    items = len(_centred(points))
    most = items - leave_out - 2
    if leave_out < 1 or not 1 <= components <= most:
        raise ValueError(
            f"{items} items, {leave_out} left out, {components} components: leave out 1 or more "
            f"and read 1 to {most} components"
        )
    wanted = waves(items, harmonic)
    order = np.arange(items) if leave_out == 1 else np.random.default_rng(seed).permutation(items)
    error = total = 0.0
    for out in np.array_split(order, -(-items // leave_out)):
        rest = np.setdiff1d(np.arange(items), out)
        guess = _predicted(points[rest], wanted[rest], points[out], components)
        error += ((guess - wanted[out]) ** 2).sum()
        total += ((wanted[out] - wanted[rest].mean(0)) ** 2).sum()
    return float(1 - error / total)


def in_sample_r2(
    points: Float[np.ndarray, "item d"], harmonic: int = 1, *, components: int | None = None
) -> float:
    """R² of the same probe on the items that it was fitted to.

    With as many dimensions as items, less one, it is 1 whatever the points are.

    Args:
        points: in their order around the circle.
        harmonic: how often the angle goes around.
        components: principal components that the probe reads; all dimensions by default.

    Raises:
        ValueError: as in `harmonic_shares`.
    """
    read = _centred(points)
    if components is not None:
        left, sizes, _ = np.linalg.svd(read, full_matrices=False)
        read = (left * sizes)[:, :components]
    wanted = waves(len(read), harmonic)
    fit = read @ np.linalg.lstsq(read, wanted, rcond=None)[0]
    return float(1 - ((fit - wanted) ** 2).sum() / (wanted**2).sum())


def own_plane(
    points: Float[np.ndarray, "item d"], harmonic: int = 1
) -> Float[np.ndarray, "item two"]:
    """The items in the plane in which they go around most: a picture chosen to look like a circle.

    Raises:
        ValueError: as in `harmonic_shares`.
    """
    centred = _centred(points)
    left, _, right = np.linalg.svd(waves(len(centred), harmonic).T @ centred, full_matrices=False)
    return centred @ (left @ right).T


def _predicted(known: np.ndarray, wanted: np.ndarray, new: np.ndarray, size: int) -> np.ndarray:
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][:size]
    read = (known - mean) @ axes.T
    weights = np.linalg.lstsq(read, wanted - wanted.mean(0), rcond=None)[0]
    return (new - mean) @ axes.T @ weights + wanted.mean(0)


def probe_null(
    points: Float[np.ndarray, "item d"], *, orders: int = 200, seed: int = 0, components: int = 5
) -> Float[np.ndarray, " order"]:
    """`probe_r2` for shuffled items.

    Raises:
        ValueError: as in `probe_r2`.
    """
    points = np.asarray(points)
    return np.array(
        [
            probe_r2(points[order], components=components)
            for order in random_orders(len(points), orders, seed)
        ]
    )


# --- why counts give circles ------------------------------------------------------------------


def circulant(profile: Float[np.ndarray, " item"]) -> Float[np.ndarray, "item item"]:
    """The matrix whose entry ``(i, j)`` is ``profile[(i - j) mod n]``."""
    profile = np.asarray(profile, dtype=np.float64)
    places = np.arange(len(profile))
    return profile[(places[:, None] - places) % len(profile)]


def eigenvalues_by_fourier(profile: Float[np.ndarray, " item"]) -> Float[np.ndarray, " harmonic"]:
    """The eigenvalues of a symmetric circulant, by harmonic 0 to n-1: ``Σ_m f(m) cos(2πkm/n)``.

    Raises:
        ValueError: a profile with ``f(m) ≠ f(n-m)``, whose circulant is not symmetric.
    """
    profile = np.asarray(profile, dtype=np.float64)
    if not np.allclose(profile, np.roll(profile[::-1], 1)):
        raise ValueError("the profile is not symmetric: f(m) and f(n - m) must be equal")
    return np.fft.fft(profile).real


def not_circulant(matrix: Float[np.ndarray, "item item"]) -> float:
    """The share of a matrix's variation that is not a function of ``i - j``: 0 for a circulant.

    Raises:
        ValueError: not a square matrix, or one of equal entries.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a square matrix is needed; this has shape {matrix.shape}")
    places = np.arange(len(matrix))
    distance = (places[:, None] - places) % len(matrix)
    means = np.array([matrix[distance == m].mean() for m in places])
    total = ((matrix - matrix.mean()) ** 2).sum()
    if not total > 0:
        raise ValueError("all entries are equal; there is no variation to share out")
    return float(((matrix - means[distance]) ** 2).sum() / total)


def gap(points: Float[np.ndarray, "item d"]) -> float:
    """How far the last item is from the first: 0 as far as neighbors are, 1 as far as any two.

    Items on a line have a strong first harmonic, too; what they lack is the way back. Squared
    distances, less the mean of the neighbors' (the last pair left out), as a share of the mean of
    all pairs less the same.

    Raises:
        ValueError: as in `harmonic_shares`, or neighbors no nearer than others.
    """
    centred = _centred(points)
    squared = ((centred[:, None] - centred) ** 2).sum(-1)
    items = len(centred)
    near = np.diagonal(squared, 1).mean()
    every = squared[np.triu_indices(items, 1)].mean()
    if not every - near > 1e-9 * every:
        raise ValueError("neighbors are no nearer to one another than others; there is no order")
    return float((squared[0, -1] - near) / (every - near))


def turning_error(points: Float[np.ndarray, "item d"]) -> float:
    """How far from the next item the best rotation about the mean leaves each item.

    One orthogonal map that takes every item to the next exists if and only if the Gram matrix of
    the centred points is circulant. The best one comes from a singular value decomposition
    (Schönemann 1966).

    Returns:
        The squared error as a share of that of staying: 0 for a circle, for harmonics of any
        strengths in planes at right angles, and for points that are all equally far apart.

    Raises:
        ValueError: as in `harmonic_shares`.
    """
    left, values, _ = np.linalg.svd(_centred(points), full_matrices=False)
    here = left * values  # the points in the few dimensions that they span
    there = np.roll(here, -1, 0)
    total = (here**2).sum()
    overlap = np.linalg.svd(here.T @ there, compute_uv=False).sum()
    return float((total - overlap) / (total - (here * there).sum()))


def plane_of(
    matrix: Float[np.ndarray, "item item"], size: int = 2
) -> Float[np.ndarray, "item size"]:
    """Items in the plane that a symmetric matrix spans best, apart from what all have in common.

    Rows and columns are centred, and the items get the leading eigenvectors times the roots of
    their eigenvalues (a classical scaling); negative eigenvalues have no room in a real space.

    Raises:
        ValueError: not symmetric, or fewer positive eigenvalues than ``size``.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not np.allclose(matrix, matrix.T):
        raise ValueError("a symmetric matrix is needed; give (C + C.T) / 2")
    centre = np.eye(len(matrix)) - 1 / len(matrix)
    values, vectors = np.linalg.eigh(centre @ matrix @ centre)
    leading = np.argsort(values)[::-1][:size]
    if not values[leading[-1]] > 1e-12 * np.abs(values).max():
        raise ValueError(f"fewer than {size} eigenvalues are positive; ask for fewer dimensions")
    return vectors[:, leading] * np.sqrt(values[leading])


def without_pair(
    matrix: Float[np.ndarray, "item item"], one: int, other: int
) -> Float[np.ndarray, "item item"]:
    """The counts as if two items had never been seen together.

    Raises:
        ValueError: no such items.
    """
    size = len(matrix)
    if one == other or not (0 <= one < size and 0 <= other < size):
        raise ValueError(f"items {one} and {other}; give two different ones of 0 to {size - 1}")
    changed = np.array(matrix, dtype=np.float64)
    changed[one, other] = changed[other, one] = 0.0
    return changed
