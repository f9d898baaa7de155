"""The exercises of the chapter on the geometry of months.

Items are rows in their order around the circle. Specifications work in float64 and state
properties; they never call a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mechbook.exercises import (
    Exercise,
    Hint,
    Wrong,
    distinct_sizes,
    draw,
    equal,
    require_shape,
)


def _ring(items: int, size: int, harmonic: int, generator: torch.Generator) -> Tensor:
    """Items on a circle in random directions, about a random centre."""
    axes = torch.linalg.qr(draw(size, size, generator=generator)).Q[:2]
    angle = 2 * math.pi * harmonic * torch.arange(items, dtype=torch.float64) / items
    return torch.stack([angle.cos(), angle.sin()], 1) @ axes + draw(size, generator=generator)


# --- 1. a circulant ---------------------------------------------------------------------------


def circulant(profile: Float[Tensor, " item"]) -> Float[Tensor, "item item"]:
    """The matrix whose entry (i, j) is profile[(i - j) mod n]."""
    raise NotImplementedError


def circulant_solution(profile: Float[Tensor, " item"]) -> Float[Tensor, "item item"]:
    """Differences of all places, modulo the number of items, as an index."""
    place = torch.arange(len(profile))
    return profile[(place[:, None] - place) % len(profile)]


def _circulant_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    (items,) = distinct_sizes(1, generator, low=4)
    profile = draw(items, generator=generator)
    found = candidate(profile)
    require_shape(found, items, items)
    if not equal(found.diagonal(), profile[0].expand(items)):
        raise Hint("On the diagonal i - j is 0. What should stand there?")
    if not equal(found.roll((1, 1), (0, 1)), found):
        raise Hint(
            "Moving both items one on should change nothing, across the turn of the year too."
        )
    if not equal(found[:, 0], profile):
        raise Hint("The first column should be the profile itself. Is yours j - i?")


def _transposed(profile: Tensor) -> Tensor:
    return circulant_solution(profile).mT


def _no_turn(profile: Tensor) -> Tensor:
    place = torch.arange(len(profile))
    return profile[(place[:, None] - place).abs()]


def _plus(profile: Tensor) -> Tensor:
    place = torch.arange(len(profile))
    return profile[(place[:, None] + place) % len(profile)]


# --- 2. the first harmonic's share ------------------------------------------------------------


def first_share(points: Float[Tensor, "item d"]) -> Float[Tensor, ""]:
    """The share of the points' variance that goes around exactly once."""
    raise NotImplementedError


def first_share_solution(points: Float[Tensor, "item d"]) -> Float[Tensor, ""]:
    """Fit cosine and sine of the items' angles to the centred points."""
    centred = points - points.mean(0)
    angle = 2 * math.pi * torch.arange(len(points), dtype=points.dtype) / len(points)
    waves = torch.stack([angle.cos(), angle.sin()])
    fitted = (waves @ centred).pow(2).sum() * 2 / len(points)
    return fitted / centred.pow(2).sum()


def _share_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    items, size = distinct_sizes(2, generator, low=5, high=12)
    once = torch.as_tensor(candidate(_ring(items, size, 1, generator)))
    require_shape(once)
    points = draw(items, size, generator=generator)
    share = torch.as_tensor(candidate(points))
    if not equal(torch.as_tensor(candidate(points + 9)), share):
        raise Hint("Moving all points together should change nothing. What is subtracted first?")
    if not equal(torch.as_tensor(candidate(3 * points)), share):
        raise Hint(
            "A share should not change when all is three times as large. What do you divide by?"
        )
    if not equal(once, torch.ones((), dtype=torch.float64)):
        raise Hint(
            "Points on a circle in their order should give 1. Which two waves go around once?"
        )
    twice = torch.as_tensor(candidate(_ring(items, size, 2, generator)))
    if abs(float(twice)) > 1e-6:
        raise Hint("These points go around twice, so the share of the first harmonic is 0.")


def _not_centred(points: Tensor) -> Tensor:
    angle = 2 * math.pi * torch.arange(len(points), dtype=points.dtype) / len(points)
    waves = torch.stack([angle.cos(), angle.sin()])
    return (waves @ points).pow(2).sum() * 2 / len(points) / points.pow(2).sum()


def _two_components(points: Tensor) -> Tensor:
    values = torch.linalg.svdvals(points - points.mean(0)).pow(2)
    return values[:2].sum() / values.sum()


def _cosine_alone(points: Tensor) -> Tensor:
    centred = points - points.mean(0)
    angle = 2 * math.pi * torch.arange(len(points), dtype=points.dtype) / len(points)
    return (angle.cos() @ centred).pow(2).sum() * 2 / len(points) / centred.pow(2).sum()


