"""Scoring text: token by token, of any length, and in three units."""

from __future__ import annotations

import math

import pytest
import torch

from mechbook import training
from mechbook.language_model import score
from mechbook.language_model.score import Reading

TEXT = "The king said to the queen: “I don't know.” " * 3


@pytest.fixture
def tokens(tokenizer):
    draw = training.generator(0)
    drawn = torch.randint(1, tokenizer.get_vocab_size(), (5, 9), generator=draw)
    return torch.cat([torch.zeros(5, 1, dtype=torch.long), drawn], 1)


def surprise(logits, token):
    """Minus the log of the softmax, one number after another."""
    largest = max(logits)
    return math.log(sum(math.exp(x - largest) for x in logits)) + largest - logits[token]


def test_the_loss_of_a_token_is_minus_the_log_of_its_probability(tiny, tokens):
    found = score.token_losses(tiny, tokens)
    assert found.shape == (5, 9)
    logits = tiny(tokens[:, :-1]).tolist()
    for row, place in [(0, 0), (2, 4), (4, 8)]:
        by_hand = surprise(logits[row][place], int(tokens[row, place + 1]))
        assert float(found[row, place]) == pytest.approx(by_hand, abs=1e-5)


def test_how_many_rows_at_once_makes_no_difference(tiny, tokens):
    whole = score.token_losses(tiny, tokens)
    torch.testing.assert_close(score.token_losses(tiny, tokens, at_once=2), whole)


@pytest.mark.parametrize("length", [1, 18])
def test_what_the_model_cannot_read_is_refused_with_the_way_out(tiny, length):
    with pytest.raises(ValueError, match=rf"has {length - 1} tokens.* 1 to 16\. Use score\.read"):
        score.token_losses(tiny, torch.zeros(2, length, dtype=torch.long))


def test_a_text_that_just_fits_is_read_at_once(tiny):
    assert score.token_losses(tiny, torch.zeros(1, 17, dtype=torch.long)).shape == (1, 16)


def test_a_long_text_is_read_in_windows_that_each_begin_with_the_mark(tiny, tokenizer):
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert len(ids) > 32
    windows = [[0, *ids[start : start + 16]] for start in range(0, len(ids), 16)]
    by_window = [score.token_losses(tiny, torch.tensor([window]))[0] for window in windows]
    read = score.read(tiny, TEXT)
    torch.testing.assert_close(read.loss, torch.cat(by_window))
    assert read.tokens == [tokenizer.id_to_token(i) for i in ids]
    assert read.characters == len(TEXT)


def test_the_three_units_are_sums_over_three_counts():
    begins = torch.tensor([True, False, True, True])
    reading = Reading(["a", "##b", "c", "."], torch.tensor([1.0, 2.0, 3.0, 4.0]), begins, 8)
    assert reading.per_token == 10 / 4
    assert reading.per_word == pytest.approx(10 / 3)
    assert reading.per_character == 10 / 8


@pytest.mark.parametrize("text", ["日本", "qqqqq", "½ ½", "\x00", "<|endoftext|> king"])
def test_text_without_a_known_word_can_be_read(tiny, text):
    read = score.read(tiny, text)
    assert len(read.tokens) == len(read.loss) == len(read.begins)
    assert math.isfinite(read.per_word)
    assert math.isfinite(read.per_character)


def test_words_are_counted_once_each(tiny):
    assert int(score.read(tiny, "The qzqzq, the日").begins.sum()) == 4


@pytest.mark.parametrize("text", ["", "  \n", "***", "\u200b", None])
def test_text_without_a_token_is_refused(tiny, text):
    with pytest.raises(ValueError, match="the text is empty"):
        score.read(tiny, text)
