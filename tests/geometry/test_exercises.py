import pytest

from mechbook.exercises import hold, run
from mechbook.geometry import exercises, months_exercises

EVERY = [*exercises.EXERCISES, *months_exercises.EXERCISES]
CHECKED = [exercise for exercise in EVERY if exercise.checked]


@pytest.mark.parametrize("exercise", EVERY, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


@pytest.mark.parametrize("exercise", CHECKED, ids=lambda exercise: exercise.name)
def test_the_solution_passes_on_many_draws(exercise):
    outcome = run(exercise, exercise.solution, seed=100, trials=40)
    assert outcome.passed, outcome.message


@pytest.mark.parametrize("room", [exercises, months_exercises], ids=["linear", "months"])
def test_each_chapter_has_six_checked_exercises_and_an_open_one(room):
    assert sum(exercise.checked for exercise in room.EXERCISES) >= 6
    assert room.EXERCISES[-1].level == "open-ended"


def test_each_checked_exercise_knows_three_wrong_answers():
    assert all(len(exercise.wrong) >= 3 for exercise in CHECKED)


def test_no_name_is_given_twice():
    assert len({exercise.name for exercise in EVERY}) == len(EVERY)
