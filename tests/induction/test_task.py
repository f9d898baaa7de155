"""Texts: told by loops. Measures: of readers that know everything or nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import heads, training
from mechbook.induction import task as tasks
from mechbook.induction.task import Task

SMALL = Task(n_types=12, shortest=3, longest=5, length=12, distinct=True)


def texts(task=SMALL, batch=6, seed=0):
    return tasks.sample(task, batch, torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_a_text_says_its_passage_again_and_again(seed):
    found = texts(seed=seed)
    for row, period in zip(found.tokens.tolist(), found.period.tolist(), strict=True):
        assert 3 <= period <= 5
        assert len({*row[:period]}) == period
        assert all(row[t] == row[t - period] for t in range(period, 12))


def test_a_token_may_come_twice_in_a_passage_unless_that_is_forbidden():
    free = texts(Task(n_types=3, shortest=3, longest=5, length=12))
    assert any(len({*row[:3]}) < 3 for row in free.tokens.tolist())
    for row, period in zip(free.tokens.tolist(), free.period.tolist(), strict=True):
        assert all(row[t] == row[t - period] for t in range(period, 12))


def test_every_period_is_drawn():
    assert {*texts(batch=200).period.tolist()} == {3, 4, 5}


def test_targets_are_the_next_tokens_and_can_be_known_from_the_second_passage_on():
    found = texts()
    for row in range(len(found.tokens)):
        for t in range(11):
            assert found.target[row, t] == found.tokens[row, t + 1]
            assert bool(found.predictable[row, t]) == (t >= found.period[row])
        assert not found.predictable[row, 11]


def test_the_source_is_where_the_target_was_said_last():
    found = texts()
    places = found.source >= 0
    assert torch.equal(places, found.predictable)
    said = found.tokens.gather(1, found.source.clamp(min=0))
    assert torch.equal(said[places], found.target[places])
    by_tokens = heads.places(found.tokens)["induction"]
    posn = torch.arange(12)
    last = torch.where(by_tokens, posn, -1).amax(-1)
    assert torch.equal(last[places], found.source[places])


def test_ambiguous_is_what_the_token_alone_does_not_tell():
    free = texts(Task(n_types=4, shortest=3, longest=5, length=12), batch=30)
    for row in range(30):
        for t in range(12):
            before = [k for k in range(t) if free.tokens[row, k] == free.tokens[row, t]]
            others = any(free.target[row, k] != free.target[row, t] for k in before)
            assert bool(free.ambiguous[row, t]) == (others and bool(free.predictable[row, t]))
    assert not texts().ambiguous.any()


def test_accuracy_can_be_asked_for_somewhere():
    found = texts()
    logits = 30.0 * torch.nn.functional.one_hot(found.target, 12).float()
    logits[:, 6] = logits[:, 6].roll(1, -1)
    only = torch.zeros_like(found.predictable)
    only[:, 6] = True
    assert tasks.accuracy(logits, found, only) == 0
    assert 0 < tasks.accuracy(logits, found) < 1


def test_a_permuted_task_asks_for_the_image():
    plain, mapped = texts(), texts(Task(12, 3, 5, 12, True, permuted=1))
    image = tasks.permutation(Task(12, 3, 5, 12, permuted=1))
    assert torch.equal(mapped.tokens, plain.tokens)
    assert torch.equal(mapped.target, image[plain.target])
    assert sorted(image.tolist()) == list(range(12))
    assert image.tolist() != list(range(12))


def test_who_knows_everything_is_always_right():
    found = texts()
    logits = 30.0 * torch.nn.functional.one_hot(found.target, 12).float()
    assert tasks.accuracy(logits, found) == 1
    assert float(tasks.loss(logits, found)) < 1e-6


def test_who_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    found = texts()
    logits = torch.zeros(*found.tokens.shape, 12)
    assert float(tasks.loss(logits, found)) == pytest.approx(math.log(12))
    assert tasks.in_context_score(logits, found) == pytest.approx(0, abs=1e-6)


def test_who_knows_from_the_second_passage_on_gains_that_much():
    found = texts()
    known = 30.0 * torch.nn.functional.one_hot(found.target, 12).float()
    logits = known * found.predictable[..., None]
    assert tasks.in_context_score(logits, found) == pytest.approx(math.log(12), abs=1e-4)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"shortest": 1}, "2 ≤ shortest ≤ longest"),
        ({"shortest": 9, "longest": 8}, "2 ≤ shortest ≤ longest"),
        ({"n_types": 20, "distinct": True}, "n_types is 20; .* 24 different tokens as many"),
        ({"n_types": 1}, "n_types is 1; give 2 or more"),
        ({"length": 24}, "give a length above the longest passage"),
    ],
)
def test_impossible_texts_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        Task(**sizes)


def test_no_text_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        texts(batch=0)


def test_the_best_fixed_distance_is_that_of_a_loop():
    texts = tasks.sample(
        Task(n_types=9, shortest=2, longest=5, length=12), 40, training.generator(0)
    )
    tokens, target, right, count = texts.tokens.tolist(), texts.target.tolist(), 0, 0
    for posn in range(11):
        rows = [row for row in range(40) if texts.predictable[row, posn]]
        hits = [
            sum(tokens[row][place] == target[row][posn] for row in rows)
            for place in range(posn + 1)
        ]
        right, count = right + max(hits), count + len(rows)
    assert tasks.best_fixed_distance(texts) == pytest.approx(right / count)


def test_words_become_tokens_in_the_order_in_which_they_come():
    tokens, names = tasks.from_words("the cat and the dog", Task())
    assert tokens.tolist() == [[0, 1, 2, 0, 3]]
    assert names == ["the", "cat", "and", "dog"]


@pytest.mark.parametrize("line", ["", "a " * 49, " ".join(map(str, range(13)))])
def test_a_line_that_does_not_fit_is_refused(line):
    with pytest.raises(ValueError, match="give 1 to 48, and at most 12 different"):
        tasks.from_words(line, Task(n_types=12))
