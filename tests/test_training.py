import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mechbook import training
from mechbook.training import TrainingError

words = st.integers(0, 2**32 - 1)


def a_model(seed=0):
    with training.seeded(seed):
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def squared_error(model, step):
    x = torch.randn(16, 4, generator=training.generator(0, step))
    return (model(x) - x[:, :1]).pow(2).mean()


adam = partial(torch.optim.Adam, lr=1e-2)


def run(model=None, *, optimizer=adam, steps=12, scheduler=None, loss=squared_error, **options):
    model = a_model() if model is None else model
    built = optimizer(model.parameters())
    made = None if scheduler is None else scheduler(built)
    torch.manual_seed(5)  # dropout draws from torch's own random state
    options = {"progress": False, "checkpoint_every": 5} | options
    history = training.train(model, loss, optimizer=built, steps=steps, scheduler=made, **options)
    return model, history


def same_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


# --- randomness ---


@given(seed=words, step=words)
def test_generator_is_a_function_of_seed_and_step(seed, step):
    one, other = (torch.rand(3, generator=training.generator(seed, step)) for _ in range(2))
    assert torch.equal(one, other)


@given(seed=words, steps=st.sets(words, min_size=2, max_size=20))
def test_no_two_steps_of_a_seed_share_a_stream(seed, steps):
    assert len({training.generator(seed, step).initial_seed() for step in steps}) == len(steps)


def test_streams_of_neighboring_seeds_and_steps_are_uncorrelated():
    draws = np.array(
        [
            torch.rand(200, generator=training.generator(seed, step)).numpy()
            for seed in range(6)
            for step in range(6)
        ]
    )
    correlations = np.corrcoef(draws)[np.triu_indices(36, k=1)]
    assert abs(correlations).max() < 0.35  # 5 standard deviations of 1/sqrt(200)


@pytest.mark.parametrize(("seed", "step"), [(-1, 0), (0, -1), (2**32, 0), (0, 2**32)])
def test_generator_refuses_what_it_cannot_tell_apart(seed, step):
    with pytest.raises(ValueError, match=r"from 0 to 2\*\*32 - 1"):
        training.generator(seed, step)


def test_seeded_decides_the_weights_and_leaves_the_random_state():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert same_bits(a_model(3), a_model(3))
    assert not same_bits(a_model(3), a_model(4))
    assert torch.equal(torch.get_rng_state(), before)


# --- the loop ---


def test_the_loop_is_the_textbook_loop():
    model, history = run(clip=0.5, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 4))
    twin = a_model()
    optimizer = adam(twin.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 4)
    torch.manual_seed(5)
    for step in range(12):
        optimizer.zero_grad()
        loss = squared_error(twin, step)
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
        scheduler.step()
    assert same_bits(model, twin)
    assert history.loss[-1] == loss.item()


def test_metrics_are_taken_before_every_nth_and_after_the_last_update():
    _, history = run(
        steps=7, metrics=lambda m, step: {"step": step, "two": [1, 2]}, metrics_every=3
    )
    assert history.metric_steps.tolist() == [0, 3, 6, 7]
    assert history.metrics["step"].tolist() == [0, 3, 6, 7]
    assert history.metrics["two"].shape == (4, 2)
    assert history.steps.tolist() == list(range(7))
    assert history.loss.shape == (7,)


