"""The list of chapters (``book/chapters.yml``): what there is, in which order, and what it needs."""

from __future__ import annotations

import html
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Chapter:
    """One chapter of the book.

    Attributes:
        stem: the notebook's name without its ending
        room: the chapter's package under ``mechbook``
        title: as on its page
        question: what the chapter answers, in one sentence
        minutes_read: reading time
        minutes_run: running time on two cores
        needs: stems of the chapters to read before
        written: whether the notebook is there
        exercises: the module of the package that holds the exercises (two chapters may share a room)
    """

    stem: str
    room: str
    title: str
    question: str
    minutes_read: int
    minutes_run: float
    needs: tuple[str, ...]
    written: bool
    exercises: str = "exercises"


def load(path: Path) -> list[Chapter]:
    """Read the list of chapters.

    Raises:
        ValueError: a missing or unknown field, a name given twice, or a need that is no chapter.
    """
    known = {field.name for field in fields(Chapter)}
    found: list[Chapter] = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        if set(entry) | {"exercises"} != known:
            odd = ", ".join(sorted((set(entry) | {"exercises"}) ^ known))
            raise ValueError(
                f"{path.name}: {entry.get('stem')}: needs just {sorted(known)} (exercises may be "
                f"left out); look at {odd}."
            )
        found.append(Chapter(**{**entry, "needs": tuple(entry["needs"])}))
    stems = [chapter.stem for chapter in found]
    for chapter in found:
        unknown = [need for need in chapter.needs if need not in stems]
        if unknown or stems.count(chapter.stem) > 1:
            raise ValueError(
                f"{path.name}: {chapter.stem}: stems are unique and needs are among {stems}."
            )
    return found


def named(chapters: Sequence[Chapter], stem: str) -> Chapter:
    """The chapter of that name.

    Raises:
        ValueError: there is none; the text lists those there are.
    """
    for chapter in chapters:
        if chapter.stem == stem:
            return chapter
    names = ", ".join(chapter.stem for chapter in chapters)
    raise ValueError(f"No chapter is called {stem!r}. The chapters are: {names}.")


def exercises_of(chapter: Chapter) -> tuple[Any, ...]:
    """The chapter's exercises, from its package."""
    module = importlib.import_module(f"mechbook.{chapter.room}.{chapter.exercises}")
    return tuple(module.EXERCISES)


def syllabus_table(chapters: Sequence[Chapter]) -> str:
    """The dependencies and times of all chapters, as a MyST table."""
    titles = {chapter.stem: chapter.title for chapter in chapters}
    rows = ["| Chapter | Read first | Reading | Running |", "|---|---|--:|--:|"]
    for chapter in chapters:
        name = (
            f"{{doc}}`/book/{chapter.stem}`"
            if chapter.written
            else f"{chapter.title} *(not yet written)*"
        )
        before = "; ".join(titles[need] for need in chapter.needs) or "–"
        run = f"{chapter.minutes_run:g} min" if chapter.written else "–"
        rows.append(f"| {name} | {before} | {chapter.minutes_read} min | {run} |")
    return "\n".join(rows)


def map_html(chapters: Sequence[Chapter], link: str) -> str:
    """The chapters as cards; ``link`` is a format with ``{stem}`` that leads to a page."""
    items = []
    for chapter in chapters:
        title = html.escape(chapter.title)
        if chapter.written:
            name, kind = f'<a href="{link.format(stem=chapter.stem)}">{title}</a>', "mb-written"
            facts = f"{chapter.minutes_read} min to read, {chapter.minutes_run:g} min to run"
        else:
            name, kind, facts = title, "mb-planned", "not yet written"
        items.append(
            f'<li class="{kind}"><p><strong>{name}</strong></p><p>{html.escape(chapter.question)}</p>'
            f'<p class="mb-facts">{facts}</p></li>'
        )
    return '<ul class="mb-map">' + "".join(items) + "</ul>"
