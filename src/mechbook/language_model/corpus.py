"""From books to batches: encode each document, cut it into windows, and deal the windows out.

A window never crosses from one document into another. What the model reads begins with the
end-of-text mark, so that the first word of a window has something to stand on; each token of a
window is predicted once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from mechbook import corpora, training
from mechbook.language_model.tokenizer import END

SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Stream:
    """Documents as one row of token numbers.

    Attributes:
        ids: the tokens of all documents, one after another.
        ends: for each document, the place after its last token.
        begins: whether a token begins a word (or is a mark of its own).
        characters: how many each document has, as it was given.
    """

    ids: Int[np.ndarray, " token"]
    ends: Int[np.ndarray, " document"]
    begins: Bool[np.ndarray, " token"]
    characters: Int[np.ndarray, " document"]


@dataclass(frozen=True)
class Windows:
    """Pieces of equal length of the documents of a stream.

    Attributes:
        stream: where they are cut from.
        length: tokens that a window predicts; documents shorter than that are left out.
        end: number of the end-of-text mark, which the model reads first.
    """

    stream: Stream
    length: int
    end: int

    @cached_property
    def starts(self) -> Int[np.ndarray, " window"]:
        """Where the windows begin: side by side, the last of a document moved back to fit."""
        firsts = np.concatenate([[0], self.stream.ends[:-1]])
        cut = [
            np.minimum(np.arange(first, last, self.length), last - self.length)
            for first, last in zip(firsts, self.stream.ends, strict=True)
            if last - first >= self.length
        ]
        if not cut:
            raise ValueError(
                f"no document has {self.length} tokens; give longer documents or a shorter context"
            )
        return np.concatenate(cut)

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.starts)

    def take(self, which: Int[np.ndarray, " batch"]) -> Int[Tensor, "batch length+1"]:
        """Some windows: the end-of-text mark, then ``length`` tokens."""
        places = self.starts[which][:, None] + np.arange(self.length)
        ids = torch.from_numpy(self.stream.ids[places].astype(np.int64))
        return torch.cat([torch.full((len(ids), 1), self.end), ids], 1)

    def batch(self, step: int, size: int, seed: int) -> Int[Tensor, "batch length+1"]:
        """The windows of one update: every window once in each pass, in a new order each pass."""
        places = np.arange(step * size, (step + 1) * size)
        turns, rest = np.divmod(places, len(self))
        which = [_order(seed, int(turn), len(self))[r] for turn, r in zip(turns, rest, strict=True)]
        return self.take(np.array(which))

    def evenly(self, count: int) -> Int[Tensor, "count length+1"]:
        """A fixed sample: ``count`` windows at even distances (all, where there are fewer)."""
        return self.take(self.spread(count))

    def spread(self, count: int) -> Int[np.ndarray, " count"]:
        """The numbers of ``count`` windows at even distances (of all, where there are fewer)."""
        return np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)


@lru_cache(maxsize=2)
def _order(seed: int, turn: int, count: int) -> Int[np.ndarray, " window"]:
    """The order of ``count`` windows in one pass."""
    return torch.randperm(count, generator=training.generator(seed, turn)).numpy()


def open_text(source: str | Path, split: str) -> corpora.Text:
    """Open one split of a text.

    Args:
        source: a folder with one parquet file for each of ``train`` and ``validation`` in its
            name; or a data set of the hub as ``owner/name`` or ``owner/name:configuration``.
        split: ``train`` or ``validation``.

    Raises:
        ValueError: no such folder, or not one file a split in it.
    """
    folder = Path(source)
    if not folder.is_dir():
        if str(source).count("/") != 1 or folder.is_absolute():
            raise ValueError(
                f"{str(source)!r} is no folder here and no owner/name of the hub; give a folder "
                "with a train and a validation file in parquet"
            )
        name, _, config = str(source).partition(":")
        return corpora.hub(name, config=config or None, split=split)
    found = {name: sorted(folder.glob(f"*{name}*.parquet")) for name in SPLITS}
    for name, files in found.items():
        if len(files) != 1:
            raise ValueError(
                f"{folder.resolve().name} has {len(files)} parquet files with {name!r} in their name; "
                "it takes exactly one"
            )
    return corpora.files({name: files[0] for name, files in found.items()}, split=split)


def encode(tokenizer: Tokenizer, texts: Iterable[str], at_once: int = 16) -> Stream:
    """Encode documents.

    Raises:
        ValueError: no token in any of them.
    """
    ids, begins, characters = [], [], []
    for group in _groups(texts, at_once):
        characters += [len(text) for text in group]
        for coded in tokenizer.encode_batch(group, add_special_tokens=False):
            ids.append(np.array(coded.ids, dtype=np.uint16))
            begins.append(np.diff(np.array(coded.word_ids, dtype=np.int64), prepend=-1) > 0)
    if not sum(map(len, ids)):
        raise ValueError("the text is empty; there is no token to learn from")
    ends = np.cumsum([len(part) for part in ids])
    return Stream(np.concatenate(ids), ends, np.concatenate(begins), np.array(characters))


def windows(tokenizer: Tokenizer, stream: Stream, length: int) -> Windows:
    """Cut a stream into windows of ``length`` tokens."""
    end = tokenizer.token_to_id(END)
    if end is None:
        raise ValueError(f"the tokenizer has no {END}; take one of language_model.tokenizer")
    return Windows(stream, length, end)


def _groups(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    texts = iter(texts)
    while group := list(itertools.islice(texts, size)):
        yield group
