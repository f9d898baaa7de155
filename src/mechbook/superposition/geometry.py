"""Which shape the features' directions have: dimensionality, angles, polytopes.

The share of a dimension that feature ``i`` has to itself (Elhage et al. 2022) is ::

    D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)²

with ``W_i`` the feature's column of W and ``Ŵ_i`` the same at length 1. It is 1 for a feature with
a dimension of its own, ½ for two that share one, 2/5 for five in two. All D together are at most
the number of dimensions. All that is asked here depends on the Gram matrix WᵀW alone, so not on
the basis of the hidden dimensions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from mechbook.superposition import toy

REPRESENTED = 0.5
"""A feature counts as represented when its column is at least this long."""


def gram(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m feature feature"]:
    """WᵀW: lengths squared on the diagonal, dot products of the features' directions off it."""
    return W.mT @ W


def norms(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m feature"]:
    """How long each feature's column is."""
    return W.norm(dim=-2)


def represented(W: Float[Tensor, "*m hidden feature"]) -> Bool[Tensor, "*m feature"]:
    """Which features are, see `REPRESENTED`."""
    return norms(W) >= REPRESENTED


def cosines(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m feature feature"]:
    """Cosines of the angles between the features' directions; 0 with a feature of length 0."""
    return gram(torch.nn.functional.normalize(W, dim=-2, eps=1e-9))


def dimensionality(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m feature"]:
    """D_i, from 0 to 1; a feature of length 0 takes no dimension, its D is 0."""
    length = norms(W)
    overlap = (cosines(W) * length.unsqueeze(-2)).pow(2).sum(-1)  # Σ_j (Ŵ_i · W_j)²
    return torch.where(length > 0, length.pow(2) / overlap.clamp(min=1e-30), 0.0)


def share_at(W: Float[Tensor, "hidden feature"], value: float, tolerance: float = 0.03) -> float:
    """Share of the represented features whose dimensionality is near a value; 0 if none is."""
    own = dimensionality(W)[represented(W)]
    return float(((own - value).abs() < tolerance).float().mean()) if len(own) else 0.0


def gaps(W: Float[Tensor, "two feature"]) -> Float[Tensor, " represented"]:
    """Angles from each represented direction to the next, in degrees, going round the plane.

    Raises:
        ValueError: the hidden space is no plane.
    """
    if W.ndim != 2 or len(W) != 2:
        raise ValueError(f"W has shape {list(W.shape)}; gaps need one model with two dimensions")
    kept = W[:, represented(W)]
    angles = torch.atan2(kept[1], kept[0]).rad2deg().sort().values
    return torch.diff(angles, append=angles[:1] + 360)


# --- pairs and interference -------------------------------------------------------------------

RIGHT, STRAIGHT = 0.17, 0.985
"""Cosines of 80 and of 10 degrees: within 10 degrees of a right angle, of one line."""


def pair_cosines(W: Float[Tensor, "*m hidden feature"]) -> Float[Tensor, "*m pair"]:
    """The cosine between features 0 and 1, 2 and 3, and so on.

    Raises:
        ValueError: an odd number of features.
    """
    if W.shape[-1] % 2:
        raise ValueError(f"{W.shape[-1]} features do not make pairs; give an even number")
    unit = torch.nn.functional.normalize(W, dim=-2, eps=1e-9)
    return (unit[..., ::2] * unit[..., 1::2]).sum(-2)


def pair_share(W: Float[Tensor, "*m hidden feature"], place: str) -> Float[Tensor, "*m"]:
    """Share of the pairs that stand ``orthogonal``, ``antipodal`` or in the ``same`` direction.

    Within 10 degrees; a pair with a feature of length 0 stands nowhere.

    Raises:
        ValueError: another place.
    """
    cos, length = pair_cosines(W), norms(W)
    there = torch.minimum(length[..., ::2], length[..., 1::2]) > 0.1
    tests = {"orthogonal": cos.abs() < RIGHT, "antipodal": cos < -STRAIGHT, "same": cos > STRAIGHT}
    if place not in tests:
        raise ValueError(f"place is {place!r}; give one of {', '.join(tests)}")
    return (tests[place] & there).float().mean(-1)


@dataclass(frozen=True)
class Interference:
    """When the other features disturb the output: shares of the squared disturbance, summed.

    Attributes:
        meetings: share of the examples in which two features or more are there.
        before: share of the disturbance before bias and ReLU that falls on those examples.
        after: share of the disturbance of the output, after bias and ReLU.
    """

    meetings: float
    before: float
    after: float


def interference(
    W: Float[Tensor, "hidden feature"],
    b: Float[Tensor, " feature"],
    x: Float[Tensor, "batch feature"],
) -> Interference:
    """Compare the model with one whose features are kept apart: the diagonal of WᵀW only.

    Raises:
        ValueError: nothing disturbs anything.
    """
    G = gram(W)
    alone = x * G.diagonal()  # what arrives without the other features  [batch, feature]
    many = (x > 0).sum(-1) >= 2
    before = (x @ G - alone).pow(2).sum(-1)
    after = ((x @ G + b).relu() - (alone + b).relu()).pow(2).sum(-1)
    if not after.sum() > 0:
        raise ValueError("nothing disturbs the output: WᵀW is diagonal, or the data are empty")
    shares = [float(each[many].sum() / each.sum()) for each in (before, after)]
    return Interference(float(many.float().mean()), *shares)


# --- polytopes --------------------------------------------------------------------------------


def _ring(corners: int, height: float = 0.0, turn: float = 0.0) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(corners) + turn) / corners
    flat = np.stack([np.cos(angle), np.sin(angle)]) * np.sqrt(1 - height**2)
    return np.concatenate([flat, np.full((1, corners), height)])


HEIGHTS = np.linspace(0.4, 0.65, 51)
"""Of the upper square of a square antiprism, where one is looked for."""


def polytopes(height: float = 3**-0.5) -> dict[str, Float[Tensor, "hidden corner"]]:
    """Unit vectors to the corners of the shapes that a group of features takes.

    Args:
        height: of the two squares of the antiprism, of which one is turned by 45°, above and below
            the middle. 0.577 makes it a tight frame, 0.511 keeps the corners farthest apart.
    """
    up = 3**-0.5
    shapes = {
        "alone": np.ones((1, 1)),
        "digon": np.array([[1.0, -1.0]]),
        "triangle": _ring(3)[:2],
        "tetrahedron": np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) * up,
        "pentagon": _ring(5)[:2],
        "square antiprism": np.concatenate([_ring(4, height), _ring(4, -height, 0.5)], 1),
    }
    return {name: torch.tensor(corners, dtype=torch.float32) for name, corners in shapes.items()}


@dataclass(frozen=True)
class Group:
    """Features that touch each other and no others.

    Attributes:
        members: their numbers.
        rank: dimensions that they take up.
        shape: the name of the polytope, or "other".
        off: the largest difference of a cosine from the named polytope's (of the nearest one with
            as many corners, for "other"; infinite where there is none).
    """

    members: tuple[int, ...]
    rank: int
    shape: str
    off: float


def groups(
    W: Float[Tensor, "hidden feature"], touching: float = 0.15, tolerance: float = 0.08
) -> list[Group]:
    """Split the represented features into groups at right angles, and name each group's shape.

    Args:
        W: of one model.
        touching: two features belong together if the cosine between them is larger than this, in
            absolute value.
        tolerance: how far the sorted cosines may be from a polytope's.
    """
    kept = represented(W).nonzero().flatten()
    if not len(kept):
        return []
    cos = cosines(W)[kept][:, kept]
    count, label = connected_components((cos.abs() > touching).numpy(), directed=False)
    found = []
    for number in range(count):
        inside = torch.from_numpy(label == number)
        members = tuple(kept[inside].tolist())
        own = cos[inside][:, inside]
        shape, off = _nearest(own)
        rank = int(torch.linalg.matrix_rank(own, atol=0.1, hermitian=True))
        found.append(Group(members, rank, shape if off <= tolerance else "other", off))
    return found


def _nearest(cos: Float[Tensor, "corner corner"]) -> tuple[str, float]:
    """The polytope with as many corners whose sorted cosines are nearest."""
    if len(cos) == 1:
        return "alone", 0.0
    best = ("other", float("inf"))
    for height in HEIGHTS if len(cos) == 8 else HEIGHTS[:1]:
        for name, corners in polytopes(height).items():
            if corners.shape[1] == len(cos):
                off = float((_sorted(cos) - _sorted(gram(corners))).abs().max())
                best = min(best, (name, off), key=lambda pair: pair[1])
    return best


def _sorted(cos: Float[Tensor, "corner corner"]) -> Float[Tensor, " pair"]:
    rows, columns = torch.triu_indices(len(cos), len(cos), 1)
    return cos[rows, columns].sort().values


def census(W: Float[Tensor, "hidden feature"], **settings: Any) -> Counter[str]:
    """How many groups of each shape a model has."""
    return Counter(group.shape for group in groups(W, **settings))


def share_in(W: Float[Tensor, "hidden feature"], shape: str, **settings: Any) -> float:
    """Share of the represented features that are corners of such shapes; 0 if none is."""
    inside = sum(len(group.members) for group in groups(W, **settings) if group.shape == shape)
    return inside / max(1, int(represented(W).sum()))


def random_directions(
    count: int, hidden: int, generator: torch.Generator
) -> Float[Tensor, "hidden count"]:
    """Unit vectors with no design: what the shapes are to be compared with."""
    free = torch.randn(hidden, count, generator=generator)
    return torch.nn.functional.normalize(free, dim=0)


def tight_frame(
    count: int, hidden: int, generator: torch.Generator, rounds: int = 500
) -> Float[Tensor, "hidden count"]:
    """Unit vectors that take up the dimensions evenly, with no shape: every D is ``hidden / count``.

    From random ones, in turn: all singular values equal, all lengths one (alternating projections,
    Tropp et al. 2005).
    """
    frame = random_directions(count, hidden, generator)
    for _ in range(rounds):
        U, _, Vh = torch.linalg.svd(frame, full_matrices=False)
        frame = torch.nn.functional.normalize(U @ Vh, dim=0)
    return frame


def shape_name(W: Float[Tensor, "hidden feature"], **settings: Any) -> str:
    """The model's groups in words, such as "2 digon + 1 triangle"."""
    found = census(W, **settings)
    return " + ".join(f"{count} {name}" for name, count in sorted(found.items())) or "nothing"


def level_gap(loss: Float[np.ndarray, " restart"], shape: Sequence[str]) -> float:
    """The gap between the losses of two shapes, over the larger spread within one of them.

    Negative where the two overlap.

    Raises:
        ValueError: not exactly two shapes.
    """
    names = sorted(set(shape), key=lambda name: loss[np.asarray(shape) == name].mean())
    if len(names) != 2:
        raise ValueError(f"there are {len(names)} shapes ({', '.join(names)}); give two")
    low, high = (loss[np.asarray(shape) == name] for name in names)
    return float((high.min() - low.max()) / max(np.ptp(low), np.ptp(high)))


# --- over the sparsity ------------------------------------------------------------------------

SWEEP = toy.ToyConfig(toy.Features(100), 10, 1.0, steps=2500, batch=512, learning_rate=1e-2)
"""A hundred features of equal importance in ten dimensions."""
SWEEP_DENSITIES = tuple(1 / x for x in (1.2, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 8, 12))


def quantities(W: Float[Tensor, "hidden feature"]) -> dict[str, float]:
    """What is kept of a model in the sweep.

    ``represented``: features; ``a feature``: dimensions a feature, m / ‖W‖²; ``half`` and ``two
    fifths``: shares of the represented features with such a D; ``digon`` and ``pentagon``: shares
    that are corners of such shapes.
    """
    return {
        "represented": float(represented(W).sum()),
        "a feature": len(W) / max(1e-9, float(W.pow(2).sum())),
        "half": share_at(W, 1 / 2),
        "two fifths": share_at(W, 2 / 5),
        "digon": share_in(W, "digon"),
        "pentagon": share_in(W, "pentagon"),
    }


def make_restarts(
    seeds: int = 8, config: toy.ToyConfig = SWEEP, densities: Sequence[float] = SWEEP_DENSITIES
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``superposition-restarts``: the sweep over the sparsity for several seeds.

    Columns: ``density``, ``seed``, ``quantity`` (of `quantities`, and ``loss``), ``value``.

    Raises:
        ValueError: no seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows: list[tuple] = []
    for seed in range(seeds):
        found = toy.train(config, densities, [seed])
        for i, density in enumerate(found.densities):
            kept = quantities(found.W[i, 0]) | {"loss": float(found.loss[i, 0])}
            rows += [(density, seed, name, value) for name, value in kept.items()]
        print(f"seed {seed} done", flush=True)
    about = "Shapes of a hundred features in ten dimensions, over the sparsity"
    return columns(rows, ("density", "seed", "quantity", "value")), _card(about, seeds)


def columns(rows: Sequence[tuple], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows as the columns of a table."""
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def _card(about: str, seeds: int) -> dict[str, Any]:
    return {"about": about, "seeds": list(range(seeds))}


def along(
    table: Mapping[str, np.ndarray], quantity: str, over: str = "density"
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, "point seed"]]:
    """A quantity of one of the room's artifacts, for each of the points it was measured at.

    Returns:
        The points, the largest first, and the values.

    Raises:
        ValueError: the table does not have the quantity.
    """
    rows = table["quantity"] == quantity
    if not rows.any():
        known = sorted(set(table["quantity"].tolist()))
        raise ValueError(f"no rows of {quantity!r}; the table has {', '.join(known)}")
    order = np.lexsort((table["seed"][rows], -table[over][rows]))
    points = np.unique(table[over][rows])[::-1]
    return points, table["value"][rows][order].reshape(len(points), -1)
