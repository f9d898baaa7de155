import itertools
import math

import numpy as np
import pytest

from mechbook.geometry import circles


def ring(items, dimensions=6, harmonic=1, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimensions, dimensions)))[0][:2]
    points = circles.waves(items, harmonic) @ axes
    return 5 + points + noise * random.normal(size=points.shape)


@pytest.mark.parametrize("items", [5, 7, 12, 24])
@pytest.mark.parametrize("harmonic", [1, 2])
def test_a_circle_is_one_harmonic(items, harmonic):
    shares = circles.harmonic_shares(ring(items, harmonic=harmonic))
    assert shares[harmonic - 1] == pytest.approx(1)
    assert shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("items", [3, 6, 7, 12])
def test_shares_are_those_of_a_least_squares_fit_of_waves(items):
    points = np.random.default_rng(1).normal(size=(items, 4))
    centred = points - points.mean(0)
    for k, share in enumerate(circles.harmonic_shares(points), 1):
        wave = circles.waves(items, k)
        fit = wave @ np.linalg.lstsq(wave, centred, rcond=None)[0]
        assert share == pytest.approx((fit**2).sum() / (centred**2).sum())


def test_shares_do_not_hang_on_where_the_order_starts_or_turns():
    points = np.random.default_rng(2).normal(size=(9, 3))
    shares = circles.harmonic_shares(points)
    assert np.allclose(circles.harmonic_shares(np.roll(points, 4, 0)), shares)
    assert np.allclose(circles.harmonic_shares(points[::-1]), shares)


def test_every_cyclic_order_is_listed_once():
    orders = [tuple(order) for order in circles.cyclic_orders(6)]

    def same(order):
        turns = [order[i:] + order[:i] for i in range(6)]
        return frozenset(turns + [turn[::-1] for turn in turns])

    assert len(orders) == math.factorial(5) // 2
    assert {same(o) for o in orders} == {same(o) for o in itertools.permutations(range(6))}


def test_weekdays_are_compared_with_all_360_orders():
    found = circles.circularity(ring(7))
    assert found.exact
    assert len(found.null) == 360
    assert found.p_value == pytest.approx(1 / 360)


def test_months_are_compared_with_a_sample():
    found = circles.circularity(ring(12, noise=0.3), orders=99)
    assert not found.exact
    assert found.p_value == pytest.approx(1 / 100)


def test_noise_has_the_share_that_chance_gives_and_no_small_p_value():
    random = np.random.default_rng(3)
    found = [circles.circularity(random.normal(size=(12, 20)), orders=99) for _ in range(20)]
    assert np.mean([f.first for f in found]) == pytest.approx(2 / 11, abs=0.03)
    assert np.mean([f.p_value < 0.1 for f in found]) < 0.35


def test_the_probe_finds_a_circle_and_not_a_shuffle():
    points = ring(12, dimensions=8, noise=0.05)
    assert circles.probe_r2(points) > 0.95
    assert circles.probe_null(points, orders=50).mean() < 0.2


def test_the_probe_refuses_what_fits_anything():
    """In sample, eleven components fit any labels; left out, they fit noise no better than chance."""
    noise = np.random.default_rng(4).normal(size=(12, 30))
    centred = noise - noise.mean(0)
    wanted = circles.waves(12)
    fit = centred @ np.linalg.lstsq(centred, wanted, rcond=None)[0]
    assert ((fit - wanted) ** 2).sum() < 1e-9
    assert circles.probe_r2(noise) < 0.3


def test_the_probe_does_not_see_the_items_left_out():
    points = ring(12, noise=0.05)
    points[3] += 100  # an outlier spoils its own prediction; with it among the known, all others'
    assert circles.probe_r2(points, components=2) < 0.9


def test_two_items_can_be_left_out_together():
    assert circles.probe_r2(ring(12), leave_out=2, components=3) == pytest.approx(1)


def test_waves_are_eigenvectors_of_a_circulant():
    profile = np.array([3.0, 2.0, 0.5, 0.1, 0.1, 0.5, 2.0])
    C = circles.circulant(profile)
    values = circles.eigenvalues_by_fourier(profile)
    for k in range(1, 4):
        wave = circles.waves(7, k)
        assert np.allclose(C @ wave, values[k] * wave)
    assert np.allclose(np.sort(values), np.sort(np.linalg.eigvalsh(C)))


def test_a_circulant_gives_a_circle():
    distance = np.minimum(np.arange(12), 12 - np.arange(12))
    plane = circles.plane_of(circles.circulant(np.exp(-distance / 2)))
    assert circles.harmonic_shares(plane)[0] == pytest.approx(1)
    assert np.allclose(np.linalg.norm(plane, axis=1), np.linalg.norm(plane[0]))


def test_the_circle_outlives_a_deleted_pair():
    distance = np.minimum(np.arange(12), 12 - np.arange(12))
    C = circles.circulant(np.exp(-distance / 2))
    plane = circles.plane_of(circles.without_pair(C, 3, 4))
    assert circles.harmonic_shares(plane)[0] > 0.9
    assert circles.not_circulant(C) < 1e-12 < circles.not_circulant(circles.without_pair(C, 3, 4))


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.ones((2, 3)), "three items"),
        (np.ones(5), "three items"),
        (np.ones((5, 3)), "no variance"),
        (np.full((5, 3), np.nan), "not finite"),
    ],
)
def test_bad_points_are_refused(points, words):
    with pytest.raises(ValueError, match=words):
        circles.circularity(points)


