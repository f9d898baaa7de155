import numpy as np
import pytest
from tests.geometry.clock_network import TASK, Clock

from mechbook.geometry import arithmetic, interventions, months_seeds
from mechbook.geometry.arithmetic import NetConfig, Task
from mechbook.geometry.months_seeds import Row


@pytest.fixture(scope="module")
def own():
    return interventions.bench(Clock(), TASK)


@pytest.fixture(scope="module")
def table():
    rows = [
        (seed, Row("flips", 0.5, "item", depth, "add", "as it is", 1.0, 2, flips, 0, 2, 10))
        for seed, flips in ((0, 4), (1, 6))
        for depth in (0, 1)
    ]
    return months_seeds.columns([*rows, (0, Row("accuracy", 0.9)), (1, Row("accuracy", 0.7))])


def test_a_clocks_months_are_turned_exactly_where_they_are_and_absent_before(own):
    rows = [row for site in ("item", "final") for row in months_seeds.around(own, site, 50)]
    errors = {(r.site, r.depth): r.value for r in rows if r.quantity == "turning error"}
    assert errors[("item", 0)] == pytest.approx(0, abs=1e-5)
    assert errors[("final", 1)] == pytest.approx(0, abs=1e-5)
    assert ("final", 0) not in errors
    shares = [r.value for r in rows if r.quantity == "share" and (r.site, r.depth) == ("item", 0)]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(1)


def test_a_longer_stream_moves_no_prediction_of_a_linear_readout_that_is_already_sure(own):
    rows = {(r.site, r.depth, r.strength): r.value for r in months_seeds.norms(own)}
    assert rows[("item", 1, 2.0)] == pytest.approx(0, abs=1e-6)  # no longer read
    assert rows[("final", 1, 0.5)] > 1e-3


def test_the_algorithm_is_measured_on_any_network():
    task, config = Task(offsets=12, cycles=1), NetConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=8)
    rows = months_seeds.algorithm(arithmetic.build(task, config), task)
    by = {(row.quantity, row.kind): row.value for row in rows}
    assert 0 <= by[("readout: sum", "")] < 0.5  # untrained
    assert {k for q, k in by if q == "numbers"} == {f"{p:g}" for p in months_seeds.PERIODS}
    kinds = [by[("neurons", k)] for k in ("offset", "item", "sum", "difference", "mixed")]
    assert sum(kinds) == pytest.approx(1, abs=1e-6)


def test_the_recipe_trains_each_seed_and_keeps_all_rows(monkeypatch):
    monkeypatch.setattr(arithmetic, "trained", lambda seed: seed)
    monkeypatch.setattr(
        months_seeds, "measure", lambda model, task, seed: [Row("accuracy", model + task.seed)]
    )
    columns, facts = months_seeds.make_seeds(3)
    assert columns["value"].tolist() == [0, 2, 4]
    assert columns["seed"].tolist() == facts["seeds"] == [0, 1, 2]


def test_numbers_by_seed_and_depth(table):
    assert months_seeds.by_seed(table, quantity="accuracy").tolist() == [0.9, 0.7]
    assert months_seeds.by_seed(table, "flips", kind="add").tolist() == [0.4, 0.6]
    depths, found = months_seeds.by_depth(table, "along", kind="add")
    assert depths.tolist() == [0, 1]
    assert np.allclose(found, 0.2)


def test_arrival_is_the_first_depth_at_which_adding_works(own):
    table = months_seeds.dial(own, ["add", "norm only"], [1.0])
    assert months_seeds.arrival(table).tolist() == [1]
    assert months_seeds.at_arrival(table, "add").tolist() == [1]
    assert months_seeds.at_arrival(table, "norm only").tolist() == [0]
    with pytest.raises(ValueError, match="no more than 2"):
        months_seeds.arrival(table, least=2)


def test_curves_pool_the_seeds_with_an_interval(own):
    table = months_seeds.dial(own, ["add"], [1.0])
    shares, ends = months_seeds.curves(table, ["add"], strength=1.0)
    assert shares["at the month's token"]["add"] == [1, 0]
    assert shares["at the last token"]["add"] == [0, 1]
    low, high = ends["at the last token"]["add"]
    assert (low[1], high[1]) == interventions.wilson(len(own.trials), len(own.trials))


def test_bad_input_is_refused(table):
    with pytest.raises(ValueError, match="no rows with"):
        months_seeds.select(table, quantity="?")
    for seeds in (0, arithmetic.SEED + 1):
        with pytest.raises(ValueError, match=f"seeds is {seeds}"):
            months_seeds.make_seeds(seeds)


def test_each_seed_may_be_read_at_a_depth_of_its_own():
    rows = [
        (seed, Row("scatter", 10.0 * seed + depth, "final", depth))
        for seed in (0, 1)
        for depth in (1, 2)
    ]
    table = months_seeds.columns(rows)
    assert months_seeds.value_at(table, "scatter", np.array([2, 1])).tolist() == [2.0, 11.0]
    with pytest.raises(ValueError, match="measured at depths"):
        months_seeds.value_at(table, "scatter", np.array([0, 1]))
