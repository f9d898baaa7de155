"""Sequences: as the paper lays them out, told by loops; fixed by seed and step; swapped as said."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import training
from mechbook.icl import classes, episodes, sequences
from mechbook.icl.config import IclConfig, gaussian
from mechbook.icl.sequences import Stream

GLYPHS = IclConfig(
    source="glyphs", side=12, n_classes=30, n_holdout=10, n_features=8, n_labels=12, episodes=64
)
POOL = classes.pool(GLYPHS)


def items(config, batch=200, seed=0, exemplars=12):
    return sequences.sample(config, exemplars, batch, training.generator(seed))


# --- training ---------------------------------------------------------------------------------


@given(seed=st.integers(0, 100), burst=st.sampled_from([(3, 3, 1, 1), (2, 2, 2, 2), (4, 4)]))
@settings(max_examples=15, deadline=None)
def test_a_bursty_context_holds_its_copies_and_the_query_is_of_the_first_kind(seed, burst):
    found = items(replace(GLYPHS, burst=burst, p_bursty=1.0), 20, seed)
    for row in found.classes.tolist():
        counts = Counter(row[:-1])
        assert sorted(counts.values()) == sorted(burst)
        assert counts[row[-1]] == burst[0]


def test_labels_are_shared_by_classes_of_the_same_remainder():
    found = items(GLYPHS)
    assert torch.equal(found.labels, found.classes[:, :-1] % 12)
    assert torch.equal(found.target, found.classes[:, -1] % 12)


def test_no_drawing_comes_twice_in_a_sequence():
    found = items(replace(GLYPHS, p_bursty=0.0, n_classes=9))
    for kinds, which in zip(found.classes.tolist(), found.exemplars.tolist(), strict=True):
        assert len({*zip(kinds, which, strict=True)}) == 9


def test_the_share_of_bursty_sequences_is_the_one_asked_for():
    found = items(replace(GLYPHS, p_bursty=0.7), batch=3000)
    triple = [Counter(row[:-1])[row[-1]] == 3 for row in found.classes.tolist()]
    assert sum(triple) / 3000 == pytest.approx(0.7, abs=0.03)


def test_a_bursty_context_stands_in_any_order():
    found = items(replace(GLYPHS, p_bursty=1.0), batch=3000)
    where = (found.classes[:, :-1] == found.classes[:, -1:]).float().mean(0)
    torch.testing.assert_close(where, torch.full((8,), 3 / 8), atol=0.04, rtol=0)


@pytest.mark.parametrize("zipf", [0.0, 1.0, 1.5])
def test_classes_come_as_often_as_the_law_says(zipf):
    found = items(replace(GLYPHS, p_bursty=0.0, zipf=zipf), batch=4000)
    seen = torch.bincount(found.classes.flatten(), minlength=30) / found.classes.numel()
    weights = [rank**-zipf for rank in range(1, 31)]
    for rank in (0, 1, 9):
        assert float(seen[rank]) == pytest.approx(weights[rank] / sum(weights), abs=0.01)


def test_drawing_without_replacement_has_the_chances_of_one_draw_after_the_other():
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    found = sequences.distinct(p, 40_000, 2, training.generator(0))
    seen = Counter(map(tuple, found.tolist()))
    for first in range(3):
        assert (first, first) not in seen
        for second in {0, 1, 2} - {first}:
            chance = float(p[first] * p[second] / (1 - p[first]))
            assert seen[first, second] / 40_000 == pytest.approx(chance, abs=0.01)


@given(count=st.integers(1, 9), zipf=st.floats(0, 2), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_what_is_drawn_without_replacement_differs(count, zipf, seed):
    found = sequences.distinct(sequences.frequencies(9, zipf), 50, count, training.generator(seed))
    assert all(len({*row}) == count for row in found.tolist())
    assert found.min() >= 0
    assert found.max() < 9


def test_sequences_hang_on_seed_and_step_and_not_on_decay():
    def batch(step, **changes):
        return Stream(replace(GLYPHS, **changes), POOL).batch(step)

    here = batch(3)
    for changes in ({"decay": 0.3}, {"arm": "L1", "decay": 1.0}, {"decayed": "attention"}):
        for name, value in batch(3, **changes).items():
            assert torch.equal(value, here[name])
    assert not torch.equal(batch(4)["target"], here["target"])
    assert not torch.equal(batch(3, seed=1)["target"], here["target"])


def test_a_batch_shows_drawings_of_the_classes_that_the_run_may_see():
    batch = Stream(GLYPHS, POOL).batch(0)
    seen = POOL.table[POOL.choose(30, 0)].flatten(0, 2)
    known = {tuple(row) for row in seen.tolist()}
    shown = {tuple(row) for row in batch["inputs"].flatten(0, 1).tolist()}
    assert shown <= known
    assert not shown & {tuple(row) for row in POOL.table[POOL.holdout].flatten(0, 2).tolist()}


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (
            lambda g: sequences.drawings(5, 9, 8, g),
            "9 drawings .* there are 8; ask for fewer shots",
        ),
        (lambda g: sequences.distinct(sequences.frequencies(3, 0), 5, 4, g), "there are 3"),
        (lambda g: episodes.make("iclx", GLYPHS, POOL), "give one of icl, novel, swap, iwl, ciwl"),
        (
            lambda g: episodes.make("icl", GLYPHS, replace(POOL, holdout=POOL.holdout[:1])),
            "1 classes are held out, and an episode needs 2",
        ),
    ],
)
def test_impossible_draws_are_refused(act, says):
    with pytest.raises(ValueError, match=says):
        act(training.generator(0))


# --- episodes ---------------------------------------------------------------------------------


def nearest_class(pool, inputs, among):
    """Which of some classes each picture is a drawing of (pictures are told apart exactly)."""
    table = pool.table[among].flatten(1, 2)
    distance = torch.cdist(inputs.flatten(0, 1), table.flatten(0, 1))
    return (distance.argmin(1) // table.shape[1]).view(inputs.shape[:2])


def test_icl_shows_two_held_out_classes_four_times_each_and_the_query_is_a_fifth_drawing():
    asked = episodes.make("icl", GLYPHS, POOL)
    kinds = nearest_class(POOL, asked.inputs, POOL.holdout)
    for row, labels, target in zip(
        kinds.tolist(), asked.labels.tolist(), asked.target.tolist(), strict=True
    ):
        assert sorted(Counter(row[:-1]).values()) == [4, 4]
        assert {*labels} == {0, 1}
        said = {kind: label for kind, label in zip(row[:-1], labels, strict=True)}
        assert said[row[-1]] == target
        assert all(said[k] == label for k, label in zip(row[:-1], labels, strict=True))
    for pictures in asked.inputs:
        assert len(pictures.unique(dim=0)) == 9
    assert 0.3 < asked.target.float().mean() < 0.7
    assert (asked.own == -1).all()


def test_novel_has_the_layout_of_training_and_any_labels():
    asked = episodes.make("novel", GLYPHS, POOL)
    kinds = nearest_class(POOL, asked.inputs, POOL.holdout)
    for row, labels in zip(kinds.tolist(), asked.labels.tolist(), strict=True):
        assert sorted(Counter(row[:-1]).values()) == [1, 1, 3, 3]
        assert len({*labels}) == 4
    assert len(asked.labels.unique()) == 12


@pytest.mark.parametrize("kind", ["swap", "iwl", "ciwl"])
def test_episodes_of_training_say_the_label_that_the_class_had(kind):
    asked = episodes.make(kind, GLYPHS, POOL)
    kinds = nearest_class(POOL, asked.inputs, POOL.choose(30, 0))
    assert torch.equal(asked.own, kinds[:, -1] % 12)
    told = asked.labels == kinds[:, :-1] % 12
    if kind == "swap":
        assert (~told).sum(1).eq(6).all()
        assert (asked.target != asked.own).all()
        context = asked.labels[asked.match].view(64, 3)
        assert torch.equal(context, asked.target[:, None].expand(-1, 3))
    else:
        assert told.all()
        assert torch.equal(asked.target, asked.own)


def test_without_the_querys_class_its_label_is_absent_too():
    asked = episodes.make("iwl", GLYPHS, POOL)
    assert not asked.match.any()
    assert not (asked.labels == asked.target[:, None]).any()
    assert all(len({*row}) == 8 for row in asked.labels.tolist())


def test_a_copy_is_at_hand_in_ciwl():
    asked = episodes.make("ciwl", GLYPHS, POOL)
    assert asked.match.sum(1).eq(3).all()
    assert asked.offered.gather(1, asked.target[:, None]).all()
    assert asked.offered.sum(1).eq(4).all()


def test_held_out_episodes_are_the_same_for_every_run_and_the_others_for_every_decay():
    one = replace(GLYPHS, seed=0)
    for kind in ("icl", "novel"):
        other = replace(GLYPHS, seed=1, n_classes=9, decay=1.0)
        first, second = (episodes.make(kind, c, POOL) for c in (one, other))
        assert torch.equal(first.inputs, second.inputs)
        assert torch.equal(first.labels, second.labels)
    first, second = (episodes.make("iwl", c, POOL) for c in (one, replace(one, decay=1.0)))
    assert torch.equal(first.inputs, second.inputs)


def test_every_class_of_training_is_asked_about_alike_within_its_label():
    config = replace(GLYPHS, episodes=6000)
    asked = episodes.make("ciwl", config, POOL)
    kinds = nearest_class(POOL, asked.inputs[:, -1:], POOL.choose(30, 0)).flatten()
    seen = torch.bincount(kinds, minlength=30) / 6000
    for c in range(30):
        share = len([k for k in range(30) if k % 12 == c % 12])
        assert float(seen[c]) == pytest.approx(1 / 12 / share, abs=3 * math.sqrt(0.08 / 6000))


def test_gaussian_episodes_need_no_numbers_for_exemplars():
    config = gaussian(n_classes=64, n_holdout=16, episodes=8)
    asked = episodes.make("novel", config, classes.pool(config))
    assert asked.inputs.shape == (8, 9, 63)
    assert all(len(pictures.unique(dim=0)) == 9 for pictures in asked.inputs)
