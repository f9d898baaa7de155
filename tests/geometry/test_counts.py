import numpy as np
import pytest

from mechbook.geometry import counts
from mechbook.geometry.counts import MONTHS, Counts, Window


def year(text="{month} 4th has {word}. "):
    return "".join(text.format(month=m, word=f"w{chr(97 + i)}") for i, m in enumerate(MONTHS))


def test_neighbors_are_those_within_reach():
    table = counts.count(["snow a b January c d frost"], Window(reach=2, least=1))
    here = table["word"] == "January"
    assert sorted(table["neighbor"][here]) == ["a", "b", "c", "d"]


def test_numerals_are_one_word_and_totals_are_of_the_whole_text():
    table = counts.count(["the 4th of June, the 12th, the end"], Window(reach=3, least=1))
    found = dict(zip(table["neighbor"], table["count"], strict=True))
    assert found["#"] == 2
    total = dict(zip(table["neighbor"], table["total"], strict=True))
    assert (total["#"], total["the"]) == (2, 3)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("You May go now", False),
        ("on the 3rd of May we went", True),
        ("the March of men", False),
        ("in March 1815 he", True),
        ("between April and May they", True),
    ],
)
def test_march_and_may_count_beside_a_date_only(text, counted):
    table = counts.count([text, "June snow"], Window(least=1))
    assert bool(np.isin(["May", "March"], table["word"]).any()) == counted


def test_rare_neighbors_are_left_out():
    table = counts.count([year()] * 3 + ["June once"], Window(reach=2, least=3))
    assert "once" not in table["neighbor"]


def test_a_group_is_a_table_in_its_order():
    found = counts.of_group(counts.count([year()], Window(reach=3, least=1)), "months")
    assert found.words == MONTHS
    for i, word in enumerate(found.words):
        own = found.neighbors.index(f"w{chr(97 + MONTHS.index(word))}")
        assert found.table[i, own] >= 1


def test_ppmi_is_the_log_of_observed_over_expected():
    table = np.array([[8.0, 2.0], [2.0, 8.0]])
    own = Counts(("a", "b"), ("x", "y"), table, np.array([10.0, 10.0]))
    values = counts.ppmi(own, smoothing=1.0)
    assert np.allclose(values, [[np.log(0.8 / 0.5), 0], [0, np.log(0.8 / 0.5)]])


def test_a_prior_draws_counts_to_chance():
    table = np.array([[1.0, 0.0], [50.0, 50.0]])
    own = Counts(("a", "b"), ("x", "y"), table, np.array([51.0, 50.0]))
    assert counts.ppmi(own, prior=100.0)[0, 0] < counts.ppmi(own)[0, 0] / 10


@pytest.mark.parametrize("name", counts.ESTIMATORS)
def test_estimates_have_unit_length(name):
    random = np.random.default_rng(0)
    table = random.integers(1, 50, size=(12, 30)).astype(float)
    own = Counts(MONTHS, tuple(map(str, range(30))), table, table.sum(0))
    assert np.allclose(np.linalg.norm(counts.estimate(own, name), axis=1), 1)


def test_reduced_keeps_distances_where_all_components_stay():
    points = np.random.default_rng(1).normal(size=(6, 9))
    few = counts.reduced(points, 5)
    full = np.linalg.norm(points[:, None] - points, axis=-1)
    assert np.allclose(np.linalg.norm(few[:, None] - few, axis=-1), full)


def test_neighbors_can_be_chosen_and_dropped():
    own = Counts(("a",), ("x", "y", "z"), np.array([[1.0, 2.0, 3.0]]), np.ones(3))
    assert own.only(["z", "x", "?"]).neighbors == ("x", "z")
    assert own.without(["x"]).table.tolist() == [[2.0, 3.0]]
    with pytest.raises(ValueError, match="was counted"):
        own.only(["?"])


def test_words_beside_one_another_are_in_their_own_order():
    own = Counts(
        ("b", "a"), ("a", "b", "x"), np.array([[1.0, 2.0, 9.0], [3.0, 4.0, 9.0]]), np.arange(3.0)
    )
    found = own.among()
    assert found.neighbors == ("b", "a")
    assert found.table.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert found.total.tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="as a neighbor: b"):
        own.without(["b"]).among()


def test_only_the_groups_asked_for_are_counted():
    table = counts.count(["January Monday snow"], Window(least=1), ["weekdays"])
    assert set(table["group"]) == {"weekdays"}
    with pytest.raises(ValueError, match="texts: weekdays"):
        counts.count(["January snow"], groups=["weekdays"])


def test_bad_input_is_refused():
    own = Counts(("a", "b"), ("x",), np.array([[1.0], [0.0]]), np.ones(1))
    with pytest.raises(ValueError, match="no neighbor"):
        counts.ppmi(own)
    with pytest.raises(ValueError, match="smoothing=2"):
        counts.ppmi(own, smoothing=2)
    with pytest.raises(ValueError, match="no estimator"):
        counts.estimate(own, "?")
    with pytest.raises(ValueError, match="all zeros"):
        counts.unit_rows(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="size is 2"):
        counts.reduced(np.ones((2, 2)), 2)
    with pytest.raises(ValueError, match="stands in the texts"):
        counts.count(["nothing here"])
    table = counts.count(["January snow"], Window(least=1))
    with pytest.raises(ValueError, match="never counted: April"):
        counts.of_group(table, "months")
    with pytest.raises(ValueError, match="no group"):
        counts.of_group(table, "?")
    with pytest.raises(ValueError, match="1 or more"):
        Window(reach=0)
