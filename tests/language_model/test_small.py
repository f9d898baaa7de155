"""Where the small model's curve begins, what it is compared with, and that it is repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechbook.language_model import score, small

TINY = small.SmallConfig(
    n_layers=1, d_model=16, d_mlp=32, length=12, batch=2, steps=40, measure_every=20
)
SENTENCE = "the king said to the old queen : I saw a house on the hill"
TURNS = SENTENCE.split(" ")


@pytest.fixture(scope="module")
def texts():
    """Forty documents that go round the same words, each from another place; every fifth short."""
    rounds = [(TURNS[n % len(TURNS) :] + TURNS * 2)[: 6 if n % 5 == 4 else 16] for n in range(40)]
    return [" ".join(words) for words in rounds]


@pytest.fixture(scope="module")
def parts(tokenizer, texts):
    return small.split(tokenizer, texts, TINY)


@pytest.fixture(scope="module")
def trained(tokenizer, parts):
    return small.train_small(0, tokenizer, *parts, TINY, progress=False)


def test_every_tenth_long_document_is_held_out_and_cut(tokenizer, texts, parts):
    coded = [tokenizer.encode(text).ids for text in texts]
    long = [ids[:12] for ids in coded if len(ids) >= 12]
    train, validation = parts
    assert validation.take(np.arange(len(validation)))[:, 1:].tolist() == long[9::10]
    del long[9::10]
    assert train.take(np.arange(len(train)))[:, 1:].tolist() == long


def test_too_few_documents_are_refused(tokenizer, texts):
    with pytest.raises(ValueError, match="at least 10"):
        small.split(tokenizer, texts[:9], TINY)


def test_pairs_predict_a_round_of_words_that_single_words_do_not(tokenizer, parts):
    found = small.references(*parts, tokenizer.get_vocab_size())
    assert found["unigram"] > 2 > found["bigram"] > found["trigram"]


def test_counts_are_one_row_a_document(parts):
    counts = small.counted(*parts, order=1)
    train, validation = parts
    alone = small.ngrams.fit(train.stream.ids, train.stream.ends, small.N_TYPES, 1)
    for row, tokens in zip(counts, validation.take(np.arange(len(validation))), strict=True):
        expected = [-np.log(alone.distribution([])[token]) for token in tokens[1:]]
        np.testing.assert_allclose(row, expected)


def test_the_floor_is_the_loss_of_the_model_that_is_given(tiny, parts):
    validation = parts[1]
    one_by_one = [
        float(score.token_losses(tiny, validation.take(np.array([n]))).mean())
        for n in range(len(validation))
    ]
    assert small.floor(tiny, validation) == pytest.approx(np.mean(one_by_one), rel=1e-5)


@given(st.lists(st.floats(1e-6, 1), min_size=1), st.floats(1e-6, 1))
def test_mixed_is_the_surprise_at_the_mean_probability(some, other):
    p, q = np.array(some), np.full(len(some), other)
    np.testing.assert_allclose(
        small.mixed(-np.log(p), -np.log(q)), -np.log((p + q) / 2), rtol=1e-9, atol=1e-12
    )


def test_the_untrained_model_knows_little_more_than_nothing(tokenizer, trained):
    start = trained[1].metrics["validation"][0]
    assert start > np.log(tokenizer.get_vocab_size()) - 0.5


def test_training_goes_below_the_unigram(tokenizer, parts, trained):
    unigram = small.references(*parts, tokenizer.get_vocab_size())["unigram"]
    assert trained[1].metrics["validation"][-1] < unigram


def test_the_curve_ends_where_the_model_is(parts, trained):
    model, history = trained
    own = small.losses(model, parts[1])
    assert history.metric_steps.tolist() == [0, 20, 40]
    assert history.metrics["validation"][-1] == pytest.approx(own.mean(), rel=1e-6)


def test_the_same_seed_gives_the_same_run_and_another_another(tokenizer, parts, trained):
    with torch.random.fork_rng():
        torch.manual_seed(99)
        again = small.train_small(0, tokenizer, *parts, TINY, progress=False)[1]
    other = small.train_small(1, tokenizer, *parts, TINY, progress=False)[1]
    assert np.array_equal(again.loss, trained[1].loss)
    assert not np.isclose(other.loss, trained[1].loss).all()


def test_rows_count_tokens_and_average_the_training_loss_between_measurements(trained):
    history = trained[1]
    table = small.rows(3, history, TINY)
    assert table["seed"].tolist() == [3, 3, 3]
    assert table["tokens"].tolist() == [0, 20 * 2 * 12, 40 * 2 * 12]
    expected = [np.nan, sum(history.loss[:20]) / 20, sum(history.loss[20:]) / 20]
    np.testing.assert_allclose(table["training"], expected)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"length": 0}, {"block_rate": 0.0}, {"warmup": 1.0}]
)
def test_settings_that_train_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        small.SmallConfig(**wrong)


def test_a_recipe_without_seeds_is_refused():
    with pytest.raises(ValueError, match="1 or more"):
        small.make_seeds(seeds=0)


def test_the_recipe_has_each_seed_and_the_longer_run(monkeypatch, tokenizer, parts):
    monkeypatch.setattr(small, "SmallConfig", lambda: TINY)
    monkeypatch.setattr(small, "shipped", lambda *_: parts)
    monkeypatch.setattr(small.weights, "load_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(small.artifacts, "checksum", lambda name: f"sha256 of {name}")
    columns, facts = small.make_seeds(seeds=2, longer=2)
    assert columns["seed"].tolist() == [0] * 3 + [1] * 3 + [0] * 3
    assert columns["step"].tolist() == [0, 20, 40] * 2 + [0, 40, 80]
    assert {len(values) for values in columns.values()} == {9}
    assert facts["seeds"] == [0, 1]


def test_a_short_sighted_model_reads_the_mark_and_one_token(trained, parts):
    model, validation = trained[0], parts[1]
    found, tokens = small.short_sighted(model, validation), validation.take(np.array([0]))
    for posn in (0, 3, 11):
        read = torch.tensor([[validation.end, int(tokens[0, posn])]])
        guess = model(read)[0, -1].log_softmax(-1)
        assert found[0, posn] == pytest.approx(-guess[tokens[0, posn + 1]].item(), abs=1e-4)
