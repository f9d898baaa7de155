"""The code that the pages under `book/start` print runs, and what it asserts is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

START = Path(__file__).parents[2] / "book" / "start"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(page: str) -> dict[str, Any]:
    """Run a page's blocks one after another in one namespace."""
    namespace: dict[str, Any] = {}
    for source in BLOCK.findall((START / f"{page}.md").read_text(encoding="utf-8")):
        exec(compile(source, page, "exec"), namespace)
    return namespace


def test_the_code_of_the_page_on_notation_holds() -> None:
    names = run("notation")
    assert names["in_rows"].tolist() == [[7.0, 3.0], [6.0, 2.5]]


def test_the_code_of_the_self_check_has_the_shapes_that_its_answer_gives() -> None:
    names = run("prerequisites")
    assert names["a"].shape == names["b"].shape == (2, 7, 5)
    assert names["a"].equal(names["b"])
    assert names["c"].shape == (2, 7, 1)


@pytest.mark.parametrize("page", ["notation", "prerequisites"])
def test_the_pages_have_code_to_run(page: str) -> None:
    assert BLOCK.search((START / f"{page}.md").read_text(encoding="utf-8"))


def test_the_code_fits_the_page() -> None:
    blocks = BLOCK.findall((START / "notation.md").read_text(encoding="utf-8"))
    assert max(len(line) for block in blocks for line in block.splitlines()) <= 100
