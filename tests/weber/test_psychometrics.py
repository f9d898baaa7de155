"""Fits against scikit-learn and closed forms; data that no curve fits; intervals; laws; tests."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.linear_model import LogisticRegression

from mechbook.weber import coverage, likelihood, psychometrics, scaling
from mechbook.weber.observers import Accumulator, choices
from mechbook.weber.psychometrics import Counts, collect, fit_curve
from mechbook.weber.stimuli import NOTES, Design, pairs, write


def counts(right, trials=10, difference=(-3, -2, -1, 1, 2, 3), mean=20):
    n = len(difference)
    return Counts(
        np.full(n, float(mean)),
        np.array(difference, float),
        np.array(right, float),
        np.full(n, float(trials)),
    )


SOME = counts([1, 2, 4, 5, 8, 9])


def answers(noise="scalar", size=0.08, per_size=100, seed=1):
    trials = write(pairs(Design(per_size=per_size)), ["w"])
    return collect(trials, choices(Accumulator(noise, size).judge(trials), seed))


# --- one curve ------------------------------------------------------------------------------


def test_without_lapses_the_fit_is_logistic_regression():
    x = np.repeat(SOME.difference, 10)
    y = np.concatenate([[1] * int(k) + [0] * int(10 - k) for k in SOME.right])
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y)
    curve = fit_curve(SOME, link="logistic")
    assert curve.jnd == pytest.approx(math.log(3) / other.coef_[0, 0], rel=1e-4)
    assert curve.slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
    assert curve.bias == pytest.approx(other.intercept_[0], rel=1e-3)


def test_at_the_jnd_beyond_the_pse_three_in_four_answer_right():
    curve = fit_curve(SOME)
    assert curve.probability(np.array([curve.pse, curve.pse + curve.jnd])) == pytest.approx(
        [0.5, 0.75]
    )


def test_lapses_are_found_where_there_are_some():
    difference = np.arange(-20.0, 21.0)
    p = 0.05 + 0.9 * expit(0.8 * (difference - 1))
    curve = fit_curve(counts(2000 * p, 2000, difference), lapse=None, link="logistic")
    assert (curve.lapse, curve.slope, curve.pse) == pytest.approx((0.1, 0.8, 1), abs=1e-3)


def test_an_unknown_link_is_refused():
    with pytest.raises(ValueError, match="normal, logistic"):
        fit_curve(SOME, link="probit")


def test_many_fits_at_once_are_the_single_fits():
    model = likelihood.power(answers().difference, answers().mean)
    right = np.random.default_rng(0).binomial(50, 0.2 + 0.6 * (answers().difference > 0), (8, 18))
    for lapse in (0.0, 0.04, 0.1, None):
        many = likelihood.fit_many(right.astype(float), answers().trials, model, lapse=lapse)
        for row, value in zip(right, many.value, strict=True):
            one = likelihood.fit_one(row.astype(float), answers().trials, model, lapse=lapse)
            assert value == pytest.approx(one.value[0], abs=1e-3)


def test_no_neighbor_of_the_fit_is_likelier():
    data, draw = answers("root", 0.4), np.random.default_rng(0)
    model = likelihood.power(data.difference, data.mean)
    best = likelihood.fit_many(data.right[None], data.trials, model)
    moved = best.theta + 0.02 * draw.standard_normal((200, 3))
    p = likelihood.probability(model.predictor(moved)[0], 0.0)
    assert (likelihood.log_likelihood(data.right, data.trials, p) < best.value).all()


@pytest.mark.parametrize("link", likelihood.LINKS)
def test_the_gradient_is_that_of_the_likelihood_lapses_included(link):
    data = answers("root", 0.4)
    model = likelihood.power(data.difference, data.mean, link=link)
    where = np.array([0.1, 0.4, 0.6, 0.05])

    def value(at):
        eta = model.predictor(at[None, :3])[0]
        p = likelihood.probability(eta, at[3], link)
        return likelihood.log_likelihood(data.right, data.trials, p)[0]

    found = likelihood._state(where[None], data.right[None], data.trials, model).gradient[0]
    assert found == pytest.approx(approx_fprime(where, value, 1e-6), rel=1e-3, abs=1e-2)


def test_the_likelihood_is_the_binomial_one_up_to_a_constant():
    p, q = np.full(6, 0.3), np.full(6, 0.6)
    ours = [likelihood.log_likelihood(SOME.right, SOME.trials, x) for x in (p, q)]
    theirs = [binom.logpmf(SOME.right, SOME.trials, x).sum() for x in (p, q)]
    assert ours[0] - ours[1] == pytest.approx(theirs[0] - theirs[1])


# --- answers that are no curve --------------------------------------------------------------


def test_zero_trials_are_refused():
    with pytest.raises(ValueError, match="no answer to fit"):
        fit_curve(counts([0] * 6, 0))


@pytest.mark.parametrize(("share", "side"), [(0, "left"), (10, "right")])
def test_answers_of_one_side_are_refused(share, side):
    with pytest.raises(ValueError, match=side):
        fit_curve(counts([share] * 6))


def test_one_difference_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        fit_curve(counts([4], difference=(2,)))


@pytest.mark.parametrize(
    ("right", "step"),
    [
        ([0, 0, 0, 10, 10, 10], (-1, 1)),
        ([0, 0, 3, 10, 10, 10], (-1, -1)),
        ([0, 0, 10] + [10] * 3, (-2, -1)),
    ],
)
def test_a_step_has_a_threshold_of_zero_and_a_place(right, step):
    curve = fit_curve(counts(right))
    assert curve.separable
    assert curve.jnd == 0
    assert curve.step == step
    assert curve.pse == sum(step) / 2


def test_a_step_has_intervals_that_do_not_pretend():
    data = counts([0, 0, 0, 10, 10, 10])
    low, high = psychometrics.jnd_interval(data, fit_curve(data))
    assert low == 0
    assert 0.1 < high < 1.5
    assert psychometrics.bootstrap(data, fit_curve(data), draws=200).jnd[1] > 0.1


def test_a_judge_worse_than_chance_has_no_threshold():
    assert fit_curve(counts([9, 8, 5, 4, 2, 1])).jnd == math.inf


def test_chance_has_an_interval_without_end():
    data = counts([5, 4, 6, 5, 5, 6])
    assert psychometrics.jnd_interval(data, fit_curve(data))[1] == math.inf
    assert psychometrics.bootstrap(data, fit_curve(data), draws=400).jnd[1] == math.inf


def test_answers_that_are_missing_are_counted_and_not_guessed():
    trials = write(pairs(NOTES), ["w"])
    p = np.ones(len(trials))
    p[:7] = np.nan
    data = collect(trials, p)
    assert data.unanswered == 7
    assert data.trials.sum() == data.right.sum() == len(trials) - 7


@pytest.mark.parametrize("p", [[0.5], [2.0] * 90])
def test_answers_that_cannot_be_are_refused(p):
    with pytest.raises(ValueError, match=r"one for each|outside"):
        collect(write(pairs(NOTES), ["w"]), np.array(p))


def test_counts_refuse_more_answers_than_trials():
    with pytest.raises(ValueError, match="from 0 to the number"):
        counts([11] * 6)


def test_an_unknown_mean_is_named():
    with pytest.raises(ValueError, match="no cell has a mean of 7"):
        SOME.at(7)


# --- intervals and fit ----------------------------------------------------------------------


def test_the_likelihood_interval_ends_where_the_likelihood_has_fallen_enough():
    curve = fit_curve(SOME)
    for end in psychometrics.jnd_interval(SOME, curve):
        held = likelihood.held_slope(SOME.difference, norm.ppf(0.75) / end)
        fallen = curve.value - likelihood.fit_one(SOME.right, SOME.trials, held).value[0]
        assert fallen == pytest.approx(3.8415 / 2, abs=1e-3)


def test_bootstrap_intervals_hold_the_estimate_and_shrink_with_trials():
    ends = []
    for factor in (1, 16):
        data = replace(SOME, right=SOME.right * factor, trials=SOME.trials * factor)
        curve = fit_curve(data)
        low, high = psychometrics.bootstrap(data, curve, draws=500).jnd
        assert low < curve.jnd < high
        ends.append(high - low)
    assert ends[1] < ends[0] / 2.5


def test_a_curve_fits_its_own_answers_and_not_a_bump():
    own = counts(np.round(100 * expit(0.5 * SOME.difference)), 100)
    bump = counts([10, 60, 10, 90, 40, 90], 100)
    for data, fits in ((own, True), (bump, False)):
        found = psychometrics.goodness_of_fit(data, fit_curve(data), draws=300)
        assert (found.p_value > 0.05) == fits


# --- laws -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "size", "law"),
    [("constant", 1.5, "constant"), ("root", 0.35, "root"), ("scalar", 0.08, "Weber")],
)
def test_the_law_that_made_the_answers_is_found(noise, size, law):
    data = answers(noise, size, per_size=1000)
    found = scaling.exponent(data)
    assert found.low < scaling.LAWS[law] < found.high
    assert (
        min(
            (x for x in scaling.compare_laws(data) if x.name in scaling.LAWS), key=lambda x: x.aic
        ).name
        == law
    )


def test_aic_is_twice_the_parameters_minus_twice_the_log_likelihood():
    free = next(law for law in scaling.compare_laws(answers()) if law.name == "free exponent")
    assert free.aic == pytest.approx(6 - 2 * free.value)


def test_aic_counts_parameters():
    found = {law.name: law for law in scaling.compare_laws(answers())}
    assert [found[n].parameters for n in ("Weber", "free exponent", "a slope for each mean")] == [
        2,
        3,
        4,
    ]
    assert (
        found["a slope for each mean"].value >= found["free exponent"].value >= found["root"].value
    )


def test_the_interaction_test_sees_weber_and_not_a_constant():
    assert scaling.interaction_test(answers("scalar", 0.08)).p_value < 1e-4
    assert scaling.interaction_test(answers("constant", 1.5)).p_value > 0.05
    assert scaling.interaction_test(answers()).degrees == 2


def test_the_bootstrap_of_the_interaction_test_is_chi_square_with_many_trials_and_milder_with_few():
    many = answers("constant", 1.5, per_size=400)
    assert scaling.interaction_bootstrap(many, draws=1000) == pytest.approx(
        scaling.interaction_test(many).p_value, abs=0.06
    )
    truth = coverage.Truth(0.0)  # the notes' design, where χ² rejects too often
    shown, right = coverage.cells(truth.design), coverage.simulate(truth, 12, seed=5)
    few = [replace(shown, right=row) for row in right]
    milder = [
        scaling.interaction_bootstrap(data, draws=300) - scaling.interaction_test(data).p_value
        for data in few
    ]
    assert np.mean(milder) > 0
    assert scaling.interaction_bootstrap(answers("scalar", 0.08), draws=200) < 0.01
    with pytest.raises(ValueError, match="100 or more"):
        scaling.interaction_bootstrap(answers(), draws=5)


def test_a_bias_that_grows_with_the_sum_moves_the_additive_test_alone():
    base = coverage.cells(replace(NOTES, per_size=400))
    p = expit(0.7 * base.difference + 0.08 * (base.mean - 20))
    data = replace(base, right=np.round(base.trials * p))
    assert scaling.additive_test(data).p_value < 1e-6
    assert scaling.interaction_test(data).p_value > 0.2


def test_one_mean_is_not_enough():
    for ask in (scaling.exponent, scaling.interaction_test, scaling.compare_laws):
        with pytest.raises(ValueError, match="at least 2"):
            ask(SOME)


def test_log_log_is_exact_on_a_power_law_and_refuses_zero_and_infinity():
    means = np.array([5.0, 10, 20, 40])
    found = scaling.log_log(means, 0.3 * means**0.7)
    assert (found.value, found.low, found.high) == pytest.approx((0.7, 0.7, 0.7))
    assert scaling.log_log([10, 20], [1, 2]).high == math.inf
    for bad in ([0, 1, 2, 3], [1, 2, 3, math.inf]):
        with pytest.raises(ValueError, match="no logarithm"):
            scaling.log_log(means, bad)
    with pytest.raises(ValueError, match="two means"):
        scaling.log_log([10], [1])
