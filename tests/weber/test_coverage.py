"""Simulated experiments: the truth they are drawn from, coverage, power, the artifact's table."""

from dataclasses import replace

import numpy as np
import pytest

from mechbook.weber import coverage
from mechbook.weber.coverage import Truth
from mechbook.weber.stimuli import NOTES, Design

ONE = Design(means=(20,), per_size=40)


def test_at_the_threshold_the_judge_is_right_in_three_of_four():
    truth = Truth(1.0, jnd=2.0, design=Design(means=(20,)))
    p = coverage.p_right(truth)
    assert p[coverage.cells(truth.design).difference == 2] == pytest.approx(0.75)


def test_a_weber_judge_depends_on_the_ratio():
    design = Design(means=(10, 20), differences=(2, 4))
    shown, p = coverage.cells(design), coverage.p_right(Truth(1.0, design=design))
    first = p[(shown.mean == 10) & (shown.difference == 2)]
    assert first == pytest.approx(p[(shown.mean == 20) & (shown.difference == 4)])


def test_simulated_answers_have_the_judges_probability():
    truth = Truth(0.5, bias=0.3)
    right = coverage.simulate(truth, 4000)
    assert right.mean(0) / 5 == pytest.approx(coverage.p_right(truth), abs=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_likelihood_intervals_of_the_exponent_hold_it_in_95_of_100(exponent):
    truth = Truth(exponent, design=replace(NOTES, per_size=40))
    found = coverage.exponents(truth, coverage.simulate(truth, 1000))
    assert found["covered"].mean() == pytest.approx(0.95, abs=0.02)
    assert np.median(found["estimate"]) == pytest.approx(exponent, abs=0.05)


def test_a_wrong_truth_is_not_covered():
    truth = Truth(1.0, design=replace(NOTES, per_size=40))
    right = coverage.simulate(truth, 300)
    assert coverage.exponents(replace(truth, exponent=0.0), right)["covered"].mean() < 0.2


def test_power_is_the_level_without_an_effect_and_grows_with_trials():
    enough = replace(NOTES, per_size=40)
    assert coverage.power(Truth(0.0, design=enough), 1000) == pytest.approx(0.05, abs=0.025)
    few = coverage.power(Truth(1.0), 300)
    assert few < coverage.power(Truth(1.0, design=enough), 300)


def test_thresholds_have_two_intervals_and_steps_are_zero():
    found = coverage.thresholds(Truth(0.0, 1.5, design=ONE), 100, 100)
    assert (found["low"] <= found["high"]).all()
    assert found["likelihood"].mean() > 0.85
    sharp = coverage.thresholds(Truth(0.0, 0.1, design=ONE), 20, 100)
    assert (sharp["estimate"] == 0).mean() > 0.5


def test_a_share_has_an_interval_of_its_own():
    value, low, high = coverage.share(np.array([1.0] * 19 + [0.0]))
    assert value == 0.95
    assert low < 0.8
    assert high > 0.98


@pytest.mark.parametrize(
    "call",
    [
        lambda: Truth(jnd=0),
        lambda: coverage.simulate(Truth(), 0),
        lambda: coverage.thresholds(Truth(), 10, 100),
        lambda: coverage.share(np.array([])),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match="give"):
        call()


def test_the_table_has_a_row_for_each_experiment(monkeypatch):
    monkeypatch.setattr(coverage, "PER_SIZE", (10,))
    monkeypatch.setattr(coverage, "JNDS", (1.5,))
    table, facts = coverage.make_coverage(simulations=30, draws=100)
    assert {name: len(column) for name, column in table.items()} == dict.fromkeys(table, 30 * 8)
    assert set(table["quantity"]) == {"exponent", "interaction", "bootstrap", "likelihood"}
    rates = coverage.power_table(table, 1.5, (10,))
    assert rates["Weber"][0] > rates["constant"][0]
    assert facts["about"]
    with pytest.raises(ValueError, match="no rows"):
        coverage.select(table, "exponent", per_size=11)
