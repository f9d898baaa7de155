"""The map of the notes: no dead pointer, no note left out, no verdict against the ledger."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechbook import chapters, claims, notes_map
from mechbook.notes_map import Covered, Entry, NotesMap, Place, Source

BOOK = Path(__file__).parents[2] / "book"
NOTES = BOOK.parents[1] / "shared" / "notes"  # beside the repository, where somebody has them
LEDGER = BOOK / "claims.yml"


@pytest.fixture(scope="module")
def notes() -> NotesMap:
    return notes_map.load(BOOK / "notes_map.yml")


@pytest.fixture(scope="module")
def sources() -> tuple[Source, ...]:
    return notes_map.load_lines(BOOK / "notes_lines.yml")


def small(**changes: object) -> NotesMap:
    """A map of one entry."""
    entry = Entry(id="n0-001", file=0, section="S", kind="statement", note="It holds.")
    return NotesMap({0: "Notes"}, (replace(entry, **changes),))


def written() -> list[str]:
    return [c.stem for c in chapters.load(BOOK / "chapters.yml") if c.written]


# --- the book's own map ---------------------------------------------------------------------------


def test_the_map_is_in_order(notes: NotesMap) -> None:
    assert notes_map.problems(notes) == []


@pytest.mark.skipif(not LEDGER.exists(), reason="book/claims.yml is not there yet")
def test_no_pointer_is_dead(notes: NotesMap) -> None:
    keys = re.findall(r"^@\w+\{(\w+),", (BOOK / "reference" / "references.bib").read_text(), re.M)
    pages = {str(path.relative_to(BOOK).with_suffix("")) for path in BOOK.rglob("*.md")}
    ledger = {claim.id: claim.chapter for claim in claims.load(LEDGER).values()}
    dead = notes_map.dead_pointers(
        notes, written=written(), claims=ledger, pages=pages, citations=keys
    )
    assert dead == []


@pytest.mark.skipif(not LEDGER.exists(), reason="book/claims.yml is not there yet")
def test_the_page_can_be_made_from_the_ledger(notes: NotesMap) -> None:
    verdicts = {claim.id: claim.verdict for claim in claims.load(LEDGER).values()}
    page = notes_map.render(notes, verdicts)
    assert all(f"[{entry.id}]{{#{entry.id}}}" in page for entry in notes.entries)


def test_every_plan_is_a_chapter_or_says_later(notes: NotesMap) -> None:
    stems = {chapter.stem for chapter in chapters.load(BOOK / "chapters.yml")}
    odd = [e.id for e in notes.entries if e.planned not in stems and e.planned != "none"]
    assert [id for id in odd if not notes.by_id[id].planned.startswith("later: ")] == []


def test_no_note_is_left_out(notes: NotesMap, sources: tuple[Source, ...]) -> None:
    assert [source.file for source in sources] == sorted(notes.titles)
    assert notes_map.uncovered(notes, sources) == []


def test_entries_stand_in_the_order_of_the_lines(sources: tuple[Source, ...]) -> None:
    for source in sources:
        covered = [run.covers for run in source.lines if run.covers]
        first_seen = list(dict.fromkeys(id for ids in covered for id in ids))
        assert first_seen == sorted(first_seen)


@pytest.mark.skipif(not NOTES.is_dir(), reason="the notes are not beside this repository")
def test_the_fingerprints_are_those_of_the_notes(sources: tuple[Source, ...]) -> None:
    for source in sources:
        content = (NOTES / source.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == source.sha256
        assert notes_map.fingerprints(content.decode()) == source.prints


def test_notes_are_short_enough_to_be_quoted(notes: NotesMap) -> None:
    assert all(0 < len(entry.note) <= 200 for entry in notes.entries)


# --- fingerprints ---------------------------------------------------------------------------------


def test_a_fingerprint_ignores_case_space_and_marks() -> None:
    assert notes_map.fingerprints("## The **Stream**!") == notes_map.fingerprints(" the stream ")


def test_lines_without_letter_or_digit_have_no_fingerprint() -> None:
    assert notes_map.fingerprints("---\n\n  \n* * *\n$$") == []


def test_a_fingerprint_is_the_start_of_a_sha256() -> None:
    expected = hashlib.sha256("wo풀이".encode()).hexdigest()[:8]
    assert notes_map.fingerprints("W_O 풀이") == [expected]


@given(st.lists(st.text("abcXYZ 019-_*", max_size=12)))
def test_one_fingerprint_for_each_line_with_content(lines: list[str]) -> None:
    prints = notes_map.fingerprints("\n".join(lines))
    assert len(prints) == sum(any(c.isalnum() for c in line) for line in lines)


# --- what the checks find -------------------------------------------------------------------------


def dead(notes: NotesMap) -> list[str]:
    return notes_map.dead_pointers(
        notes, written=["one"], claims={"one.a": "one"}, pages=["start/x"], citations=["key"]
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"place": Place(chapter="two")}, "two is not written"),
        ({"place": Place(chapter="one", claims=("one.b",))}, "one.b is no claim of one"),
        ({"place": Place(chapter="one")}, "neither a claim nor a verdict"),
        ({"place": Place(page="start/y")}, "no page start/y"),
        ({"planned": "one"}, "place it"),
        ({"cite": "other"}, "the bibliography lacks"),
    ],
)
def test_a_dead_pointer_is_found(changes: dict[str, object], says: str) -> None:
    (problem,) = dead(small(**changes))
    assert problem.startswith("n0-001")
    assert says in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"place": Place(chapter="one", claims=("one.a",))},
        {"place": Place(chapter="one"), "verdict": "n/a"},
        {"place": Place(page="start/x"), "cite": "key"},
        {"planned": "two"},
    ],
)
def test_a_good_pointer_passes(changes: dict[str, object]) -> None:
    assert dead(small(**changes)) == []


def test_an_id_given_twice_is_found() -> None:
    once = small()
    assert "2 times" in notes_map.problems(replace(once, entries=once.entries * 2))[0]


@pytest.mark.parametrize("target", ["n0-002", "n0-001"])
def test_a_repeat_of_nothing_or_of_a_repeat_is_found(target: str) -> None:
    assert "same_as names" in notes_map.problems(small(same_as=(target,)))[0]


def test_entries_out_of_order_are_found() -> None:
    first = small().entries[0]
    swapped = NotesMap({0: "Notes"}, (replace(first, id="n0-002"), first))
    assert "not in the order" in notes_map.problems(swapped)[0]


def test_a_line_left_out_is_found() -> None:
    source = Source(0, "a.txt", "", (Covered(("00000000",)),))
    found = notes_map.uncovered(small(), [source])
    assert found == [
        "n0-001: covers no line of the notes",
        "file 0: 00000000 is neither covered nor skipped",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "poem"}, "'poem' is none of"),
        ({"verdict": "maybe"}, "'maybe' is none of"),
        ({"sort": "x"}, "look at sort"),
        ({"place": {"chapter": "one"}}, "place is null"),
    ],
)
def test_a_bad_entry_names_itself(change: dict[str, object], says: str) -> None:
    row = {"id": "n0-001", "file": 0, "section": "S", "kind": "idea", "note": "N"}
    own = {"place": None, "planned": "none", "verdict": "not yet"}
    with pytest.raises(ValueError, match=r"^n0-001: ") as error:
        notes_map.entry_from({**row, **own, **change})
    assert says in str(error.value)


# --- verdicts and the page ------------------------------------------------------------------------

LEDGER_VERDICTS = {"one.a": "holds", "one.b": "does not hold", "one.c": "holds with a condition"}


@pytest.mark.parametrize(
    ("ids", "own", "shown"),
    [
        (("one.a",), "not yet", "holds"),
        (("one.a", "one.c"), "not yet", "holds with a condition"),
        (("one.a", "one.b", "one.c"), "not yet", "does not hold"),
        (("one.a", "one.b"), "holds", "holds"),
        ((), "open", "open"),
    ],
)
def test_the_ledger_decides_the_verdict(ids: tuple[str, ...], own: str, shown: str) -> None:
    notes = small(place=Place(chapter="one", claims=ids), verdict=own)
    assert notes_map.verdict_of(notes.entries[0], notes, LEDGER_VERDICTS) == shown


def test_a_verdict_against_the_ledger_is_refused() -> None:
    notes = small(place=Place(chapter="one", claims=("one.b",)), verdict="holds")
    with pytest.raises(ValueError, match="n0-001: its verdict 'holds'"):
        notes_map.verdict_of(notes.entries[0], notes, LEDGER_VERDICTS)


def test_a_claim_that_the_ledger_lacks_is_refused() -> None:
    notes = small(place=Place(chapter="one", claims=("one.x",)))
    with pytest.raises(ValueError, match=r"does not list one\.x"):
        notes_map.verdict_of(notes.entries[0], notes, LEDGER_VERDICTS)


def test_a_repeat_has_the_verdict_of_its_origin() -> None:
    first = replace(small().entries[0], place=Place(chapter="one", claims=("one.b",)))
    again = replace(small().entries[0], id="n0-002", same_as=("n0-001",))
    notes = NotesMap({0: "Notes"}, (first, again))
    assert notes_map.verdict_of(again, notes, LEDGER_VERDICTS) == "does not hold"


def test_the_page_escapes_what_markdown_would_read() -> None:
    page = notes_map.render(small(note="λ |w| costs $1 *always* [x] <b>"), {})
    assert r"λ \|w\| costs \$1 \*always\* \[x\] \<b\>" in page


def test_the_page_uses_the_chapters_title() -> None:
    page = notes_map.render(small(planned="two"), {}, titles={"two": "Weber's law"})
    assert "planned: Weber's law" in page
