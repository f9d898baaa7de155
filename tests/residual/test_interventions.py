"""Pushing the stream, and changing it in one place, on an untrained model."""

from __future__ import annotations

import pytest
import torch

from mechbook import training
from mechbook.residual import interventions
from mechbook.residual import model as small


@pytest.fixture(scope="module")
def run() -> small.Run:
    language = small.Language()
    model = small.build(language, small.ModelConfig(n_layers=2))
    return small.run(model, language, small.held_out(language, batch=8))


def test_no_push_leaves_the_guess_to_chance(run: small.Run) -> None:
    assert interventions.push(run, training.generator(0), strength=0.0, block=1) < 0.2


def test_a_long_push_decides_the_guess(run: small.Run) -> None:
    assert interventions.push(run, training.generator(0), strength=50.0, block=1) > 0.9


def test_a_long_random_push_does_not_find_the_word(run: small.Run) -> None:
    found = interventions.push(
        run, training.generator(0), strength=50.0, block=1, toward_word=False
    )
    assert found < 0.3


@pytest.mark.parametrize("block", [-1, 2])
def test_a_block_that_is_not_there_is_refused(run: small.Run, block: int) -> None:
    with pytest.raises(ValueError, match="give 0 to 1"):
        interventions.push(run, training.generator(0), strength=1.0, block=block)


def test_attention_mixes_positions_and_the_mlp_does_not(run: small.Run) -> None:
    reached = interventions.spill(run, block=1, position=3)
    assert reached["MLP"] < 1e-6
    assert reached["attention"] > 1e-3


def test_the_last_position_reaches_nobody(run: small.Run) -> None:
    last = run.texts.tokens.shape[1] - 2
    assert interventions.spill(run, block=0, position=last)["attention"] < 1e-6


def test_a_position_that_is_not_there_is_refused(run: small.Run) -> None:
    with pytest.raises(ValueError, match="position is 99"):
        interventions.spill(run, block=0, position=99)


def test_the_models_own_weights_are_left_alone(run: small.Run) -> None:
    before = run.model.W_U.clone()
    interventions.push(run, training.generator(0), strength=1.0, block=0)
    torch.testing.assert_close(run.model.W_U, before)
