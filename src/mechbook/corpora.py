"""One way to text: documents one after another, from the hub, from files, or from the book itself.

    for document in files({"train": "train.parquet", "validation": "held_out.parquet"}):
        tokens = tokenizer(document.text)

``hub`` streams a data set by its name, ``files`` reads parquet, JSON lines and plain text from
this machine, ``shipped`` opens a text that travels with the book, ``own_prose`` reads the book's
own pages. Each gives a ``Text``, which can
be read again from the start as often as one likes, and always in the same order. The reading
itself is done by Hugging Face ``datasets``.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import random
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["Document", "Text", "files", "hub", "hub_unreachable", "shipped", "shipped_names"]

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

FORMATS = {".parquet": "parquet", ".jsonl": "json", ".txt": "text"}
"""File ending → the reader of ``datasets``. A folder's README.md and info.json are no text."""

SHIPPED_FOLDER = Path(__file__).parent / "data" / "texts"
"""Texts that travel with the book lie here, each under the name that ``shipped`` takes."""

_WAY_OUT = "give a local file to corpora.files(...), or connect this machine and try again"


@dataclass(frozen=True)
class Document:
    """One document of a text.

    Attributes:
        text: The whole document, as it stands in its source.
        title: Its title column, or the file's name without ending, or "" where there is none.
        source: The hub name or the file that it came from, as the caller spelled it.
        split: The split that it belongs to: ``train``, ``validation``, ...
        index: Its place in the split, counted from 0 before any shuffling.
        author: Its column ``author``, or "" where there is none.
    """

    text: str
    title: str
    source: str
    split: str
    index: int
    author: str = ""


