"""The model on books that it has not read: the numbers of the artifact ``language-model-evaluation``.

What ships is numbers, not the books. Rows have ``model``, ``quantity``, ``place`` (a position, a
depth, a head), ``kind`` (a book, a frequency band, a kind of token) and ``value``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mechbook import artifacts, training
from mechbook.language_model import corpus, induction, lens, sampling, score, weights
from mechbook.language_model.corpus import Stream, Windows
from mechbook.language_model.model import ModelConfig, build

Row = dict[str, Any]
NAME, COUNTS = "language-model-evaluation", "language-model-counts"
BANDS = ((1, 10), (11, 100), (101, 1000), (1001, 4000), (4001, 8192))
"""Ranks of types by how often they occur in the training text: the most frequent has rank 1."""
SAMPLE = 256
"""Windows, at even distances, for what is too slow on all of them."""


@dataclass(frozen=True)
class Scores:
    """What the model made of each token of a stream; nan and False where no window holds it.

    Attributes:
        loss: nats.
        right: whether the model's best guess was the token.
        position: place in its window, from 0.
    """

    loss: Float[np.ndarray, " token"]
    right: Bool[np.ndarray, " token"]
    position: Int[np.ndarray, " token"]


@torch.no_grad()
def stream_scores(model: Any, windows: Windows, at_once: int = 32) -> Scores:
    """Read a whole stream window by window; each token counts once.

    Where the last window of a document overlaps the one before, its reading counts: it has seen
    more of what came before.
    """
    size = len(windows.stream.ids)
    loss, right = np.full(size, np.nan, np.float32), np.zeros(size, bool)
    position = np.full(size, -1)
    for which in np.array_split(np.arange(len(windows)), -(-len(windows) // at_once)):
        tokens = windows.take(which)
        places = windows.starts[which][:, None] + np.arange(windows.length)
        guess = model(tokens[:, :-1]).float().log_softmax(-1)
        target = tokens[:, 1:]
        loss[places] = -guess.gather(-1, target[..., None])[..., 0].numpy()
        right[places] = (guess.argmax(-1) == target).numpy()
        position[places] = np.arange(windows.length)
    return Scores(loss, right, position)


def shuffled(windows: Windows, count: int, seed: int) -> Int[torch.Tensor, "count length+1"]:
    """A sample of windows with their words in random order: the same words, no sentences.

    A word that is spelled in pieces stays whole.
    """
    which = windows.spread(count)
    tokens, draw = windows.take(which), training.generator(seed)
    for row, start in zip(tokens, windows.starts[which], strict=True):
        begins = windows.stream.begins[start : start + windows.length]
        word = torch.from_numpy(begins.cumsum())
        place = torch.rand(int(word.max()) + 1, generator=draw)
        row[1:] = row[1:][place[word].argsort(stable=True)]
    return tokens


# --- rows ------------------------------------------------------------------------------------------


def book_rows(scores: Scores, stream: Stream, titles: Sequence[str], model: str) -> list[Row]:
    """Sum of nats, tokens, words and characters of each book."""
    rows, first = [], 0
    for title, last, characters in zip(titles, stream.ends, stream.characters, strict=True):
        part = slice(first, int(last))
        facts = {
            "nats": float(np.nansum(scores.loss[part], dtype=np.float64)),
            "tokens": int(np.isfinite(scores.loss[part]).sum()),
            "words": int(stream.begins[part].sum()),
            "characters": int(characters),
            "right": int(scores.right[part].sum()),
        }
        rows += [_row(model, name, "", title, value) for name, value in facts.items()]
        first = int(last)
    return rows


def position_rows(scores: Scores, model: str) -> list[Row]:
    """Mean loss at each place of a window."""
    places = range(scores.position.max() + 1)
    return [
        _row(model, "nats by position", p, "", np.nanmean(scores.loss[scores.position == p]))
        for p in places
    ]


def band_rows(
    scores: Scores, ids: Int[np.ndarray, " token"], rank: Int[np.ndarray, " type"], model: str
) -> list[Row]:
    """Share, accuracy and loss of the tokens of each frequency band that has any."""
    rows, read = [], np.isfinite(scores.loss)
    for low, high in BANDS:
        there = read & (rank[ids] >= low) & (rank[ids] <= high)
        if not there.any():
            continue
        facts = {
            "share by band": there.sum() / read.sum(),
            "accuracy by band": scores.right[there].mean(),
            "nats by band": scores.loss[there].mean(),
        }
        rows += [_row(model, name, "", f"{low}–{high}", value) for name, value in facts.items()]
    return rows


def calibration_rows(model: Any, tokens: torch.Tensor, text: str) -> list[Row]:
    """Loss against entropy on one text, and how often guesses of a given confidence are right."""
    found = sampling.calibration(model, tokens, 10)
    rows = [
        _row("trained", "entropy", "", text, float(sampling.entropy(model, tokens).mean())),
        _row("trained", "loss", "", text, float(score.token_losses(model, tokens).mean())),
    ]
    bins = zip(found.predicted.tolist(), found.right.tolist(), found.count.tolist(), strict=True)
    for number, (predicted, right, count) in enumerate(bins):
        values = {"predicted": predicted, "right": right, "guesses": count}
        rows += [
            _row("trained", f"calibration {name}", number, text, value)
            for name, value in values.items()
            if count
        ]
    rows.append(_row("trained", "calibration error", "", text, found.error))
    return rows


def _row(model: str, quantity: str, place: Any, kind: str, value: Any) -> Row:
    return {
        "model": model,
        "quantity": quantity,
        "place": str(place),
        "kind": kind,
        "value": float(value),
    }


# --- recipes ---------------------------------------------------------------------------------------


def make_counts(text: str) -> tuple[Mapping[str, np.ndarray], dict]:
    """Recipe: how often each type occurs in the training text."""
    tokenizer = weights.load_tokenizer()
    texts = (document.text for document in corpus.open_text(text, "train"))
    ids = corpus.encode(tokenizer, texts).ids
    size = tokenizer.get_vocab_size()
    columns = {"id": np.arange(size), "count": np.bincount(ids, minlength=size)}
    about = "How often each of the tokenizer's types occurs in the training text"
    return columns, {
        "about": about,
        "seeds": [],
        "inputs": {"tokenizer": artifacts.checksum(weights.TOKENIZER)},
    }


def make_evaluation(text: str) -> tuple[Mapping[str, np.ndarray], dict]:
    """Recipe: the trained model, and its controls, on the validation books."""
    tokenizer, model = weights.load_tokenizer(), weights.load()
    untrained = build(ModelConfig(), tokenizer).eval()
    books = list(corpus.open_text(text, "validation"))
    stream = corpus.encode(tokenizer, (book.text for book in books))
    windows = corpus.windows(tokenizer, stream, ModelConfig().n_ctx)
    counts = artifacts.load_table(COUNTS)["count"]
    rows = _whole(model, windows, [book.title for book in books], counts)
    mixed, sample = shuffled(windows, SAMPLE, seed=0), windows.evenly(SAMPLE)
    for name, each in (("trained", model), ("untrained", untrained)):
        for kind, tokens in (("books", sample), ("shuffled", mixed)):
            rows.append(
                _row(name, "sample nats", "", kind, score.token_losses(each, tokens).mean())
            )
        rows += lens.evaluation_rows(each, sample, name)
        rows += induction.evaluation_rows(each, sample, counts, name)
    rows += calibration_rows(model, sample, "books")
    too_sure = sampling.calibration(lambda tokens: 2 * model(tokens), sample)
    rows.append(_row("logits doubled", "calibration error", "", "books", too_sure.error))
    facts = {
        "about": "The language model and its controls on the validation books: numbers only",
        "seeds": [0],
        "inputs": {
            "language-model": artifacts.checksum(weights.NAME),
            **weights.sources(books),
        },
    }
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}, facts


def _whole(
    model: Any, windows: Windows, titles: Sequence[str], counts: Int[np.ndarray, " type"]
) -> list[Row]:
    """What is measured on every token of the books."""
    scores, rank = stream_scores(model, windows), induction.ranks(counts).numpy()
    return [
        *book_rows(scores, windows.stream, titles, "trained"),
        *position_rows(scores, "trained"),
        *band_rows(scores, windows.stream.ids, rank, "trained"),
    ]


# --- reading the table -----------------------------------------------------------------------------


def select(table: Mapping[str, np.ndarray], **wanted: Any) -> Float[np.ndarray, " row"]:
    """The values of the rows that have all the given entries, in order.

    Raises:
        ValueError: no such row; the message lists what there is.
    """
    keep = np.ones(len(table["value"]), bool)
    for column, value in wanted.items():
        is_text = table[column].dtype.kind == "U"
        keep &= table[column] == (str(value) if is_text else value)
    if not keep.any():
        there = {column: sorted({*table[column].tolist()})[:12] for column in wanted}
        raise ValueError(f"no row with {wanted}; there are {there}")
    return table["value"][keep]


def one(table: Mapping[str, np.ndarray], **wanted: Any) -> float:
    """The value of the only row that has all the given entries.

    Raises:
        ValueError: none, or more than one.
    """
    found = select(table, **wanted)
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows with {wanted}; say more of the entries")
    return float(found[0])


def along(
    table: Mapping[str, np.ndarray], places: Sequence[str], **wanted: Any
) -> Float[np.ndarray, " place"]:
    """The value at each of the places, in their order.

    Raises:
        ValueError: a place without such a row, or with several.
    """
    return np.array([one(table, place=place, **wanted) for place in places])


def per_book(
    table: Mapping[str, np.ndarray], quantity: str = "nats", unit: str = "tokens"
) -> dict[str, float]:
    """For each book its sum of ``quantity`` over its number of ``unit``."""
    values = total(table, quantity=quantity) / total(table, quantity=unit)
    return dict(zip(_books(table).tolist(), values.tolist(), strict=True))


def total(table: Mapping[str, np.ndarray], quantity: str) -> Float[np.ndarray, " book"]:
    """A sum for each book: "nats", "tokens", "words", "characters" or "right" (guesses)."""
    books = _books(table)
    found = [one(table, model="trained", quantity=quantity, kind=book) for book in books]
    return np.array(found)


def _books(table: Mapping[str, np.ndarray]) -> np.ndarray:
    return table["kind"][(table["model"] == "trained") & (table["quantity"] == "tokens")]
