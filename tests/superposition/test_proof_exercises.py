"""Each checker of the chapter of proofs tells the solution from its typical wrong answers."""

import pytest
import torch

from mechbook.exercises import PASS, hold, run
from mechbook.superposition import overcomplete, theory
from mechbook.superposition.proof_exercises import EXERCISES

NAMED = {exercise.name: exercise for exercise in EXERCISES}
CHECKED = [exercise for exercise in EXERCISES if exercise.checked]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


@pytest.mark.parametrize("exercise", CHECKED, ids=lambda exercise: exercise.name)
def test_the_solution_passes_on_many_draws(exercise):
    outcome = run(exercise, exercise.solution, seed=100, trials=25)
    assert outcome.passed, outcome.message


def test_there_are_seven_checked_exercises_and_two_open_ones():
    assert len(CHECKED) == 7
    assert [exercise.level for exercise in EXERCISES[7:]] == ["open-ended"] * 2


def test_each_checked_exercise_knows_three_wrong_answers():
    assert all(len(exercise.wrong) >= 3 for exercise in CHECKED)


def test_the_room_passes_its_own_exercises():
    def tensors(function):
        return lambda *given: torch.as_tensor(
            function(*(torch.as_tensor(g).numpy() for g in given))
        )

    rooms = {
        "the-frame-potential": tensors(theory.frame_potential),
        "the-gradient": tensors(theory.gradient),
        "where-descent-ends": tensors(theory.nearest_frame),
        "the-price-of-a-point": tensors(lambda *a: overcomplete.minimum_l1(*a).length),
    }
    for name, function in rooms.items():
        assert run(NAMED[name], function).status == PASS, name


def test_another_equal_length_frame_passes_too():
    def turned(n):
        angles = 0.3 + 4 * torch.pi * torch.arange(n).double() / n  # every second corner
        return (2 / n) ** 0.5 * torch.stack([angles.cos(), angles.sin()])

    outcome = run(NAMED["codes-of-one-length"], turned)
    assert outcome.passed, outcome.message
