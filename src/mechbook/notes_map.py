"""The map of the notes: every statement of the notes with its place in the book and its verdict.

`book/notes_map.yml` lists the entries in the order of the notes; `book/notes_lines.yml` says which
entry covers which line of them, by fingerprint, so that "no note left out" can be tested where the
notes themselves are not at hand.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

KINDS = ("statement", "question", "todo", "paper", "idea", "definition")
JUDGED = ("holds", "holds with a condition", "open", "does not hold")  # from best to worst
VERDICTS = ("not yet", *JUDGED, "n/a")
_REQUIRED = {"id", "file", "section", "kind", "note"}
_OWN = {"place", "planned", "verdict"}  # of an entry that repeats no other
_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#$|~^!:])")


@dataclass(frozen=True)
class Place:
    """Where the book treats a note: a chapter with its claims, or a page.

    Attributes:
        chapter: stem of the chapter's notebook, or None
        claims: ids of the ledger's claims that test the note
        page: path under `book/` without ending, or None
    """

    chapter: str | None = None
    claims: tuple[str, ...] = ()
    page: str | None = None


@dataclass(frozen=True)
class Entry:
    """One sentence of the notes.

    Attributes:
        id: `n<file>-<number>`
        file: which of the notes' files
        section: heading under which it is listed
        kind: one of `KINDS`
        note: the sentence, quoted or shortened
        place: where it is treated, None when it is not yet
        planned: stem of the chapter meant for it, `later: topic`, or `none`
        verdict: one of `VERDICTS`
        cite: key in the bibliography, of a paper
        same_as: ids of the entries that it repeats; these carry place, plan and verdict
    """

    id: str
    file: int
    section: str
    kind: str
    note: str
    place: Place | None = None
    planned: str = "none"
    verdict: str = "not yet"
    cite: str | None = None
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotesMap:
    """All entries in the order of the notes, and the title of each file."""

    titles: Mapping[int, str]
    entries: tuple[Entry, ...]

    @property
    def by_id(self) -> dict[str, Entry]:
        """The entries by id."""
        return {entry.id: entry for entry in self.entries}


@dataclass(frozen=True)
class Covered:
    """Consecutive lines of the notes and what covers them.

    Attributes:
        prints: fingerprints of the lines
        covers: ids of the entries; empty when the lines are skipped
        skip: why they are skipped, None when they are covered
    """

    prints: tuple[str, ...]
    covers: tuple[str, ...] = ()
    skip: str | None = None


@dataclass(frozen=True)
class Source:
    """One file of the notes as `notes_lines.yml` remembers it.

    Attributes:
        file: its number
        name: its name
        sha256: digest of its bytes
        lines: its non-blank lines, in order
    """

    file: int
    name: str
    sha256: str
    lines: tuple[Covered, ...]

    @property
    def prints(self) -> list[str]:
        """The fingerprints of all lines, in order."""
        return [fingerprint for run in self.lines for fingerprint in run.prints]


# --- reading --------------------------------------------------------------------------------------


def load(path: Path) -> NotesMap:
    """Read the map.

    Raises:
        ValueError: a missing or unknown key, kind or verdict; the text names the entry.
    """
    data = _read(path)
    titles = {row["file"]: row["title"] for row in data["files"]}
    return NotesMap(titles, tuple(entry_from(row) for row in data["entries"]))


def load_lines(path: Path) -> tuple[Source, ...]:
    """Read which entry covers which line of the notes."""
    return tuple(
        Source(row["file"], row["name"], row["sha256"], tuple(map(_covered, row["lines"])))
        for row in _read(path)["files"]
    )


def _read(path: Path) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def _covered(row: Mapping[str, Any]) -> Covered:
    return Covered(tuple(row["prints"]), tuple(row.get("covers", ())), row.get("skip"))


def entry_from(row: Mapping[str, Any]) -> Entry:
    """Validate one entry as YAML gives it; `ValueError` names it and what is allowed."""
    name = row.get("id", "an entry without id")
    needed = _REQUIRED | ({"same_as"} if "same_as" in row else _OWN)
    odd = (set(row) - {"cite"}) ^ needed
    if odd:
        raise ValueError(f"{name}: needs just {sorted(needed)}; look at {', '.join(sorted(odd))}.")
    _one_of(name, "kind", row["kind"], KINDS)
    _one_of(name, "verdict", row.get("verdict", "not yet"), VERDICTS)
    fields = dict(row)
    if "same_as" in row:
        fields["same_as"] = tuple(row["same_as"])
    else:
        fields["place"] = _place(name, row["place"])
    return Entry(**fields)


def _one_of(name: str, key: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: {key} {value!r} is none of: {', '.join(allowed)}.")


def _place(name: str, value: Any) -> Place | None:
    if value is None:
        return None
    if isinstance(value, str):
        return Place(page=value)
    if set(value) != {"chapter", "claims"}:
        raise ValueError(f"{name}: place is null, a page, or {{chapter: stem, claims: [ids]}}.")
    return Place(chapter=value["chapter"], claims=tuple(value["claims"]))


# --- fingerprints ---------------------------------------------------------------------------------


def normalize(line: str) -> str:
    """The letters and digits of a line, in lower case."""
    return "".join(character for character in line.lower() if character.isalnum())


def fingerprints(text: str) -> list[str]:
    """Eight hex digits for each line that has a letter or a digit, in order."""
    kept = (normalized for line in text.splitlines() if (normalized := normalize(line)))
    return [hashlib.sha256(line.encode()).hexdigest()[:8] for line in kept]


# --- checks ---------------------------------------------------------------------------------------


def problems(notes: NotesMap) -> list[str]:
    """What is wrong inside the map: ids, order, repeats. Empty when nothing is."""
    counts = Counter(entry.id for entry in notes.entries)
    found = [f"{id}: the id is given {count} times" for id, count in counts.items() if count > 1]
    ids = [entry.id for entry in notes.entries]
    if ids != sorted(ids):
        first = next(a for a, b in zip(ids, sorted(ids), strict=True) if a != b)
        found.append(f"{first}: the entries are not in the order of the notes")
    return found + [text for entry in notes.entries for text in _own_problems(entry, notes)]


def _own_problems(entry: Entry, notes: NotesMap) -> Iterator[str]:
    if not entry.id.startswith(f"n{entry.file}-") or entry.file not in notes.titles:
        yield f"{entry.id}: its file is {entry.file}"
    known = notes.by_id
    for id in entry.same_as:
        if id not in known:
            yield f"{entry.id}: same_as names {id}, which is no entry"
        elif known[id].same_as:
            yield f"{entry.id}: same_as names {id}, which is itself a repeat: name its origin"


def dead_pointers(
    notes: NotesMap,
    *,
    written: Collection[str],
    claims: Mapping[str, str],
    pages: Collection[str],
    citations: Collection[str],
) -> list[str]:
    """What points to something that the book does not have, or forgets what it has.

    Args:
        notes: the map.
        written: stems of the chapters that are there.
        claims: the ledger, claim id to chapter stem.
        pages: pages of the book, paths under `book/` without ending.
        citations: keys of the bibliography.
    """
    found: list[str] = []
    for entry in notes.entries:
        if entry.cite is not None and entry.cite not in citations:
            found.append(f"{entry.id}: cites {entry.cite}, which the bibliography lacks")
        if entry.place is None:
            if entry.planned in written:
                found.append(f"{entry.id}: planned for {entry.planned}, which is written: place it")
        elif entry.place.page is not None:
            if entry.place.page not in pages:
                found.append(f"{entry.id}: the book has no page {entry.place.page}")
        else:
            found += _dead_in_chapter(entry, entry.place, written, claims)
    return found


def _dead_in_chapter(
    entry: Entry, place: Place, written: Collection[str], claims: Mapping[str, str]
) -> list[str]:
    if place.chapter not in written:
        return [f"{entry.id}: its chapter {place.chapter} is not written"]
    found = [
        f"{entry.id}: {id} is no claim of {place.chapter}"
        for id in place.claims
        if claims.get(id) != place.chapter
    ]
    if not place.claims and entry.verdict == "not yet":
        found.append(f"{entry.id}: treated in {place.chapter}, but neither a claim nor a verdict")
    return found


def uncovered(notes: NotesMap, sources: Sequence[Source]) -> list[str]:
    """Lines of the notes without an entry, and entries without a line."""
    known = set(notes.by_id)
    used = {id for source in sources for run in source.lines for id in run.covers}
    found = [f"{id}: covers lines, but is no entry" for id in sorted(used - known)]
    found += [f"{id}: covers no line of the notes" for id in sorted(known - used)]
    for source in sources:
        for run in source.lines:
            if bool(run.covers) == bool(run.skip):
                found.append(f"file {source.file}: {run.prints[0]} is neither covered nor skipped")
    return found


# --- the page -------------------------------------------------------------------------------------


def verdict_of(entry: Entry, notes: NotesMap, verdicts: Mapping[str, str]) -> str:
    """The verdict that the page shows.

    With claims it is the worst of theirs, or the entry's own where one of the claims carries it; a
    repeat has that of the entries it repeats, the worst where they differ.

    Args:
        entry: one of the map's entries.
        notes: the map.
        verdicts: the ledger, claim id to verdict.

    Raises:
        ValueError: a claim that the ledger lacks, or an own verdict that no claim carries.
    """
    if entry.same_as:
        return _worst([verdict_of(notes.by_id[id], notes, verdicts) for id in entry.same_as])
    ids = entry.place.claims if entry.place else ()
    missing = [id for id in ids if id not in verdicts]
    if missing:
        raise ValueError(f"{entry.id}: claims.yml does not list {', '.join(missing)}.")
    carried = [verdicts[id] for id in ids]
    if not carried or entry.verdict in carried:
        return entry.verdict
    if entry.verdict != "not yet":
        raise ValueError(
            f"{entry.id}: its verdict {entry.verdict!r} is none of its claims' ({carried}): "
            "take one of these, or 'not yet' for the worst of them."
        )
    return _worst(carried)


def _worst(verdicts: Sequence[str]) -> str:
    order = ("n/a", *JUDGED[:2], "not yet", *JUDGED[2:])
    return max(verdicts, key=order.index)


def render(
    notes: NotesMap, verdicts: Mapping[str, str], titles: Mapping[str, str] | None = None
) -> str:
    """The map as MyST Markdown: counts, then a heading per file and section, and tables.

    Args:
        notes: the map.
        verdicts: the ledger, claim id to verdict.
        titles: chapter stem to title; a stem without one becomes words.

    Raises:
        ValueError: see `verdict_of`.
    """
    parts = [_counts(notes, verdicts)]
    for file, in_file in groupby(notes.entries, key=lambda entry: entry.file):
        parts.append(f"## File {file}: {_plain(notes.titles[file])}")
        for section, group in groupby(in_file, key=lambda entry: entry.section):
            rows = [_row(entry, notes, verdicts, titles or {}) for entry in group]
            head = ["| Entry | Note | Where | Verdict |", "|---|---|---|---|"]
            parts += [f"### {_plain(section)}", "\n".join(head + rows)]
    return "\n\n".join(parts) + "\n"


def _counts(notes: NotesMap, verdicts: Mapping[str, str]) -> str:
    own = [entry for entry in notes.entries if not entry.same_as]
    counts = Counter(verdict_of(entry, notes, verdicts) for entry in own)
    listed = [f"| {name} | {counts[name]} |" for name in VERDICTS if counts[name]]
    repeats = len(notes.entries) - len(own)
    text = f"{len(notes.entries)} entries, {repeats} of which repeat an earlier one. The others:"
    return "\n".join([text, "", "| Verdict | Entries |", "|---|--:|", *listed])


def _row(
    entry: Entry, notes: NotesMap, verdicts: Mapping[str, str], titles: Mapping[str, str]
) -> str:
    kind = "" if entry.kind == "statement" else f" *({entry.kind})*"
    cells = (
        f"[{entry.id}]{{#{entry.id}}}",
        _plain(entry.note) + kind,
        _where(entry, titles),
        verdict_of(entry, notes, verdicts),
    )
    return "| " + " | ".join(cells) + " |"


def _where(entry: Entry, titles: Mapping[str, str]) -> str:
    if entry.same_as:
        return "as " + ", ".join(f"[{id}](#{id})" for id in entry.same_as)
    later = _planned(entry.planned, titles)
    if entry.place is None:
        return later
    if entry.place.page is not None:
        page = f"{{cite}}`{entry.cite}`" if entry.cite else f"{{doc}}`/book/{entry.place.page}`"
        return page + (later and f"; {later}")
    links = [f"{{ref}}`{_short(id)} <{_anchor(id)}>`" for id in entry.place.claims]
    here = f"{{doc}}`/book/{entry.place.chapter}`" + (": " + ", ".join(links) if links else "")
    return here if entry.planned in (entry.place.chapter, "none") else f"{here}; {later}"


def _planned(planned: str, titles: Mapping[str, str]) -> str:
    if planned == "none":
        return ""
    if planned.startswith("later: "):
        return f"perhaps later: {_plain(planned.removeprefix('later: '))}"
    title = titles.get(planned) or planned.replace("_", " ").capitalize()
    return f"planned: {_plain(title)}"


def _short(claim: str) -> str:
    return claim.rpartition(".")[2]


def _anchor(claim: str) -> str:
    return "claim-" + claim.replace(".", "-")  # as on the page of verdicts


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
