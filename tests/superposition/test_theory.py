"""Identities against loops and samples, optima against brute force, bounds against known frames."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook.superposition import theory

SIZES = st.tuples(st.integers(1, 4), st.integers(2, 7), st.integers(0, 1000))


def codes(m, n, seed):
    return np.random.default_rng(seed).normal(size=(m, n))


def weights(n, seed):
    return np.random.default_rng(seed + 7).random(n)


# --- identities -------------------------------------------------------------------------------


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_the_matrix_form_is_the_double_sum_plus_what_lengths_cost(sizes):
    W, weight = codes(*sizes), weights(*sizes[1:])
    lengths = (W**2).sum(0)
    expected = theory.pairwise_loss(W, weight) + (weight * (lengths - 1) ** 2).sum()
    assert theory.matrix_loss(W, weight) == pytest.approx(expected)
    assert theory.linear_loss(W, weight) == pytest.approx(expected)


def test_for_unit_codes_lengths_cost_nothing():
    W, weight = theory.unit(codes(3, 6, 0)), weights(6, 0)
    assert theory.matrix_loss(W, weight) == pytest.approx(theory.pairwise_loss(W, weight))
    assert theory.frame_potential(W) == pytest.approx(theory.pairwise_loss(W))


def test_the_box_as_read_sees_no_dot_products():
    pentagon, one_place = theory.ring(5), theory.ring(1).repeat(5, 1)
    assert theory.box_as_read(pentagon) == pytest.approx(theory.box_as_read(one_place))


def test_the_linear_loss_is_that_of_samples_with_a_mean_and_the_best_bias():
    draw = np.random.default_rng(0)
    mix, W, weight = draw.normal(size=(4, 4)), codes(2, 4, 1), weights(4, 1)
    x = draw.normal(size=(400_000, 4)) @ mix.T + [1.0, -2.0, 0.5, 3.0]
    G = W.T @ W
    out = x @ G + (np.eye(4) - G) @ x.mean(0)
    sampled = (weight * (out - x) ** 2).sum(1).mean()
    assert theory.linear_loss(W, weight, mix @ mix.T) == pytest.approx(sampled, rel=0.02)


@given(SIZES)
@settings(max_examples=20, deadline=None)
def test_the_gradient_is_that_of_autograd(sizes):
    W, weight = codes(*sizes), weights(*sizes[1:])
    mix = codes(sizes[1], sizes[1], sizes[2] + 1)
    V = torch.tensor(W, requires_grad=True)
    off = V.T @ V - torch.eye(sizes[1])
    torch.trace(torch.diag(torch.tensor(weight)) @ off @ torch.tensor(mix @ mix.T) @ off).backward()
    np.testing.assert_allclose(theory.gradient(W, weight, mix @ mix.T), V.grad.numpy(), atol=1e-8)


def test_no_linear_readout_beats_the_pseudo_inverse():
    W, weight, draw = codes(2, 5, 3), weights(5, 3), np.random.default_rng(0)
    best = theory.best_readout_loss(W, weight)
    D = np.linalg.pinv(W)

    def loss(D):
        return (weight[:, None] * (D @ W - np.eye(5)) ** 2).sum()

    assert loss(D) == pytest.approx(best)
    assert all(loss(D + 0.1 * draw.normal(size=D.shape)) > best for _ in range(50))


# --- codes ------------------------------------------------------------------------------------


def test_the_numbers_of_the_pentagon():
    assert theory.frame_potential(theory.ring(5)) == pytest.approx(7.5)
    assert theory.frame_potential(theory.collapsed(5, 2)) == 8
    assert theory.lowest_potential(5, 2) == 7.5


def test_no_way_of_sharing_two_orthogonal_directions_is_better_than_the_even_one():
    ways = [[(k >> i) & 1 for i in range(5)] for k in range(32)]
    found = [theory.frame_potential(np.eye(2)[:, way]) for way in ways]
    assert min(found) == theory.frame_potential(theory.collapsed(5, 2))


def test_the_120_degree_frame_ties_with_two_orthogonal_codes():
    frame = theory.ring(3, np.sqrt(2 / 3))
    assert theory.matrix_loss(frame) == pytest.approx(1)
    assert theory.off_projection(frame) < 1e-12
    assert np.abs(theory.gram(frame)[np.triu_indices(3, 1)]).min() == pytest.approx(1 / 3)
    assert theory.matrix_loss(theory.ring(5, np.sqrt(2 / 5))) == pytest.approx(3)


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_the_slider_moves_through_projections(share):
    W = theory.turned(share)
    assert theory.off_projection(W) < 1e-12
    assert theory.matrix_loss(W) == pytest.approx(1)


def test_the_slider_goes_from_axes_to_equal_lengths():
    np.testing.assert_allclose(theory.turned(0), np.eye(2, 3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(theory.turned(1), axis=0), np.sqrt(2 / 3))


# --- optima -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(5, 2), (7, 3), (4, 2), (3, 5)])
def test_descent_over_unit_codes_finds_the_lowest_potential(n, m):
    for seed in range(3):
        W = theory.spread_out(n, m, seed)
        np.testing.assert_allclose(np.linalg.norm(W, axis=0), 1)
        assert theory.frame_potential(W) == pytest.approx(theory.lowest_potential(n, m), abs=1e-7)


def test_weighted_unit_codes_against_a_grid_of_angles():
    """Four codes in the plane: a search over all angles in steps of 6°, the first code fixed."""
    importance = 0.9 ** np.arange(4)
    angles = np.radians(np.arange(0, 180, 6))
    a = np.stack(np.meshgrid([0.0], angles, angles, angles, indexing="ij"), -1).reshape(-1, 4)
    squares = np.cos(a[:, :, None] - a[:, None]) ** 2
    brute = np.einsum("i,bij->b", importance, squares * (1 - np.eye(4))).min()
    found = min(
        theory.pairwise_loss(theory.spread_out(4, 2, s, importance), importance) for s in range(3)
    )
    assert brute - 0.02 < found <= brute + 1e-9


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_no_codes_lose_less_than_the_lowest_loss(sizes):
    m, n, seed = sizes
    m = min(m, n)
    weight, W = weights(n, seed), codes(m, n, seed)
    assert theory.matrix_loss(W, weight) >= theory.lowest_loss(weight, m) - 1e-9
    assert theory.best_readout_loss(W, weight) >= theory.lowest_loss(weight, m) - 1e-9


def test_importances_force_the_first_codes_even_where_the_others_count_nothing():
    W = theory.descend(codes(2, 4, 0) / 2, np.array([1.0, 1, 0, 0]), steps=6000)
    np.testing.assert_allclose(theory.gram(W), np.diag([1, 1, 0, 0]), atol=1e-4)


def test_a_tie_at_the_border_forces_nothing():
    weight = np.array([1.0, 0.5, 0.5])
    W = np.array([[1, 0, 0], [0, np.sqrt(0.5), np.sqrt(0.5)]])
    assert theory.matrix_loss(W, weight) == pytest.approx(theory.lowest_loss(weight, 2))


def test_descent_ends_at_the_nearest_frame():
    W = codes(2, 5, 4) / 2
    frame = theory.nearest_frame(W)
    np.testing.assert_allclose(theory.descend(W), frame, atol=1e-9)
    others = [theory.nearest_frame(codes(2, 5, seed)) for seed in range(5, 25)]
    assert all(np.linalg.norm(W - other) > np.linalg.norm(W - frame) for other in others)


def test_descent_that_diverges_says_so():
    with pytest.raises(ValueError, match="smaller rate"):
        theory.descend(10 * codes(2, 5, 0), rate=1.0)


def test_one_at_a_time_the_relu_doubles_what_fits():
    assert theory.least_found(4, 2) < 1e-9
    assert theory.least_found(5, 2) > 1e-3
    assert theory.least_found(2, 2, relu=False) < 1e-9
    assert theory.least_found(3, 2, relu=False) > 1e-3


def test_antipodal_pairs_lose_nothing_one_at_a_time_and_three_in_a_line_do():
    x = theory.one_at_a_time(4)
    pairs = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    assert theory.toy_loss(pairs, np.zeros(4), x) == pytest.approx(0)
    assert theory.toy_loss(theory.ring(4, 0.9), np.zeros(4), x) > 1e-3
    assert theory.toy_loss(pairs, np.zeros(4), x, relu=False) > 1e-3


# --- bounds -----------------------------------------------------------------------------------


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_no_codes_undercut_welch(sizes):
    m, n, seed = sizes
    assert theory.coherence(codes(m, n, seed)) >= theory.welch_bound(n, m) - 1e-9


def test_icosahedron_and_triangle_reach_welch_and_the_pentagon_does_not():
    assert theory.coherence(theory.icosahedron()) == pytest.approx(1 / np.sqrt(5))
    assert theory.welch_bound(6, 3) == pytest.approx(1 / np.sqrt(5))
    assert theory.coherence(theory.ring(3)) == pytest.approx(theory.welch_bound(3, 2))
    assert theory.coherence(theory.ring(5)) > theory.welch_bound(5, 2) + 0.1


def test_sign_codes_have_length_one_and_the_promised_number_of_them_exists():
    np.testing.assert_allclose(np.linalg.norm(theory.sign_codes(20, 32), axis=0), 1)
    n = theory.promised(64, 0.5)
    assert n == int(np.exp(4))
    assert any(theory.coherence(theory.sign_codes(n, 64, seed)) < 0.5 for seed in range(20))


# --- data -------------------------------------------------------------------------------------


def test_sparse_features_have_their_density_as_variance():
    for together in ("independent", "never"):
        s = theory.sparse_features(4, 0.2, 200_000, together=together)
        np.testing.assert_allclose(s.T @ s / len(s), 0.2 * np.eye(4), atol=0.01)
    assert ((s != 0).sum(1) <= 1).all()


def test_never_at_density_zero_is_nothing():
    assert not theory.sparse_features(3, 0.0, 50, together="never").any()


def test_the_squared_error_is_a_loop_over_features():
    W, s = codes(2, 4, 0), theory.sparse_features(4, 0.5, 3)
    loop = [
        [(sum(W[:, i] @ W[:, j] * row[j] for j in range(4)) - row[i]) ** 2 for i in range(4)]
        for row in s
    ]
    np.testing.assert_allclose(theory.squared_errors(W, s), loop)


# --- refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.matrix_loss(np.ones((2, 3)), [1, -1, 1]), "none negative"),
        (lambda: theory.matrix_loss(np.ones((2, 3)), [1, 1]), "3 numbers"),
        (lambda: theory.gram(np.ones(3)), "hidden, feature"),
        (lambda: theory.unit(np.eye(2, 3)), r"codes \[2\] have length zero"),
        (lambda: theory.lowest_loss([1, 1], 3), "m is 3 for 2"),
        (lambda: theory.lowest_potential(0, 2), "at least 1"),
        (lambda: theory.turned(1.5), "share is 1.5"),
        (lambda: theory.ring(3, -1), "length is -1"),
        (lambda: theory.welch_bound(1, 2), "two or more"),
        (lambda: theory.coherence(np.ones((2, 1))), "two or more"),
        (lambda: theory.promised(10, 1.0), "between 0 and 1"),
        (lambda: theory.sparse_features(3, 1.2, 5), "from 0 to 1"),
        (lambda: theory.sparse_features(4, 0.3, 5, together="never"), "from 0 to 0.25"),
        (lambda: theory.sparse_features(4, 0.3, 5, together="often"), "independent or never"),
        (lambda: theory.linear_loss(np.eye(2), covariance=-np.eye(2)), "negative eigenvalues"),
        (lambda: theory.nearest_frame(np.zeros((2, 3))), "do not span"),
        (lambda: theory.squared_errors(np.eye(2), np.ones((4, 3))), "2 codes"),
        (lambda: theory.uniform_grid(9, 10), "too many"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_way_out(call, words):
    with pytest.raises(ValueError, match=words):
        call()
