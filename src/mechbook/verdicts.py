"""The page of verdicts: the ledger with what was measured, as MyST Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from mechbook.claims import VERDICTS, Claim, Record, Source, number_text
from mechbook.conditions import Condition


def verdict_table(
    claims: Mapping[str, Claim],
    records: Iterable[Record],
    *,
    titles: Mapping[str, str] | None = None,
    heading: int = 2,
) -> str:
    """Return the body of the page of verdicts as MyST Markdown.

    Args:
        claims: the ledger.
        records: what executed chapters measured; a claim without one says so.
        titles: chapter name to the heading's text (Markdown, so a link works); a name that is
            missing becomes words.
        heading: level of the chapters' headings.

    Returns:
        A sentence of counts; then per chapter a heading, and per claim an anchor
        `(claim-<id with dots as dashes>)=` and one admonition.
    """
    measured = {record.id: record for record in records}
    by_chapter: dict[str, list[Claim]] = {}
    for claim in claims.values():
        by_chapter.setdefault(claim.chapter, []).append(claim)
    parts = [_counts(claims.values())]
    for chapter, group in by_chapter.items():
        title = (titles or {}).get(chapter, chapter.replace("_", " ").capitalize())
        parts.append(f"{'#' * heading} {title}")
        parts += [_card(claim, measured.get(claim.id)) for claim in group]
    return "\n\n".join(parts) + "\n"


def _counts(claims: Iterable[Claim]) -> str:
    verdicts = [claim.verdict for claim in claims]
    if not verdicts:
        return "No statement is listed yet."
    counts = [f"{verdicts.count(name)} “{name}”" for name in VERDICTS if name in verdicts]
    noun = "statement" if len(verdicts) == 1 else "statements"
    return f"{len(verdicts)} {noun}: {', '.join(counts)}."


def _card(claim: Claim, record: Record | None) -> str:
    css = "mb-verdict mb-verdict-" + claim.verdict.replace(" ", "-")
    body = [
        f"**{claim.verdict.capitalize()}.** {claim.verdict_text}",
        "\n".join(f"- {row}" for row in _rows(claim, record)),
    ]
    return (
        f"({claim.anchor})=\n\n::::{{admonition}} {claim.statement}\n:class: {css}\n\n"
        + "\n\n".join(body)
        + "\n::::"
    )


def _rows(claim: Claim, record: Record | None) -> list[str]:
    rows = [f"Source: {_source_text(claim.source)}"]
    if claim.published is not None:
        rows.append(f"Published: {claim.published}")
    if record is None:
        rows.append(f"Ours: not yet measured: run `make book` (needs {_literal(claim.holds)})")
        rows.append(f"Control, {claim.control.what}: needs {_literal(claim.control.holds)}")
    else:
        spread = f", {record.spread_text}" if record.spread_text else ""
        rows.append(f"Ours: **{record.text}**{spread} (needs {_literal(claim.holds)})")
        if record.spread:
            seeds = ", ".join(number_text(value, claim.format) for value in record.spread)
            rows.append(f"All {len(record.spread)} {claim.over}: {seeds}")
        needs = _literal(claim.control.holds)
        rows.append(f"Control, {claim.control.what}: **{record.control_text}** (needs {needs})")
    return [*rows, f"`{claim.id}`"]


def _literal(condition: Condition) -> str:
    """The condition where Markdown must read neither `<` nor `*` as its own."""
    return re.sub(r"([<>*_])", r"\\\1", condition.pretty)


def _source_text(source: Source) -> str:
    if source.kind == "paper":
        return f"{{cite}}`{source.ref}`"
    return source.ref if source.kind == "notes" else f"this book, {source.ref}"