def _not_a_share(points: Tensor) -> Tensor:
    return first_share_solution(points) * (points - points.mean(0)).pow(2).sum()


# --- 3. a p-value -----------------------------------------------------------------------------


def p_value(measured: float, shuffled: Float[Tensor, " order"]) -> float:
    """How often a shuffle does as well, where the measured order counts as one of the shuffles."""
    raise NotImplementedError


def p_value_solution(measured: float, shuffled: Float[Tensor, " order"]) -> float:
    """One more above and below: the measured order is one that chance could give too."""
    return (1 + float((shuffled >= measured).sum())) / (1 + len(shuffled))


def _p_specification(candidate: Callable[..., float], generator: torch.Generator) -> None:
    count = 20 + int(torch.randint(80, (), generator=generator))
    shuffled = torch.rand(count, generator=generator, dtype=torch.float64)
    if not float(candidate(2.0, shuffled)) > 0:
        raise Hint("No shuffle reached it, but a p-value of 0 would say that none ever could.")
    if not math.isclose(float(candidate(-1.0, shuffled)), 1.0):
        raise Hint("Every shuffle does as well here, so the p-value is 1. Which side do you count?")
    if not math.isclose(float(candidate(2.0, shuffled)), 1 / (count + 1)):
        raise Hint(
            "With the measured order there is one order more in all. Is it in the denominator?"
        )
    tied = torch.cat([shuffled, torch.tensor([0.5, 0.5], dtype=torch.float64)])
    higher = float(candidate(0.5, tied)) - float(candidate(0.5 + 1e-12, tied))
    if not math.isclose(higher, 2 / (count + 3), abs_tol=1e-9):
        raise Hint("Two shuffles are exactly as good. Do they count as doing as well?")


def _zero(measured: float, shuffled: Tensor) -> float:
    return float((shuffled >= measured).double().mean())


def _wrong_side(measured: float, shuffled: Tensor) -> float:
    return (1 + float((shuffled <= measured).sum())) / (1 + len(shuffled))


def _strict(measured: float, shuffled: Tensor) -> float:
    return (1 + float((shuffled > measured).sum())) / (1 + len(shuffled))


# --- 4. lerp on the sphere --------------------------------------------------------------------


def slerp(u: Float[Tensor, " d"], v: Float[Tensor, " d"], t: float) -> Float[Tensor, " d"]:
    """The great circle from u to v, two vectors of equal length, at constant speed."""
    raise NotImplementedError


def slerp_solution(u: Float[Tensor, " d"], v: Float[Tensor, " d"], t: float) -> Float[Tensor, " d"]:
    """Weights sin((1-t)θ) and sin(tθ), over sin θ."""
    theta = (u @ v / (u.norm() * v.norm())).clamp(-1, 1).acos()
    return (((1 - t) * theta).sin() * u + (t * theta).sin() * v) / theta.sin()


def _slerp_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    size = 3 + int(torch.randint(5, (), generator=generator))
    u, v = draw(2, size, generator=generator)
    v = v * u.norm() / v.norm()
    t = 0.2 + 0.2 * float(torch.rand((), generator=generator))
    found = candidate(u, v, t)
    require_shape(found, size)
    if not (equal(candidate(u, v, 0.0), u) and equal(candidate(u, v, 1.0), v)):
        raise Hint("The path should start at u and end at v. Where is yours at t = 0 and t = 1?")
    if not equal(found.norm(), u.norm()):
        raise Hint(
            "On a sphere the length does not change on the way. Does a straight line stay on it?"
        )
    theta = (u @ v / u.norm() ** 2).acos()
    if not equal((u @ found / u.norm() ** 2).acos(), t * theta):
        raise Hint("At time t the angle from u should be t of the whole. Is your speed constant?")


def _straight(u: Tensor, v: Tensor, t: float) -> Tensor:
    return u + t * (v - u)


def _pushed_out(u: Tensor, v: Tensor, t: float) -> Tensor:
    line = u + t * (v - u)
    return line * u.norm() / line.norm()


def _turned_round(u: Tensor, v: Tensor, t: float) -> Tensor:
    return slerp_solution(v, u, t)


# --- 5. turning in a plane --------------------------------------------------------------------


def turn(
    h: Float[Tensor, " d"], mean: Float[Tensor, " d"], plane: Float[Tensor, "two d"], angle: float
) -> Float[Tensor, " d"]:
    """Turn h about the mean by an angle in a plane (two orthonormal rows); keep everything else."""
    raise NotImplementedError


def turn_solution(
    h: Float[Tensor, " d"], mean: Float[Tensor, " d"], plane: Float[Tensor, "two d"], angle: float
) -> Float[Tensor, " d"]:
    """Take the part in the plane out, put it back turned."""
    x, y = plane @ (h - mean)
    cos, sin = math.cos(angle), math.sin(angle)
    turned = torch.stack([cos * x - sin * y, sin * x + cos * y])
    return h + (turned - torch.stack([x, y])) @ plane


