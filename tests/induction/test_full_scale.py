"""Heads of a tiny GPT-2 made here; one line where there is no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mechbook import pretrained
from mechbook.induction import full_scale

WORDS = ["<|endoftext|>", *"abcdefghijkl"]


@pytest.fixture(scope="module")
def folder(tiny_gpt2: Callable[..., Path]) -> Path:
    """A GPT-2 of two layers with random weights, saved as Hugging Face saves it."""
    return tiny_gpt2(WORDS, initializer_range=0.5)


def test_passages_are_read_twice_after_the_mark(folder):
    tokens = full_scale.repeated(pretrained.load(str(folder)))
    assert tokens.shape == (8, 15)  # the longest that fits into sixteen
    assert bool((tokens[:, 0] == 0).all())
    assert torch.equal(tokens[:, 1:8], tokens[:, 8:])
    assert all(len({*row}) == 7 for row in tokens[:, 1:8].tolist())


def test_the_report_says_what_hugging_faces_own_patterns_say(folder):
    from transformers import GPT2LMHeadModel

    report = full_scale.report(str(folder))
    tokens = full_scale.repeated(pretrained.load(str(folder)))
    own = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        patterns = torch.stack(own(tokens, output_attentions=True).attentions)
    seen = torch.stack([patterns[..., query, query - 6] for query in range(8, 15)])
    layer, head = divmod(int(seen.mean((0, 2)).argmax()), 2)
    assert f"induction: {layer}.{head} ({seen.mean((0, 2)).max():.2f})" in report
    assert "composition of" in report or "no induction head stands after" in report


def test_without_a_model_there_is_one_line():
    line = full_scale.report("no-such-model")
    assert line.startswith("Skipped: no-such-model is not on this machine")
    assert "\n" not in line