def test_metrics_with_other_names_are_refused():
    with pytest.raises(ValueError, match="same names"):
        run(metrics=lambda m, step: {f"at {step}": 0.0}, metrics_every=5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_stops_before_the_update(bad):
    seen = {}

    def loss(model, step):
        if step == 6:
            seen["weights"] = [p.detach().clone() for p in model.parameters()]
        return squared_error(model, step) * (bad if step == 6 else 1.0)

    model = a_model()
    with pytest.raises(TrainingError, match=r"a run stopped at step 6: the loss is") as raised:
        run(model, loss=loss, label="a run")
    assert "(step 3), " in str(raised.value)
    assert "(step 5)" in str(raised.value)
    assert all(map(torch.equal, model.parameters(), seen["weights"]))


def test_gradient_that_is_not_finite_stops_before_the_update():
    def loss(model, step):  # sqrt has an infinite slope at 0
        return squared_error(model, step) + (model[0].weight[0, 0] * 0).sqrt()

    model = a_model()
    with pytest.raises(TrainingError, match=r"step 0: the norm of the gradient is nan"):
        run(model, loss=loss)
    assert same_bits(model, a_model())


def test_last_good_checkpoint_stays_after_nan(tmp_path):
    file = tmp_path / "run.safetensors"

    def spoiled(model, step):
        return squared_error(model, step) * (float("nan") if step == 8 else 1.0)

    with pytest.raises(TrainingError, match="step 8"):
        run(loss=spoiled, checkpoint=file)
    resumed, _ = run(checkpoint=file)
    assert same_bits(resumed, run()[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 2.5}, "steps is 2.5"),
        ({"metrics_every": 0}, "metrics_every is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"loss": lambda model, step: 1.0}, "scalar tensor"),
        ({"loss": lambda model, step: torch.tensor(1.0)}, "does not depend"),
        ({"loss": lambda model, step: model[0].weight}, "scalar tensor"),
        ({"loss": lambda model, step: model[0].weight.flatten()[:5]}, "leading axis of 5"),
        ({"settings": lambda: 0, "checkpoint": "x"}, "cannot be written"),
    ],
)
def test_bad_arguments_are_refused_with_a_way_out(change, message):
    with pytest.raises(ValueError, match=message):
        run(**change)


@pytest.mark.parametrize(("static", "shown"), [("1", False), ("", True)])
def test_bar_is_silent_in_built_pages(monkeypatch, capsys, static, shown):
    monkeypatch.setenv("MECHBOOK_STATIC", static)
    run(progress=None, label="my run")
    assert ("my run" in capsys.readouterr().err) is shown


# --- checkpoints ---

