import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.superposition import geometry as geo
from mechbook.superposition import neurons, toy

SHARES = {
    "alone": 1,
    "digon": 1 / 2,
    "triangle": 2 / 3,
    "tetrahedron": 3 / 4,
    "pentagon": 2 / 5,
    "square antiprism": 3 / 8,
}


def block(*parts):
    return torch.block_diag(*parts)


@pytest.mark.parametrize("shape", SHARES)
def test_each_corner_of_a_polytope_has_its_share_of_the_dimensions(shape):
    D = geo.dimensionality(geo.polytopes()[shape])
    assert torch.allclose(D, torch.full_like(D, SHARES[shape]), atol=1e-5)


@pytest.mark.parametrize("shape", SHARES)
def test_polytopes_are_tight_frames_of_unit_vectors(shape):
    corners = geo.polytopes()[shape]
    m, n = corners.shape
    assert torch.allclose(geo.norms(corners), torch.ones(n))
    assert torch.allclose(corners @ corners.T, torch.eye(m) * n / m, atol=1e-5)


def test_dimensionality_by_a_loop():
    W = torch.randn(3, 5, generator=training.generator(0))
    for i, found in enumerate(geo.dimensionality(W).tolist()):
        own = W[:, i] / math.sqrt(sum(v**2 for v in W[:, i].tolist()))
        overlap = sum(float(own @ W[:, j]) ** 2 for j in range(5))
        assert found == pytest.approx(float(W[:, i] @ W[:, i]) / overlap, rel=1e-5)


def test_a_feature_of_length_zero_takes_no_dimension():
    W = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert geo.dimensionality(W).tolist() == [1.0, 0.0]
    assert geo.cosines(W)[1].tolist() == [0.0, 0.0]


@settings(max_examples=25, deadline=None)
@given(m=st.integers(2, 5), n=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_features_share_no_more_than_the_dimensions_there_are(m, n, seed):
    W = torch.randn(m, n, generator=training.generator(seed))
    D = geo.dimensionality(W)
    assert float(D.sum()) <= min(m, n) + 1e-4
    assert bool(((D >= 0) & (D <= 1 + 1e-5)).all())


def test_nothing_depends_on_the_basis_of_the_hidden_space():
    W = torch.randn(3, 6, generator=training.generator(2))
    R = neurons.rotations(3, 1, training.generator(3))[0]
    for measure in (geo.gram, geo.norms, geo.dimensionality, geo.cosines):
        assert torch.allclose(measure(R @ W), measure(W), atol=1e-5)
    assert geo.shape_name(R @ W) == geo.shape_name(W)


def test_gaps_go_round_the_whole_circle():
    gaps = geo.gaps(geo.polytopes()["pentagon"])
    assert torch.allclose(gaps, torch.full((5,), 72.0), atol=1e-3)
    assert float(geo.gaps(torch.tensor([[1.0, 0.0, 0.1], [0.0, 1.0, 0.0]])).sum()) == 360


def test_gaps_need_a_plane():
    with pytest.raises(ValueError, match="two dimensions"):
        geo.gaps(torch.ones(3, 4))


def test_share_at_counts_the_represented_features_only():
    W = block(geo.polytopes()["digon"], geo.polytopes()["pentagon"], torch.tensor([[0.1]]))
    assert geo.share_at(W, 1 / 2) == pytest.approx(2 / 7)
    assert geo.share_at(W, 2 / 5) == pytest.approx(5 / 7)
    assert geo.share_at(torch.zeros(2, 3), 1 / 2) == 0


# --- pairs and interference ---


def test_pairs_stand_where_their_angle_says():
    angles = torch.tensor([0.0, 90.0, 0.0, 180.0, 0.0, 5.0, 0.0, 45.0]).deg2rad()
    W = torch.stack([angles.cos(), angles.sin()])
    wanted = torch.tensor([0.0, -1.0, math.cos(math.radians(5)), math.sqrt(0.5)])
    assert torch.allclose(geo.pair_cosines(W), wanted, atol=1e-6)
    for place in ("orthogonal", "antipodal", "same"):
        assert float(geo.pair_share(W, place)) == 0.25


def test_a_pair_with_an_empty_feature_stands_nowhere():
    assert float(geo.pair_share(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "orthogonal")) == 0


def test_pairs_need_an_even_number_and_a_known_place():
    with pytest.raises(ValueError, match="even number"):
        geo.pair_cosines(torch.ones(2, 3))
    with pytest.raises(ValueError, match="orthogonal, antipodal, same"):
        geo.pair_share(torch.ones(2, 2), "parallel")


def test_interference_by_a_loop():
    draw = training.generator(5)
    W, b = torch.randn(2, 4, generator=draw), torch.randn(4, generator=draw)
    x = toy.sample(toy.Features(4), 0.4, 50, draw)
    totals = {True: [0, 0.0, 0.0], False: [0, 0.0, 0.0]}
    for row in x:
        total = totals[sum(float(v) > 0 for v in row) >= 2]
        total[0] += 1
        for i in range(4):
            own = float(W[:, i] @ W[:, i] * row[i])
            added = sum(float(W[:, i] @ W[:, j] * row[j]) for j in range(4) if j != i)
            total[1] += added**2
            total[2] += (max(0.0, own + added + float(b[i])) - max(0.0, own + float(b[i]))) ** 2
    found = geo.interference(W, b, x)
    shares = [many / (many + few) for many, few in zip(*totals.values(), strict=True)]
    assert [found.meetings, found.before, found.after] == pytest.approx(shares, rel=1e-4)


def test_orthogonal_features_do_not_interfere():
    with pytest.raises(ValueError, match="nothing disturbs"):
        geo.interference(torch.eye(2), torch.zeros(2), torch.ones(3, 2))


# --- polytopes ---


@pytest.mark.parametrize("shape", SHARES)
def test_a_polytope_is_recognised_turned_and_bent_a_little(shape):
    corners = geo.polytopes()[shape]
    m = len(corners)
    R = neurons.rotations(m, 1, training.generator(1))[0]
    bent = corners + 0.01 * torch.randn(corners.shape, generator=training.generator(2))
    (group,) = geo.groups(R @ bent)
    assert (group.shape, group.rank) == (shape, m)
    assert group.members == tuple(range(corners.shape[1]))


def test_groups_at_right_angles_are_told_apart():
    shapes = geo.polytopes()
    W = block(shapes["digon"], shapes["pentagon"], shapes["alone"], shapes["digon"])
    order = torch.randperm(W.shape[1], generator=training.generator(4))
    assert geo.census(W[:, order]) == {"digon": 2, "pentagon": 1, "alone": 1}
    assert geo.shape_name(W[:, order]) == "1 alone + 2 digon + 1 pentagon"
    assert geo.share_in(W, "pentagon") == 0.5


def test_what_is_no_polytope_is_called_other():
    angles = torch.tensor([0.0, 40.0, 80.0, 120.0, 200.0]).deg2rad()
    (group,) = geo.groups(torch.stack([angles.cos(), angles.sin()]))
    assert group.shape == "other"
    assert group.off > 0.15


def test_where_nothing_is_represented_there_are_no_groups():
    assert geo.groups(torch.full((2, 3), 0.1)) == []
    assert geo.shape_name(torch.zeros(2, 3)) == "nothing"
    assert geo.share_in(torch.zeros(2, 3), "digon") == 0


def test_an_antiprism_of_another_height_is_one_and_a_cube_is_none():
    assert geo.shape_name(geo.polytopes(0.5)["square antiprism"]) == "1 square antiprism"
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).T / 3**0.5
    assert geo.shape_name(signs, touching=0.2) == "1 other"


