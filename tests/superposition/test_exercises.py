import pytest

from mechbook.exercises import hold, run
from mechbook.superposition.exercises import EXERCISES


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


@pytest.mark.parametrize(
    "exercise", [e for e in EXERCISES if e.checked], ids=lambda exercise: exercise.name
)
def test_the_solution_passes_on_many_draws(exercise):
    outcome = run(exercise, exercise.solution, seed=100, trials=40)
    assert outcome.passed, outcome.message


def test_there_are_six_checked_exercises_and_two_open_ones():
    assert [exercise.checked for exercise in EXERCISES] == [True] * 6 + [False] * 2


def test_each_checked_exercise_knows_three_wrong_answers():
    assert all(len(exercise.wrong) >= 3 for exercise in EXERCISES if exercise.checked)
