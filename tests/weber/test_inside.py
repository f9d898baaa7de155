"""What is measured inside a transformer over seeds, and its weights as an artifact."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook import artifacts
from mechbook.weber import inside, mechanism, transformer
from mechbook.weber.seeds import VARIANTS
from mechbook.weber.transformer import Task

SMALL = Task(n_types=6, low=6, high=10, longest=130)
TINY = replace(VARIANTS[0], task=SMALL, model=replace(VARIANTS[0].model, d_model=8, n_heads=2))


@pytest.fixture(scope="module")
def model():
    return transformer.build(TINY.task, TINY.model)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(inside.seeds, "MEANS", (8, 10))
    monkeypatch.setattr(inside, "EXCHANGED", (4_000_003, 20))
    monkeypatch.setattr(inside, "LINE", (3, 6, 9))


def test_every_quantity_is_there_and_finite(model):
    rows = inside.measured(model, TINY, rows=30)
    assert {row[0] for row in rows} == {
        "probe",
        "probe, shuffled",
        "unevenness",
        "exchange",
        "number line",
        "intervention",
    }
    assert all(np.isfinite(row[3]) for row in rows if row[2] != "exponent")
    assert len({row[:3] for row in rows}) == len(rows)


def test_directions_have_length_one_and_random_is_nobodys():
    stream = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    targets = dict.fromkeys(mechanism.TARGETS, stream[:, 0].numpy().astype(float))
    found = inside.directions(stream, targets)
    assert set(found) == {"n - m", "n + m", "(n - m) / (n + m)", "random"}
    assert all(float(v.norm()) == pytest.approx(1) for v in found.values())
    assert torch.equal(found["random"], inside.directions(2 * stream, targets)["random"])


def test_exchanging_along_a_direction_that_is_not_read_changes_nothing(model, monkeypatch):
    nothing = {"nothing": torch.zeros(8)}
    monkeypatch.setattr(inside, "directions", lambda stream, targets: nothing)
    donor, own = inside.exchanges(model, TINY, rows=30)["nothing"]
    assert own == pytest.approx(1, abs=1e-4)
    assert donor < 0.9


def test_interventions_name_only_what_the_model_has(model):
    assert list(inside.interventions(model, TINY)) == [
        "whole",
        "without the last MLP",
        "uniform attention, layer 0",
        "uniform attention, layer 1",
    ]
    bare = replace(TINY, model=replace(TINY.model, mlps=False))
    without = transformer.build(bare.task, bare.model)
    assert "without the last MLP" not in inside.interventions(without, bare)


def test_the_table_has_trained_and_untrained_of_every_seed(monkeypatch):
    monkeypatch.setattr(inside, "VARIANTS", (TINY,))
    monkeypatch.setattr(inside, "ROWS", 30)
    monkeypatch.setattr(inside, "measured", lambda model, variant: [("q", "p", "n", 1.0)])
    whole = inside.train
    monkeypatch.setattr(inside, "train", lambda variant, seed: whole(variant, seed, 2))
    table, facts = inside.make_inside(2)
    assert facts["seeds"] == [0, 1]
    for trained in (True, False):
        assert inside.values(table, "q", "p", "n", trained=trained).tolist() == [1, 1]
    with pytest.raises(ValueError, match="no rows"):
        inside.values(table, "q", "p", "none")
    with pytest.raises(ValueError, match="1 seed or more"):
        inside.make_inside(0)


def test_training_is_the_one_that_is_measured_on_the_way():
    one = inside.weights(inside.train(TINY, 0, steps=2))
    two = inside.weights(inside.train(TINY, 0, steps=2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_weights_come_back_from_their_file(tmp_path, monkeypatch, model):
    monkeypatch.setattr(inside, "OPENED", TINY)
    for folder in ("weights", "results"):
        (tmp_path / folder).mkdir()
    card = artifacts.Card(about="a", made_by="m:f", command="c", seeds=[0], seconds=1.0)
    artifacts.save_tensors(inside.NAME, inside.weights(model), card=card, data=tmp_path)
    found = inside.load(data=tmp_path)
    given = transformer.rows(SMALL, torch.tensor([4]), torch.tensor([6]), torch.Generator())
    odds = [transformer.log_odds(m, given, SMALL) for m in (found, model)]
    assert torch.equal(*odds)
    other = replace(TINY, model=replace(TINY.model, d_model=16))
    monkeypatch.setattr(inside, "OPENED", other)
    with pytest.raises(artifacts.ArtifactError, match="does not fit"):
        inside.load(data=tmp_path)


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(artifacts.ArtifactError, match="weber-model"):
        inside.load(data=tmp_path)