@dataclass(frozen=True)
class Text:
    """Documents in a fixed order; iterating again starts again.

    Attributes:
        name: What is read, for messages.
        split: The split that is read.
        seed: Seed of the shuffle; None keeps the source's order.
        buffer: Documents held in memory while shuffling. A buffer at least as large as the text
            draws every order with equal probability; a smaller one mixes neighbors only.
        max_documents: Stop after so many documents.
        max_characters: Stop after so many characters; the last document is cut to fit.
        read: Starts one pass over the source; made by the functions of this module.
    """

    name: str
    split: str
    seed: int | None = None
    buffer: int = 1000
    max_documents: int | None = None
    max_characters: int | None = None
    read: Callable[[], Iterator[Document]] = field(kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse limits that leave nothing to read."""
        for limit in ("buffer", "max_documents", "max_characters"):
            value = getattr(self, limit)
            if value is not None and (not isinstance(value, int) or value < 1):
                allowed = "" if limit == "buffer" else ", or None for no limit"
                raise ValueError(f"{limit} is {value!r}; it takes a whole number from 1{allowed}")

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents.

        Raises:
            ValueError: The source is missing, cannot be read, lacks the column, or is empty.
        """
        documents: Iterator[Document] = self.read()
        if self.seed is not None:
            documents = _shuffled(documents, self.seed, self.buffer)
        if self.max_characters is not None:
            documents = _cut(documents, self.max_characters)
        return _not_empty(itertools.islice(documents, self.max_documents), self.name)

    def limited(
        self, *, max_documents: int | None = None, max_characters: int | None = None
    ) -> Text:
        """Return the same text under other limits (None: no limit)."""
        return replace(self, max_documents=max_documents, max_characters=max_characters)


def files(
    paths: Paths | Mapping[str, Paths],
    *,
    split: str = "train",
    column: str = "text",
    title: str = "title",
    **limits: Any,
) -> Text:
    """Read text from files on this machine.

    A row of a parquet or JSON-lines file is a document; a ``.txt`` file is one document.
    Folders are searched to the bottom. Files of a folder or of a glob come in the order of their
    names, those of a list in the order given; a file named twice is read once.

    Args:
        paths: A file, folder or glob, or a list of them, or a mapping from split to those. Without
            a mapping, everything belongs to ``train``.
        split: Which split to read. No file may stand in two splits.
        column: Column of the text, in parquet and JSON lines.
        title: Column of the title; where a file lacks it, titles are empty.
        **limits: ``seed``, ``buffer``, ``max_documents``, ``max_characters``; see ``Text``.

    Raises:
        ValueError: A path is missing, empty or of an unknown kind; two splits share a file; the
            split is not there. While reading: a column is missing, or a file cannot be read.
    """
    splits = paths if isinstance(paths, Mapping) else {"train": paths}
    found = {name: _find(given) for name, given in splits.items()}
    _refuse_overlap(found)
    if split not in found:
        raise ValueError(f"no split {split!r}; given: {', '.join(map(repr, found)) or 'none'}")
    read = partial(_read_files, found[split], split=split, column=column, title=title)
    return Text(
        name=", ".join(dict.fromkeys(found[split].values())), split=split, read=read, **limits
    )


def hub(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    column: str = "text",
    title: str = "title",
    revision: str | None = None,
    download: bool = False,
    **limits: Any,
) -> Text:
    """Read text from a data set of the Hugging Face hub.

    It streams: documents arrive while they are read, nothing is stored, and one line says from
    where. ``download=True`` stores the data set in the hub's cache instead; it can then be read
    without a network by setting ``HF_HUB_OFFLINE=1``.

    Args:
        name: Name on the hub, as in ``owner/name``.
        config: Configuration of the data set, where it has several.
        split: Which split to read.
        column: Column of the text.
        title: Column of the title; where the data set lacks it, titles are empty.
        revision: Commit or tag of the data set; None takes the newest.
        download: Store the data set rather than stream it.
        **limits: ``seed``, ``buffer``, ``max_documents``, ``max_characters``; see ``Text``.

    Raises:
        ValueError: While reading: the hub cannot be reached (said within about two seconds), it
            has no such data set, configuration or split, or the column is missing.
    """
    if not name or name.count("/") > 1 or Path(name).suffix in FORMATS or Path(name).exists():
        raise ValueError(
            f"{name!r} is no hub name, which reads owner/name and names no file or "
            "folder of this machine; for those there is corpora.files(...)"
        )
    read = partial(
        _read_hub,
        name,
        config=config,
        split=split,
        column=column,
        title=title,
        revision=revision,
        download=download,
    )
    return Text(name=name, split=split, read=read, **limits)


def shipped(name: str, **limits: Any) -> Text:
    """Read a text that travels with the book.

    Raises:
        ValueError: No text of that name ships; the message lists those that do.
    """
    names = shipped_names()
    if name not in names:
        there = ", ".join(names) or "none yet"
        raise ValueError(
            f"no text {name!r} ships with the book (there: {there}); "
            "use corpora.files(...) or corpora.hub(...)"
        )
    return files(names[name], **limits)


def shipped_names() -> dict[str, Path]:
    """Return the texts that travel with the book, by name."""
    found = sorted(SHIPPED_FOLDER.glob("*")) if SHIPPED_FOLDER.is_dir() else []
    return {path.stem: path for path in found if path.suffix in FORMATS}


def own_prose(folder: Path | str, **limits: Any) -> Text:
    """Read the book's own words: its notebooks and pages, without code, tables and formulas.

    Args:
        folder: The folder with the chapters, ``book`` in the repository.
        limits: As for ``files``: ``seed``, ``buffer``, ``max_documents``, ``max_characters``.

    Raises:
        ValueError: On reading, where the folder holds no notebook and no page.
    """
    place = Path(folder)

    def read() -> Iterator[Document]:
        paths = sorted(p for p in place.rglob("*") if p.suffix in {".ipynb", ".md"})
        if not paths:
            raise ValueError(f"{folder} holds no notebook and no page; give the folder `book`")
        for index, path in enumerate(paths):
            title = path.relative_to(place).with_suffix("").as_posix()
            yield Document(_prose(_markdown(path)), title, str(folder), "train", index)

    return Text("the book's own prose", "train", read=read, **limits)


def _markdown(path: Path) -> str:
    """The Markdown of a page, or of a notebook's text cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def _prose(markdown: str) -> str:
    """Markdown without fenced blocks, formulas and tables; of links and roles their words."""
    text = re.sub(r"(?ms)^(`{3,}|:{3,}).*?^\1\s*$|\$\$.*?\$\$", "", markdown)
    text = re.sub(r"(?m)^[|(].*$|^#+ |\$[^$]*\$", "", text)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?)(\s*<[^>]*>)?`|\[([^]]*)\]\([^)]*\)", r"\1\3", text)
    return re.sub(r"\n{3,}", "\n\n", text.replace("*", "").replace("`", "")).strip()


def hub_unreachable(seconds: float = 2.0) -> str | None:
    """Say in a few words why the hub cannot be used, or None if it answers.

    One HEAD request, given up after ``seconds`` whatever hangs (a name server included).
    """
    from huggingface_hub import constants

    if _told_offline():
        return "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set"
    answers: list[str | None] = []
    probe = threading.Thread(
        target=lambda: answers.append(_probe(constants.ENDPOINT, seconds)), daemon=True
    )
    probe.start()
    probe.join(seconds)
    return answers[0] if answers else f"{constants.ENDPOINT} does not answer within {seconds:g} s"


# --- files


def _find(paths: Paths) -> dict[Path, str]:
    """Return each file once, in order, with the path as the caller gave it."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: dict[Path, str] = {}
    for path in given:
        for file in _expand(os.fspath(path)):
            found.setdefault(file.resolve(), str(file))
    if not found:
        raise ValueError("no files given; give a file, a folder or a glob")
    return found


def _expand(path: str) -> list[Path]:
    """Return the files that one path, folder or glob stands for."""
    here = Path(path).expanduser()
    if here.is_file():
        if here.suffix not in FORMATS:
            raise ValueError(f"{path!r} is no text file that this reads: {', '.join(FORMATS)}")
        return [here]
    pattern = str(Path(glob.escape(str(here)), "**", "*")) if here.is_dir() else str(here)
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))
    readable = [match for match in matches if match.is_file() and match.suffix in FORMATS]
    if not readable:
        kinds = ", ".join(FORMATS)
        problem = f"there is no {kinds} file in it" if here.is_dir() else "there is no such file"
        raise ValueError(f"cannot read {path!r}: {problem}")
    return readable


