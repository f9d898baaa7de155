"""The exercises' checkers can tell right from wrong."""

import numpy as np
import pytest
import torch

from mechbook.exercises import hold, run
from mechbook.sae import recovery, variants
from mechbook.sae.exercises import EXERCISES

NAMED = {exercise.name: exercise for exercise in EXERCISES}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_each_checker_can_tell(exercise):
    hold(exercise)


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.checked], ids=lambda e: e.name)
def test_the_solution_passes_on_many_draws(exercise):
    outcome = run(exercise, exercise.solution, seed=100, trials=40)
    assert outcome.passed, outcome.message


def test_there_are_eight_checked_exercises_and_two_open_ones():
    assert [exercise.checked for exercise in EXERCISES] == [True] * 8 + [False] * 2


def test_each_checked_exercise_knows_three_wrong_answers():
    assert all(len(exercise.wrong) >= 3 for exercise in EXERCISES if exercise.checked)


def test_the_matching_of_the_room_is_right():
    def of_the_room(W_dec, features):
        return recovery.match(W_dec, features).recovered

    assert run(NAMED["found-or-not"], of_the_room).passed


def test_the_topk_of_the_room_is_right():
    def of_the_room(pre, k):
        config = variants.SAEConfig(2, pre.shape[-1], "topk", k=k)
        return variants.build(config).activate(pre)

    assert run(NAMED["keep-the-k-largest"], of_the_room).passed


def test_dual_directions_by_least_squares_pass_too():
    def by_least_squares(features):
        found = np.linalg.lstsq(features.numpy(), np.eye(len(features)), rcond=None)[0]
        return torch.from_numpy(found.T.copy())

    assert run(NAMED["read-one-ignore-the-rest"], by_least_squares).passed