def test_other_bad_input_is_refused():
    points = ring(12)
    with pytest.raises(ValueError, match="orders is 0"):
        circles.circularity(points, orders=0)
    with pytest.raises(ValueError, match="components"):
        circles.probe_r2(points, components=11)
    with pytest.raises(ValueError, match="not symmetric"):
        circles.eigenvalues_by_fourier(np.array([1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="different ones"):
        circles.without_pair(np.eye(3), 1, 1)
    with pytest.raises(ValueError, match="symmetric matrix"):
        circles.plane_of(np.array([[1.0, 2.0], [3.0, 4.0]]))
    with pytest.raises(ValueError, match="are positive"):
        circles.plane_of(-np.eye(4))
    with pytest.raises(ValueError, match="all entries are equal"):
        circles.not_circulant(np.ones((3, 3)))


def test_a_circle_and_a_simplex_can_be_turned_on_exactly():
    angles = 2 * np.pi * np.arange(12) / 12
    ring = np.stack(
        [np.cos(angles), np.sin(angles), 0.3 * np.cos(5 * angles), 0.3 * np.sin(5 * angles)], 1
    )
    assert circles.turning_error(ring + 3) == pytest.approx(0, abs=1e-9)
    order = np.random.default_rng(0).permutation(12)
    assert circles.turning_error(np.eye(12)[order]) == pytest.approx(0, abs=1e-9)
    assert circles.turning_error(ring[order]) > 0.2


def test_no_rotation_does_better_than_the_best():
    """Against a search over all rotations and reflections of the plane."""
    points = np.random.default_rng(1).normal(size=(7, 2))
    centred = points - points.mean(0)
    there = np.roll(centred, -1, 0)
    errors = []
    for t in np.linspace(0, 2 * np.pi, 4001):
        turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        for flip in (np.eye(2), np.diag([1, -1])):
            errors.append(((centred @ turn @ flip - there) ** 2).sum())
    staying = ((centred - there) ** 2).sum()
    assert circles.turning_error(points) == pytest.approx(min(errors) / staying, abs=1e-5)


def test_points_at_random_are_turned_the_better_the_more_dimensions_there_are():
    draws = np.random.default_rng(2)
    means = [
        np.mean([circles.turning_error(draws.normal(size=(12, d))) for _ in range(20)])
        for d in (2, 11, 256)
    ]
    assert means[0] > 0.5 > means[1] > 0.05 > means[2]


def test_any_points_look_like_a_circle_in_their_own_plane_and_fit_in_sample():
    noise = np.random.default_rng(3).normal(size=(12, 2000))
    assert circles.in_sample_r2(noise) == pytest.approx(1)
    assert circles.probe_r2(noise) < 0.3
    plane = circles.own_plane(noise)
    assert circles.harmonic_shares(plane)[0] > 0.9
    assert circles.harmonic_shares(noise)[0] < 0.25


def test_in_sample_fits_are_those_of_least_squares_with_a_constant():
    points = np.random.default_rng(4).normal(size=(9, 3))
    design = np.column_stack([points, np.ones(9)])
    wanted = circles.waves(9)
    residual = np.linalg.lstsq(design, wanted, rcond=None)[1].sum()
    assert circles.in_sample_r2(points) == pytest.approx(1 - residual / (wanted**2).sum())


def test_a_ring_closes_and_a_line_does_not():
    angles = 2 * np.pi * np.arange(12) / 12
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    line = np.arange(12.0)[:, None]
    assert circles.gap(ring + 5) == pytest.approx(0, abs=1e-9)
    assert circles.gap(line) > 4
    assert circles.harmonic_shares(line)[0] > 0.6  # which does not tell it from a ring
    assert circles.gap(ring[1:11]) > 0.2  # two months are missing
    with pytest.raises(ValueError, match="there is no order"):
        circles.gap(np.eye(5))


def test_items_that_are_kept_stay_in_their_places_and_cannot_make_a_ring_alone():
    orders = list(circles.random_orders(12, 50, 0, keep=(2, 4)))
    assert all(o[2] == 2 and o[4] == 4 and sorted(o) == list(range(12)) for o in orders)
    odd = np.random.default_rng(5).normal(size=(12, 300)) * 0.1
    odd[[2, 3], 0] += 30  # two neighbors far off, and nothing else
    assert circles.circularity(odd, orders=300).null[:, 0].std() > 0.05
    assert circles.circularity(odd, orders=300, keep=(2, 3)).null[:, 0].std() < 0.01
    with pytest.raises(ValueError, match="three or more"):
        circles.circularity(odd, keep=range(10))
    with pytest.raises(ValueError, match="three or more"):
        circles.circularity(odd, keep=(99,))


def test_in_sample_few_components_of_noise_explain_their_share_and_all_of_them_everything():
    noise = np.random.default_rng(0).normal(size=(12, 200))
    by_components = [circles.in_sample_r2(noise, components=k) for k in (2, 5, 11)]
    assert by_components == sorted(by_components)
    assert by_components[1] == pytest.approx(5 / 11, abs=0.25)
    assert by_components[2] == pytest.approx(circles.in_sample_r2(noise)) == pytest.approx(1)
