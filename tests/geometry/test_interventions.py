import numpy as np
import pytest
import torch
from tests.geometry.clock_network import TASK, Clock

from mechbook.geometry import arithmetic, interventions
from mechbook.geometry.arithmetic import Task


@pytest.fixture(scope="module")
def own():
    return interventions.bench(Clock(), TASK)


def flips(own, site, depth, kind, strength=1.0, match="as it is"):
    said, meant = interventions.outcomes(own, site, depth, kind, strength, match)
    return float((said == meant).float().mean())


def test_the_hand_made_network_adds():
    new = arithmetic.split(TASK)[1]
    assert arithmetic.accuracies(Clock(), new, 1)["all"] == 1


@pytest.mark.parametrize("kind", ["add", "swap", "lerp", "slerp", "angular", "turned centroid"])
@pytest.mark.parametrize("place", [("item", 0), ("final", 1)])
def test_whatever_moves_the_month_flips_a_clock(own, kind, place):
    assert flips(own, *place, kind) == 1


@pytest.mark.parametrize("kind", interventions.KINDS)
@pytest.mark.parametrize("place", [("item", 1)])
def test_where_the_month_is_no_longer_read_nothing_flips(own, kind, place):
    assert flips(own, *place, kind) == 0


@pytest.mark.parametrize("kind", ["norm only", "random planes"])
def test_controls_do_not_flip(own, kind):
    assert flips(own, "item", 0, kind) == 0


def test_the_first_harmonic_alone_flips_less_than_all():
    weak = interventions.bench(Clock(strengths=(0.2, 1, 1, 1, 1, 1)), TASK)
    assert flips(weak, "final", 1, "first harmonic") < 0.5
    assert flips(weak, "final", 1, "angular") == 1


def test_centroids_come_from_training_sums_alone():
    """A bench is the same whatever the network does on held-out sums, but for its trials."""
    own = interventions.bench(Clock(), TASK)
    known = arithmetic.split(TASK)[0]
    h = Clock().E[known.tokens[:, 3]]
    first = h[known.item == 0].mean(0)
    assert torch.allclose(own.spaces["item"][0].centroids[0], first, atol=1e-5)


def test_each_trial_meets_every_other_month_once(own):
    pairs = {(int(a), int(b)) for a, b in zip(own.start["item"], own.end["item"], strict=True)}
    assert pairs == {(a, b) for a in range(12) for b in range(12) if a != b} & pairs
    assert bool((own.start["item"] != own.end["item"]).all())
    assert len(own.trials) == 11 * len(arithmetic.split(TASK)[1])


def test_fewer_trials_are_some_of_all(own):
    few = interventions.bench(Clock(), TASK, most=50)

    def rows(bench):
        pairs = zip(bench.trials.tokens.tolist(), bench.end["item"].tolist(), strict=True)
        return {(*tokens, end) for tokens, end in pairs}

    assert len(few.trials) == len(rows(few)) == 50
    assert rows(few) <= rows(own)


def test_the_counterfactual_at_the_month_is_the_other_month_plus_the_offset(own):
    _, meant = interventions.outcomes(own, "item", 0, "add", 1.0)
    expected = own.first + (own.end["item"] + own.trials.offset) % 12
    assert torch.equal(meant, expected)


def test_the_table_counts_what_outcomes_say(own):
    rows = interventions.table(
        own, sites=["final"], depths=[1], kinds=["add"], strengths=[1.0], matches=["as it is"]
    )
    assert sum(row["flips"] for row in rows) == len(own.trials)
    assert {row["distance"] for row in rows} == set(range(1, 7))
    assert all(row["along"] == row["flips"] for row in rows)  # at full strength


def test_half_a_turn_of_a_clock_says_the_month_half_way(own):
    rows = interventions.table(
        own, sites=["item"], depths=[0], kinds=["angular"], strengths=[0.5], matches=["as it is"]
    )
    even = [row for row in rows if row["distance"] % 2 == 0]
    assert all(row["along"] == row["total"] for row in even if row["distance"] < 6)
    assert all(row["along"] == -1 for row in rows if row["distance"] % 2)
    assert not any(row["flips"] for row in even)


def test_where_all_prompts_are_alike_nothing_moves(own):
    for kind in interventions.KINDS:
        assert flips(own, "final", 0, kind) == 0


def test_rates_are_pooled_with_an_interval():
    rows = {
        "kind": np.array(["a", "a", "b"]),
        "flips": np.array([3, 5, 9]),
        "total": np.array([5, 5, 9]),
    }
    assert interventions.rate(rows, kind=["a", "b"], total=[9])[0] == 1
    share, low, high = interventions.rate(rows, kind="a")
    assert share == pytest.approx(0.8)
    z = 1.959964
    centre = (0.8 + z**2 / 20) / (1 + z**2 / 10)
    half = z * np.sqrt(0.8 * 0.2 / 10 + z**2 / 400) / (1 + z**2 / 10)
    assert (low, high) == (pytest.approx(centre - half), pytest.approx(centre + half))


def test_bad_input_is_refused(own):
    with pytest.raises(ValueError, match="no site"):
        interventions.outcomes(own, "?", 0, "add", 1.0)
    with pytest.raises(ValueError, match="depth is 2"):
        interventions.outcomes(own, "item", 2, "add", 1.0)
    with pytest.raises(ValueError, match="hits of"):
        interventions.wilson(3, 2)
    with pytest.raises(ValueError, match="no rows"):
        interventions.rate(
            {"flips": np.ones(2), "total": np.ones(2), "kind": np.array(["a", "b"])}, kind="c"
        )
    silent = Clock()
    silent.U = torch.zeros_like(silent.U)
    with pytest.raises(ValueError, match="train it first"):
        interventions.bench(silent, Task(offsets=24, cycles=1))
