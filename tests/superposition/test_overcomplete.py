"""Coefficients of more vectors than dimensions: linear programs against hand and against duals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mechbook.superposition import overcomplete, theory

NOTES, SCALED = overcomplete.NOTES, theory.unit(overcomplete.NOTES)


def atoms(seed, m=3, n=7):
    return np.random.default_rng(seed).normal(size=(m, n))


def test_three_vectors_in_the_plane_leave_one_freedom():
    assert overcomplete.freedom(NOTES) == 1
    assert overcomplete.freedom(np.eye(2)) == 0


@pytest.mark.parametrize(("x", "widest"), [((1, 1), 2.0), ((0.7, 0.2), 0.4), ((1, -0.5), 0.0)])
def test_the_notes_vectors_tie_where_both_coordinates_have_one_sign(x, widest):
    found = overcomplete.minimum_l1(NOTES, np.array(x))
    assert found.length == pytest.approx(abs(x[0]) + abs(x[1]))
    assert found.width == pytest.approx(widest, abs=1e-7)
    assert found.unique == (widest == 0)


@pytest.mark.parametrize("x", [(1.0, 1.0), (0.7, 0.2), (1.0, -0.5), (-0.3, -0.9)])
def test_scaled_to_length_one_the_minimum_is_unique_and_known(x):
    found = overcomplete.minimum_l1(SCALED, np.array(x))
    shared = min(abs(x[0]), abs(x[1])) if x[0] * x[1] > 0 else 0.0
    by_hand = [x[0] - np.sign(x[0]) * shared, x[1] - np.sign(x[1]) * shared]
    np.testing.assert_allclose(found.coefficients[:2], by_hand, atol=1e-7)
    assert abs(found.coefficients[2]) == pytest.approx(np.sqrt(2) * shared, abs=1e-7)
    assert found.unique


@given(seed=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_the_smallest_sum_is_that_of_the_dual(seed):
    D, x = atoms(seed), np.random.default_rng(seed + 1).normal(size=3)
    c = overcomplete.smallest_l1(D, x)
    both = np.concatenate([D.T, -D.T])
    dual = linprog(-x, A_ub=both, b_ub=np.ones(len(both)), bounds=(None, None))
    np.testing.assert_allclose(D @ c, x, atol=1e-7)
    assert np.abs(c).sum() == pytest.approx(-dual.fun)
    squares = overcomplete.least_squares(D, x)
    np.testing.assert_allclose(D @ squares, x, atol=1e-7)
    assert np.abs(c).sum() <= np.abs(squares).sum() + 1e-9
    assert (squares**2).sum() <= (c**2).sum() + 1e-9


def test_an_atom_inside_the_hull_is_never_used_and_one_outside_is():
    inside = np.column_stack([np.eye(2), [0.4, 0.4]])
    draw = np.random.default_rng(0)
    assert all(
        abs(overcomplete.smallest_l1(inside, x)[2]) < 1e-9 for x in draw.normal(size=(20, 2))
    )
    assert overcomplete.smallest_l1(SCALED, SCALED[:, 2])[2] == pytest.approx(1)


def test_the_sparsest_need_not_be_unique():
    assert len(overcomplete.sparsest(NOTES, np.array([0.7, 0.2]))) == 3
    only = overcomplete.sparsest(NOTES, np.array([1.0, 1.0]))
    np.testing.assert_allclose(only, [[0, 0, 2]], atol=1e-12)
    np.testing.assert_array_equal(overcomplete.sparsest(NOTES, np.zeros(2)), [[0, 0, 0]])


def test_what_is_sure_is_recovered():
    D = np.hstack([np.eye(16), np.linalg.qr(atoms(0, 16, 16))[0]])
    k = overcomplete.sure_to_recover(theory.coherence(D))
    assert k >= 1
    assert overcomplete.recovered(D, k, 10)["minimum-L1"].max() < 1e-6
    assert overcomplete.recovered(D, k, 10)["least squares"].min() > 1e-3


@pytest.mark.parametrize(
    ("coherence", "most"), [(1.0, 0), (0.5, 1), (0.34, 1), (1 / 3, 1), (0.2, 2), (0.19, 3)]
)
def test_how_many_are_sure(coherence, most):
    assert overcomplete.sure_to_recover(coherence) == most


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: overcomplete.smallest_l1(np.array([[1.0], [0.0]]), np.ones(2)), "no combination"),
        (lambda: overcomplete.least_squares(NOTES, np.ones(3)), "give"),
        (lambda: overcomplete.sparsest(atoms(0, 3, 17), np.ones(3)), "16 or fewer"),
        (lambda: overcomplete.sure_to_recover(0.0), "above 0"),
        (lambda: overcomplete.recovered(NOTES, 4, 2), "0 to 3"),
        (lambda: overcomplete.recovered(NOTES, 1, 0), "1 or more"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_way_out(call, words):
    with pytest.raises(ValueError, match=words):
        call()