def _refuse_overlap(splits: Mapping[str, Mapping[Path, str]]) -> None:
    for (one, first), (other, second) in itertools.combinations(splits.items(), 2):
        shared = [first[path] for path in first if path in second]
        if shared:
            raise ValueError(
                f"{shared[0]!r} is in {one!r} and in {other!r}; a file belongs to one split"
            )


def _read_files(
    found: Mapping[Path, str], *, split: str, column: str, title: str
) -> Iterator[Document]:
    number = itertools.count()
    for path, given in found.items():
        is_text = FORMATS[path.suffix] == "text"
        rows = _rows_of_file(path, given)
        if is_text:
            rows = ({column: row["text"], title: path.stem} for row in rows)
        for row in _checked(rows, column, given):
            yield _document(row, column, title, source=given, split=split, index=next(number))


def _rows_of_file(path: Path, given: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one file, turning a reader's failure into a sentence."""
    import datasets

    kind = FORMATS[path.suffix]
    options = {"sample_by": "document"} if kind == "text" else {}
    try:
        yield from datasets.load_dataset(
            kind,
            data_files={"train": [glob.escape(str(path))]},
            split="train",
            streaming=True,
            **options,
        )
    except StopIteration:  # how `datasets` meets an empty JSON file
        return
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"cannot read {given!r} as {kind}: {_first_line(error)}") from error


# --- the hub


def _read_hub(
    name: str, *, split: str, column: str, title: str, download: bool, **where: str | None
) -> Iterator[Document]:
    rows = _open_hub(name, split=split, download=download, **where)
    for index, row in enumerate(_checked(rows, column, name)):
        yield _document(row, column, title, source=name, split=split, index=index)


def _open_hub(
    name: str, *, config: str | None, split: str, revision: str | None, download: bool
) -> Iterable[dict[str, Any]]:
    """Open a data set of the hub; ask first whether the hub is there, as ``datasets`` retries."""
    stored = download and _told_offline()  # then `datasets` looks into its cache, and only there
    reason = None if stored else hub_unreachable()
    if reason:
        raise ValueError(f"cannot reach the hub for {name!r} ({reason}): {_WAY_OUT}")
    import datasets
    from huggingface_hub import constants

    if not download:
        what = " ".join(filter(None, [name, config, split]))
        print(f"streaming {what} from {constants.ENDPOINT} (nothing is stored)")
    try:
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=not download
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        way_out = f"; {_WAY_OUT}" if stored else ""
        raise ValueError(f"cannot open {name!r}: {_first_line(error)}{way_out}") from error


def _told_offline() -> bool:
    """Whether the environment forbids the hub, now or when its library was first imported."""
    from huggingface_hub import constants

    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
    wishes = [os.environ.get(name, "").upper() in constants.ENV_VARS_TRUE_VALUES for name in names]
    return constants.HF_HUB_OFFLINE or any(wishes)


def _probe(address: str, seconds: float) -> str | None:
    request = urllib.request.Request(address, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=seconds).close()
    except urllib.error.HTTPError:
        return None  # it answers: `datasets` will say the rest
    except (OSError, ValueError) as error:
        return f"{address}: {getattr(error, 'reason', error)}"
    return None


# --- rows, documents, order, limits


def _checked(rows: Iterable[dict[str, Any]], column: str, source: str) -> Iterator[dict[str, Any]]:
    """Yield the rows; refuse a missing text column with the list of those there."""
    for row in rows:
        if column not in row:
            raise ValueError(f"{source!r} has no column {column!r}; it has: {', '.join(row)}")
        yield row


def _document(
    row: Mapping[str, Any], column: str, title: str, *, source: str, split: str, index: int
) -> Document:
    text = row[column]
    if not isinstance(text, str):
        raise ValueError(
            f"{source!r}, row {index}: column {column!r} holds "
            f"{type(text).__name__}, not text; other columns: "
            f"{', '.join(name for name in row if name != column) or 'none'}"
        )
    name = row.get(title)
    author = str(row.get("author") or "")
    return Document(text, "" if name is None else str(name), source, split, index, author)


def _shuffled(documents: Iterator[Document], seed: int, buffer: int) -> Iterator[Document]:
    """Yield the documents in random order, holding at most ``buffer`` of them."""
    draw = random.Random(seed)
    held = list(itertools.islice(documents, buffer))
    for document in documents:
        place = draw.randrange(buffer)
        yield held[place]
        held[place] = document
    draw.shuffle(held)
    yield from held


def _cut(documents: Iterator[Document], characters: int) -> Iterator[Document]:
    """Yield documents up to so many characters; the last one is cut to fit."""
    for document in documents:
        yield replace(document, text=document.text[:characters])
        characters -= len(document.text)
        if characters <= 0:
            return


def _not_empty(documents: Iterator[Document], name: str) -> Iterator[Document]:
    first = next(documents, None)
    if first is None:
        raise ValueError(f"{name}: no document in it")
    yield first
    yield from documents


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
