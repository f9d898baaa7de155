"""Classes in the stream: their centroids, their harmonic planes, and the ways to move from one to another.

At strength 1 ``swap``, ``lerp`` and ``slerp`` are one and the same: the centroid of b. They differ on
the way. ``angular`` turns the stream about the centroids' mean, in the planes in which the
centroids go around; radius, other planes and everything else of the stream stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook.geometry import sphere

KINDS = (
    "add",
    "swap",
    "lerp",
    "slerp",
    "norm only",
    "angular",
    "turned centroid",
    "first harmonic",
    "other calendar",
    "random",
    "random planes",
)
MATCHES = ("as it is", "same step", "same norm")
# --- the space of the classes -----------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """Where the classes are at one depth and position.

    Attributes:
        centroids: the mean of each class.
        mean: of the centroids.
        planes: an orthonormal pair of axes for each harmonic 1 to n//2; in each, the centroids go
            around, as far as they do, in the calendar's sense.
        shares: of the centroids' variance, by harmonic.
        random: orthonormal pairs of axes that have nothing to do with the classes.
        order: another order of the classes, drawn at random: a calendar that nobody uses.
        other: the planes of the centroids in that order.
    """

    centroids: Float[Tensor, "item d"]
    mean: Float[Tensor, " d"]
    planes: Float[Tensor, "harmonic two d"]
    shares: Float[Tensor, " harmonic"]
    random: Float[Tensor, "harmonic two d"]
    order: Int[Tensor, " item"]
    other: Float[Tensor, "harmonic two d"]


def centroids(
    h: Float[Tensor, "sum d"], classes: Int[Tensor, " sum"], items: int
) -> Float[Tensor, "item d"]:
    """The mean stream of each class.

    Raises:
        ValueError: a class without an example, or one that does not exist.
    """
    counts = torch.bincount(classes, minlength=items)
    if len(counts) > items or bool((counts == 0).any()):
        raise ValueError(
            f"the classes 0 to {items - 1} have {counts.tolist()} examples; each needs 1"
        )
    # in float64, so that classes that are one and the same get one and the same mean
    total = torch.zeros(items, h.shape[1], dtype=torch.float64).index_add_(0, classes, h.double())
    return (total / counts[:, None]).to(h.dtype)


def space(found: Float[Tensor, "item d"], generator: torch.Generator) -> Space:
    """The harmonic planes of some centroids.

    The waves of different harmonics need not be orthogonal. The strongest keeps its plane; of each
    weaker one counts what is orthogonal to those before. The last harmonic of an even number of
    items is a line (its items are +, -, +, …); a second axis, drawn at random, gives it the room
    to turn in.

    Raises:
        ValueError: fewer than three items, all alike, or more than there are dimensions for.
    """
    items, size = found.shape
    half = items // 2
    if items < 3 or size < 4 * half:
        raise ValueError(f"{items} items in {size} dimensions: give 3 or more, and 2n dimensions")
    points = found.double() - found.double().mean(0)
    if not bool(points.abs().max() > 0):
        raise ValueError("all centroids are one and the same; there is no plane")
    spare = torch.randn(2 * half, 2, size, generator=generator, dtype=torch.float64)
    spare = _apart(spare, _span(points))
    order = torch.randperm(items, generator=generator)
    planes, shares = _planes(points, spare[:half])
    other, _ = _planes(points[order], spare[:half])
    free = _apart(spare[half:].flatten(0, 1), planes.flatten(0, 1))
    random = torch.linalg.qr(free.mT).Q.mT.reshape(half, 2, size)
    planes, shares, random, other = (x.to(found.dtype) for x in (planes, shares, random, other))
    return Space(found, found.mean(0), planes, shares, random, order, other)


def _planes(
    centred: Float[Tensor, "item d"], spare: Float[Tensor, "harmonic two d"]
) -> tuple[Float[Tensor, "harmonic two d"], Float[Tensor, " harmonic"]]:
    """An orthonormal pair of axes for each harmonic, the strongest first, and their shares."""
    raw = _waves(centred)
    power = raw.pow(2).sum((1, 2))
    power[-1] = power[-1] / (2 if len(centred) % 2 == 0 else 1)
    planes = torch.zeros_like(raw)
    basis = planes[:0, 0]
    for k in power.argsort(descending=True).tolist():
        planes[k] = _axes(raw[k], basis, spare[k])
        basis = torch.cat([basis, planes[k]])
    return planes, power / power.sum()


def are_one(found: Float[Tensor, "item d"]) -> bool:
    """Whether all centroids are one point: the last token before a block has read the prompt."""
    return bool((found == found[0]).all())


def still(found: Float[Tensor, "item d"], generator: torch.Generator) -> Space:
    """A space for centroids that are one point: planes are drawn, shares are 0, nothing moves."""
    items, size = found.shape
    half = items // 2
    drawn = torch.randn(size, 4 * half, generator=generator)
    first, second = torch.linalg.qr(drawn).Q.mT.to(found.dtype).reshape(2, half, 2, size)
    shares, order = torch.zeros(half, dtype=found.dtype), torch.arange(items)
    return Space(found, found[0], first, shares, second, order, first)


def _span(rows: Float[Tensor, "n d"]) -> Float[Tensor, "rank d"]:
    """Orthonormal axes of what the rows span."""
    _, values, axes = torch.linalg.svd(rows, full_matrices=False)
    return axes[values > 1e-9 * values[0]]


def _apart(rows: Float[Tensor, "... d"], basis: Float[Tensor, "n d"]) -> Float[Tensor, "... d"]:
    """The rows without what they have in an orthonormal basis."""
    return rows - (rows @ basis.mT) @ basis


def _waves(centred: Float[Tensor, "item d"]) -> Float[Tensor, "harmonic two d"]:
    """The cosine and the sine part of each harmonic."""
    items = len(centred)
    harmonics = torch.arange(1, items // 2 + 1)
    angles = 2 * torch.pi * harmonics[:, None].double() * torch.arange(items) / items
    both = torch.stack([angles.cos(), angles.sin()], 1).to(centred)
    return both @ centred * 2 / items


def _axes(
    wave: Float[Tensor, "two d"], basis: Float[Tensor, "n d"], spare: Float[Tensor, "two d"]
) -> Float[Tensor, "two d"]:
    """The orthonormal pair nearest to a wave's two parts, orthogonal to the basis.

    Where a part is missing (the last harmonic is a line), a direction that no centroid uses stands
    in for it.
    """
    new = _apart(wave, basis) + 1e-9 * wave.norm() * _apart(spare, basis)
    left, _, right = torch.linalg.svd(new, full_matrices=False)
    return left @ right


def scatter(h: Float[Tensor, "sum d"], classes: Int[Tensor, " sum"], where: Space) -> float:
    """How far streams lie about their own centroids inside the classes' planes.

    Returns:
        Their mean square, as a share of that of the centroids about their mean; 0 where each class
        is one point. A turn moves this part, too; a straight step leaves it alone.

    Raises:
        ValueError: centroids that are one point.
    """
    axes = where.planes.flatten(0, 1)
    apart = (where.centroids - where.mean).pow(2).sum(1).mean()
    if not bool(apart > 0):
        raise ValueError("all centroids are one and the same; nothing can be compared with them")
    return float(((h - where.centroids[classes]) @ axes.mT).pow(2).sum(1).mean() / apart)


# --- the moves --------------------------------------------------------------------------------


def rotate(
    h: Float[Tensor, "batch d"],
    shift: Float[Tensor, " batch"],
    mean: Float[Tensor, " d"],
    planes: Float[Tensor, "harmonic two d"],
    items: int,
    harmonics: Sequence[int] | None = None,
) -> Float[Tensor, "batch d"]:
    """Turn the stream by a number of items in some harmonic planes; radius and all else stay.

    Args:
        h: streams.
        shift: by how many items; harmonic k turns by ``2πk·shift/items``.
        mean: the point that is turned about.
        planes: see `Space`.
        items: in the cycle.
        harmonics: which planes; all by default.

    Raises:
        ValueError: a harmonic that there is not.
    """
    chosen = list(harmonics) if harmonics is not None else list(range(1, len(planes) + 1))
    if any(not 1 <= k <= len(planes) for k in chosen):
        raise ValueError(f"harmonics {chosen}; there are 1 to {len(planes)}")
    moved = h.clone()
    for k in chosen:
        plane = planes[k - 1].to(h)
        x, y = ((h - mean) @ plane.mT).unbind(-1)
        angle = 2 * torch.pi * k * shift.to(h) / items
        turned = torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y])
        moved = moved + (turned - torch.stack([x, y])).mT @ plane
    return moved


def shortest(shift: Int[Tensor, " batch"], items: int) -> Int[Tensor, " batch"]:
    """A shift as the shorter way around: above ``-items/2``, up to ``items/2``."""
    return (shift + (items - 1) // 2) % items - (items - 1) // 2


def move(
    kind: str,
    h: Float[Tensor, "batch d"],
    start: Int[Tensor, " batch"],
    end: Int[Tensor, " batch"],
    where: Space,
    strength: float,
    generator: torch.Generator,
) -> Float[Tensor, "batch d"]:
    """The stream after one kind of intervention, as it is.

    Args:
        kind: one of `KINDS`. ``add``: the difference of the centroids. ``swap``: the centroid of
            b from any strength above 0 on. ``lerp``, ``slerp``: on the way to that centroid.
            ``norm only``: the norm of that centroid, the own direction. ``angular``: all harmonic
            planes are turned. ``turned centroid``: what this turn does to the centroid of a is
            added, so that the stream's own place about it stays as it is. ``first harmonic``: one
            plane alone is turned. ``other calendar``: as ``angular``, with the months in another
            order. ``random``: a step as long as ``add``'s, anywhere. ``random planes``: the turn of
            ``angular`` in planes of no class.
        h: streams.
        start: class a of each.
        end: class b of each.
        where: the space of the classes.
        strength: 0 (nothing) to 1 (all the way).
        generator: draws random steps.

    Raises:
        ValueError: no such kind.
    """
    items = len(where.centroids)
    a, b = where.centroids[start], where.centroids[end]
    shift = strength * shortest(end - start, items)
    if kind == "add":
        return h + strength * (b - a)
    if kind == "swap":
        return b.clone() if strength > 0 else h
    if kind == "lerp":
        return sphere.lerp(h, b, strength)
    if kind == "slerp":
        return sphere.slerp(h, b, strength)
    if kind == "norm only":
        return h * (b.norm(dim=-1, keepdim=True) / h.norm(dim=-1, keepdim=True)) ** strength
    if kind == "angular":
        return rotate(h, shift, where.mean, where.planes, items)
    if kind == "turned centroid":
        return h + rotate(a, shift, where.mean, where.planes, items) - a
    if kind == "first harmonic":
        return rotate(h, shift, where.mean, where.planes, items, [1])
    if kind == "other calendar":
        place = where.order.argsort()
        shift = strength * shortest(place[end] - place[start], items)
        return rotate(h, shift, where.mean, where.other, items)
    if kind == "random":
        step = torch.randn(h.shape, generator=generator)
        step = step / step.norm(dim=-1, keepdim=True)
        return h + strength * (b - a).norm(dim=-1, keepdim=True) * step
    if kind == "random planes":
        return rotate(h, shift, where.mean, where.random, items)
    raise ValueError(f"no intervention {kind!r}; there are: {', '.join(KINDS)}")


def matched(
    h: Float[Tensor, "batch d"],
    moved: Float[Tensor, "batch d"],
    step: Float[Tensor, " batch"],
    match: str,
) -> Float[Tensor, "batch d"]:
    """Make interventions comparable.

    Args:
        h: streams before.
        moved: and after.
        step: how long every step shall be.
        match: ``as it is``; ``same step`` (the same direction of the step, its length given: a
            kind that does not move stays); ``same norm`` (the direction of what came out, the
            length of what went in).

    Raises:
        ValueError: no such match.
    """
    if match == "as it is":
        return moved
    if match == "same step":
        way = moved - h
        size = way.norm(dim=-1, keepdim=True)
        unit = torch.where(size > 1e-6, way / size.clamp_min(1e-6), torch.zeros_like(way))
        return h + step[:, None] * unit
    if match == "same norm":
        return moved * h.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True)
    raise ValueError(f"no match {match!r}; there are: {', '.join(MATCHES)}")