def _turn_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    size = 4 + int(torch.randint(5, (), generator=generator))
    plane = torch.linalg.qr(draw(size, 2, generator=generator)).Q.mT
    h, mean = draw(2, size, generator=generator)
    angle = 0.3 + float(torch.rand((), generator=generator))
    found = candidate(h, mean, plane, angle)
    require_shape(found, size)
    apart = torch.eye(size, dtype=torch.float64) - plane.mT @ plane
    if not equal(apart @ found, apart @ h):
        raise Hint("What is not in the plane should stay as it was. What happened to it in yours?")
    if not equal((plane @ (found - mean)).norm(), (plane @ (h - mean)).norm()):
        raise Hint("The distance from the mean in the plane is the radius, and it should stay.")
    x, y = plane @ (h - mean)
    u, v = plane @ (found - mean)
    turned = math.atan2(float(x * v - y * u), float(x * u + y * v))
    if not math.isclose(turned, angle, abs_tol=1e-6):
        raise Hint(
            "From the first axis toward the second is the positive sense. By how much is yours turned?"
        )


def _plane_alone(h: Tensor, mean: Tensor, plane: Tensor, angle: float) -> Tensor:
    x, y = plane @ (h - mean)
    cos, sin = math.cos(angle), math.sin(angle)
    return mean + torch.stack([cos * x - sin * y, sin * x + cos * y]) @ plane


def _about_the_origin(h: Tensor, mean: Tensor, plane: Tensor, angle: float) -> Tensor:
    return turn_solution(h, torch.zeros_like(h), plane, angle)


def _backward(h: Tensor, mean: Tensor, plane: Tensor, angle: float) -> Tensor:
    return turn_solution(h, mean, plane, -angle)


# --- 6. the readout of a clock ----------------------------------------------------------------


def clock_logits(
    items: int, frequencies: Float[Tensor, " frequency"]
) -> Float[Tensor, "a b answer"]:
    """Logits ``Σ_k cos(2πk(a + b - c)/n)`` over the given frequencies k."""
    raise NotImplementedError


def clock_logits_solution(
    items: int, frequencies: Float[Tensor, " frequency"]
) -> Float[Tensor, "a b answer"]:
    """One wave of a + b - c for each frequency, added up."""
    place = torch.arange(items, dtype=torch.float64)
    apart = place[:, None, None] + place[:, None] - place
    return torch.cos(2 * math.pi * frequencies[:, None, None, None] * apart / items).sum(0)


