"""The Sphinx extension of the book: our figures on the page, and the pages that are made from data.

Directives: ``verdicts``, ``notes-map``, ``syllabus``, ``chapter-map``, ``worksheet CHAPTER``,
``chapter-figure NAME`` (a figure of a chapter, shown again elsewhere) and ``latent-index``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
from sphinx.application import Sphinx

from mechbook.pages import figures, latents
from mechbook.pages.directives import ChapterFigure, ChapterMap, insert_texts

SEARCH_SCRIPTS = re.compile(
    r"\s*<script[^>]*/?(?:searchtools|language_data|searchindex)\.js[^>]*></script>"
)
ICON_SCRIPT = re.compile(r"\s*<script[^>]*/fontawesome\.js[^>]*></script>")


def strip_downloads(app: Sphinx, error: Exception | None) -> None:
    """Let a reader download a chapter as it is written: without outputs, and small."""
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir, "_sources").rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [cell for cell in notebook.cells if cell.get("id") != "colophon"]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Leave out the scripts of sphinx-thebe: the book does not use it, and it declares a constant twice."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script} {getattr(script, 'attributes', '')}".lower()
    ]


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Drop what no page needs.

    The icons' script (1.5 MB; the theme's style sheet draws the same icons), the search index on pages that are not
    the search (it grows with the book), and source maps.
    """
    if error is not None or app.builder.format != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        lighter = ICON_SCRIPT.sub("", text)
        if path.name != "search.html":
            lighter = SEARCH_SCRIPTS.sub("", lighter)
        path.write_text(lighter, encoding="utf-8")
    for pattern in ("*.map", "fontawesome.js*"):
        for path in Path(app.outdir, "_static").rglob(pattern):
            path.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension; chapters that Sphinx executes itself make outputs for the page."""
    os.environ["MECHBOOK_STATIC"] = "1"
    figures.setup(app)
    latents.setup(app)
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("chapter-figure", ChapterFigure)
    app.connect("source-read", insert_texts)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", strip_downloads)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
