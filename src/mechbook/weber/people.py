"""People as judges: the answers that the experiment's page exports as CSV, read for the analysis.

One row a trial, with the columns ``person``, ``mean`` (of the design), ``m``, ``n`` (words on
the left and on the right) and ``answer`` (``left``, ``right``, or nothing); further columns are let be.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mechbook.weber.psychometrics import Counts, collect
from mechbook.weber.stimuli import Trial

COLUMNS = ("person", "mean", "m", "n", "answer")
_ANSWERS = {"left": 0.0, "right": 1.0, "": float("nan")}


def load_answers(path: Path | str) -> dict[str, Counts]:
    """The answers of each person in a file, sorted into cells.

    Raises:
        ValueError: no such file, a column or a number missing, or an answer that is none.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.DictReader(text)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file.name} cannot be read; export it from the experiment") from error
    if missing or not rows:
        what = f"no column {', '.join(missing)}" if missing else "no answers"
        raise ValueError(f"{file.name} has {what}; export it from the experiment's page")
    judged: dict[str, list[tuple[Trial, float]]] = {}
    for number, row in enumerate(rows, start=2):
        judged.setdefault(row["person"] or "nameless", []).append(_read(row, file.name, number))
    return {
        person: collect([trial for trial, _ in own], np.array([p for _, p in own]))
        for person, own in judged.items()
    }


def _read(row: Mapping[str, str], file: str, line: int) -> tuple[Trial, float]:
    try:
        m, n, mean = int(row["m"]), int(row["n"]), float(row["mean"])
        answer = _ANSWERS[row["answer"].strip().lower()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{file}, line {line}: give whole numbers m and n, a mean, and left, right or nothing"
        ) from error
    if min(m, n) < 1:
        raise ValueError(f"{file}, line {line}: m={m}, n={n}; each side has 1 word or more")
    return Trial("", "", m, n, mean), answer


def pooled(people: Mapping[str, Counts]) -> Counts:
    """All persons' answers together, cell by cell.

    Raises:
        ValueError: there is nobody.
    """
    if not people:
        raise ValueError("there is nobody; give the answers of at least one person")
    cells = np.concatenate([np.stack([c.mean, c.difference], -1) for c in people.values()])
    keys, index = np.unique(cells, axis=0, return_inverse=True)
    right = np.concatenate([counts.right for counts in people.values()])
    trials = np.concatenate([counts.trials for counts in people.values()])
    every = [np.bincount(index.ravel(), values, len(keys)) for values in (right, trials)]
    unanswered = sum(counts.unanswered for counts in people.values())
    return Counts(keys[:, 0], keys[:, 1], every[0], every[1], unanswered)