def _clock_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    items = 5 + int(torch.randint(8, (), generator=generator))
    order = 1 + torch.randperm((items - 1) // 2, generator=generator)
    some = torch.cat([torch.ones(1), order[order > 1][:1].float()]).double()
    found = candidate(items, some)
    require_shape(found, items, items, items)
    place = torch.arange(items)
    right = (place[:, None] + place) % items
    if not torch.equal(found.argmax(-1), right):
        raise Hint(
            "The greatest logit should be at c = a + b mod n. Where is yours, and which sign has c?"
        )
    best = found.gather(-1, right[:, :, None])
    if not equal(best, torch.full_like(best, len(some))):
        raise Hint("At the right answer every wave is at its top, 1. How many waves do you add up?")
    if not equal(found, found.roll((1, 1), (0, 2))) or not equal(found.sum(), torch.zeros(())):
        raise Hint(
            "Moving a and c one on should change nothing, and a wave sums to 0 over its turns."
        )


def _plus_c(items: int, frequencies: Tensor) -> Tensor:
    place = torch.arange(items, dtype=torch.float64)
    apart = place[:, None, None] + place[:, None] + place
    return torch.cos(2 * math.pi * frequencies[:, None, None, None] * apart / items).sum(0)


def _mean_of_waves(items: int, frequencies: Tensor) -> Tensor:
    return clock_logits_solution(items, frequencies) / (len(frequencies) + 1)


def _shifted_up(items: int, frequencies: Tensor) -> Tensor:
    return (clock_logits_solution(items, frequencies) + len(frequencies)) / 2


EXERCISES = (
    Exercise(
        name="a-matrix-that-turns",
        prompt="If two months stand together as often as their distance around the year says, their "
        "counts are $C_{ij} = f((i - j) \\bmod n)$. Write `circulant(profile)`. Then, on paper: why "
        "is each wave $\\cos(2\\pi k j/n)$ an eigenvector of it, when $f(m) = f(n - m)$?",
        stub=circulant,
        solution=circulant_solution,
        specification=_circulant_specification,
        wrong=(
            Wrong(_transposed, "Is yours j - i"),
            Wrong(_no_turn, "across the turn of the year"),
            Wrong(_plus, "What should stand there"),
        ),
        level="warm-up",
        answer="C commutes with the shift S that moves all months one on. The shift's eigenvectors "
        "are the complex waves, each with an eigenvalue of its own, so C has them too; with "
        "f(m) = f(n − m) waves k and n − k share one real eigenvalue, and their sum and "
        "difference, a cosine and a sine, span a plane. In it month j lies at angle 2πkj/n.",
    ),
    Exercise(
        name="once-around",
        prompt="Write `first_share(points)`: the share of the variance of $n$ points (rows, in "
        "order) that a cosine and a sine going around once can explain.",
        stub=first_share,
        solution=first_share_solution,
        specification=_share_specification,
        wrong=(
            Wrong(_not_centred, "What is subtracted first"),
            Wrong(_two_components, "go around twice"),
            Wrong(_cosine_alone, "Which two waves"),
            Wrong(_not_a_share, "What do you divide by"),
        ),
    ),
    Exercise(
        name="as-good-by-chance",
        prompt="Write `p_value(measured, shuffled)` for a share and the shares of shuffled months. "
        "The measured order is itself an order that a shuffle could give, so it counts as one.",
        stub=p_value,
        solution=p_value_solution,
        specification=_p_specification,
        wrong=(
            Wrong(_zero, "p-value of 0"),
            Wrong(_wrong_side, "Which side do you count"),
            Wrong(_strict, "exactly as good"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="along-the-arc",
        prompt="Write `slerp(u, v, t)` for two vectors of equal length. Then compare it on paper "
        "with the straight line pushed out to the sphere: which *points* differ, and what else does?",
        stub=slerp,
        solution=slerp_solution,
        specification=_slerp_specification,
        wrong=(
            Wrong(_straight, "Does a straight line stay on it"),
            Wrong(_pushed_out, "Is your speed constant"),
            Wrong(_turned_round, "start at u"),
        ),
        answer="No point differs: both are all points of the shorter arc from u to v, since both "
        "lie on the sphere and are combinations of u and v with weights that are not negative. "
        "Only the timetable differs. So a difference between 'linear' and 'spherical' steering that "
        "survives matched norms is a difference of timing.",
    ),
    Exercise(
        name="turn-the-month",
        prompt="Write `turn(h, mean, plane, angle)`: an angular intervention in one harmonic plane. "
        "Radius, other planes and everything that has nothing to do with months stay.",
        stub=turn,
        solution=turn_solution,
        specification=_turn_specification,
        wrong=(
            Wrong(_plane_alone, "What happened to it"),
            Wrong(_about_the_origin, "is the radius"),
            Wrong(_backward, "positive sense"),
        ),
    ),
    Exercise(
        name="the-readout-of-a-clock",
        prompt="A clock adds by turning: its logits are waves of $a + b - c$. Write "
        "`clock_logits(items, frequencies)`, [a, b, answer]. Then vary the frequencies: how much "
        "higher than the second best is the right answer with the first frequency alone, with "
        "several, with all?",
        stub=clock_logits,
        solution=clock_logits_solution,
        specification=_clock_specification,
        wrong=(
            Wrong(_plus_c, "which sign has c"),
            Wrong(_mean_of_waves, "How many waves"),
            Wrong(_shifted_up, "a wave sums to 0"),
        ),
        level="challenge",
        answer="With frequency 1 alone the neighbors of the right month have cos(2π/12) of its "
        "logit, hardly less: one circle makes a poor readout. With all frequencies the waves cancel "
        "everywhere but at the right answer. That may be why a network that is trained on the sums "
        "alone makes several circles, and a calendar in text shows one.",
    ),
    Exercise(
        name="what-would-the-notes-predict",
        prompt="The notes say: *in early layers angular intervention does not work, only linear; in "
        "late layers both do*. At the last token, at full strength, swap, lerp and slerp are the "
        "same vector. Which comparisons could then confirm the sentence, and which could not? Say "
        "for each of depth 0, the middle and the end what you expect at the month's token and at "
        "the last token, before you look. Which result would show that the sentence is about "
        "*where the information is* rather than about geometry?",
        level="open-ended",
        answer="No single answer. Comparisons at full strength of swap, lerp and slerp cannot "
        "confirm anything; those of a rotation in harmonic planes with a straight step can. At the "
        "last token nothing can be moved before attention "
        "has brought the months there, by any kind; at the month's token nothing is left to be "
        "moved after that. If *all* kinds fail and succeed together by depth, the sentence is about "
        "where the information is. A depth at which a straight step flips the answer and the turn "
        "does not is a candidate only: check that the centroids can be turned into each other, and "
        "turn the centroid alone, since a turn also moves what else lies in those planes.",
    ),
)
