import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mechbook.residual import reasons
from mechbook.residual.rotation import Size, random_transformer, run

TINY = reasons.StackSettings(depth=3, width=4, hidden=8, steps=3, batch=6)
NET = random_transformer(
    "LN",
    seed=0,
    size=Size(d_model=8, n_heads=2, d_head=4, d_mlp=12, n_layers=2, n_ctx=5, d_vocab=7),
)
TOKENS = torch.tensor([[0, 3, 6, 1, 2], [5, 5, 4, 0, 3]])


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, and wait long for them on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(**changes):
    return reasons.StackSettings(**{**vars(TINY), **changes})


# --- stacks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("skip", "start"), [(True, "zero branch"), (False, "identity")])
def test_starts_that_are_the_identity(skip, start):
    model = reasons.StackModel(tiny(skip=skip, start=start), seeds=(0, 1))
    x = torch.randn(2, 6, 4)
    torch.testing.assert_close(model(x), x)


def test_passing_a_block_by_is_the_stack_without_it():
    model = reasons.StackModel(TINY, seeds=(0,))
    x = torch.randn(1, 6, 4)
    expected = x
    for layer in (0, 2):
        expected = expected + (expected @ model.W_in[:, layer]).relu() @ model.W_out[:, layer]
    torch.testing.assert_close(model(x, without=1), expected)


def test_training_lowers_the_loss():
    run_ = reasons.train_stack(tiny(steps=60, lr=1e-2), reasons.identity_task, seeds=(0, 1))
    assert run_.loss.shape == (60, 2)
    assert (run_.final < run_.loss[0]).all()


def test_identity_loss_is_zero_for_the_input_and_one_for_nothing():
    task, x = reasons.identity_task(TINY), torch.randn(2, 6, 4)
    assert task.loss(x, x).tolist() == [0, 0]
    assert task.loss(torch.zeros_like(x), x).tolist() == pytest.approx([1, 1])


def test_classes_of_the_teacher_are_balanced_enough():
    settings_ = reasons.StackSettings(batch=4000)
    task = reasons.teacher_task(settings_)
    x = task.draw(0, 0)[None]
    shares = []
    for c in range(4):
        guess = torch.zeros(1, 4000, 16)
        guess[..., c] = 1
        shares.append(float(task.accuracy(guess, x)[0]))
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.1
    assert max(shares) < 0.5


def test_dropping_blocks_that_do_nothing_costs_nothing():
    trained = reasons.train_stack(
        tiny(steps=1, lr=1e-12, start="zero branch"), reasons.teacher_task, seeds=(0,)
    )
    whole, dropped = reasons.drop_each_block(trained)
    assert dropped == pytest.approx(np.tile(whole, (3, 1)))
    assert reasons.early_accuracy(trained) == pytest.approx(np.tile(whole, (4, 1)))
    assert reasons.relative_updates(trained) == pytest.approx(np.zeros((3, 1)), abs=1e-6)


def test_running_mean():
    loss = np.arange(8.0).reshape(4, 2)
    assert reasons.running_mean(loss, 2).tolist() == [[1, 2], [3, 4], [5, 6]]


# --- highway, scales --------------------------------------------------------------------------


def test_probe_reads_the_embedding_and_not_shuffled_tokens():
    options = {"skip": True, "depth": 1, "seeds": [0], "batch": 64}
    assert reasons.token_accuracy(**options)[0, 0] > 0.95
    assert reasons.token_accuracy(**options, shuffled=True)[0, 0] < 0.15


