import inspect

import numpy as np
import pytest

from mechbook import artifacts
from mechbook.residual import plots_stream, seed_table
from mechbook.residual.model import make_seed_table


@pytest.fixture
def table():
    return {
        "seed": np.array([1, 0, 1, 0]),
        "place": np.array(["a", "a", "b", "b"]),
        "quantity": np.array(["norm"] * 4),
        "value": np.array([1.0, 2.0, 3.0, 4.0]),
    }


def test_values_come_in_the_order_of_the_seeds(table):
    assert seed_table.values(table, place="a").tolist() == [2.0, 1.0]
    assert seed_table.by_place(table, ("a", "b"), quantity="norm").tolist() == [[2, 4], [1, 3]]


@pytest.mark.parametrize("where", [{"place": "c"}, {"quantity": "norm"}])
def test_a_choice_that_is_not_one_row_a_seed_is_refused(table, where):
    with pytest.raises(ValueError, match="one a seed"):
        seed_table.values(table, **where)


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        make_seed_table(seeds=0)


def test_the_shipped_table_has_at_least_five_seeds():
    table = artifacts.load_table("residual-lens-seeds")
    assert len(seed_table.values(table, quantity="decomposition error")) >= 5


def test_depths_of_a_figure_are_labeled():
    labels = ("embedding", "attention 0", "MLP 0")
    fig = plots_stream.by_depth(labels, {"a": np.eye(3)}, ylabel="value")
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == list(labels)


def test_drawing_functions_show_nothing():
    assert "plt" not in inspect.getsource(plots_stream)