def test_a_gap_between_levels_is_measured_in_spreads():
    loss, names = np.array([1.0, 1.1, 3.0, 3.2]), ["a", "a", "b", "b"]
    assert geo.level_gap(loss, names) == pytest.approx(1.9 / 0.2)
    assert geo.level_gap(loss, ["a", "b", "a", "b"]) < 0
    with pytest.raises(ValueError, match="there are 1 shapes"):
        geo.level_gap(loss, ["a"] * 4)


def test_a_tight_frame_has_the_dimensionality_of_its_shape_without_the_shape():
    W = geo.tight_frame(20, 10, training.generator(0))
    assert torch.allclose(W @ W.T, 2 * torch.eye(10), atol=0.01)
    assert geo.share_at(W, 1 / 2) == 1
    assert geo.share_in(W, "digon") < 0.2


def test_random_directions_have_length_one():
    W = geo.random_directions(7, 3, training.generator(0))
    assert torch.allclose(geo.norms(W), torch.ones(7))


# --- the artifact ---


def test_the_restarts_have_a_row_for_each_density_seed_and_quantity():
    config = toy.ToyConfig(toy.Features(4), 2, 1.0, steps=3, batch=8)
    table, about = geo.make_restarts(seeds=2, config=config, densities=(0.9, 0.1))
    names = [*geo.quantities(torch.eye(2)), "loss"]
    assert {len(column) for column in table.values()} == {2 * 2 * len(names)}
    assert about["seeds"] == [0, 1]
    points, loss = geo.along(table, "loss")
    assert points.tolist() == [0.9, 0.1]
    again = toy.train(config, (0.9, 0.1), [1]).loss[:, 0]
    assert np.allclose(loss[:, 1], again, rtol=1e-4)


def test_quantities_of_a_known_model():
    found = geo.quantities(block(geo.polytopes()["digon"], geo.polytopes()["pentagon"]))
    wanted = {"represented": 7, "a feature": 3 / 7, "half": 2 / 7, "two fifths": 5 / 7}
    wanted |= {"digon": 2 / 7, "pentagon": 5 / 7}
    assert found == pytest.approx(wanted)


def test_a_quantity_that_the_table_lacks_is_named():
    table = {k: np.array([v]) for k, v in {"quantity": "loss", "density": 1.0, "seed": 0}.items()}
    with pytest.raises(ValueError, match="the table has loss"):
        geo.along(table | {"value": np.array([0.0])}, "half")
    with pytest.raises(ValueError, match="give 1 or more"):
        geo.make_restarts(seeds=0)
