import json
import os
import socket
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechbook import artifacts, corpora

BOOKS = [("Emma", "Emma Woodhouse, handsome"), ("Persuasion", "Sir Walter\n\nElliot"), ("", "x")]


@pytest.fixture
def folder(tmp_path):
    """A folder with spaces and brackets in its name, and one file of each kind."""
    folder = tmp_path / "a [b] c"
    (folder / "deep").mkdir(parents=True)
    titles, texts = zip(*BOOKS, strict=True)
    years = [1815, 1817, 1900]
    table = pa.table({"title": titles, "text": texts, "year": years})
    pq.write_table(table, folder / "books.parquet")
    lines = [json.dumps({"title": title, "text": text}) for title, text in BOOKS]
    (folder / "books.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "one.txt").write_text("first line\n\nafter a gap — ß", encoding="utf-8")
    (folder / "deep" / "two.txt").write_text("# two", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"no text")
    (folder / "README.md").write_text("# about these files")
    return folder


def in_memory(texts, **limits):
    def read():
        for index, text in enumerate(texts):
            yield corpora.Document(text, "", "memory", "train", index)

    return corpora.Text("memory", "train", read=read, **limits)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["books.parquet", "books.jsonl"])
def test_each_row_is_a_document(folder, name):
    documents = list(corpora.files(folder / name))
    assert [(d.title, d.text) for d in documents] == BOOKS
    assert [d.index for d in documents] == [0, 1, 2]
    assert {d.source for d in documents} == {str(folder / name)}


def test_a_text_file_is_one_document_with_its_blank_lines(folder):
    (document,) = corpora.files(folder / "one.txt")
    assert document.text == "first line\n\nafter a gap — ß"
    assert document.title == "one"


def test_a_text_file_obeys_the_column_name(folder):
    (document,) = corpora.files(folder / "one.txt", column="content", title="name")
    assert document.title == "one"


def test_a_folder_gives_all_its_text_files_in_the_order_of_their_names(folder):
    sources = [Path(d.source).name for d in corpora.files(folder)]
    assert sources == ["books.jsonl"] * 3 + ["books.parquet"] * 3 + ["two.txt"] + ["one.txt"]


def test_an_author_comes_with_its_document(tmp_path):
    rows = {"text": ["a", "b"], "author": ["Jane Austen", None]}
    pq.write_table(pa.table(rows), tmp_path / "books.parquet")
    assert [d.author for d in corpora.files(tmp_path)] == ["Jane Austen", ""]


def test_without_a_column_of_authors_there_is_none(folder):
    assert {d.author for d in corpora.files(folder)} == {""}


def test_indices_count_through_all_files(folder):
    assert [d.index for d in corpora.files(folder)] == list(range(8))


def test_a_glob_gives_what_it_matches(folder):
    pattern = str(folder.parent / "a*" / "*.txt")
    assert [d.title for d in corpora.files(pattern)] == ["one"]


def test_a_list_keeps_its_order_and_reads_a_file_once(folder):
    paths = [folder / "one.txt", folder / "deep", folder / "deep" / ".." / "one.txt"]
    assert [d.title for d in corpora.files(paths)] == ["one", "two"]


def test_a_text_can_be_read_twice(folder):
    text = corpora.files(folder)
    assert list(text) == list(text)


def test_splits_are_apart(folder):
    paths = {"train": folder / "books.parquet", "validation": folder / "one.txt"}
    train = list(corpora.files(paths))
    held_out = list(corpora.files(paths, split="validation"))
    assert {d.split for d in train} == {"train"}
    assert [(d.split, d.title, d.index) for d in held_out] == [("validation", "one", 0)]


def test_a_file_in_two_splits_is_refused(folder):
    paths = {"train": folder, "validation": folder / "one.txt"}
    with pytest.raises(ValueError, match=r"one\.txt.*'train'.*'validation'"):
        corpora.files(paths)


def test_an_absent_split_lists_those_given(folder):
    with pytest.raises(ValueError, match="'test'; given: 'train'"):
        corpora.files(folder, split="test")


@pytest.mark.parametrize("path", ["missing.txt", "no/such/folder", "none-*.parquet"])
def test_a_missing_file_is_named_as_given(path):
    with pytest.raises(ValueError, match="there is no such file") as caught:
        corpora.files(path)
    assert repr(path) in str(caught.value)


def test_no_files_at_all_is_an_error():
    with pytest.raises(ValueError, match="no files given"):
        corpora.files([])


def test_a_folder_without_text_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"no \.parquet, \.jsonl.* file in it"):
        corpora.files(tmp_path)


def test_an_unknown_kind_lists_the_known(folder):
    with pytest.raises(ValueError, match=r"picture\.png.*\.parquet, \.jsonl"):
        corpora.files(folder / "picture.png")


def test_a_missing_column_lists_those_there(folder):
    with pytest.raises(ValueError, match="no column 'body'; it has: title, text, year"):
        list(corpora.files(folder / "books.parquet", column="body"))


