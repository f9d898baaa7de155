import numpy as np
import pytest
from tests.geometry.clock_network import TASK, Clock

from mechbook.geometry import arithmetic, months_training
from mechbook.geometry.arithmetic import NetConfig, Task


def test_a_clock_is_moved_by_steps_and_turns_where_it_has_read_the_month():
    found = months_training.flips(Clock(), TASK, 0)
    for kind in ("add", "angular", "turned centroid"):
        assert found[kind].tolist() == pytest.approx([0.0, 1.0])


def test_a_network_that_is_never_right_has_nothing_to_move(monkeypatch):
    monkeypatch.setattr(arithmetic, "predictions", lambda model, sums: sums.answer + 1)
    found = months_training.flips(Clock(), TASK, 0)
    assert all(np.isnan(values).all() for values in found.values())


def test_training_is_watched_and_told_in_columns(monkeypatch):
    task, config = (
        Task(offsets=12, cycles=1),
        NetConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=8, steps=4),
    )
    monkeypatch.setattr(months_training, "EVERY", 2)
    watched = months_training._watched
    monkeypatch.setattr(months_training, "_watched", lambda seed: watched(seed, config, task))
    table, facts = months_training.make_training(2)
    assert facts["seeds"] == [0, 1]
    steps, right = months_training.by_seed(table, "months")
    assert steps.tolist() == [0, 2, 4]
    assert right.shape == (2, 3)
    assert months_training.by_seed(table, "add")[1].shape == (2, 3, 2)
    with pytest.raises(ValueError, match="no 'hours'"):
        months_training.by_seed(table, "hours")


def test_arrival_is_where_steps_work_first_and_nowhere_before_that():
    rows = [(0, step, kind, depth, value)
            for kind, of in {"add": [[0, 0.1], [0.2, 0.9]], "angular": [[0, 0], [0.1, 0.6]]}.items()
            for step, values in enumerate(of) for depth, value in enumerate(values)]  # fmt: skip
    names = ("seed", "step", "name", "depth", "value")
    table = {n: np.array(v) for n, v in zip(names, zip(*rows, strict=True), strict=True)}
    found = months_training.at_arrival(table, "angular")
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 0.6


def test_no_seeds_are_no_table():
    with pytest.raises(ValueError, match="give 1 or more"):
        months_training.make_training(0)
