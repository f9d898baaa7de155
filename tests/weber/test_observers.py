"""Judges whose inside is known."""

import numpy as np
import pytest

from mechbook.weber.observers import Accumulator, Exact, choices
from mechbook.weber.stimuli import Design, Trial, pairs, write

TRIALS = write(pairs(Design((10, 20), (1, 4), 4)), ["w"])


def test_the_exact_judge_is_right_and_tosses_a_coin_at_equality():
    equal = Trial("a", "b", 1, 1, 1)
    assert Exact().judge([*TRIALS, equal])[-1] == 0.5
    assert ((Exact().judge(TRIALS) == 1) == [t.difference > 0 for t in TRIALS]).all()


@pytest.mark.parametrize(("noise", "power"), [("constant", 0), ("root", 0.5), ("scalar", 1)])
def test_an_accumulator_is_what_adding_up_with_noise_gives(noise, power):
    judge, draw = Accumulator(noise, 0.2, bias=0.3), np.random.default_rng(0)
    trial = Trial("", "", 9, 11, 10)
    sums = [k + 0.2 * k**power * draw.standard_normal(200_000) for k in (trial.m, trial.n)]
    assert judge.judge([trial])[0] == pytest.approx((sums[1] + 0.3 > sums[0]).mean(), abs=0.005)


@pytest.mark.parametrize(("noise", "power"), [("constant", 0), ("root", 0.5), ("scalar", 1)])
def test_the_threshold_grows_with_the_mean_as_the_noise_says(noise, power):
    judge = Accumulator(noise, 0.3)
    assert judge.jnd(80) / judge.jnd(20) == pytest.approx(4**power)


def test_at_its_threshold_a_judge_is_right_in_three_of_four():
    judge = Accumulator("constant", 4 / Accumulator("constant", 1).jnd(1))
    assert judge.judge([Trial("", "", 18, 22, 20)])[0] == pytest.approx(0.75)


def test_lapses_pull_towards_one_half():
    trial = Trial("", "", 10, 90, 50)
    assert Accumulator("constant", 1, lapse=0.1).judge([trial])[0] == pytest.approx(0.95)


def test_choices_keep_what_is_no_number():
    found = choices(np.array([0.0, 1.0, np.nan]))
    assert found[:2].tolist() == [0, 1]
    assert np.isnan(found[2])


@pytest.mark.parametrize("bad", [{"noise": "pink"}, {"size": 0}, {"lapse": 1.2}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match=r"noise|size|lapse"):
        Accumulator(**bad)


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="no trials"):
        Exact().judge([])
