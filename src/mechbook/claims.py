"""The ledger of claims: what must hold, what was measured, and the control beside it.

`book/claims.yml` lists every headline statement. A chapter calls `check` with what it measured;
the numbers go to the prose (MyST-NB glue) and, as records in the notebook's outputs, to the page
of verdicts.
"""

from __future__ import annotations

import difflib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from mechbook.conditions import Bound, Condition, beyond, parse_condition, pretty

RECORD_MIME = "application/vnd.mechbook.claim+json"
GLUE_PREFIX = "application/papermill.record/"  # MyST-NB keeps such an output and does not show it
VERDICTS = ("holds", "holds with a condition", "does not hold", "open")
SOURCES = ("notes", "paper", "ours")
_SAID_BY = {"notes": "the notes", "paper": "the paper", "ours": "our forecast"}


class ClaimError(ValueError):
    """A statement of the ledger that its measurement does not carry, or a ledger out of order."""


# --- the ledger -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """Where a statement comes from: the notes, a paper (`ref` = bibliography keys) or this book."""

    kind: str
    ref: str


@dataclass(frozen=True)
class Control:
    """What would differ if the statement were false, and the condition its number must meet.

    A `positive` control is one that must satisfy the claim's own condition as well.
    """

    what: str
    holds: Condition
    positive: bool = False


@dataclass(frozen=True)
class Claim:
    """One entry of `claims.yml`; `over` says what the spread is over, in the plural."""

    id: str
    chapter: str
    statement: str
    source: Source
    published: str | None
    holds: Condition
    control: Control
    verdict: str
    verdict_text: str
    format: str = ".2g"
    every_seed: bool = False
    over: str = "seeds"

    @property
    def anchor(self) -> str:
        """The claim's label on the page of verdicts."""
        return "claim-" + self.id.replace(".", "-")


_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9]+(-[a-z0-9]+)*)+")
_CHAPTER = re.compile(r"[a-z0-9_]+")
_PLAIN = re.compile(r"[^$]+")  # the statement also stands in HTML, where no one typesets it
_KEYS = re.compile(r"[\w:+./-]+(\s*,\s*[\w:+./-]+)*")
_OPTIONAL = ("published", "format", "every_seed", "over")
_ENTRY = tuple(field.name for field in fields(Claim))


def find_ledger(start: Path | str = ".") -> Path:
    """Return the nearest `claims.yml` or `book/claims.yml` at or above `start`.

    Raises:
        ClaimError: there is none.
    """
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        for path in (folder / "claims.yml", folder / "book" / "claims.yml"):
            if path.is_file():
                return path
    raise ClaimError(
        f"no claims.yml and no book/claims.yml in the folder {here.name!r} or above it: "
        "run inside the book's repository, or give the path of the ledger"
    )


def load(path: Path | str | None = None) -> dict[str, Claim]:
    """Read and validate a ledger; claims by id, in the order of the file.

    Args:
        path: the file; without one, the nearest above the working folder (`find_ledger`).

    Raises:
        ClaimError: an entry with an unknown or missing key, a repeated id, a bad verdict, source,
            condition or control. The message names the id and what is allowed.
    """
    file = find_ledger() if path is None else Path(path)
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(_entries(file), 1):
        claim = claim_from(entry, where=f"entry {number} of {file.name}")
        if claim.id in claims:
            raise ClaimError(f"{claim.id}: listed twice in {file.name}; every id is listed once")
        claims[claim.id] = claim
    return claims


