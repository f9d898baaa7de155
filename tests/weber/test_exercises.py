import pytest

from mechbook.exercises import hold, run
from mechbook.weber.exercises import EXERCISES
from mechbook.weber.pooling import FOUR, ideal_jnd

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


def test_there_are_five_checked_exercises_and_three_on_paper_or_open():
    assert [exercise.checked for exercise in EXERCISES] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("config", FOUR, ids=lambda config: f"{config.pool}, {config.noise}")
def test_the_four_exponents_are_those_of_the_networks(config):
    solution = NAMED["derive-the-four-exponents"].solution
    own = [solution(config.pool, config.noise, words, 1.0) for words in (20, 80)]
    theirs = [ideal_jnd(config, mean) for mean in (10, 40)]
    assert own[1] / own[0] == pytest.approx(theirs[1] / theirs[0])
    assert own[1] / own[0] == pytest.approx(4**config.exponent)
