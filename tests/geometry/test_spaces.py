import math

import pytest
import torch
from tests.geometry.clock_network import month_waves

from mechbook import training
from mechbook.geometry import spaces


def months(seed=0, size=30, noise=0.0, harmonics=None):
    """Twelve points on several circles in random orthogonal planes, about a random centre."""
    draw = training.generator(seed)
    axes = torch.linalg.qr(torch.randn(size, size, generator=draw))[0][:11]
    weights = torch.ones(6) if harmonics is None else torch.tensor(harmonics)
    waves = month_waves() * torch.cat([weights[:5], weights[:5], weights[5:]])
    points = waves @ axes + torch.randn(size, generator=draw)
    return points + noise * torch.randn(points.shape, generator=draw)


def space_of(points, seed=1):
    return spaces.space(points, training.generator(seed))


def test_centroids_are_means_of_the_classes():
    h = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    found = spaces.centroids(h, torch.tensor([0, 0, 1]), 2)
    assert found.tolist() == [[2.0, 0.0], [0.0, 5.0]]


def test_planes_are_orthonormal_and_hold_the_centroids():
    where = space_of(months(noise=0.3))
    axes = where.planes.flatten(0, 1)
    assert torch.allclose(axes @ axes.mT, torch.eye(12), atol=1e-5)
    where = space_of(months())
    centred = where.centroids - where.mean
    axes = where.planes.flatten(0, 1)
    assert torch.allclose(centred @ axes.mT @ axes, centred, atol=1e-4)


