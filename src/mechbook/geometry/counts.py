"""What stands beside the months in books: the counts, and the vectors that can be made of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from mechbook import corpora
from mechbook.language_model import corpus, weights
from mechbook.language_model.tokenizer import MONTHS, WEEKDAYS

COUNTS = "months-counts"
"""The artifact's name."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GROUPS: dict[str, tuple[str, ...]] = {
    "months": MONTHS,
    "weekdays": WEEKDAYS,
    "numbers": _words("one two three four five six seven eight nine ten eleven twelve"),
    "seasons": ("spring", "summer", "autumn", "winter"),
    "hours": ("dawn", "morning", "noon", "afternoon", "evening", "night", "midnight"),
}
"""Words in their order; the first two groups and the last two go around, the numbers do not."""

COUNTED = ("months", "weekdays", "numbers")
"""Groups of the artifact; the numbers are the control, a line and no ring."""

SEASONAL = _words(
    "spring summer autumn winter snow snows frost ice icy frozen cold heat hot warm rain rains "
    "harvest hay blossoms blossom flowers roses leaves buds bloom ripe ploughing sowing reaping "
    "mowing skating Christmas Easter Michaelmas Whitsuntide Lent Advent midsummer Epiphany "
    "All-Hallows equinox solstice vacation holidays birds nightingale cuckoo swallows lambs "
    "thaw sunshine storms gales fog dust"
)
"""Words that may carry the calendar: weather, field work, feasts."""

