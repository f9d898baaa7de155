"""The Sphinx extension: text from data, and downloads without outputs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from mechbook import pages
from mechbook.pages import directives


def app(folder: Path) -> SimpleNamespace:
    """What the handlers use of Sphinx."""
    builder = SimpleNamespace(format="html")
    env = SimpleNamespace(note_dependency=lambda name: None)
    return SimpleNamespace(srcdir=folder, outdir=folder, builder=builder, env=env)


def notebook(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("1", id="code", outputs=list(outputs), execution_count=1)
    last = nbformat.v4.new_markdown_cell("Last executed", id="colophon")
    return nbformat.v4.new_notebook(cells=[cell, last])


OUTPUT = nbformat.v4.new_output("stream", name="stdout", text="1")


@pytest.fixture
def syllabus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(directives.TEXTS, "syllabus", lambda source, argument: "## A table")
    worksheet = lambda source, argument: f"for {argument}"  # noqa: E731
    monkeypatch.setitem(directives.TEXTS, "worksheet", worksheet)


@pytest.mark.usefixtures("syllabus")
@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("a\n\n```{syllabus}\n```\n\nb", "a\n\n## A table\n\nb"),
        ("```{worksheet} one\n```", "for one"),
        ("```{note}\nsyllabus\n```", "```{note}\nsyllabus\n```"),
    ],
)
def test_text_takes_the_place_of_its_directive(tmp_path: Path, page: str, made: str) -> None:
    content = [page]
    directives.insert_texts(app(tmp_path), "page", content)
    assert content == [made]


def test_rendered_chapters_are_read_before_those_kept(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "build" / "executed").mkdir(parents=True)
    kept = tmp_path / "build" / "executed" / "one.ipynb"
    nbformat.write(notebook(OUTPUT), kept)
    nbformat.write(notebook(), tmp_path / "book" / "one.ipynb")
    assert directives.executed(tmp_path) == [kept]
    nbformat.write(notebook(OUTPUT), tmp_path / "book" / "one.ipynb")
    assert directives.executed(tmp_path) == [tmp_path / "book" / "one.ipynb"]


def test_a_downloaded_chapter_has_neither_outputs_nor_colophon(tmp_path: Path) -> None:
    path = tmp_path / "_sources" / "book" / "one.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook(OUTPUT), path)
    pages.strip_downloads(app(tmp_path), None)
    (cell,) = nbformat.read(path, as_version=4).cells
    assert (cell.outputs, cell.execution_count) == ([], None)


def test_the_icons_script_and_the_maps_are_dropped(tmp_path: Path) -> None:
    scripts = tmp_path / "_static" / "scripts"
    scripts.mkdir(parents=True)
    for name in ("fontawesome.js", "fontawesome.js.map", "theme.js", "theme.js.map"):
        (scripts / name).write_text("")
    page = tmp_path / "page.html"
    tag = '<script defer src="_static/scripts/{}?digest=1"></script>'
    page.write_text(f"<head>\n  {tag.format('fontawesome.js')}\n  {tag.format('theme.js')}</head>")
    pages.lighten(app(tmp_path), None)
    assert page.read_text() == f"<head>\n  {tag.format('theme.js')}</head>"
    assert [p.name for p in scripts.iterdir()] == ["theme.js"]


@pytest.mark.parametrize(("name", "searches"), [("page.html", 0), ("search.html", 3)])
def test_only_the_search_loads_the_index(tmp_path: Path, name: str, searches: int) -> None:
    scripts = ("_static/searchtools.js", "_static/language_data.js", "searchindex.js")
    page = tmp_path / name
    page.write_text("".join(f'<script src="{script}"></script>' for script in scripts))
    pages.lighten(app(tmp_path), None)
    assert page.read_text().count("<script") == searches