def test_shares_are_those_of_the_waves():
    where = space_of(months(harmonics=[2.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    expected = torch.tensor(
        [4.0, 1, 1, 1, 1, 1]
    )  # the last is a line, of half the waves, twice the size
    assert torch.allclose(where.shares, expected / expected.sum(), atol=1e-5)


def test_random_planes_have_nothing_to_do_with_the_classes():
    where = space_of(months(noise=0.2))
    both = where.random.flatten(0, 1) @ where.planes.flatten(0, 1).mT
    assert float(both.abs().max()) < 1e-5


@pytest.mark.parametrize("shift", [1, 3, -4, 6])
def test_a_full_turn_takes_each_centroid_to_the_next(shift):
    where = space_of(months())
    start = torch.arange(12)
    turned = spaces.rotate(
        where.centroids, torch.full((12,), float(shift)), where.mean, where.planes, 12
    )
    assert torch.allclose(turned, where.centroids[(start + shift) % 12], atol=1e-4)


def test_a_turn_keeps_the_distance_from_the_mean_and_all_else():
    where = space_of(months(noise=0.3))
    h = torch.randn(7, 30, generator=training.generator(3))
    turned = spaces.rotate(h, torch.full((7,), 1.7), where.mean, where.planes, 12)
    assert torch.allclose(
        (turned - where.mean).norm(dim=1), (h - where.mean).norm(dim=1), rtol=1e-4
    )
    axes = where.planes.flatten(0, 1)
    outside = torch.eye(30) - axes.mT @ axes
    assert torch.allclose(turned @ outside, h @ outside, atol=1e-4)
    assert float((turned - h).norm()) > 0.1


def test_the_first_harmonic_alone_moves_its_plane_alone():
    where = space_of(months())
    h = torch.randn(3, 30, generator=training.generator(3))
    turned = spaces.rotate(h, torch.ones(3), where.mean, where.planes, 12, [1])
    outside = torch.eye(30) - where.planes[0].mT @ where.planes[0]
    assert torch.allclose((turned - h) @ outside, torch.zeros(3, 30), atol=1e-5)


def test_another_calendar_turns_as_well_where_all_are_equally_far_apart():
    """A simplex has every symmetry: the months' own order is no better than any other."""
    points = torch.eye(12, 30) + torch.randn(30, generator=training.generator(2))
    where = space_of(points)
    start = torch.arange(12)
    end = (start + 5) % 12
    moved = spaces.move("other calendar", points, start, end, where, 1.0, training.generator(0))
    assert torch.allclose(moved, points[end], atol=1e-4)
    assert where.order.tolist() != start.tolist()


def test_another_calendar_does_not_turn_a_circle():
    where = space_of(months(harmonics=[1.0, 0, 0, 0, 0, 0]))
    start = torch.arange(12)
    end = (start + 1) % 12
    h = where.centroids
    gap = {
        kind: float((spaces.move(kind, h, start, end, where, 1.0, None) - h[end]).norm())
        for kind in ("angular", "other calendar")
    }
    assert gap["angular"] < 1e-3 < 1 < gap["other calendar"]


def test_a_turned_centroid_takes_the_streams_own_place_along_unturned():
    where = space_of(months())
    start = torch.arange(12)
    end = (start + 3) % 12
    own = 0.5 * torch.randn(12, 30, generator=training.generator(8))
    moved = spaces.move("turned centroid", where.centroids + own, start, end, where, 1.0, None)
    assert torch.allclose(moved, where.centroids[end] + own, atol=1e-4)
    turned = spaces.move("angular", where.centroids + own, start, end, where, 1.0, None)
    assert float((turned - moved).norm(dim=1).min()) > 0.5


def test_scatter_is_what_lies_about_the_centroids_inside_their_planes():
    where = space_of(months())
    classes = torch.arange(12).repeat(2)
    axes = where.planes.flatten(0, 1)
    size = (where.centroids - where.mean).pow(2).sum(1).mean().sqrt()
    inside = where.centroids[classes] + torch.cat([axes[:1], -axes[:1]]).repeat_interleave(12, 0)
    assert spaces.scatter(inside, classes, where) == pytest.approx(float(1 / size**2), rel=1e-4)
    outside = where.centroids[classes] + 5 * where.random[0, 0]
    assert spaces.scatter(outside, classes, where) == pytest.approx(0, abs=1e-6)
    still = spaces.still(torch.ones(12, 30), training.generator(0))
    with pytest.raises(ValueError, match="one and the same"):
        spaces.scatter(torch.ones(24, 30), classes, still)


def test_centroids_that_are_one_point_have_a_space_in_which_nothing_moves():
    h = torch.full((50, 30), 0.1) + torch.arange(30)
    found = spaces.centroids(h, torch.arange(50) % 12, 12)
    assert spaces.are_one(found)
    assert not spaces.are_one(months())
    where = spaces.still(found, training.generator(0))
    axes = where.planes.flatten(0, 1)
    assert torch.allclose(axes @ axes.mT, torch.eye(12), atol=1e-5)
    start = torch.arange(12)
    for kind in spaces.KINDS:
        draw = training.generator(0)
        moved = spaces.move(kind, found, start, (start + 2) % 12, where, 1.0, draw)
        assert torch.allclose(moved, found, atol=1e-4)


@pytest.mark.parametrize(("shift", "short"), [(1, 1), (6, 6), (7, -5), (11, -1), (0, 0)])
def test_the_shorter_way_around(shift, short):
    assert int(spaces.shortest(torch.tensor([shift]), 12)) == short


def move(kind, strength, h=None, seed=0):
    where = space_of(months(noise=0.1))
    start = torch.arange(12)
    end = (start + 2) % 12
    h = where.centroids + 0.3 * torch.randn(12, 30, generator=training.generator(5))
    return (
        where,
        h,
        end,
        spaces.move(kind, h, start, end, where, strength, training.generator(seed)),
    )


@pytest.mark.parametrize("kind", ["swap", "lerp", "slerp"])
def test_at_full_strength_three_kinds_are_the_centroid(kind):
    where, _, end, moved = move(kind, 1.0)
    assert torch.allclose(moved, where.centroids[end], atol=1e-4)


def test_on_the_way_they_differ():
    found = [move(kind, 0.5)[3] for kind in ("swap", "lerp", "slerp")]
    assert float((found[0] - found[1]).norm()) > 0.5
    assert float((found[1] - found[2]).norm()) > 0.05


@pytest.mark.parametrize("kind", spaces.KINDS)
def test_no_strength_is_no_change(kind):
    _, h, _, moved = move(kind, 0.0)
    assert torch.allclose(moved, h, atol=1e-4)


def test_norm_only_keeps_the_direction_and_takes_the_norm():
    where, h, end, moved = move("norm only", 1.0)
    assert torch.allclose(moved.norm(dim=1), where.centroids[end].norm(dim=1), rtol=1e-4)
    assert torch.allclose(torch.cosine_similarity(moved, h), torch.ones(12), atol=1e-5)


def test_a_random_step_is_as_long_as_the_difference():
    where, h, end, moved = move("random", 0.5)
    wanted = 0.5 * (where.centroids[end] - where.centroids).norm(dim=1)
    assert torch.allclose((moved - h).norm(dim=1), wanted, rtol=1e-4)


def test_matching_makes_steps_or_norms_equal():
    _, h, _, moved = move("lerp", 0.5)
    step = torch.full((12,), 2.0)
    assert torch.allclose((spaces.matched(h, moved, step, "same step") - h).norm(dim=1), step)
    same = spaces.matched(h, moved, step, "same norm")
    assert torch.allclose(same.norm(dim=1), h.norm(dim=1))
    assert torch.equal(spaces.matched(h, moved, step, "as it is"), moved)
    assert torch.equal(spaces.matched(h, h, step, "same step"), h)  # no direction to step in


def test_months_six_apart_lie_opposite_about_the_mean():
    """Odd harmonics alone: then the straight line between them passes through the mean."""
    where = space_of(months(harmonics=[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]))
    centred = where.centroids - where.mean
    assert torch.allclose(centred[:6], -centred[6:], atol=1e-4)


def test_bad_input_is_refused():
    where = space_of(months())
    h = where.centroids
    with pytest.raises(ValueError, match="no intervention"):
        spaces.move("?", h, torch.arange(12), torch.arange(12), where, 1, training.generator(0))
    with pytest.raises(ValueError, match="no match"):
        spaces.matched(h, h, torch.ones(12), "?")
    with pytest.raises(ValueError, match="harmonics"):
        spaces.rotate(h, torch.ones(12), where.mean, where.planes, 12, [7])
    with pytest.raises(ValueError, match="each needs 1"):
        spaces.centroids(h, torch.zeros(12, dtype=torch.long), 12)
    with pytest.raises(ValueError, match="one and the same"):
        space_of(torch.ones(12, 30))
    with pytest.raises(ValueError, match="2n dimensions"):
        space_of(torch.randn(12, 20))
    with pytest.raises(ValueError, match="3 or more"):
        space_of(torch.randn(2, 20))
    assert math.isfinite(float(where.shares.sum()))