def test_a_column_that_is_no_text_is_named(folder):
    with pytest.raises(ValueError, match="row 0: column 'year' holds int, not text"):
        list(corpora.files(folder / "books.parquet", column="year"))


def test_a_missing_title_column_leaves_titles_empty(folder):
    text = corpora.files(folder / "books.parquet", title="author")
    assert {d.title for d in text} == {""}


@pytest.mark.parametrize(
    ("name", "content"),
    [("bad.parquet", b"hi"), ("bad.jsonl", b'{"text": "q"\nno'), ("latin.txt", b"caf\xe9")],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"cannot read .*{name}") as caught:
        list(corpora.files(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_file_without_documents_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"empty\.jsonl: no document in it"):
        list(corpora.files(tmp_path))


def test_local_files_leave_nothing_in_the_cache(folder, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    list(corpora.files(folder))
    assert not list(cache.rglob("*.arrow"))


# ---------------------------------------------------------------- order and limits

texts = st.lists(st.text(max_size=9), min_size=1, max_size=30)


@given(texts, st.integers(0, 2**32), st.integers(1, 40))
def test_a_shuffle_loses_and_repeats_nothing(texts, seed, buffer):
    shuffled = list(in_memory(texts, seed=seed, buffer=buffer))
    assert sorted(d.index for d in shuffled) == list(range(len(texts)))
    assert all(d.text == texts[d.index] for d in shuffled)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_a_seed_fixes_the_order(seed, buffer):
    text = in_memory("abcdefghijklmnopqrstuvwxyz", seed=seed, buffer=buffer)
    assert list(text) == list(text)


def test_seeds_differ():
    orders = {
        tuple(d.index for d in in_memory("abcdefghij", seed=seed, buffer=10)) for seed in range(20)
    }
    assert len(orders) == 20


def test_a_full_buffer_can_put_any_document_first():
    first = {next(iter(in_memory("abcd", seed=seed, buffer=4))).text for seed in range(60)}
    assert first == set("abcd")


def test_a_buffer_holds_no_more_than_it_says():
    drawn = []
    text = in_memory(str(n) for n in range(100))

    def read():
        for document in text:
            drawn.append(document)
            yield document

    next(iter(corpora.Text("counted", "train", seed=0, buffer=7, read=read)))
    assert len(drawn) == 8


@given(texts, st.integers(1, 40))
def test_max_documents_is_the_beginning(texts, limit):
    assert list(in_memory(texts, max_documents=limit)) == list(in_memory(texts))[:limit]


@given(texts, st.integers(1, 100))
def test_max_characters_is_the_beginning_of_all_characters(texts, limit):
    assert "".join(d.text for d in in_memory(texts, max_characters=limit)) == "".join(texts)[:limit]


@given(texts, st.integers(1, 100))
def test_max_characters_cuts_the_last_document_only(texts, limit):
    documents = list(in_memory(texts, max_characters=limit))
    assert [d.text for d in documents[:-1]] == texts[: len(documents) - 1]


def test_limited_keeps_source_and_seed():
    text = in_memory("abcdef", seed=3, buffer=6)
    assert list(text.limited(max_documents=2)) == list(text)[:2]


@pytest.mark.parametrize("name", ["buffer", "max_documents", "max_characters"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_senseless_limits_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value!r}; it takes a whole number from 1"):
        in_memory("abc", **{name: value})


# ---------------------------------------------------------------- the hub


@pytest.fixture
def calls(monkeypatch):
    """A hub that answers, and what ``load_dataset`` is asked for."""
    made = []

    def load_dataset(*arguments, **options):
        made.append((arguments, options))
        return [{"story": "Once", "title": None}, {"story": "Twice", "title": "T"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(corpora, "hub_unreachable", lambda: None)
    monkeypatch.setattr(corpora, "_told_offline", lambda: False)
    return made


def test_a_hub_name_streams(calls, capsys):
    text = corpora.hub("owner/tales", config="en", column="story", revision="v1")
    assert [(d.text, d.title, d.source) for d in text] == [
        ("Once", "", "owner/tales"),
        ("Twice", "T", "owner/tales"),
    ]
    assert calls == [
        (("owner/tales", "en"), {"split": "train", "revision": "v1", "streaming": True})
    ]
    assert capsys.readouterr().out.startswith("streaming owner/tales en train from http")


def test_a_download_must_be_asked_for(calls, capsys):
    list(corpora.hub("owner/tales", column="story", download=True))
    assert calls[0][1]["streaming"] is False
    assert capsys.readouterr().out == ""


def test_naming_a_data_set_touches_nothing(calls, capsys):
    corpora.hub("owner/tales")
    assert calls == []
    assert capsys.readouterr().out == ""


def test_a_missing_hub_column_lists_those_there(calls):
    with pytest.raises(ValueError, match="no column 'text'; it has: story, title"):
        list(corpora.hub("owner/tales"))


def test_a_refusal_of_the_hub_is_one_line(calls, monkeypatch):
    def refuse(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'owner/x' doesn't exist\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(
        ValueError, match=r"cannot open 'owner/x': Dataset 'owner/x' doesn't exist$"
    ):
        list(corpora.hub("owner/x"))


@pytest.mark.parametrize("name", ["", "data/books.parquet", "a/b/c", "https://example.org/x", "."])
def test_what_is_no_hub_name_points_to_files(name):
    with pytest.raises(ValueError, match=r"corpora\.files"):
        corpora.hub(name)


def test_without_a_hub_nothing_is_tried(calls, monkeypatch):
    monkeypatch.setattr(corpora, "hub_unreachable", lambda: "no route")
    with pytest.raises(
        ValueError, match=r"'owner/tales' \(no route\): give a local file"
    ) as caught:
        list(corpora.hub("owner/tales"))
    assert calls == []
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_told_to_stay_offline_asks_nobody(variable, monkeypatch):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(corpora, "_probe", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=f"{variable}.* is set"):
        list(corpora.hub("owner/tales"))


def test_offline_a_downloaded_data_set_is_sought_in_the_cache(calls, monkeypatch):
    monkeypatch.setattr(corpora, "_told_offline", lambda: True)
    monkeypatch.setattr(corpora, "hub_unreachable", lambda: "offline")
    text = corpora.hub("owner/tales", column="story", download=True)
    assert [d.text for d in text] == ["Once", "Twice"]


@pytest.fixture
def no_environment(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", *os.environ):
        if name.lower().endswith("_proxy") or "OFFLINE" in name:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_a_closed_port_is_no_hub(no_environment, monkeypatch):
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("tried"))
        with pytest.raises(ValueError, match=r"cannot reach the hub for 'owner/tales'.*refused"):
            list(corpora.hub("owner/tales"))


def test_a_silent_hub_is_given_up(no_environment, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert "127.0.0.1" in (corpora.hub_unreachable(0.2) or "")


def test_a_hanging_name_server_is_given_up(no_environment, monkeypatch):
    monkeypatch.setattr(corpora, "_probe", lambda *_: time.sleep(5))
    assert "does not answer within 0.1 s" in (corpora.hub_unreachable(0.1) or "")


# ---------------------------------------------------------------- what ships


def test_an_unknown_shipped_text_lists_those_there(folder, monkeypatch):
    monkeypatch.setattr(corpora, "SHIPPED_FOLDER", folder)
    with pytest.raises(ValueError, match=r"no text 'three' ships .*\(there: books, one\)"):
        corpora.shipped("three")


def test_a_shipped_text_is_read(folder, monkeypatch):
    monkeypatch.setattr(corpora, "SHIPPED_FOLDER", folder)
    assert [d.title for d in corpora.shipped("one", max_characters=5)] == ["one"]


def test_texts_saved_as_an_artifact_ship(tmp_path, monkeypatch):
    columns = {"title": ["Emma", "Kim"], "author": ["Austen", "Kipling"], "text": ["a\n\nb", "c"]}
    card = artifacts.Card("two books", "tests:made", "none", [], 0.0, commit="0" * 40)
    artifacts.save_texts("tales", columns, card=card, data=tmp_path)
    monkeypatch.setattr(corpora, "SHIPPED_FOLDER", tmp_path / "texts")
    assert [*corpora.shipped_names()] == ["tales"]
    found = [(d.title, d.author, d.text) for d in corpora.shipped("tales")]
    assert found == [("Emma", "Austen", "a\n\nb"), ("Kim", "Kipling", "c")]


def test_shipped_texts_lie_where_artifacts_save_them(tmp_path):
    card = artifacts.Card("a book", "tests:made", "none", [], 0.0, commit="0" * 40)
    artifacts.save_texts("tales", {"text": ["a"]}, card=card, data=tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parent.relative_to(tmp_path) == corpora.SHIPPED_FOLDER.relative_to(artifacts.DATA)


def test_with_no_shipped_text_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "SHIPPED_FOLDER", tmp_path / "absent")
    with pytest.raises(ValueError, match=r"none yet\); use corpora\.files"):
        corpora.shipped("tales")


def test_the_books_own_prose_is_read_without_code_tables_and_formulas(tmp_path):
    page = "# Title\n\nOne *word* {term}`read <x>` and [a link](#y).\n\n```python\ncode = 1\n```\n\n| a |\n"
    (tmp_path / "page.md").write_text(page)
    cells = [
        {"cell_type": "markdown", "source": ["So $x$ is\n", "small.\n", "$$y = 2$$\n"]},
        {"cell_type": "code", "source": ["more = code"]},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    found = list(corpora.own_prose(tmp_path))
    assert [document.title for document in found] == ["a", "page"]
    assert found[0].text == "So  is\nsmall."
    assert found[1].text == "Title\n\nOne word read and a link."


def test_a_folder_without_pages_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no notebook and no page"):
        list(corpora.own_prose(tmp_path))
