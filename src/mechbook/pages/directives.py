"""Pages made from the book's data files and from what the executed chapters recorded.

Text (``verdicts``, ``notes-map``, ``syllabus``, ``worksheet CHAPTER``) takes the directive's place before the page is
parsed, so that its headings and links are those of any page. Pictures (``chapter-map``, ``chapter-figure NAME``) are
ordinary directives.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mechbook import chapters, claims, exercises, notes_map, verdicts
from mechbook.pages import figures

DATA = ("claims.yml", "chapters.yml", "notes_map.yml")


def executed(source: Path) -> list[Path]:
    """The chapters with outputs: those being rendered, or else those that ``make book`` kept."""
    staged = sorted((source / "book").glob("*.ipynb"))
    if any(has_outputs(path) for path in staged):
        return staged
    return sorted((source / "build" / "executed").glob("*.ipynb"))


def has_outputs(path: Path) -> bool:
    """Whether any code cell of a notebook has an output."""
    return any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)


# ---------------------------------------------------------------- text


def verdicts_text(source: Path, argument: str) -> str:
    """The ledger: every claim with what was measured."""
    ledger = claims.load(source / "book" / "claims.yml")
    titles = {c.stem: f"[{c.title}](/book/{c.stem}.ipynb)" for c in written_chapters(source)}
    return verdicts.verdict_table(ledger, claims.records(executed(source)), titles=titles)


def notes_map_text(source: Path, argument: str) -> str:
    """Every statement of the notes with its place in the book."""
    ledger = claims.load(source / "book" / "claims.yml")
    notes = notes_map.load(source / "book" / "notes_map.yml")
    titles = {c.stem: c.title for c in chapters.load(source / "book" / "chapters.yml")}
    return notes_map.render(notes, {id: claim.verdict for id, claim in ledger.items()}, titles)


def syllabus_text(source: Path, argument: str) -> str:
    """The chapters with what to read before and how long they take."""
    return chapters.syllabus_table(chapters.load(source / "book" / "chapters.yml"))


def worksheet_text(source: Path, argument: str) -> str:
    """The exercises of a chapter, to be printed."""
    chapter = chapters.named(chapters.load(source / "book" / "chapters.yml"), argument)
    return exercises.worksheet(
        chapters.exercises_of(chapter), title="The exercises, to print", solutions=False, heading=2
    )


def written_chapters(source: Path) -> list[chapters.Chapter]:
    """The chapters that have a page."""
    return [c for c in chapters.load(source / "book" / "chapters.yml") if c.written]


TEXTS: dict[str, Callable[[Path, str], str]] = {
    "verdicts": verdicts_text,
    "notes-map": notes_map_text,
    "syllabus": syllabus_text,
    "worksheet": worksheet_text,
}
PLACE = re.compile(rf"^```\{{({'|'.join(TEXTS)})\}}[ ]*(\S*)\n```$", flags=re.MULTILINE)


def insert_texts(app: Sphinx, page: str, content: list[str]) -> None:
    """Put the text that a directive names in its place (Sphinx's ``source-read``)."""
    if not PLACE.search(content[0]):
        return
    source = Path(app.srcdir)
    for file in [*(source / "book" / name for name in DATA), *executed(source)]:
        app.env.note_dependency(str(file))
    content[0] = PLACE.sub(lambda m: TEXTS[m[1]](source, m[2]), content[0])


# ---------------------------------------------------------------- pictures


class ChapterMap(SphinxDirective):
    """The chapters as cards that lead to their pages."""

    has_content = False
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"link": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """One list, as HTML."""
        path = Path(self.env.srcdir, "book", "chapters.yml")
        self.env.note_dependency(str(path))
        link = self.options.get("link", "{stem}.html")
        return [nodes.raw("", chapters.map_html(chapters.load(path), link), format="html")]


class ChapterFigure(SphinxDirective):
    """A chapter's figure, shown again on another page."""

    has_content = False
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The nodes of the figure, or a line that says how to get it."""
        name = self.arguments[0]
        for path in executed(Path(self.env.srcdir)):
            self.env.note_dependency(str(path))
            for mime, bundle in bundles(path):
                if bundle["name"] == name:
                    return figures.bundle_nodes(mime, bundle, self.env)
        self.env.note_reread()
        return [nodes.paragraph("", f"The figure {name} is not recorded yet: run make book.")]


def bundles(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The figure bundles in an executed notebook's outputs, each with its mime type."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            for mime, data in output.get("data", {}).items():
                if mime in figures.MIME_TYPES:
                    found.append((mime, json.loads(data) if isinstance(data, str) else data))
    return found