def _entries(file: Path) -> list[object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        entries = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise ClaimError(f"{file.name} cannot be read ({error.strerror}): give its path") from None
    except yaml.YAMLError as error:
        raise ClaimError(f"{file.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list | None):
        raise ClaimError(f"{file.name}: a list of entries `- id: …` is expected at the top")
    return entries or []


def claim_from(entry: object, where: str = "the entry") -> Claim:
    """Validate one entry of the ledger, a mapping as YAML gives it; `ClaimError` if it is bad."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("id"), str):
        raise ClaimError(f"{where}: a mapping with the key `id` is expected, given {entry!r}")
    name = entry["id"]
    if not _ID.fullmatch(name) or name.rsplit(".", 1)[-1] in ("control", "spread"):
        raise ClaimError(
            f"{name}: an id is `room.kebab-words` in lower case, and does not end in "
            "`.control` or `.spread`"
        )
    _only_keys(name, entry, _ENTRY, _OPTIONAL)
    holds = _condition(name, "holds", entry["holds"])
    claim = Claim(
        id=name,
        chapter=_matching(name, entry, "chapter", _CHAPTER, "the notebook's name, `[a-z0-9_]+`"),
        statement=_matching(name, entry, "statement", _PLAIN, "a plain sentence, without $…$"),
        source=_source(name, entry["source"]),
        published=None if entry.get("published") is None else _sentence(name, entry, "published"),
        holds=holds,
        control=_control(name, entry["control"], holds),
        verdict=_one_of(name, "verdict", entry["verdict"], VERDICTS),
        verdict_text=_sentence(name, entry, "verdict_text"),
        format=_format(name, entry.get("format", ".2g")),
        every_seed=_flag(name, "every_seed", entry.get("every_seed", False)),
        over=_sentence(name, entry, "over") if "over" in entry else "seeds",
    )
    return claim


def _only_keys(
    name: str, entry: Mapping[str, Any], allowed: Sequence[str], optional: Sequence[str]
) -> None:
    unknown = [str(key) for key in entry if key not in allowed]
    if unknown:
        raise ClaimError(f"{name}: unknown key {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    missing = [key for key in allowed if key not in entry and key not in optional]
    if missing:
        raise ClaimError(f"{name}: missing key {', '.join(missing)}; each entry needs it")


def _sentence(name: str, entry: Mapping[str, Any], key: str) -> str:
    text = entry[key]
    if not isinstance(text, str) or not text.strip():
        raise ClaimError(f"{name}: {key} must be text in quotes, given {text!r}")
    return " ".join(text.split())


def _matching(
    name: str, entry: Mapping[str, Any], key: str, pattern: re.Pattern[str], meant: str
) -> str:
    text = _sentence(name, entry, key)
    if not pattern.fullmatch(text):
        raise ClaimError(f"{name}: {key} is {text!r}; allowed: {meant}")
    return text


def _one_of(name: str, key: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise ClaimError(f"{name}: {key} is {value!r}; allowed: {', '.join(allowed)}")
    return str(value)


def _flag(name: str, key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ClaimError(f"{name}: {key} is {value!r}; allowed: true, false")
    return value


def _format(name: str, value: object) -> str:
    try:
        format(0.5, value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ClaimError(
            f"{name}: format is {value!r}; allowed: a Python number format such as .2g, .3f or .1%"
        ) from None
    return str(value)


def _condition(name: str, key: str, text: object) -> Condition:
    try:
        return parse_condition(text)  # type: ignore[arg-type]
    except ValueError as error:
        raise ClaimError(f"{name}: {key}: {error}") from None


def _mapping(name: str, key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ClaimError(f"{name}: {key} must be a mapping such as {{…: …}}, given {value!r}")
    return value


def _source(name: str, value: object) -> Source:
    entry = _mapping(name, "source", value)
    _only_keys(f"{name}: source", entry, ("kind", "ref"), ())
    kind = _one_of(f"{name}: source", "kind", entry["kind"], SOURCES)
    if kind == "paper":
        meant = "one or more keys of references.bib, separated by commas"
        return Source(kind, _matching(f"{name}: source", entry, "ref", _KEYS, meant))
    return Source(kind, _sentence(f"{name}: source", entry, "ref"))


def _control(name: str, value: object, claim: Condition) -> Control:
    entry = _mapping(name, "control", value)
    _only_keys(f"{name}: control", entry, ("what", "holds", "positive"), ("positive",))
    holds = _condition(name, "control: holds", entry["holds"])
    if holds.needs_control:
        raise ClaimError(
            f"{name}: control: holds is {holds}: the control has no control; give a number"
        )
    positive = _flag(name, "control: positive", entry.get("positive", False))
    if not positive and _inside(holds, claim):
        raise ClaimError(
            f"{name}: every control that satisfies `{holds}` also satisfies the claim's `{claim}`, "
            "so it can tell nothing; choose conditions that part them (or `positive: true`)"
        )
    return Control(_sentence(f"{name}: control", entry, "what"), holds, positive)


def _inside(inner: Condition, outer: Condition) -> bool:
    """Whether `inner` implies `outer`; False where that depends on the control's value."""
    if outer.needs_control:
        return False
    return _end_inside(inner.lower, outer.lower, 1) and _end_inside(inner.upper, outer.upper, -1)


def _end_inside(inner: Bound | None, outer: Bound | None, sign: int) -> bool:
    if outer is None:
        return True
    if inner is None:
        return False
    strict = outer.strict and not inner.strict
    return beyond(sign * inner.offset, sign * outer.offset, strict)


# --- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What one `check` measured, as the executed notebook carries it."""

    id: str
    chapter: str
    value: float
    control: float
    spread: tuple[float, ...] | None = None
    unit: str = ""
    text: str = ""
    control_text: str = ""
    spread_text: str = ""
    notebook: str = ""

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has shown the line already, and a cell may end with it."""


def check(
    id: str,
    value: Any,
    *,
    control: Any,
    spread: Any = None,
    unit: str = "",
    ledger: Path | str | None = None,
) -> Record:
    """Hold a measured number, and its control, to the ledger; show one line; glue the numbers.

    Args:
        id: an id of the ledger.
        value: one number: Python, NumPy or torch.
        control: the same measurement where the statement should fail.
        spread: the measurement for each seed, two or more numbers in one dimension.
        unit: printed after the numbers.
        ledger: the file; without one, the nearest `claims.yml` above the working folder.

    Returns:
        The record. Prose reaches its numbers with the glue keys `id`, `id.control` and
        `id.spread`, as printed by the entry's `format`.

    Raises:
        ClaimError: the id is not listed; a number is missing, NaN or infinite; the value fails its
            condition; the control fails its own, or passes the claim's. Both numbers are named.
    """
    claims = load(ledger)
    if id not in claims:
        raise ClaimError(_unlisted(id, claims))
    record = measure(claims[id], value, control, spread, unit)
    _show(claims[id], record)
    return record


def measure(claim: Claim, value: Any, control: Any, spread: Any = None, unit: str = "") -> Record:
    """Return the record of a measurement that satisfies the claim; `ClaimError` as in `check`."""
    value = _finite(claim.id, "value", value)
    control = _finite(claim.id, "control", control)
    seeds = None if spread is None else _seeds(claim.id, spread)
    record = Record(
        id=claim.id,
        chapter=claim.chapter,
        value=value,
        control=control,
        spread=seeds,
        unit=unit,
        text=number_text(value, claim.format, unit),
        control_text=number_text(control, claim.format, unit),
        spread_text="" if seeds is None else _spread_text(seeds, claim, unit),
    )
    judge(claim, record)
    return record


def judge(claim: Claim, record: Record) -> None:
    """Hold a record's numbers to the claim's conditions.

    Raises:
        ClaimError: a condition fails, or the control also passes; both numbers are named.
    """
    value, control = record.value, record.control
    numbers = f"value {value:.6g}, control ({claim.control.what}) {control:.6g}"
    if not claim.holds.holds(value, control):
        raise ClaimError(f"{claim.id}: the value does not satisfy `{claim.holds}`: {numbers}")
    if not claim.control.holds.holds(control):
        raise ClaimError(
            f"{claim.id}: the control does not satisfy its own `{claim.control.holds}`: {numbers}"
        )
    if claim.holds.holds(control, control) != claim.control.positive:
        what = "does not satisfy" if claim.control.positive else "also satisfies"
        raise ClaimError(
            f"{claim.id}: the control {what} the claim's `{claim.holds}`, "
            f"so the measurement cannot tell: {numbers}"
        )
    if claim.every_seed:
        _judge_seeds(claim, record, numbers)


def _judge_seeds(claim: Claim, record: Record, numbers: str) -> None:
    if record.spread is None:
        raise ClaimError(
            f"{claim.id}: every_seed is true in the ledger: give spread=[…]; {numbers}"
        )
    failing = [
        f"number {index} gives {seed:.6g}"
        for index, seed in enumerate(record.spread)
        if not claim.holds.holds(seed, record.control)
    ]
    if failing:
        raise ClaimError(
            f"{claim.id}: {len(failing)} of {len(record.spread)} {claim.over} do not satisfy "
            f"`{claim.holds}` ({', '.join(failing)}): {numbers}"
        )


def _unlisted(id: str, claims: Mapping[str, Claim]) -> str:
    near = difflib.get_close_matches(str(id), list(claims), n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"the ledger lists {len(claims)} others"
    return f"{id}: not listed in claims.yml ({hint}); correct the id or add an entry"


def _finite(id: str, role: str, number: Any) -> float:
    """Return one finite Python float; anything else is refused by name."""
    if isinstance(number, bool | str | bytes) or number is None:
        raise ClaimError(f"{id}: the {role} must be one number, given {number!r}")
    try:
        plain = float(number.item() if hasattr(number, "item") else number)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        shape = getattr(number, "shape", None)
        given = type(number).__name__ + (f" of shape {tuple(shape)}" if shape is not None else "")
        raise ClaimError(f"{id}: the {role} must be one number, given {given}") from None
    if not math.isfinite(plain):
        raise ClaimError(f"{id}: the {role} is {plain}; a claim needs a finite number")
    return plain


def _seeds(id: str, spread: Any) -> tuple[float, ...]:
    try:
        values = list(spread)
    except TypeError:
        values = []
    if len(values) < 2:
        raise ClaimError(f"{id}: spread must be a sequence of two or more numbers, one a seed")
    return tuple(_finite(id, f"spread (seed {i})", seed) for i, seed in enumerate(values))


# --- printing -------------------------------------------------------------------------------------


def number_text(value: float, spec: str = ".2g", unit: str = "") -> str:
    """Return a number as the prose shows it, with its unit; powers of ten only where they help."""
    if spec.endswith("e") and (value == 0 or 1e-2 <= abs(value) < 1e4):
        spec = ".2g" if abs(value) < 100 else ".0f"
    return pretty(format(value, spec)) + (f"\u00a0{unit}" if unit else "")


def _spread_text(seeds: Sequence[float], claim: Claim, unit: str) -> str:
    low, high = number_text(min(seeds), claim.format), number_text(max(seeds), claim.format, unit)
    plain = low[0].isdigit() and high[0].isdigit() and "×" not in low + high
    return f"{low}{'–' if plain else ' to '}{high} over {len(seeds)} {claim.over}"


def line(claim: Claim, record: Record) -> str:
    """Return the one line of HTML that stands under a check.

    The tick says that the numbers are as the ledger has them. The source may have said otherwise:
    a verdict other than ``holds`` stands at the end.
    """
    spread = f" ({record.spread_text})" if record.spread_text else ""
    condition, control = claim.holds.pretty, claim.control
    parts = [
        f"<strong>{_coded(claim.statement)}</strong>",
        f"{html.escape(record.text + spread)}, needs {html.escape(condition)}.",
        f"Control, {_coded(control.what)}: {html.escape(record.control_text)},",
        f"needs {html.escape(control.holds.pretty)}.",
        f"<code>{html.escape(claim.id)}</code>",
    ]
    if claim.verdict != "holds":
        parts.insert(-1, f"Verdict on {_SAID_BY[claim.source.kind]}: {html.escape(claim.verdict)}.")
    mark = '<span class="mb-claim-mark" aria-hidden="true">✓</span>'
    return f'<p class="mb-claim">{mark} {" ".join(parts)}</p>'


def _coded(text: str) -> str:
    """Escape text for HTML; what stands in backticks becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _show(claim: Claim, record: Record) -> None:
    """Emit the line, the glue and the record: at most three outputs, one of them visible.

    The visible output is the value's glue as well (an empty prefix means: shown and kept). The
    record rides on the control's glue, which MyST-NB takes out of the page, so that no renderer
    has to know its mime type.
    """
    visible = {"text/html": line(claim, record), "text/plain": repr(record.text)}
    hidden = {GLUE_PREFIX + "text/plain": repr(record.control_text), RECORD_MIME: asdict(record)}
    _display(visible, record.id, "")
    _display(hidden, f"{record.id}.control", GLUE_PREFIX)
    if record.spread_text:
        text = {GLUE_PREFIX + "text/plain": repr(record.spread_text)}
        _display(text, f"{record.id}.spread", GLUE_PREFIX)


def _display(data: dict[str, Any], name: str, prefix: str) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import display

    if InteractiveShell.initialized():
        display(data, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": prefix}})
    elif not prefix:
        print(f"✓ {name}: {data['text/plain'][1:-1]}")


# --- from the executed chapters to the page of verdicts -------------------------------------------


def records(paths: Iterable[Path | str]) -> list[Record]:
    """Read the records out of executed notebooks, in the order of paths and cells.

    Raises:
        ClaimError: a file that is no notebook, or a record that another version wrote.
    """
    found: list[Record] = []
    for path in map(Path, paths):
        for output in _outputs(path):
            data = output.get("data", {}).get(RECORD_MIME)
            if data is not None:
                found.append(_record(path, data))
    return found


def _outputs(path: Path) -> list[dict[str, Any]]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [output for cell in cells for output in cell.get("outputs", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClaimError(
            f"{path.name}: no executed notebook could be read ({type(error).__name__}): "
            "give the .ipynb files that `make book` executed"
        ) from None


def _record(path: Path, data: Mapping[str, Any]) -> Record:
    try:
        seeds = data["spread"]
        spread = None if seeds is None else tuple(map(float, seeds))
        return Record(**{**data, "spread": spread, "notebook": path.stem})
    except (TypeError, KeyError, ValueError):
        raise ClaimError(
            f"{path.name}: holds a claim record of another version of mechbook: run the chapter again"
        ) from None


def audit(claims: Mapping[str, Claim], records: Iterable[Record], chapters: Iterable[str]) -> None:
    """Hold what the executed chapters recorded to the ledger.

    Args:
        claims: the ledger, as `load` gives it.
        records: as the function `records` gives them.
        chapters: names of the chapters that were executed.

    Raises:
        ClaimError: one line for each claim of these chapters that none of them checked, each check
            that the ledger does not list, each id checked twice (with both values), in another
            chapter than its own, or with numbers that no longer satisfy the ledger.
    """
    by_id: dict[str, list[Record]] = {}
    for record in records:
        by_id.setdefault(record.id, []).append(record)
    executed = set(chapters)
    problems = [
        f"{claim.id}: listed for chapter {claim.chapter}, which checks no such claim: "
        f"value none, control none; call claims.check({claim.id!r}, …) there or remove the entry"
        for claim in claims.values()
        if claim.chapter in executed and claim.id not in by_id
    ]
    for id, group in by_id.items():
        problems += _problems(claims, id, group)
    if problems:
        raise ClaimError("the ledger and the chapters disagree:\n" + "\n".join(problems))


def _problems(claims: Mapping[str, Claim], id: str, group: Sequence[Record]) -> list[str]:
    first = group[0]
    numbers = f"value {first.value:.6g}, control {first.control:.6g}"
    if id not in claims:
        return [f"{_unlisted(id, claims)}: {numbers}"]
    problems = []
    if len(group) > 1:
        values = " and ".join(f"{record.value:.6g}" for record in group)
        problems.append(f"{id}: checked {len(group)} times, with values {values}; check it once")
    if first.notebook and first.notebook != claims[id].chapter:
        where = f"listed for chapter {claims[id].chapter}, checked in {first.notebook}"
        problems.append(f"{id}: {where}: {numbers}; move the check or correct the entry")
    try:
        for record in group:
            judge(claims[id], record)
    except ClaimError as error:
        problems.append(str(error))
    return problems
