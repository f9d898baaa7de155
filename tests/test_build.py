"""The build knows what a chapter depends on, runs it once, and loses nothing when one fails."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import yaml

from mechbook import build

CLAIM = {
    "id": "one.sum",
    "chapter": "one",
    "statement": "Two and two are four.",
    "source": {"kind": "ours", "ref": "arithmetic"},
    "published": None,
    "holds": "4 ± 0",
    "control": {"what": "one of them left out", "holds": "< 3"},
    "verdict": "holds",
    "verdict_text": "It does.",
    "format": "g",
}


def write_notebook(path: Path, *sources: str, prose: str = "# A chapter") -> None:
    cells = [nbformat.v4.new_markdown_cell(prose, id="prose")]
    cells += [nbformat.v4.new_code_cell(s, id=f"code-{k}") for k, s in enumerate(sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, path)


@pytest.fixture
def layout(tmp_path: Path) -> build.Layout:
    """A repository in a folder with a space in its name, with two chapters and a small package."""
    root = tmp_path / "a book"
    data = root / "src" / "mechbook" / "data" / "results"
    for folder in (root / "book", root / "src" / "mechbook" / "room", data):
        folder.mkdir(parents=True)
    package = root / "src" / "mechbook"
    (package / "__init__.py").write_text("")
    (package / "floor.py").write_text("x = 1\n")
    (package / "elsewhere.py").write_text("y = 1\n")
    (package / "room" / "__init__.py").write_text("")
    (package / "room" / "model.py").write_text("from mechbook import floor\nT = 'seeds-table'\n")
    (data / "seeds-table.parquet").write_bytes(b"1")
    (data / "other-table.parquet").write_bytes(b"1")
    (root / "requirements.txt").write_text("a==1\n")
    (root / "book" / "claims.yml").write_text(yaml.safe_dump([CLAIM]))
    files = [{"file": "book/one"}, {"file": "book/two"}, {"file": "book/text"}]
    toc = {
        "format": "jb-book",
        "root": "book/index",
        "parts": [{"caption": "c", "chapters": files}],
    }
    (root / "_toc.yml").write_text(yaml.safe_dump(toc))
    (root / "_config.yml").write_text(yaml.safe_dump({"execute": {"execute_notebooks": "cache"}}))
    write_notebook(root / "book" / "one.ipynb", "from mechbook.room import model", "print(2 + 2)")
    write_notebook(root / "book" / "two.ipynb", "print('two')")
    return build.Layout(root)


def edit(path: Path, text: str = "z = 2\n") -> None:
    path.write_text(path.read_text() + text)


def test_chapters_are_the_notebooks_of_the_toc_in_order(layout: build.Layout) -> None:
    assert build.chapters(layout) == ["one", "two"]


@pytest.mark.parametrize(
    "changed",
    [
        "src/mechbook/room/model.py",  # imported
        "src/mechbook/floor.py",  # imported by what is imported
        "src/mechbook/room/__init__.py",  # its package
        "src/mechbook/data/results/seeds-table.parquet",  # an artifact that it names
        "requirements.txt",
    ],
)
def test_a_change_in_what_it_depends_on_changes_the_key(layout: build.Layout, changed: str) -> None:
    before = build.chapter_key(layout, "one")
    edit(layout.root / changed)
    assert build.chapter_key(layout, "one") != before


@pytest.mark.parametrize(
    "changed",
    [
        "src/mechbook/elsewhere.py",
        "src/mechbook/data/results/other-table.parquet",
        "book/two.ipynb",
    ],
)
def test_a_change_elsewhere_does_not(layout: build.Layout, changed: str) -> None:
    before = build.chapter_key(layout, "one")
    edit(layout.root / changed)
    assert build.chapter_key(layout, "one") == before


def test_prose_alone_does_not_change_the_key_but_code_does(layout: build.Layout) -> None:
    before = build.chapter_key(layout, "two")
    write_notebook(layout.book / "two.ipynb", "print('two')", prose="# Said better")
    assert build.chapter_key(layout, "two") == before
    write_notebook(layout.book / "two.ipynb", "print('changed')")
    assert build.chapter_key(layout, "two") != before


def test_a_changed_claim_changes_the_key_of_its_chapter_alone(layout: build.Layout) -> None:
    before = build.chapter_key(layout, "one"), build.chapter_key(layout, "two")
    (layout.book / "claims.yml").write_text(yaml.safe_dump([{**CLAIM, "holds": "> 3"}]))
    after = build.chapter_key(layout, "one"), build.chapter_key(layout, "two")
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_magics_in_a_cell_are_no_obstacle() -> None:
    cell = "import sys\nif 'google.colab' in sys.modules:\n    %cd here\n    !git clone there\n"
    assert build.imported_modules(cell) == {"sys"}


def test_the_stage_renders_and_does_not_execute(layout: build.Layout) -> None:
    build.stage(layout)
    config = yaml.safe_load((layout.stage / "_config.yml").read_text())
    assert config["execute"]["execute_notebooks"] == "off"


def test_runs_once_and_keeps_what_passed_when_another_fails(layout: build.Layout) -> None:
    write_notebook(layout.book / "two.ipynb", "raise RuntimeError('broken on purpose')")
    keys = {stem: build.chapter_key(layout, stem) for stem in build.chapters(layout)}
    build.stage(layout)
    # the chapter's package is not installed here: run a chapter that needs none
    write_notebook(
        layout.stage / "book" / "one.ipynb", "import os", "os.environ['MECHBOOK_STATIC']"
    )
    with pytest.raises(build.BuildError, match=r"(?s)^two: did not run"):
        build.execute_stale(layout, keys, force=False)
    record = build.last_execution(layout, "one")
    assert record is not None
    assert record.key == keys["one"]
    assert build.last_execution(layout, "two") is None
    assert build.execute_stale(layout, {"one": keys["one"]}, force=False) == []
    executed = nbformat.read(layout.executed / "one.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0]["data"]["text/plain"] == "'1'"


@pytest.mark.parametrize(("cores", "plan"), [(1, (1, 1)), (2, (2, 1)), (3, (3, 1)), (16, (4, 4))])
def test_chapters_share_the_cores_between_them(cores: int, plan: tuple[int, int]) -> None:
    assert build.side_by_side(cores) == plan


def test_a_half_written_record_means_execute_again(layout: build.Layout) -> None:
    layout.executed.mkdir(parents=True)
    (layout.executed / "one.json").write_text('{"key": "ab')
    (layout.executed / "one.ipynb").write_text("{}")
    assert build.last_execution(layout, "one") is None


def test_nothing_is_built_and_the_reason_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--root", str(tmp_path)]) == 1
    assert "_toc.yml" in capsys.readouterr().err