SCHEDULERS = {
    "none": None,
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.02, total_steps=12),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 12),
    "warmup": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, total_iters=4),
            torch.optim.lr_scheduler.CosineAnnealingLR(o, 8),
        ],
        milestones=[4],
    ),
}
OPTIMIZERS = {
    "AdamW": partial(torch.optim.AdamW, lr=1e-2, amsgrad=True),
    "Adam": adam,
    "SGD": partial(torch.optim.SGD, lr=1e-2),
    "momentum": partial(torch.optim.SGD, lr=1e-2, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
def test_interrupted_run_ends_with_the_same_bits(tmp_path, optimizer, scheduler):
    if scheduler is SCHEDULERS["one cycle"] and optimizer is OPTIMIZERS["SGD"]:
        scheduler = partial(
            torch.optim.lr_scheduler.OneCycleLR, max_lr=0.02, total_steps=12, cycle_momentum=False
        )
    setting = {"optimizer": optimizer, "scheduler": scheduler, "clip": 1.0, "metrics_every": 3}

    def weight(model, step):
        return {"weight": model[0].weight[0, 0] + torch.rand(()), "step": step}

    def interrupted(model, step):
        if step == 7:
            raise KeyboardInterrupt
        return squared_error(model, step)

    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        run(loss=interrupted, metrics=weight, checkpoint=file, **setting)
    resumed, history = run(metrics=weight, checkpoint=file, **setting)
    whole, expected = run(metrics=weight, **setting)
    assert same_bits(resumed, whole)
    for one, other in zip(vars(history).values(), vars(expected).values(), strict=True):
        np.testing.assert_equal(one, other)
    assert list(history.metrics) == ["weight", "step"]


KILLED = """
    import sys, time
    from pathlib import Path

    import torch
    from torch import nn

    from mechbook import training
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    checkpoint, result, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with training.seeded(0):
        model = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.2), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=60)
    torch.manual_seed(9)

    def loss(model, step):
        time.sleep(pause)
        x = torch.randn(16, 4, generator=training.generator(1, step))
        return (model(x) - x[:, :1]).pow(2).mean()

    history = training.train(
        model, loss, optimizer=optimizer, steps=60, scheduler=schedule, clip=1.0,
        metrics=lambda model, step: {"norm": model[0].weight.norm()}, metrics_every=7,
        checkpoint=checkpoint, checkpoint_every=1, progress=False,
    )
    arrays = {"loss": torch.tensor(history.loss), "norm": torch.tensor(history.metrics["norm"])}
    save_file({**model.state_dict(), **arrays}, result)
"""


def killed_when_half_done(command, checkpoint):
    """Start a run that goes slowly, and kill it at some point of its way."""
    process = subprocess.Popen([*command, "0.02"])
    limit = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.25)
    process.send_signal(signal.SIGKILL)
    return process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is not known on Windows")
def test_killed_and_resumed_is_never_killed(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(KILLED))
    killed, whole = (tmp_path / f"{name}.safetensors" for name in ("killed", "whole"))
    checkpoint = tmp_path / "checkpoint.safetensors"
    command = [sys.executable, str(script), str(checkpoint), str(killed)]
    assert killed_when_half_done(command, checkpoint) == -signal.SIGKILL
    assert not killed.exists()
    subprocess.run([*command, "0"], check=True)
    other = str(tmp_path / "other.safetensors")
    subprocess.run([sys.executable, str(script), other, str(whole), "0"], check=True)
    assert killed.read_bytes() == whole.read_bytes()


def test_finished_run_is_read_back_without_training(tmp_path):
    file = tmp_path / "run.safetensors"
    model, history = run(checkpoint=file)

    def never(model, step):
        raise AssertionError("the run was finished")

    again, read = run(loss=never, checkpoint=file)
    assert same_bits(model, again)
    np.testing.assert_array_equal(history.loss, read.loss)


@dataclass(frozen=True)
class Setting:
    seed: int = 0


CHANGES = [
    ({"steps": 13}, "steps is 12 there and 13 here"),
    ({"clip": 2.0}, "clip is null there and 2.0 here"),
    ({"optimizer": partial(torch.optim.Adam, lr=0.02)}, "optimizer lr is 0.01 there and 0.02 here"),
    ({"optimizer": partial(torch.optim.AdamW, lr=0.01)}, 'optimizer is "Adam" there'),
    ({"scheduler": SCHEDULERS["cosine"]}, "scheduler is"),
    ({"model": nn.Sequential(nn.Linear(4, 1))}, "model 0.weight is 8 there and 1 here"),
    ({"settings": Setting(1)}, "settings seed is 0 there and 1 here"),
    ({"metrics_every": 3}, "metrics_every is 25 there and 3 here"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_checkpoint_of_another_run_is_refused_by_name(tmp_path, change, message):
    file = tmp_path / "run.safetensors"
    run(checkpoint=file, settings=Setting())
    with pytest.raises(TrainingError, match=r"run\.safetensors belongs to another run") as raised:
        run(**({"checkpoint": file, "settings": Setting()} | change))
    assert message in str(raised.value)


def test_checkpoint_of_another_seed_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    run(checkpoint=file)
    with pytest.raises(TrainingError, match="starts from other values"):
        run(a_model(1), checkpoint=file)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_truncated_checkpoint_is_refused_in_one_line(tmp_path, length):
    file = tmp_path / "run.safetensors"
    run(checkpoint=file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(TrainingError, match=r"run\.safetensors is not a whole.*delete") as raised:
        run(checkpoint=file)
    assert "\n" not in str(raised.value)


def test_foreign_safetensors_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(TrainingError, match="not a whole checkpoint"):
        run(checkpoint=file)


def test_model_that_is_no_longer_finite_is_not_saved(tmp_path):
    file = tmp_path / "run.safetensors"

    def loss(model, step):
        return 1e18 * model[0].weight.sum()

    with pytest.raises(TrainingError, match="no longer finite"):
        run(loss=loss, optimizer=partial(torch.optim.SGD, lr=1e22), steps=1, checkpoint=file)
    assert not file.exists()


def test_a_history_is_a_table_of_numbers():
    metrics = {"loss": np.array([3.0, 2.0]), "heads": np.array([[[1.0, 2.0]], [[3.0, 4.0]]])}
    history = training.History(np.arange(5), np.zeros(5), np.array([0, 5]), metrics)
    rows = list(history.rows())
    assert rows[:2] == [(0, "loss", "", 3.0), (5, "loss", "", 2.0)]
    assert (5, "heads", "0.1", 4.0) in rows
    assert len(rows) == 6
