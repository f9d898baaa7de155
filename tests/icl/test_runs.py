"""Runs: together as alone, killed as unkilled, one row for each; and they learn."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook import sweeps, training
from mechbook.icl import episodes, measures, runs
from mechbook.icl.config import OF_A_MEMBER, IclConfig, gaussian
from mechbook.icl.model import build
from mechbook.icl.sequences import Stream

TINY = IclConfig(
    source="glyphs",
    side=12,
    n_classes=30,
    n_holdout=10,
    n_features=16,
    n_labels=12,
    d_model=16,
    batch=16,
    steps=12,
    evaluate_every=6,
    episodes=40,
    lr=3e-3,
)
GRID = [
    replace(TINY, seed=seed, decay=strength, n_classes=k)
    for k in (12, 30)
    for seed in (0, 1)
    for strength in (0.0, 1.0)
]


def alone(config):
    """One run without an ensemble, by torch's own optimizer and a loop."""
    pool = runs.classes.pool(config)
    model, stream = build(config), Stream(config, pool)
    named = dict(model.named_parameters())
    kept = [n for n in named if runs.decay.touches(config, n)]
    settings = [
        {"params": [named[n] for n in kept], "weight_decay": config.decay},
        {"params": [p for n, p in named.items() if n not in kept], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(settings, lr=config.lr)
    losses = []
    for step in range(config.steps):
        batch = stream.batch(step)
        loss = torch.nn.functional.cross_entropy(
            model(batch["inputs"], batch["labels"]), batch["target"]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return model, losses


def test_runs_packed_as_an_ensemble_end_where_each_ends_alone():
    trained = runs.Pack.of(GRID).train(progress=False)
    for member, config in enumerate(GRID):
        model, losses = alone(config)
        np.testing.assert_allclose(trained.history.loss[:, member], losses, rtol=1e-3)
        found = dict(trained.ensemble.member(member).named_parameters())
        for name, value in model.named_parameters():
            torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-2, msg=name)


def test_rows_hold_what_the_trained_members_do():
    pack = runs.Pack.of(GRID)
    trained = pack.train(progress=False)
    rows = trained.rows()
    assert [(row["member"], row["step"]) for row in rows] == [
        (member, step) for member in range(8) for step in (0, 6, 12)
    ]
    last = rows[3 * 5 + 2]
    assert last["run"] == GRID[5].run
    member = trained.ensemble.member(5)
    for kind in episodes.KINDS:
        asked = episodes.make(kind, GRID[5], pack.pool)
        with torch.no_grad():
            logits, patterns = member(asked.inputs, asked.labels, True)
        right = (logits.argmax(-1) == asked.target).float().mean()
        assert last.get(f"{kind}_open", last[kind]) == pytest.approx(float(right), abs=0.03)
        if kind == "icl":
            among = logits[:, :2].argmax(-1)
            assert last["icl"] == pytest.approx(float((among == asked.target).float().mean()))
            expected = measures.looks(patterns, asked.match)["label_mass"]
            assert last["label_mass 1.0"] == pytest.approx(float(expected[1, 0]), rel=1e-3)
            assert last["label_mass"] == pytest.approx(float(expected.max()), rel=1e-3)


def test_rows_are_plain_numbers_and_text_with_the_same_columns():
    rows = runs.run(GRID[:2], progress=False)
    assert len({tuple(row) for row in rows}) == 1
    assert {type(value) for row in rows for value in row.values()} <= {int, float, str}
    json.dumps(rows)
    assert rows[2]["efolds"] == 0
    assert rows[5]["efolds"] == pytest.approx(12 * 3e-3 * 1.0)
    assert np.isnan(rows[0]["train_loss"])


def test_the_loss_of_a_row_is_the_mean_since_the_row_before():
    trained = runs.Pack.of(GRID[:1]).train(progress=False)
    row = trained.rows()[1]
    assert row["train_loss"] == pytest.approx(trained.history.loss[:6, 0].mean())


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_pack_goes_on_and_ends_with_the_same_rows(tmp_path, monkeypatch):
    whole = runs.run(GRID, progress=False)
    draw = Stream.batch

    def until_seven(self, step):
        if step == 7:
            raise Killed
        return draw(self, step)

    monkeypatch.setattr(Stream, "batch", until_seven)
    options = {"folder": tmp_path, "checkpoint_every": 4, "progress": False}
    with pytest.raises(Killed):
        runs.run(GRID, **options)
    monkeypatch.setattr(Stream, "batch", draw)
    drawn = []
    monkeypatch.setattr(Stream, "batch", lambda self, step: drawn.append(step) or draw(self, step))
    assert str(runs.run(GRID, **options)) == str(whole)
    assert min(drawn) == 4
    drawn.clear()
    assert str(runs.run(GRID, **options)) == str(whole)
    assert not drawn


def test_watched_episodes_give_their_attention_at_each_evaluation():
    trained = runs.Pack.of(GRID[:2], watch=3).train(progress=False)
    maps = trained.maps()
    assert maps.shape == (3, 2, 3, 2, 1, 17, 17)
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="train the pack with watch=4"):
        runs.Pack.of(GRID[:2]).train(progress=False).maps()


def test_runs_of_different_programs_are_refused_and_grouped():
    other = replace(TINY, lr=1e-2)
    with pytest.raises(ValueError, match=r"the runs differ in lr; .* may differ in seed, decay"):
        runs.run([TINY, other])
    with pytest.raises(ValueError, match="no run was given"):
        runs.run([])
    packs = runs.groups([*GRID, other, TINY], 3)
    assert [len(pack) for pack in packs] == [3, 3, 2, 1]
    assert all(len({config.program for config in pack}) == 1 for pack in packs)
    assert sorted(c.run for pack in packs for c in pack) == sorted({c.run for c in [*GRID, other]})
    with pytest.raises(ValueError, match="size is 0"):
        runs.groups(GRID, 0)


def test_more_classes_than_there_are_are_refused():
    with pytest.raises(ValueError, match="39 classes were asked for, but 38 may be seen"):
        runs.run([replace(TINY, n_classes=39)])


def test_a_broken_checkpoint_is_told_in_a_line(tmp_path):
    pack = runs.Pack.of(GRID[:1])
    (tmp_path / pack.checkpoint).write_bytes(b"nothing")
    with pytest.raises(training.TrainingError, match="is not a whole checkpoint"):
        pack.train(tmp_path, progress=False)


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    config = replace(TINY, steps=6)
    runs.run([config], folder=tmp_path, checkpoint_every=3, progress=False)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(training, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        runs.run([TINY], folder=tmp_path, checkpoint_every=3, progress=False)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_half_precision_comes_close():
    config = replace(TINY, precision="bfloat16")
    full = runs.Pack.of([TINY]).train(progress=False).history.loss
    half = runs.Pack.of([config]).train(progress=False).history.loss
    np.testing.assert_allclose(half, full, rtol=0.03)
    assert (half != full).any()


def test_a_sweep_can_run_them_and_keeps_checkpoints_where_the_environment_says(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MECHBOOK_CHECKPOINTS", str(tmp_path / "half"))
    sweep = sweeps.Sweep("icl-tiny", GRID[:4], runs.work, pack=OF_A_MEMBER)
    columns = sweeps.run(sweep, tmp_path / "parts", progress=False)
    expected = {(row["run"], row["step"]): row["icl"] for row in runs.run(GRID[:4], progress=False)}
    assert len(columns["icl"]) == 12
    for name, step, value in zip(columns["run"], columns["step"], columns["icl"], strict=True):
        assert value == pytest.approx(expected[str(name), int(step)], abs=0.05)
    assert len(list((tmp_path / "half").iterdir())) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_gaussian_classes_can_be_memorized(seed):
    config = gaussian(
        n_classes=16, n_labels=16, n_holdout=16, n_features=15, d_model=32, seed=seed,
        lr=3e-3, batch=64, steps=200, evaluate_every=200, episodes=100,
    )  # fmt: skip
    first, last = runs.run([config], progress=False)
    assert first["iwl"] < 0.3
    assert last["iwl"] > 0.8
    assert last["train_loss"] < 2.0
