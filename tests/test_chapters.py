"""The list of chapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mechbook import chapters

ONE = {
    "stem": "one",
    "room": "first",
    "title": "One & only",
    "question": "Why?",
    "minutes_read": 10,
    "minutes_run": 1.5,
    "needs": [],
    "written": True,
}
TWO = {**ONE, "stem": "two", "title": "Two", "needs": ["one"], "written": False}


def write(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "chapters.yml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


def test_chapters_come_in_their_order(tmp_path: Path) -> None:
    found = chapters.load(write(tmp_path, ONE, TWO))
    assert [c.stem for c in found] == ["one", "two"]
    assert found[1].needs == ("one",)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{**ONE, "color": "red"}], "color"),
        ([{k: v for k, v in ONE.items() if k != "room"}], "room"),
        ([ONE, ONE], "unique"),
        ([{**ONE, "needs": ["nothing"]}], "needs are among"),
    ],
)
def test_a_wrong_list_is_refused_with_what_is_wrong(
    tmp_path: Path, entries: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        chapters.load(write(tmp_path, *entries))


def test_an_unknown_chapter_gets_the_list_of_good_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The chapters are: one, two"):
        chapters.named(chapters.load(write(tmp_path, ONE, TWO)), "three")


def test_the_syllabus_links_only_to_what_is_written(tmp_path: Path) -> None:
    table = chapters.syllabus_table(chapters.load(write(tmp_path, ONE, TWO)))
    assert "{doc}`/book/one`" in table
    assert "/book/two" not in table
    assert "Two *(not yet written)* | One & only" in table


def test_the_map_marks_what_is_not_yet_written(tmp_path: Path) -> None:
    cards = chapters.map_html(chapters.load(write(tmp_path, ONE, TWO)), link="{stem}.html")
    assert '<a href="one.html">One &amp; only</a>' in cards
    assert "two.html" not in cards
    assert cards.count("not yet written") == 1


def test_two_chapters_may_share_a_room_with_exercises_of_their_own(tmp_path):
    path = tmp_path / "chapters.yml"
    path.write_text(yaml.safe_dump([{**ONE, "exercises": "others"}]))
    assert chapters.load(path)[0].exercises == "others"
