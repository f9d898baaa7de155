"""From documents to batches: nothing is lost, nothing is mixed."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechbook import corpora
from mechbook.language_model import corpus
from mechbook.language_model.corpus import Stream, Windows
from mechbook.language_model.tokenizer import END

LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=6)
SIZE = st.integers(1, 9)


def cut(lengths, length):
    """Windows of documents whose tokens are 1, 2, 3, …, so that each token says its place."""
    total = sum(lengths)
    stream = Stream(
        np.arange(1, total + 1, dtype=np.uint16),
        np.cumsum(lengths),
        np.ones(total, dtype=bool),
        np.array(lengths),
    )
    return Windows(stream, length, end=0)


def documents(lengths):
    ends = np.cumsum(lengths)
    return [set(range(end - n + 1, end + 1)) for n, end in zip(lengths, ends.tolist(), strict=True)]


def enough(lengths, length):
    return max(lengths) >= length


# --- windows ---


@given(LENGTHS, SIZE)
def test_a_window_lies_in_one_document_and_every_token_is_in_a_window(lengths, length):
    if not enough(lengths, length):
        return
    windows = cut(lengths, length)
    rows = [set(row.tolist()) for row in windows.take(np.arange(len(windows)))[:, 1:]]
    whole = [document for document in documents(lengths) if len(document) >= length]
    assert all(sum(row <= document for document in whole) == 1 for row in rows)
    assert set().union(*rows) == set().union(*whole)
    assert len(windows) == sum(-(-len(document) // length) for document in whole)


def test_a_window_is_the_mark_and_then_neighbors():
    rows = cut([5, 7], 3).take(np.array([0, 1, 4]))
    assert rows.tolist() == [[0, 1, 2, 3], [0, 3, 4, 5], [0, 10, 11, 12]]


def test_documents_shorter_than_a_window_leave_nothing_to_cut():
    with pytest.raises(ValueError, match="no document has 8 tokens; give longer documents"):
        len(cut([7, 3], 8))


def test_a_fixed_sample_reaches_from_the_first_window_to_the_last():
    windows = cut([100], 2)
    assert windows.evenly(3)[:, 1].tolist() == [1, 49, 99]
    assert windows.evenly(1000).shape == (50, 3)


# --- batches ---


@given(LENGTHS, SIZE, st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_each_pass_deals_out_every_window_once(lengths, length, size, seed):
    if not enough(lengths, length):
        return
    windows = cut(lengths, length)
    count = len(windows)
    steps = -(-2 * count // size)
    dealt = torch.cat([windows.batch(step, size, seed) for step in range(steps)])[:, 1].tolist()
    wanted = sorted(windows.take(np.arange(count))[:, 1].tolist())
    assert sorted(dealt[:count]) == wanted
    assert sorted(dealt[count : 2 * count]) == wanted


def test_a_batch_depends_on_seed_and_step_alone():
    early, late = cut([300], 3), cut([300], 3)
    for step in (9, 0, 3, 77):
        late.batch(step, 4, seed=5)
    assert torch.equal(early.batch(7, 4, seed=5), late.batch(7, 4, seed=5))


def test_seeds_and_passes_have_orders_of_their_own():
    windows = cut([300], 3)
    orders = [windows.batch(0, 100, seed=0), windows.batch(0, 100, seed=1)]
    orders += [windows.batch(1, 100, seed=0)]
    firsts = [tuple(order[:, 1].tolist()) for order in orders]
    assert len({*firsts}) == 3


# --- encoding ---


def test_documents_are_encoded_one_after_another(tokenizer):
    texts = ["The king saw the old house.", "", "A zebra walked to Paris."]
    stream = corpus.encode(tokenizer, texts, at_once=2)
    alone = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert stream.ids.tolist() == [*itertools.chain(*alone)]
    assert stream.ends.tolist() == np.cumsum([len(ids) for ids in alone]).tolist()
    assert stream.characters.tolist() == [len(text) for text in texts]


def test_a_word_in_pieces_begins_once(tokenizer):
    stream = corpus.encode(tokenizer, ["The qzx, the日"])
    tokens = [tokenizer.id_to_token(int(i)) for i in stream.ids]
    begun = [t for t, begins in zip(tokens, stream.begins, strict=True) if begins]
    assert len(tokens) > len(begun) == 4
    assert begun == ["The", "<0x71>", ",", "<0x74>"]


@pytest.mark.parametrize("texts", [[], [""], ["  ", "\n"], ["***"]])
def test_text_without_tokens_is_refused(tokenizer, texts):
    with pytest.raises(ValueError, match="the text is empty"):
        corpus.encode(tokenizer, texts)


def test_windows_know_the_mark_of_their_tokenizer(tokenizer):
    stream = corpus.encode(tokenizer, ["The king saw the queen in May."])
    assert corpus.windows(tokenizer, stream, 4).end == tokenizer.token_to_id(END)


def test_a_tokenizer_of_another_kind_is_refused(tokenizer):
    from tokenizers import Tokenizer, models

    stream = corpus.encode(tokenizer, ["The king saw the queen in May."])
    with pytest.raises(ValueError, match="the tokenizer has no"):
        corpus.windows(Tokenizer(models.BPE()), stream, 4)


# --- opening ---


def write(folder, name, *texts):
    pq.write_table(pa.table({"title": [name] * len(texts), "text": texts}), folder / name)


@pytest.fixture
def books(tmp_path):
    write(tmp_path, "books-train.parquet", "one", "two")
    write(tmp_path, "books-validation.parquet", "three")
    return tmp_path


def test_each_split_has_its_own_documents(books):
    found = {split: [d.text for d in corpus.open_text(books, split)] for split in corpus.SPLITS}
    assert found == {"train": ["one", "two"], "validation": ["three"]}


def test_one_file_cannot_be_both_splits(tmp_path):
    write(tmp_path, "train-and-validation.parquet", "one")
    with pytest.raises(ValueError, match="a file belongs to one split"):
        corpus.open_text(tmp_path, "train")


def test_a_split_without_a_file_is_refused(books):
    (books / "books-validation.parquet").unlink()
    with pytest.raises(ValueError, match=r"0 parquet files with 'validation'.*exactly one"):
        corpus.open_text(books, "train")


def test_a_split_with_two_files_is_refused(books):
    write(books, "more-train.parquet", "four")
    with pytest.raises(ValueError, match=r"2 parquet files with 'train'.*exactly one"):
        corpus.open_text(books, "validation")


def test_the_folder_where_one_stands_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path.name} has 0 parquet files"):
        corpus.open_text(".", "train")


@pytest.mark.parametrize("source", ["no-such-folder", "/no/folder", "a/b/c"])
def test_what_is_neither_folder_nor_name_of_the_hub_is_refused(source):
    with pytest.raises(ValueError, match="no folder here and no owner/name of the hub"):
        corpus.open_text(source, "train")


def test_a_name_of_the_hub_may_say_which_configuration():
    text = corpus.open_text("owner/no-such-books:english", "validation")
    assert (text.name, text.split) == ("owner/no-such-books", "validation")
    assert isinstance(text, corpora.Text)
