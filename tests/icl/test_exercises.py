import pytest
import torch

from mechbook.exercises import hold, run
from mechbook.icl import decay, measures, verdict
from mechbook.icl.config import IclConfig
from mechbook.icl.exercises import EXERCISES

NAMED = {exercise.name: exercise for exercise in EXERCISES}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


@pytest.mark.parametrize(
    "exercise", [e for e in EXERCISES if e.checked], ids=lambda exercise: exercise.name
)
def test_the_solution_passes_on_many_draws(exercise):
    outcome = run(exercise, exercise.solution, seed=100, trials=15)
    assert outcome.passed, outcome.message


def test_there_are_six_checked_exercises_and_three_on_paper_or_open():
    assert [exercise.checked for exercise in EXERCISES] == [True] * 6 + [False] * 3


def test_a_step_of_decay_is_that_of_the_engine():
    w, update, lr, c = torch.tensor([0.5, -2.0]), torch.tensor([1.0, 3.0]), 0.01, 0.3
    stacked = w[None].clone()
    decay.pull("AdamW", stacked, torch.tensor([c]), lr)
    own = NAMED["one-step-of-decay"].solution(w, update, lr, c)
    torch.testing.assert_close(own, stacked[0] - lr * update)


def test_the_e_folds_are_those_of_the_table():
    config = IclConfig(decay=0.3, warmup=5, steps=40)
    rates = torch.tensor([config.lr * config.rate(step) for step in range(40)])
    own = NAMED["count-the-e-folds"].solution(rates.double(), 0.3)
    assert own == pytest.approx(decay.efolds(config, [40])[0])


def test_the_gap_is_that_of_the_measures():
    pattern = torch.rand(3, 17, 17, generator=torch.Generator().manual_seed(0))
    match = torch.tensor([[True] * 3 + [False] * 5]).repeat(3, 1)
    own = NAMED["where-the-query-looks"].solution(pattern, match)
    found = measures.looks(pattern[:, None, None], match)["label_gap"]
    assert own == pytest.approx(float(found), rel=1e-5)


def test_the_honest_best_is_that_of_the_verdict():
    peaks = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)).double()
    assert NAMED["the-best-of-eight"].solution(peaks) == pytest.approx(
        verdict.choose(peaks.numpy()).mean
    )


def test_the_calibration_error_is_that_of_the_measures():
    logits = torch.randn(60, 6, generator=torch.Generator().manual_seed(2))
    target = torch.arange(60) % 6
    sure, guess = logits.softmax(-1).max(-1)
    own = NAMED["sure-and-right"].solution(sure, guess == target, 10)
    assert own == pytest.approx(float(measures.calibration_error(logits, target)), rel=1e-5)


def test_accuracy_among_the_offered_is_that_of_the_measures():
    draw = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(40, 9, generator=draw), torch.randint(9, (40, 4), generator=draw)
    target = labels[:, 0]
    offered = torch.zeros(40, 9, dtype=torch.bool).scatter(1, labels, True)
    own = NAMED["among-the-labels-offered"].solution(logits, labels, target)
    assert own == pytest.approx(
        float(measures.accuracy(measures.restricted(logits, offered), target))
    )
