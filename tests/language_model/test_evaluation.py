"""What is counted, once each; and tables that say what they lack."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechbook.language_model import corpus, evaluation, induction, score


@pytest.fixture
def windows(tokenizer):
    texts = ["The king said to the queen: I saw the old house on the hill in May. " * 3] * 2
    return corpus.windows(tokenizer, corpus.encode(tokenizer, texts), 10)


@pytest.fixture
def scores(tiny, windows):
    return evaluation.stream_scores(tiny, windows, at_once=3)


def test_every_token_has_one_loss(scores, windows):
    assert np.isfinite(scores.loss).all()
    assert len(scores.loss) == len(windows.stream.ids)


def test_a_token_has_the_loss_of_the_last_window_that_holds_it(tiny, windows, scores):
    losses = score.token_losses(tiny, windows.take(np.arange(len(windows)))).numpy()
    wanted, place = np.empty(len(scores.loss)), np.empty(len(scores.loss), int)
    for row, start in enumerate(windows.starts):
        for column in range(windows.length):
            wanted[start + column], place[start + column] = losses[row, column], column
    np.testing.assert_allclose(scores.loss, wanted, rtol=1e-5)
    assert scores.position.tolist() == place.tolist()


def test_the_sums_of_the_books_are_the_sum_of_all(scores, windows):
    rows = evaluation.book_rows(scores, windows.stream, ["one", "two"], "trained")
    nats = [row["value"] for row in rows if row["quantity"] == "nats"]
    words = [row["value"] for row in rows if row["quantity"] == "words"]
    assert sum(nats) == pytest.approx(float(scores.loss.sum()), rel=1e-5)
    assert sum(words) == windows.stream.begins.sum()


def test_bands_share_out_all_tokens(scores, windows):
    rank = induction.ranks(np.bincount(windows.stream.ids, minlength=8192)).numpy()
    rows = evaluation.band_rows(scores, windows.stream.ids, rank, "trained")
    assert sum(r["value"] for r in rows if r["quantity"] == "share by band") == pytest.approx(1)


def test_positions_are_those_of_a_window(scores, windows):
    rows = evaluation.position_rows(scores, "trained")
    assert [row["place"] for row in rows] == [str(p) for p in range(windows.length)]
    first = scores.loss[scores.position == 0].mean()
    assert rows[0]["value"] == pytest.approx(float(first), rel=1e-5)


def test_shuffling_keeps_the_mark_first_and_the_words(windows):
    mixed, kept = evaluation.shuffled(windows, 4, seed=0), windows.evenly(4)
    assert torch.equal(mixed[:, 0], kept[:, 0])
    assert torch.equal(mixed.sort(1).values, kept.sort(1).values)
    assert not torch.equal(mixed, kept)
    assert torch.equal(mixed, evaluation.shuffled(windows, 4, seed=0))


def test_shuffling_keeps_the_pieces_of_a_word_in_their_order(windows):
    tokens, mixed = windows.evenly(2), evaluation.shuffled(windows, 2, seed=0)
    begins = windows.stream.begins[windows.starts[windows.spread(2)][:, None] + np.arange(10)]
    for row, (before, after) in enumerate(zip(tokens[:, 1:], mixed[:, 1:], strict=True)):
        pairs = {*zip(after[:-1].tolist(), after[1:].tolist(), strict=True)}
        for place in range(1, 10):
            if not begins[row, place]:
                assert (int(before[place - 1]), int(before[place])) in pairs


# --- reading a table ---


TABLE = {
    "model": np.array(["trained", "trained", "untrained"]),
    "quantity": np.array(["nats", "tokens", "nats"]),
    "place": np.array(["a", "a", "a"]),
    "kind": np.array(["book", "book", "book"]),
    "value": np.array([6.0, 2.0, 9.0]),
}


def test_one_finds_the_only_row():
    assert evaluation.one(TABLE, model="untrained", quantity="nats") == 9


def test_a_row_that_is_not_there_is_named_with_what_is():
    with pytest.raises(ValueError, match=r"no row with .*'words'.*nats"):
        evaluation.select(TABLE, quantity="words")


def test_an_ambiguous_row_is_refused():
    with pytest.raises(ValueError, match="2 rows"):
        evaluation.one(TABLE, quantity="nats")


def test_numbers_are_found_by_value():
    table = {"fraction": np.array([0.25, 1.0]), "value": np.array([1.0, 2.0])}
    assert evaluation.one(table, fraction=0.25) == 1


def test_per_book_divides_sum_by_number():
    assert evaluation.per_book(TABLE) == {"book": 3.0}


def test_along_keeps_the_order_of_the_places():
    table = {"place": np.array(["b", "a"]), "value": np.array([2.0, 1.0])}
    assert evaluation.along(table, ["a", "b"]).tolist() == [1, 2]
