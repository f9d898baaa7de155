"""The model on books that it has not read: the numbers of the artifact ``language-model-evaluation``.

What ships is numbers, not the books. Rows have ``model``, ``quantity``, ``place`` (a position, a
depth, a head), ``kind`` (a book, a frequency band, a kind of token) and ``value``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mechbook import artifacts
from mechbook.corpora import Document
from mechbook.language_model import context, corpus, induction, lens, sampling, weights
from mechbook.language_model.corpus import Stream, Windows
from mechbook.language_model.model import ModelConfig, build

Row = dict[str, Any]
NAME, COUNTS = "language-model-evaluation", "language-model-counts"
BANDS = ((1, 10), (11, 100), (101, 1000), (1001, 4000), (4001, 8192))
"""Ranks of types by how often they occur in the training text: the most frequent has rank 1."""
SAMPLE = 448
"""Windows, at even distances, for what is too slow on all of them."""
REPEATS = 4096
"""Windows, at even distances, in which words are looked for that repeat."""
SEEDS = (0, 1, 2)
"""Of the untrained models."""


@dataclass(frozen=True)
class Scores:
    """What the model made of each token of a stream; nan and False where no window holds it.

    Attributes:
        loss: nats.
        right: whether the model's best guess was the token.
        sure: the probability of that guess.
        doubled: the same, if all logits were twice as large.
        position: place in its window, from 0.
    """

    loss: Float[np.ndarray, " token"]
    right: Bool[np.ndarray, " token"]
    sure: Float[np.ndarray, " token"]
    doubled: Float[np.ndarray, " token"]
    position: Int[np.ndarray, " token"]


@torch.no_grad()
def stream_scores(model: Any, windows: Windows, at_once: int = 32) -> Scores:
    """Read a whole stream window by window; each token counts once.

    Where the last window of a document overlaps the one before, its reading counts: it has seen
    more of what came before.
    """
    size = len(windows.stream.ids)
    loss, sure, doubled = np.full((3, size), np.nan, np.float32)
    right, position = np.zeros(size, bool), np.full(size, -1)
    for which in np.array_split(np.arange(len(windows)), -(-len(windows) // at_once)):
        tokens = windows.take(which)
        places = windows.starts[which][:, None] + np.arange(windows.length)
        guess = model(tokens[:, :-1]).float().log_softmax(-1)
        target = tokens[:, 1:]
        best = guess.max(-1)
        loss[places] = -guess.gather(-1, target[..., None])[..., 0].numpy()
        right[places] = (best.indices == target).numpy()
        sure[places] = best.values.exp().numpy()
        doubled[places] = (2 * best.values - (2 * guess).logsumexp(-1)).exp().numpy()
        position[places] = np.arange(windows.length)
    return Scores(loss, right, sure, doubled, position)


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


def place_rows(scores: Scores, begins: Bool[np.ndarray, " token"], model: str) -> list[Row]:
    """Mean loss of the tokens that begin a word, and of those that go on with one."""
    return [
        _row(model, "nats by place in the word", "", kind, np.nanmean(scores.loss[there]))
        for kind, there in (("beginnings", begins), ("pieces", ~begins))
        if there.any()
    ]


def calibration_rows(scores: Scores, stream: Stream, titles: Sequence[str]) -> list[Row]:
    """How often guesses of a given confidence are right: in ten bins, and the error by book."""
    read = np.isfinite(scores.loss)
    found = sampling.binned(scores.sure[read], scores.right[read])
    bins = zip(found.predicted.tolist(), found.right.tolist(), found.count.tolist(), strict=True)
    rows = [
        _row("trained", f"calibration {name}", number, "all", value)
        for number, (predicted, right, count) in enumerate(bins)
        for name, value in (("predicted", predicted), ("right", right), ("guesses", count))
        if count
    ]
    where = {"all": slice(None), **dict(zip(titles, _parts(stream), strict=True))}
    for kind, part in where.items():
        for model, sure in (("trained", scores.sure), ("logits doubled", scores.doubled)):
            there = read[part]
            error = sampling.binned(sure[part][there], scores.right[part][there]).error
            rows.append(_row(model, "calibration error", "", kind, error))
    return rows


def context_rows(
    model: Any,
    windows: Windows,
    books: Sequence[str],
    counts: Int[np.ndarray, " type"],
    name: str,
    per_window: int = 4,
) -> list[Row]:
    """Nats of the same tokens with their past in several versions: in all, and by book.

    Args:
        model: whose losses.
        windows: of the books; of these `SAMPLE` are used.
        books: the title of each of those.
        counts: how often each type occurs in the training text.
        name: of the model, in the rows.
        per_window: tokens of each.
    """
    which = windows.spread(SAMPLE)
    where = context.targets(windows, which, per_window, seed=0)
    title = dict(zip(which.tolist(), books, strict=True))
    book = np.array([title[number] for number in where.window.tolist()])
    found = dict(context.losses(model, windows, where, seed=0))
    found["unigram"] = context.unigram_losses(windows, where, counts)
    rows = [_row(name, "targets of the past", "", "all", len(book))]
    for version, nats in found.items():
        for kind, values in (("all", nats.numpy()), *by_group(nats.numpy(), book).items()):
            rows.append(_row(name, "nats by past", version, kind, values.mean()))
    return rows


def by_group(
    values: Float[np.ndarray, " item"], group: np.ndarray
) -> dict[str, Float[np.ndarray, " member"]]:
    """The values of each group, by its name, in the order in which they come."""
    return {str(name): values[group == name] for name in dict.fromkeys(group.tolist())}


def _parts(stream: Stream) -> list[slice]:
    """Where each document stands in the stream."""
    return [slice(*ends) for ends in itertools.pairwise([0, *stream.ends.tolist()])]


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
    books = list(corpus.open_text(text, "validation"))
    stream = corpus.encode(tokenizer, (book.text for book in books))
    windows = corpus.windows(tokenizer, stream, ModelConfig().n_ctx)
    counts = artifacts.load_table(COUNTS)["count"]
    titles = [book.title for book in books]
    sample, of_sample = windows.evenly(SAMPLE), titles_of(windows, titles, SAMPLE)
    rows = _author_rows(books, {book.author for book in corpus.open_text(text, "train")})
    rows += _whole(model, windows, titles, counts)
    rows += context_rows(model, windows, of_sample, counts, "trained")
    rows += lens.evaluation_rows(model, sample, "trained", of_sample)
    for seed in SEEDS:
        untrained = build(ModelConfig(seed=seed), tokenizer).eval()
        rows += lens.evaluation_rows(untrained, sample[::8], f"untrained {seed}")
        print(f"untrained {seed} done", flush=True)
    repeats, of_repeats = windows.evenly(REPEATS), titles_of(windows, titles, REPEATS)
    rows += induction.evaluation_rows(model, repeats, of_repeats, counts, "trained")
    facts = {
        "about": "The language model and its controls on the validation books: numbers only",
        "seeds": list(SEEDS),
        "inputs": {
            "language-model": artifacts.checksum(weights.NAME),
            **weights.sources(books),
        },
    }
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}, facts


def titles_of(windows: Windows, titles: Sequence[str], count: int) -> list[str]:
    """The book of each of ``count`` windows at even distances."""
    starts = windows.starts[windows.spread(count)]
    return [titles[i] for i in np.searchsorted(windows.stream.ends, starts, side="right")]


def _author_rows(books: Sequence[Document], known: set[str]) -> list[Row]:
    """Whether the author of a book wrote one of the training books, too."""
    return [_row("", "author known", "", book.title, float(book.author in known)) for book in books]


def _whole(
    model: Any, windows: Windows, titles: Sequence[str], counts: Int[np.ndarray, " type"]
) -> list[Row]:
    """What is measured on every token of the books."""
    scores, rank = stream_scores(model, windows), induction.ranks(counts).numpy()
    return [
        *book_rows(scores, windows.stream, titles, "trained"),
        *position_rows(scores, "trained"),
        *band_rows(scores, windows.stream.ids, rank, "trained"),
        *place_rows(scores, windows.stream.begins, "trained"),
        *calibration_rows(scores, windows.stream, titles),
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


def by_head(table: Mapping[str, np.ndarray], **wanted: Any) -> Float[np.ndarray, "layer head"]:
    """The values of the rows that have all the given entries, one for each "layer.head".

    Raises:
        ValueError: no such row.
    """
    keep = np.ones(len(table["value"]), bool)
    for column, value in wanted.items():
        keep &= table[column] == value
    heads = [tuple(map(int, place.split("."))) for place in table["place"][keep]]
    if not heads:
        raise ValueError(f"no row with {wanted}")
    found = np.full((1 + max(layer for layer, _ in heads), 1 + max(h for _, h in heads)), np.nan)
    for head, value in zip(heads, table["value"][keep], strict=True):
        found[head] = value
    return found


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
