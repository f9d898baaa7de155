"""Training: the loss is torch's, the schedule is what it says, and a killed run is no other run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mechbook import training
from mechbook.language_model import corpus, train
from mechbook.language_model.model import ModelConfig, build, parameters
from mechbook.language_model.train import CrossEntropy, TrainingConfig

TEXT = "The king saw the old house on the hill. The queen saw the king. She walked to London. "
SHORT = TrainingConfig(
    passes=2, batch=4, learning_rate=1e-2, warmup=3, measure_every=4, measure_on=3
)


@pytest.fixture
def windows(tokenizer):
    stream = corpus.encode(tokenizer, [TEXT * 6, TEXT * 3])
    return corpus.windows(tokenizer, stream, 16)


@pytest.fixture
def fresh(tokenizer):
    """A function that builds the same untrained model each time."""
    sizes = ModelConfig(n_layers=2, d_model=16, n_heads=2, d_mlp=32, n_ctx=16)
    return lambda: build(sizes, tokenizer)


def run(model, windows, config=SHORT, **more):
    return train.run(model, windows, windows, config, progress=False, **more)


# --- the loss ---


def both_losses(dtype, rows, types, scale):
    """Value and gradient, ours and the library's, at the same logits."""
    draw = training.generator(0, rows)
    logits = (scale * torch.randn(rows, types, generator=draw)).to(dtype)
    target = torch.randint(types, (rows,), generator=draw)
    found = []
    for loss in (
        CrossEntropy.apply,
        lambda x, y: torch.nn.functional.cross_entropy(x.float(), y),
    ):
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, target)
        (3 * value).backward()
        found.append((value.detach(), leaf.grad))
    return found


@pytest.mark.parametrize("rows", [1, 255, 256, 600])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_cross_entropy_is_the_librarys_in_32_bits(rows, scale):
    (value, gradient), (wanted, slope) = both_losses(torch.float32, rows, 50, scale)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(gradient, slope, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 256, 600])
def test_cross_entropy_is_the_librarys_in_16_bits_up_to_their_rounding(rows):
    (value, gradient), (wanted, slope) = both_losses(torch.bfloat16, rows, 50, 3.0)
    torch.testing.assert_close(value, wanted)
    assert gradient.dtype == slope.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, slope, atol=1e-6, rtol=2**-6)


def test_cross_entropy_of_even_logits_is_the_log_of_the_types():
    value = CrossEntropy.apply(torch.zeros(7, 40), torch.arange(7))
    assert float(value) == pytest.approx(math.log(40))


def test_the_loss_of_a_batch_is_that_of_its_next_tokens(fresh, windows):
    model, tokens = fresh(), windows.evenly(4)
    with torch.no_grad():
        guesses = model(tokens[:, :-1]).log_softmax(-1)
        found = float(train.next_token_loss(model, tokens))
    picked = [
        -float(guesses[row, place, tokens[row, place + 1]])
        for row in range(4)
        for place in range(16)
    ]
    assert found == pytest.approx(sum(picked) / len(picked), rel=0.01)


# --- the schedule ---


def test_the_rate_rises_to_its_highest_and_falls_to_its_last():
    config, steps = TrainingConfig(warmup=10, last=0.02), 1000
    rates = [train._rate(config, step, steps) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(max(rates)) == pytest.approx(1.0, abs=1e-3)
    assert rates[steps] == pytest.approx(0.02)
    assert rates[steps // 2] == pytest.approx(0.51)
    assert all(np.diff(rates[:10]) > 0)
    assert all(np.diff(rates[10:]) < 0)


def test_the_number_of_updates_is_that_of_the_passes():
    assert TrainingConfig(passes=1, batch=32).steps(64) == 2
    assert TrainingConfig(passes=1.5, batch=32).steps(65) == 4


def test_only_matrices_of_the_blocks_decay(fresh):
    model = fresh()
    decayed, free = train._groups(model, SHORT)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    blocks = {n: t for n, t in parameters(model).items() if n.startswith("layers")}
    matrices = {t.data_ptr() for t in blocks.values() if t.ndim == 2}
    assert {t.data_ptr() for t in decayed["params"]} == matrices
    assert len(decayed["params"]) + len(free["params"]) == len(parameters(model))


@pytest.mark.parametrize(
    "wrong", [{"passes": 0}, {"batch": 0}, {"warmup": 0}, {"measure_every": 0}]
)
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="passes above 0"):
        TrainingConfig(**wrong)


# --- the run ---


def test_the_loss_falls_far_below_that_of_a_guess(fresh, windows):
    history = run(fresh(), windows, TrainingConfig(20, 4, 1e-2, warmup=3, measure_every=20))
    measured = history.metrics["validation"]
    assert measured[0] > 5
    assert measured[-1] < measured[0] / 2


def test_the_curve_says_what_was_measured_and_when(fresh, windows):
    model = fresh()
    history = run(model, windows)
    steps = SHORT.steps(len(windows))
    assert len(history.loss) == steps
    assert history.metric_steps.tolist() == [*range(0, steps, 4), steps]
    with torch.no_grad():
        last = float(train.next_token_loss(model, windows.evenly(3)))
    assert history.metrics["validation"][-1] == pytest.approx(last, abs=1e-6)
    assert all(np.diff(history.metrics["seconds"]) >= 0)


def test_parts_of_unequal_size_count_by_their_rows(fresh, windows):
    model, five = fresh(), TrainingConfig(2, 4, 1e-2, warmup=3, measure_every=9, measure_on=5)
    measured = run(model, windows, five).metrics["validation"][-1]
    with torch.no_grad():
        rows = [float(train.next_token_loss(model, row[None])) for row in windows.evenly(5)]
    assert measured == pytest.approx(sum(rows) / 5, rel=1e-3)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(fresh, windows, tmp_path, monkeypatch):
    whole_model = fresh()
    whole = run(whole_model, windows)
    loss, calls = train.next_token_loss, []

    def dying(model, tokens):
        calls.append(len(tokens))
        if len(calls) > 6:
            raise KeyboardInterrupt
        return loss(model, tokens)

    stored = {"checkpoint": tmp_path / "c.safetensors", "checkpoint_every": 2}
    monkeypatch.setattr(train, "next_token_loss", dying)
    with pytest.raises(KeyboardInterrupt):
        run(fresh(), windows, **stored)
    monkeypatch.setattr(train, "next_token_loss", loss)
    model = fresh()
    resumed = run(model, windows, **stored)
    assert np.array_equal(resumed.loss, whole.loss)
    assert np.array_equal(resumed.metrics["validation"], whole.metrics["validation"])
    own = parameters(whole_model)
    assert all(torch.equal(tensor, own[name]) for name, tensor in parameters(model).items())


def test_a_checkpoint_of_another_text_is_refused(fresh, windows, tokenizer, tmp_path):
    checkpoint = tmp_path / "c.safetensors"
    run(fresh(), windows, checkpoint=checkpoint)
    stream = corpus.encode(tokenizer, [TEXT * 9])
    other = corpus.windows(tokenizer, stream, 16)
    longer = TrainingConfig(2, 4, 1e-2, warmup=3, measure_every=4, measure_on=3, seed=1)
    with pytest.raises(training.TrainingError, match="seed is 0 there and 1 here"):
        run(fresh(), other, longer, checkpoint=checkpoint)
