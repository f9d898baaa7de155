"""The known-truth measurements: what is measured, what the truths are, and the table's form."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mechbook.sae import experiments
from mechbook.sae.experiments import World, along, at, measured, paired_truth, run, shape, table
from mechbook.sae.training import TrainingConfig
from mechbook.sae.truth import random_truth
from mechbook.sae.variants import SAEConfig, build

QUICK = TrainingConfig(steps=4, measure_every=2)
TINY = World(4, 3, 0.2)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(
        experiments, "world_truth", lambda world: random_truth(world.n, world.n_hidden, 0.2)
    )
    monkeypatch.setattr(experiments, "STANDARD", QUICK)


def trained(**options):
    truth = random_truth(4, 3, 0.2)
    return run(shape(TINY, **options), truth, (0.1, 0.2), (0, 1), QUICK, batch=16), truth


def test_a_perfect_dictionary_measures_as_perfect():
    truth = random_truth(3, 8, 0.3)
    truth = replace(truth, W=torch.linalg.qr(truth.W).Q)
    sae = build(SAEConfig(8, 3), 0)
    with torch.no_grad():
        sae.W_dec.copy_(truth.W.T)
        sae.W_enc.copy_(truth.W)
    found = experiments.measures(sae, truth, truth.held_out(4096)[1])
    assert found["recovered"] == found["mean max cosine"] == pytest.approx(1)
    assert found["explained"] == pytest.approx(1, abs=1e-5)
    assert found["missing"] == pytest.approx(0, abs=1e-5)
    assert found["aligned"] == pytest.approx(1)
    assert found["copies"] == 1


def test_rows_name_every_member_and_every_measure():
    members, truth = trained()
    rows = measured("section", "setting", members, truth)
    assert {(row[2], row[3]) for row in rows} == {(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)}
    assert len(rows) == 4 * 8
    with pytest.raises(ValueError, match="3 places for 2 prices"):
        measured("section", "setting", members, truth, [1, 2, 3])


def test_a_dictionary_agrees_with_itself_and_is_counted_for_the_others():
    members, _ = trained()
    assert experiments.agreement(members).shape == (1,)
    first = members.sae(0, 0).W_dec.detach()
    assert experiments.recovery.match(first, first).recovered == 1


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.8])
def test_pairs_have_their_cosine_and_the_dual_has_the_predicted_one(cosine):
    directions = paired_truth(cosine).directions
    cosines = directions @ directions.T
    assert cosines[0, 1] == pytest.approx(cosine)
    assert float(cosines[0, 2:].abs().max()) == 0
    dual = torch.linalg.pinv(directions).T
    own = torch.cosine_similarity(dual, directions, dim=-1)
    predicted = experiments.predicted_alignment(cosine)
    torch.testing.assert_close(own, torch.full((8,), predicted), rtol=0, atol=1e-5)


def test_a_cosine_of_one_is_no_pair():
    with pytest.raises(ValueError, match="from 0 to below 1"):
        paired_truth(1.0)


def test_families_are_at_right_angles_and_children_never_alone():
    truth = experiments.family_truth()
    torch.testing.assert_close(
        truth.directions @ truth.directions.T, torch.eye(20), atol=1e-5, rtol=0
    )
    x, _ = truth.held_out(2000)
    assert not bool(((x[:, 5:10] > 0) & (x[:, :5] == 0)).any())


@pytest.mark.parametrize("name", [n for n in experiments.SECTIONS if n not in ("prices", "deaths")])
def test_every_section_gives_rows_of_its_name(name, monkeypatch):
    monkeypatch.setattr(experiments, "PAIRED", QUICK)
    smaller = {"variants": ({"topk": (1,), "tied": (0.1,)},), "penalties": (["L2"],)}
    smaller |= {"duals": ([0.5],), "widths": ([4],), "families": (["L1"],)}
    rows = experiments.SECTIONS[name]((0, 1), *smaller[name])
    assert {row[0] for row in rows} == {name}
    assert {row[3] for row in rows} == {0, 1}


def test_prices_say_how_much_of_the_first_dictionary_the_others_have(monkeypatch):
    monkeypatch.setitem(experiments.PRICES, TINY, (0.1,))
    rows = experiments.prices((0, 1, 2), [TINY])
    assert [row[3] for row in rows if row[4] == "as first seed"] == [1, 2]


def test_deaths_are_counted_over_the_updates():
    rows = experiments.deaths((0, 1), ["simple"], replace(QUICK, resample_every=2))
    steps = {row[2] for row in rows if row[4] == "dead"}
    assert steps == {0.0, 2.0, 4.0}
    assert {row[2] for row in rows if row[4] == "recovered"} == {4.0}


ROWS = [("a", "b", 2.0, 1, "q", 5.0), ("a", "b", 1.0, 0, "q", 2.0),
        ("a", "b", 2.0, 0, "q", 4.0), ("a", "b", 1.0, 1, "q", 3.0)]  # fmt: skip


def test_a_quantity_is_read_back_in_order():
    places, values = along(table(ROWS), "a", "b", "q")
    assert places.tolist() == [1, 2]
    np.testing.assert_array_equal(values, [[2, 3], [4, 5]])
    assert at(table(ROWS), "a", "b", "q", 2).tolist() == [4, 5]


def test_what_the_table_does_not_have_is_said():
    with pytest.raises(ValueError, match="no 'other' for a, b; the table has"):
        along(table(ROWS), "a", "b", "other")
    with pytest.raises(ValueError, match=r"no 3; there are \[1.0, 2.0\]"):
        at(table(ROWS), "a", "b", "q", 3)


def test_one_seed_is_no_spread():
    with pytest.raises(ValueError, match="2 or more"):
        experiments.make_known_truth(1)
