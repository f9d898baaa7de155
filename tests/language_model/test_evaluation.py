"""What is counted, once each; and tables that say what they lack."""

from __future__ import annotations

import numpy as np
import pytest

from mechbook.language_model import context, corpus, evaluation, induction, score

# a token of the first window and one of the last, of different books
TARGETS = context.Targets(np.array([0, 9]), np.array([8, 8]))


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


def test_beginnings_and_pieces_share_out_the_loss(scores, windows):
    begins = windows.stream.begins
    rows = {row["kind"]: row["value"] for row in evaluation.place_rows(scores, begins, "trained")}
    mean = rows["beginnings"] * begins.mean() + rows.get("pieces", 0) * (1 - begins.mean())
    assert mean == pytest.approx(float(scores.loss.mean()), rel=1e-5)


def test_the_probabilities_of_the_best_guess_are_those_of_the_model(tiny, windows, scores):
    first = windows.take(np.array([0]))
    logits = tiny(first[:, :-1])[0].detach()
    places = slice(windows.starts[0], windows.starts[0] + 5)  # no later window holds these
    np.testing.assert_allclose(scores.sure[places], logits.softmax(-1).amax(-1)[:5], rtol=1e-4)
    doubled = (2 * logits).softmax(-1).amax(-1)[:5]
    np.testing.assert_allclose(scores.doubled[places], doubled, rtol=1e-4)


def test_calibration_is_found_in_all_and_by_book(scores, windows):
    rows = evaluation.calibration_rows(scores, windows.stream, ["one", "two"])
    errors = {(row["model"], row["kind"]) for row in rows if row["quantity"] == "calibration error"}
    assert errors == {(m, k) for m in ("trained", "logits doubled") for k in ("all", "one", "two")}
    guesses = [row["value"] for row in rows if row["quantity"] == "calibration guesses"]
    assert sum(guesses) == len(scores.loss)


def test_the_book_of_a_window_is_the_one_it_is_cut_from(windows):
    titles = evaluation.titles_of(windows, ["one", "two"], len(windows))
    assert titles == ["one"] * (len(windows) // 2) + ["two"] * (len(windows) // 2)


def test_the_past_is_measured_in_all_and_by_book(tiny, windows, monkeypatch):
    monkeypatch.setattr(evaluation.context, "targets", lambda w, which, n, seed: TARGETS)
    books = evaluation.titles_of(windows, ["one", "two"], evaluation.SAMPLE)
    counts = np.bincount(windows.stream.ids, minlength=1024)
    rows = evaluation.context_rows(tiny, windows, books, counts, "tiny")
    found = {(row["place"], row["kind"]): row["value"] for row in rows if row["place"]}
    for version in (*context.VERSIONS, "unigram"):
        mean = (found[version, "one"] + found[version, "two"]) / 2
        assert found[version, "all"] == pytest.approx(mean, rel=1e-5)


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


def test_values_of_heads_are_put_in_their_places():
    table = {
        "place": np.array(["1.0", "0.0", "1.1", "0.1", "0.0"]),
        "kind": np.array(["a", "a", "a", "a", "b"]),
        "value": np.array([3.0, 1.0, 4.0, 2.0, 9.0]),
    }
    assert evaluation.by_head(table, kind="a").tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="no row with"):
        evaluation.by_head(table, kind="c")
