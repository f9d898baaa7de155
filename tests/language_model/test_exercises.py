import pytest

from mechbook.exercises import hold
from mechbook.language_model.exercises import EXERCISES


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


def test_there_are_six_checked_exercises_and_open_ones():
    assert sum(exercise.checked for exercise in EXERCISES) >= 6
    assert sum(exercise.level == "open-ended" for exercise in EXERCISES) >= 2


def test_each_checked_exercise_knows_two_wrong_answers():
    assert all(len(exercise.wrong) >= 2 for exercise in EXERCISES if exercise.checked)
