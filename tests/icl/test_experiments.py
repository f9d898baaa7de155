"""The grids are what the issue and the notes ask for, and every stage of them runs."""

from itertools import product

import numpy as np
import pytest

from mechbook.icl import experiments, runs


def test_the_main_stage_is_the_notes_grid_and_more():
    main = experiments.laptop()[0]
    cells = {(c.n_classes, c.decay, c.seed) for c in main.configs}
    assert set(product((100, 1600), (0, 3e-4, 1e-3, 3e-3, 1e-2), (0, 1, 2))) <= cells
    assert len(cells) == 2 * 9 * 3
    assert {c.n_labels for c in main.configs} == {32}
    assert [len(pack.configs) for pack in main.packs] == [9] * 6


def test_no_run_is_in_two_stages():
    for stages in (experiments.laptop(), experiments.gauss()):
        names = [config.run for stage in stages for config in stage.configs]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("stages", [experiments.laptop(), experiments.gauss(), experiments.core()])
def test_a_pack_is_one_program(stages):
    for stage in stages:
        for pack in stage.packs:
            assert len({config.program for config in pack.configs}) == 1


def test_the_smoke_run_goes_through_every_stage(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PARTS", tmp_path)
    table, card = experiments.make_laptop("smoke")
    assert set(table["stage"]) == {stage.name for stage in experiments.laptop("smoke")}
    assert {len(column) for column in table.values()} == {len(table["stage"])}
    assert np.isfinite(table["icl"]).all()
    assert table["icl"].dtype == np.float32
    assert card["seeds"] == [0, 1]
    again, _ = experiments.make_laptop("smoke")
    assert all((again[name] == table[name]).all() for name in ("icl", "step", "run", "decay"))


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(experiments, "PARTS", tmp_path / "parts")
    monkeypatch.setattr(runs, "run", None)
    told = experiments.make_laptop(dry_run=True, workers=2)
    assert "icl-main: 54 runs in 6 packs" in told
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("make", [experiments.laptop, experiments.gauss])
def test_another_preset_is_refused(make):
    with pytest.raises(ValueError, match="give one of laptop, smoke"):
        make("huge")
