"""Two features in one dimension: closed forms against the model, lines against losses, training."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from mechbook.superposition import phase

CHANCE = st.floats(0.05, 1)


@given(p=CHANCE, r=CHANCE)
@settings(max_examples=30, deadline=None)
def test_the_closed_forms_are_the_models_expected_losses(p, r):
    assert phase.opposite_loss(p, r) == pytest.approx(phase.expected_loss([1, -1], [0, 0], p, r))
    assert phase.dropped_loss(p, r) == pytest.approx(phase.expected_loss([1, 0], [0, p / 2], p, r))
    assert phase.dropped_loss(p, r, best_bias=False) == pytest.approx(
        phase.expected_loss([1, 0], [0, 0], p, r)
    )


@pytest.mark.parametrize("model", [((0.9, -0.7), (0.1, 0.2)), ((0.8, 0.3), (-0.1, 0.3))])
def test_the_expected_loss_is_that_of_samples(model):
    w, b = map(np.array, model)
    draw, p, r = np.random.default_rng(0), 0.6, 0.5
    x = draw.random((400_000, 2)) * (draw.random((400_000, 2)) < p)
    out = np.maximum((x @ w)[:, None] * w + b, 0)
    sampled = ((out - x) ** 2 @ [1, r]).mean()
    assert phase.expected_loss(w, b, p, r) == pytest.approx(sampled, rel=0.01)


@pytest.mark.parametrize("r", [0.1, 0.5, 1.0])
def test_the_crossing_is_where_the_losses_are_equal(r):
    def difference(p):
        return phase.opposite_loss(p, r) - phase.dropped_loss(p, r)

    assert brentq(difference, 1e-3, 1) == pytest.approx(phase.crossing(r))
    assert difference(phase.crossing(r) - 0.01) < 0 < difference(phase.crossing(r) + 0.01)


def test_more_important_than_the_first_means_the_first_is_dropped():
    assert phase.crossing(4) == phase.crossing(0.25)
    assert phase.crossing(1) == pytest.approx(4 / 7)


@pytest.mark.parametrize("r", [0.2, 0.6])
def test_free_norms_let_superposition_pay_longer(r):
    line = phase.second_line(r)
    assert line > phase.crossing(r) + 0.01
    below, above = phase.best(line - 0.03, r), phase.best(line + 0.03, r)
    assert below.codes[0] * below.codes[1] < 0
    assert above.loss == pytest.approx(phase.dropped_loss(line + 0.03, r), rel=1e-3)


def test_no_random_model_beats_the_best():
    draw, p, r = np.random.default_rng(0), 0.4, 0.5
    best = phase.best(p, r).loss
    tried = [phase.expected_loss(*draw.normal(0, 1, (2, 2)), p, r) for _ in range(300)]
    assert min(tried) >= best - 1e-9


def test_at_equal_importance_dropping_is_never_best_below_density_one():
    for p in (0.6, 0.8, 0.95):
        assert phase.best(p, 1.0).loss < phase.dropped_loss(p, 1.0)


def test_kinds():
    codes = np.array([[0, 0.05], [1, 0], [0.02, -1], [1, -0.5], [-1, -0.5]])
    assert [phase.KINDS[i] for i in phase.kind(codes)] == list(phase.KINDS)


@pytest.fixture(scope="module")
def trained():
    return phase.train(
        phase.Grid((0.05, 0.9), (0.2, 0.5), steps=500, batch=256), [0, 1], progress=False
    )


def test_training_keeps_both_where_sparse_and_drops_one_where_dense(trained):
    np.testing.assert_array_equal(trained.opposite, np.array([[[True, False]] * 2] * 2))
    assert trained.codes.shape == (2, 2, 2, 2, 2)
    sparse = trained.loss.min(1)[:, 1, 0]
    assert (sparse < phase.dropped_loss(0.05, 0.5) / 2).all()


def test_a_start_on_the_same_side_stays_behind_where_sparse(trained):
    same, opposite = trained.loss[:, 0, 1, 0], trained.loss[:, 1, 1, 0]
    assert (same > 1.5 * opposite).all()
    assert trained.stuck > 0


def test_a_table_comes_back_as_the_grid(monkeypatch):
    small = phase.Grid((0.1, 0.5, 0.9), (0.3, 1.0), steps=5)
    monkeypatch.setattr(phase, "FULL", small)
    columns, facts = phase.make_phase_diagram(seeds=2, steps=5)
    assert facts["seeds"] == [0, 1]
    assert {len(values) for values in columns.values()} == {2 * 2 * 2 * 3}
    shuffled = np.random.default_rng(0).permutation(len(columns["loss"]))
    back = phase.from_table({name: values[shuffled] for name, values in columns.items()})
    for seed in (0, 1):
        np.testing.assert_allclose(
            back.codes[seed], phase.train(small, [seed], progress=False).codes[0]
        )
    assert back.grid.densities == small.densities


def test_predicted_is_below_the_line():
    grid = phase.Grid((0.1, 0.5, 0.9), (0.3, 1.0))
    np.testing.assert_array_equal(
        phase.predicted(grid, [0.2, 0.6]), [[True, False, False], [True, True, False]]
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: phase.opposite_loss(1.2, 1), "from 0 to 1"),
        (lambda: phase.dropped_loss(0.5, -1), "at least 0"),
        (lambda: phase.crossing(0), "above 0"),
        (lambda: phase.second_line(-1), "above 0"),
        (lambda: phase.expected_loss([1, 0, 0], [0, 0], 0.5, 1), "two numbers"),
        (lambda: phase.Grid(densities=(2.0,)), "from 0 to 1"),
        (lambda: phase.Grid(importances=()), "at least one"),
        (lambda: phase.train(phase.Grid(), []), "no seed"),
        (lambda: phase.make_phase_diagram(seeds=0), "no seed"),
        (lambda: phase.from_table({"seed": np.zeros(2)}), "no column"),
        (lambda: phase.predicted(phase.Grid(), [0.5]), "1 densities for 6"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_way_out(call, words):
    with pytest.raises(ValueError, match=words):
        call()