AMBIGUOUS = ("March", "May")
"""Months that are also other words: counted only beside a date."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*|\d+(?:st|nd|rd|th)?")
_DATE = frozenset(_words("month months inst ult"))
_NEAR = 2


@dataclass(frozen=True)
class Window:
    """How neighbors are counted.

    Attributes:
        reach: words to each side.
        least: a neighbor is kept where it was counted so often beside all targets together.
    """

    reach: int = 8
    least: int = 20

    def __post_init__(self) -> None:
        if self.reach < 1 or self.least < 1:
            raise ValueError(f"{self}: give 1 or more of each")


@dataclass(frozen=True)
class Counts:
    """How often each neighbor stands near each word of a group.

    Attributes:
        words: the group, in its order.
        neighbors: the words near them.
        table: the counts.
        total: how often each neighbor stands in the text at all.
    """

    words: tuple[str, ...]
    neighbors: tuple[str, ...]
    table: Float[np.ndarray, "word neighbor"]
    total: Float[np.ndarray, " neighbor"]

    def only(self, keep: Iterable[str]) -> Counts:
        """The same with some neighbors alone; those that were never counted are passed over.

        Raises:
            ValueError: none of them was counted.
        """
        wanted = set(keep)
        places = [i for i, neighbor in enumerate(self.neighbors) if neighbor in wanted]
        if not places:
            raise ValueError("none of these words was counted beside the group")
        names = tuple(self.neighbors[i] for i in places)
        return Counts(self.words, names, self.table[:, places], self.total[places])

    def among(self) -> Counts:
        """The words beside one another alone, columns in the order of the rows.

        Raises:
            ValueError: a word of the group was never counted as a neighbor.
        """
        missing = [word for word in self.words if word not in self.neighbors]
        if missing:
            raise ValueError(f"never counted as a neighbor: {', '.join(missing)}; give more text")
        places = [self.neighbors.index(word) for word in self.words]
        return Counts(self.words, self.words, self.table[:, places], self.total[places])

    def without(self, drop: Iterable[str]) -> Counts:
        """The same without some neighbors."""
        return self.only(set(self.neighbors) - set(drop))


def is_date(words: list[str], place: int) -> bool:
    """Whether a number of up to four digits, or another month, stands within two words."""
    near = words[max(0, place - _NEAR) : place] + words[place + 1 : place + 1 + _NEAR]
    others = set(MONTHS) - {words[place]}
    return any(word[0].isdigit() or word.lower() in _DATE or word in others for word in near)


def count(
    texts: Iterable[str], window: Window | None = None, groups: Sequence[str] = tuple(GROUPS)
) -> dict[str, Any]:
    """Count what stands within some words of each word of some groups.

    Args:
        texts: read once.
        window: how.
        groups: names of `GROUPS`; all by default.

    Returns:
        Columns: ``group``, ``word``, ``neighbor``, ``count``, ``total`` (of the neighbor in the
        whole text). Neighbors are written as they stand; numbers are all one word, ``#``.

    Raises:
        ValueError: no word of the groups stands in the texts.
    """
    window = window or Window()
    group_of = {word: group for group in groups for word in GROUPS[group]}
    beside: dict[str, Counter[str]] = {word: Counter() for word in group_of}
    total: Counter[str] = Counter()
    for text in texts:
        words = _WORD.findall(text)
        plain = ["#" if word[0].isdigit() else word for word in words]
        total.update(plain)
        for place, word in enumerate(words):
            if word in group_of and (word not in AMBIGUOUS or is_date(words, place)):
                beside[word].update(plain[max(0, place - window.reach) : place])
                beside[word].update(plain[place + 1 : place + 1 + window.reach])
    if not any(beside.values()):
        raise ValueError(f"no word of these groups stands in the texts: {', '.join(groups)}")
    return _columns(beside, total, group_of, window.least)


def _columns(
    beside: Mapping[str, Counter[str]], total: Counter[str], groups: Mapping[str, str], least: int
) -> dict[str, Any]:
    sums: dict[str, Counter[str]] = {}
    for word, found in beside.items():
        sums.setdefault(groups[word], Counter()).update(found)
    rows = [
        (groups[word], word, neighbor, number, total[neighbor])
        for word, found in beside.items()
        for neighbor, number in sorted(found.items())
        if sums[groups[word]][neighbor] >= least
    ]
    names = ("group", "word", "neighbor", "count", "total")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def of_group(table: Mapping[str, np.ndarray], group: str) -> Counts:
    """The counts of one group out of the columns of `count`.

    Raises:
        ValueError: no such group, or a word of it was never counted.
    """
    if group not in GROUPS:
        raise ValueError(f"no group {group!r}; there are: {', '.join(GROUPS)}")
    rows = table["group"] == group
    words = GROUPS[group]
    missing = set(words) - set(table["word"][rows].tolist())
    if missing:
        raise ValueError(f"never counted: {', '.join(sorted(missing))}; give more text")
    neighbors, column = np.unique(table["neighbor"][rows], return_inverse=True)
    row = np.array([words.index(word) for word in table["word"][rows].tolist()])
    found = np.zeros((len(words), len(neighbors)))
    found[row, column] = table["count"][rows]
    total = np.zeros(len(neighbors))
    total[column] = table["total"][rows]
    return Counts(words, tuple(neighbors.tolist()), found, total)


# --- estimators -------------------------------------------------------------------------------


def ppmi(
    counts: Counts, *, smoothing: float = 0.75, prior: float = 0.0, positive: bool = True
) -> Float[np.ndarray, "word neighbor"]:
    """Pointwise mutual information of each word with each neighbor, positive parts.

    Args:
        counts: of one group.
        smoothing: power of the neighbors' frequencies (Levy, Goldberg & Dagan 2015); 1 for none.
        prior: added to every count in proportion to the neighbor's frequency, in counts a word;
            it draws rare pairs to 0.
        positive: whether negative values become 0, as is usual; counts of 0 then count as 0.

    Raises:
        ValueError: a smoothing outside 0 to 1, a negative prior, or a word without neighbors.
    """
    if not 0 <= smoothing <= 1 or prior < 0:
        raise ValueError(f"smoothing={smoothing}, prior={prior}: give 0 to 1, and 0 or more")
    if not (counts.table.sum(1) > 0).all():
        raise ValueError("a word has no neighbor at all; give more text")
    chance = counts.table.sum(0) ** smoothing
    chance = chance / chance.sum()
    table = counts.table + prior * chance
    share = table / table.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        values = np.log(share / chance)
    return np.maximum(values, 0) if positive else np.where(np.isfinite(values), values, 0)


def unit_rows(points: Float[np.ndarray, "item d"]) -> Float[np.ndarray, "item d"]:
    """Each row divided by its length.

    Raises:
        ValueError: a row of zeros.
    """
    sizes = np.linalg.norm(points, axis=1, keepdims=True)
    if not (sizes > 0).all():
        raise ValueError("a row is all zeros and has no direction; leave it out or add a prior")
    return points / sizes


def reduced(points: Float[np.ndarray, "item d"], size: int) -> Float[np.ndarray, "item size"]:
    """The items in their leading principal components (SVD of the centred rows).

    Raises:
        ValueError: more components than items allow.
    """
    if not 1 <= size < len(points):
        raise ValueError(f"size is {size}; {len(points)} items allow 1 to {len(points) - 1}")
    centred = points - points.mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :size] * values[:size]


ESTIMATORS = ("shares", "PPMI", "smoothed PPMI", "roots")
"""Names of `estimate`."""


def estimate(counts: Counts, name: str) -> Float[np.ndarray, "word d"]:
    """Vectors of a group's words, of unit length.

    ``shares`` (relative counts), ``PPMI`` (plain), ``smoothed PPMI`` (power 0.75 and a prior of 500 counts),
    ``roots`` (roots of the relative counts: Hellinger's distance, which gives each neighbor the
    weight that its counting error allows).

    Raises:
        ValueError: no such estimator.
    """
    if name == "shares":
        return unit_rows(counts.table / counts.table.sum(1, keepdims=True))
    if name == "roots":
        roots = np.sqrt(counts.table / counts.table.sum(1, keepdims=True))
        return unit_rows(roots - roots.mean(0))
    if name == "PPMI":
        return unit_rows(ppmi(counts, smoothing=1.0))
    if name == "smoothed PPMI":
        return unit_rows(ppmi(counts, prior=500.0))
    raise ValueError(f"no estimator {name!r}; there are: {', '.join(ESTIMATORS)}")


# --- recipe -----------------------------------------------------------------------------------


def make_counts(text: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Recipe of ``months-counts``: neighbors of months, weekdays and number words in the books.

    Args:
        text: a folder with the books, or a data set of the hub; see `corpus.open_text`.
    """
    opened: corpora.Text = corpus.open_text(text, "train")
    columns = count((document.text for document in opened), groups=COUNTED)
    about = "Words within 8 of each month, weekday and number word in the books that the language "
    about += "model learned from; March and May only beside a date; numerals are #"
    return columns, {"about": about, "seeds": [], "inputs": weights.sources(opened)}
