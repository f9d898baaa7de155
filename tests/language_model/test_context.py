"""Versions of the past: what is moved, what stays, what is scored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mechbook import training
from mechbook.language_model import context, corpus, score


@pytest.fixture
def windows(tokenizer):
    texts = ["The king said to the zymologist: I saw the old house on the hill in May. " * 3] * 2
    return corpus.windows(tokenizer, corpus.encode(tokenizer, texts), 14)


@pytest.fixture
def where(windows):
    return context.targets(windows, np.arange(len(windows)), 3, seed=0, first=6)


def test_targets_have_enough_before_them_and_no_word_cut(windows, where):
    assert len(where.posn) > len(windows)
    for window, posn in zip(where.window, where.posn, strict=True):
        assert 7 <= posn <= 14
        assert windows.stream.begins[windows.starts[window] + posn - 1 - context.NEAR]
    assert len({*zip(where.window.tolist(), where.posn.tolist(), strict=True)}) == len(where.posn)


def test_each_version_is_the_loss_of_what_it_says(tiny, windows, where):
    found = context.losses(tiny, windows, where, seed=0)
    for i, (window, posn) in enumerate(zip(where.window, where.posn, strict=True)):
        row = windows.take(np.array([window]))
        whole = score.token_losses(tiny, row)[0, posn - 1]
        assert float(found["as it is"][i]) == pytest.approx(float(whole), rel=1e-4)
        short = torch.cat([row[:, :1], row[:, posn - 2 : posn + 1]], 1)
        last = score.token_losses(tiny, short)[0, -1]
        assert float(found["far words gone"][i]) == pytest.approx(float(last), rel=1e-4)
        other = windows.take(np.array([(window + len(windows) // 2) % len(windows)]))
        mixed = torch.cat([row[:, :1], other[:, 1 : posn - 2], row[:, posn - 2 : posn + 1]], 1)
        last = score.token_losses(tiny, mixed)[0, -1]
        assert float(found["far words from elsewhere"][i]) == pytest.approx(float(last), rel=1e-4)
    for version in ("all shuffled", "far words shuffled"):
        assert float(context.cost(found, version).abs().max()) > 1e-6


def test_shuffling_keeps_the_words_and_what_is_after(windows):
    row = windows.take(np.array([0]))[0]
    begins = torch.from_numpy(windows.stream.begins[: windows.length])
    mixed = context._shuffled(row, begins, 11, training.generator(3))
    assert int(mixed[0]) == int(row[0])
    assert torch.equal(mixed[11:], row[11:])
    assert torch.equal(mixed[1:11].sort().values, row[1:11].sort().values)
    assert not torch.equal(mixed, row)
    pairs = {*zip(mixed[:-1].tolist(), mixed[1:].tolist(), strict=True)}
    for place in range(2, 11):  # a piece still follows what it followed
        if not begins[place - 1]:
            assert (int(row[place - 1]), int(row[place])) in pairs


def test_the_unigram_knows_frequencies_alone(windows, where):
    counts = np.bincount(windows.stream.ids, minlength=1024)
    nats = context.unigram_losses(windows, where, counts)
    ids = windows.take(where.window)[np.arange(len(where.posn)), where.posn]
    expected = [-np.log((counts[i] + 1) / (counts.sum() + 1024)) for i in ids.tolist()]
    assert nats.tolist() == pytest.approx(expected, rel=1e-5)