def test_post_norm_keeps_the_size():
    scales = reasons.stream_scales("post", depth=3, seeds=[0, 1])
    assert scales.shape == (4, 2)
    assert scales[1:] == pytest.approx(np.ones((3, 2)), rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(power=st.floats(-2, 2), factor=st.floats(0.1, 10))
def test_growth_exponent_of_a_power_law(power, factor):
    scales = factor * np.arange(1, 21.0) ** power
    scales = np.concatenate([[1.0], scales])[:, None]
    assert reasons.growth_exponent(scales)[0] == pytest.approx(power, abs=1e-9)


# --- writers ----------------------------------------------------------------------------------


def test_ablation_takes_out_one_write_and_no_other():
    writes = run(reasons.ablate(NET, "L1H0"), TOKENS).writes
    assert float(writes["L1H0"].abs().max()) == 0
    assert float(writes["L1H1"].abs().max()) > 0
    assert float(NET.tensors["blocks.1.attn.W_O"][0].abs().max()) > 0  # the model itself stays


def test_who_notices_a_missing_head():
    changes = reasons.write_changes(NET, TOKENS, "L0H1")
    assert changes["L0H0"] == 0
    assert min(changes[k] for k in ("L0 mlp", "L1H0", "L1 mlp")) > 0
    assert reasons.write_changes(NET, TOKENS, "L0H1", parallel=True)["L0 mlp"] == 0


# --- waiting ----------------------------------------------------------------------------------


def test_longest_chain_counts_operations_that_wait():
    x = torch.ones(1, requires_grad=True)
    wide = sum((x * i for i in range(1, 4)), torch.zeros(1))  # three products, added one by one
    deep = x.exp().exp().exp()
    assert reasons.longest_chain(x.exp()) == 2  # the operation, and handing over the input
    assert reasons.longest_chain(deep) == 4
    assert reasons.longest_chain(wide) == 5


def test_long_chains_do_not_overflow_the_stack():
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y + 1
    assert reasons.longest_chain(y) == 5001


def test_chains_of_rnn_and_attention():
    chains = reasons.count_chains((3, 6, 12))
    assert np.diff(chains.rnn).tolist() == [9, 18]  # three operations a token
    assert len(set(chains.attention)) == 1
    assert (np.diff(chains.generation) > 0).all()


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 70), seed=st.integers(0, 99))
def test_scan_is_the_recurrence_in_logarithmic_rounds(length, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(length, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    states, rounds = reasons.parallel_scan(a, b)
    torch.testing.assert_close(states, reasons.sequential_scan(a, b))
    assert rounds == math.ceil(math.log2(length))


def test_scan_by_hand():
    states, _ = reasons.parallel_scan(torch.tensor([5.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0]))
    assert states.tolist() == [1, 3, 10]


def test_times_are_positive_and_by_length():
    times = reasons.time_layers((4, 8), d_model=8, repeats=1)
    assert (times.rnn > 0).all()
    assert times.attention.shape == (2,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tiny(start="warm"), "choose one of"),
        (lambda: tiny(depth=0), "at least 1"),
        (lambda: tiny(start="identity", hidden=7), "at least 2 · width"),
        (lambda: reasons.teacher_task(TINY, n_classes=5), "2 to 4"),
        (lambda: reasons.running_mean(np.ones((2, 1)), 3), "1 to 2"),
        (lambda: reasons.token_accuracy(skip=True, seeds=[]), "0 seeds"),
        (lambda: reasons.stream_scales("pre", seeds=[]), "at least one"),
        (lambda: reasons.growth_exponent(np.ones((3, 1))), "at least 5"),
        (lambda: reasons.growth_exponent(np.full((9, 1), np.nan)), "positive and finite"),
        (lambda: reasons.ablate(NET, "L9H0"), "no writer"),
        (lambda: reasons.longest_chain(torch.ones(1)), "require a gradient"),
        (lambda: reasons.longest_chain(nn.Linear(1, 1).weight), "require a gradient"),
        (lambda: reasons.count_chains(()), "one or more"),
        (lambda: reasons.parallel_scan(torch.ones(2), torch.ones(3)), "give both"),
        (lambda: reasons.time_layers((4,), repeats=0), "at least 1"),
    ],
)
def test_bad_input_says_what_to_give(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_task_without_answers_has_no_accuracy():
    trained = reasons.train_stack(tiny(steps=1), reasons.identity_task, seeds=(0,))
    for measure in (reasons.drop_each_block, reasons.early_accuracy):
        with pytest.raises(ValueError, match="teacher_task"):
            measure(trained)


def test_the_linear_baseline_beats_chance_and_is_not_perfect():
    settings = reasons.StackSettings(depth=1, steps=1)
    assert 0.4 < reasons.linear_baseline(settings, reasons.teacher_task) < 0.9


def test_the_linear_baseline_needs_right_answers():
    with pytest.raises(ValueError, match="give teacher_task"):
        reasons.linear_baseline(reasons.StackSettings(), reasons.identity_task)


def test_without_a_skip_the_scale_does_not_grow():
    scales = reasons.stream_scales("pre", skip=False, depth=8, seeds=range(2))
    assert (scales[-1] / scales[0] < 2).all()
