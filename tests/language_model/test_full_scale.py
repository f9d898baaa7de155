"""The chapter on a pretrained model: on a tiny GPT-2 made here, and in one line where there is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mechbook import pretrained
from mechbook.language_model import full_scale

WORDS = ["<|endoftext|>", "the", "city", "of", "Paris", "and", "Rome", "is", "old", "a", "king"]
WORDS += ["saw", "it", "in", "May"]
TEXT = "the king saw Paris and it is old " * 4
"""Twice as long as the model can read."""


@pytest.fixture(scope="module")
def folder(tiny_gpt2: Callable[..., Path]) -> Path:
    """A GPT-2 of two layers with random weights and a few words, saved as Hugging Face saves it."""
    return tiny_gpt2(WORDS, initializer_range=0.5)


@pytest.fixture(scope="module")
def model(folder):
    return pretrained.load(str(folder))


@pytest.fixture(scope="module")
def lines(folder):
    return full_scale.report(str(folder), TEXT).splitlines()


def by_hand(folder, rows):
    """The losses of some rows, by Hugging Face's own forward pass."""
    from transformers import GPT2LMHeadModel

    own = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.no_grad():
        guesses = [own(row[None, :-1]).logits[0].log_softmax(-1) for row in rows]
    picked = zip(guesses, rows, strict=True)
    return [-guess[range(len(guess)), row[1:]] for guess, row in picked]


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_the_report_agrees_with_hugging_faces_own_losses(folder, lines):
    ids = torch.tensor([WORDS.index(word) for word in TEXT.split()])
    rows = [torch.cat([torch.tensor([0]), part]) for part in ids.split(16)]
    loss = torch.cat(by_hand(folder, rows))
    said = numbers(next(line for line in lines if line.startswith("on the text")))
    assert said == [
        pytest.approx(float(loss.mean()), abs=6e-4),
        pytest.approx(float(loss.sum()) / len(TEXT), abs=6e-4),
    ]


def test_the_last_depth_is_the_models_own_loss(lines):
    depths = [line for line in lines if line.startswith("  after")]
    assert [int(line.split()[1]) for line in depths] == [0, 1, 2]
    own = numbers(next(line for line in lines if line.startswith("on the text")))[0]
    assert numbers(depths[-1])[0] == pytest.approx(own, abs=2e-3)
    assert abs(numbers(depths[0])[0] - own) > 0.01


def test_the_gain_is_first_copy_minus_second(folder, model, lines):
    tokens = full_scale.repeated_passages(model)
    loss = torch.stack(by_hand(folder, tokens))
    half = loss.shape[1] // 2
    first, second = float(loss[:, 1:half].mean()), float(loss[:, half + 1 :].mean())
    said = numbers(next(line for line in lines if line.startswith("random tokens")))
    assert said == [pytest.approx(x, abs=6e-3) for x in (first, second, first - second)]


def test_the_heads_are_said_with_the_attention_they_pay(folder, model, lines):
    from transformers import GPT2LMHeadModel

    tokens = full_scale.repeated_passages(model)
    half = (tokens.shape[1] - 1) // 2
    own = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        patterns = torch.stack(own(tokens, output_attentions=True).attentions)
    seen = [patterns[..., query, query - half + 1] for query in range(half + 1, 2 * half + 1)]
    wanted = torch.stack(seen).mean((0, 2))
    said = re.findall(r"(\d+)\.(\d+) \((\d\.\d\d)\)", lines[-1])
    assert said
    for layer, head, value in said:
        assert float(value) == pytest.approx(float(wanted[int(layer), int(head)]), abs=6e-3)
    assert float(said[0][2]) == pytest.approx(float(wanted.max()), abs=6e-3)


def test_a_long_text_is_cut_and_each_part_begins_with_the_mark(model):
    windows = full_scale.cut(model, TEXT)
    assert [window.shape for window in windows] == [(1, 17), (1, 17)]
    assert [int(window[0, 0]) for window in windows] == [0, 0]
    said = [WORDS[i] for window in windows for i in window[0, 1:]]
    assert said == TEXT.split()


def test_an_empty_text_is_refused(model):
    with pytest.raises(ValueError, match="give at least one word"):
        full_scale.cut(model, "  ")


@pytest.mark.parametrize(("begins", "ends", "taken"), [(3, 5, 3), (None, 5, 5), (0, 5, 0)])
def test_a_text_begins_with_the_mark_that_there_is(begins, ends, taken):
    tokenizer = SimpleNamespace(bos_token_id=begins, eos_token_id=ends)
    assert pretrained.beginning(SimpleNamespace(tokenizer=tokenizer)) == taken


def test_a_tokenizer_without_marks_is_refused():
    tokenizer = SimpleNamespace(bos_token_id=None, eos_token_id=None)
    with pytest.raises(ValueError, match="neither the beginning nor the end"):
        pretrained.beginning(SimpleNamespace(tokenizer=tokenizer))


def test_a_missing_model_is_one_line_with_the_way_out():
    report = full_scale.report("nobody/no-such-model", TEXT)
    assert report == (
        "Skipped: nobody/no-such-model is not on this machine; with a network, fetch it once by "
        "`python -m mechbook.pretrained nobody/no-such-model`."
    )
