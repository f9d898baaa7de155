"""The book as a text: what a committed chapter may and must hold."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from mechbook import build, chapters

ROOT = Path(__file__).parents[2]
LAYOUT = build.Layout(ROOT)
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CELL_METADATA = {"tags"}
LONGEST_CELL = {"shown": 15, "folded": 25}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return read(request.param)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_outputs_are_stripped(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


def test_metadata_is_minimal(notebook: nbformat.NotebookNode) -> None:
    assert set(notebook.metadata) == {"kernelspec"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= CELL_METADATA


def test_code_cells_are_short(notebook: nbformat.NotebookNode) -> None:
    for cell in code_cells(notebook):
        tags = cell.metadata.get("tags", [])
        longest = LONGEST_CELL["folded" if "hide-input" in tags else "shown"]
        if "remove-cell" not in tags:
            assert len(cell.source.splitlines()) <= longest, cell.source


def test_figures_are_shown_through_plotting(notebook: nbformat.NotebookNode) -> None:
    """A figure shown in another way would have no alternative text."""
    for cell in code_cells(notebook):
        assert not re.search(r"plt\.show|display\(fig|^fig$", cell.source, flags=re.MULTILINE)


def test_prose_states_no_measured_decimal(notebook: nbformat.NotebookNode) -> None:
    """A decimal in running text is a result that the text could outlive: glue it instead."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        text = re.sub(
            r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\{[^}]*\}|\([^)]*\)",
            "",
            cell.source,
            flags=re.S,
        )
        assert not re.findall(r"\d+\.\d+ ?%?|\d+ ?%", text), text


def test_every_chapter_written_is_in_the_table_of_contents_and_the_reverse() -> None:
    written = [c.stem for c in chapters.load(ROOT / "book" / "chapters.yml") if c.written]
    assert written == build.chapters(LAYOUT)
    assert {p.stem for p in NOTEBOOKS} == set(written)


def test_every_chapter_has_its_facilitators_page_in_the_table_of_contents() -> None:
    toc = (ROOT / "_toc.yml").read_text()
    for stem in build.chapters(LAYOUT):
        assert f"book/teaching/{stem}" in toc


def test_the_address_stands_in_one_place() -> None:
    """The set-up cells carry the same address as `_config.yml`."""
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    for path in NOTEBOOKS:
        first = code_cells(read(path))[0]
        assert "remove-cell" in first.metadata.tags
        assert address in first.source


def test_weights_and_results_stay_within_the_budget() -> None:
    files = [f for f in (ROOT / "src" / "mechbook" / "data").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 40e6
    assert all(f.stat().st_size <= 16e6 for f in files)


def test_nothing_in_the_project_unpickles() -> None:
    risky = re.compile(r"\bpickle\b|torch\.load\(|allow_pickle=True|joblib\.load\(")
    for path in (ROOT / "src").rglob("*.py"):
        assert not risky.search(path.read_text()), path
    assert not [p for p in ROOT.glob("src/**/*") if p.suffix in {".pkl", ".pt", ".pth"}]


def test_every_module_of_the_rooms_and_every_shared_one_is_in_the_reference() -> None:
    """The workings of the build itself (what no chapter imports) are for its own readers."""
    package, pages = ROOT / "src" / "mechbook", (ROOT / "book" / "reference").glob("api*.md")
    listed = set(re.findall(r"automodule:: (\S+)", "".join(page.read_text() for page in pages)))
    rooms = {chapter.room for chapter in chapters.load(ROOT / "book" / "chapters.yml")}
    used = "".join(p.read_text() for room in rooms for p in (package / room).glob("*.py"))
    shared = {p.stem for p in package.glob("[a-z]*.py") if re.search(rf"\b{p.stem}\b", used)}
    wanted = {f"mechbook.{name}" for name in shared - {"build", "chapters", "cli", "notes_map"}}
    wanted |= {
        f"mechbook.{room}.{p.stem}" for room in rooms for p in (package / room).glob("[a-z]*.py")
    }
    assert wanted <= listed
