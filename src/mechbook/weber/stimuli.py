"""Trials of "which side has more words?": pairs of counts, random words, and controls of length and tokens.

``m`` is the number of words on the left and ``n`` on the right. A design asks for means of the two
and for differences; a pair of whole numbers with an odd difference has an odd sum, so with a mean
of 20 its sum is 39 or 41, and both are used equally often.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

Size = Callable[[str], int]
TOTALS = ("free", "equal", "reversed")
PARITIES = ("balanced", "exact")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_TRIES = 20_000


@dataclass(frozen=True)
class Design:
    """Which pairs of counts are shown, and how often.

    Attributes:
        means: wanted means of the two counts, in words: multiples of one half.
        differences: sizes ``|n - m|``, each shown with either side longer.
        per_size: trials for each mean and each size; half of them have more words on the right.
        parity: ``balanced`` takes sums one below and one above twice the mean where the parity asks
            for it; ``exact`` refuses such a difference.
        seed: of the order of the trials.
    """

    means: tuple[float, ...] = (10, 20, 30)
    differences: tuple[int, ...] = (1, 2, 3)
    per_size: int = 10
    parity: str = "balanced"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.means or not self.differences:
            raise ValueError(f"{self}: give at least one mean and one difference")
        if self.per_size < 2 or self.per_size % 2:
            raise ValueError(
                f"per_size is {self.per_size}; give an even number, half for each side"
            )
        if self.parity not in PARITIES:
            raise ValueError(f"parity is {self.parity!r}; give one of {', '.join(PARITIES)}")
        for mean, size in itertools.product(self.means, self.differences):
            _refuse_impossible(mean, size, self.parity)


@dataclass(frozen=True)
class Pairs:
    """Counts of words, one entry a trial.

    Attributes:
        m: words on the left.
        n: words on the right.
        mean: the design's mean that the trial belongs to.
    """

    m: Int[np.ndarray, " trial"]
    n: Int[np.ndarray, " trial"]
    mean: np.ndarray

    @property
    def difference(self) -> Int[np.ndarray, " trial"]:
        """``n - m``."""
        return self.n - self.m


@dataclass(frozen=True)
class Trial:
    """One comparison.

    Attributes:
        left: the text on the left, ``m`` words with single spaces.
        right: the text on the right, ``n`` words.
        m: words on the left.
        n: words on the right.
        mean: the design's mean that the trial belongs to, in words.
    """

    left: str
    right: str
    m: int
    n: int
    mean: float

    @property
    def difference(self) -> int:
        """``n - m``: above zero where the right side has more."""
        return self.n - self.m

    def mirrored(self) -> Trial:
        """The same two texts with their sides exchanged."""
        return Trial(self.right, self.left, self.n, self.m, self.mean)


def sums(mean: float, difference: int, parity: str = "balanced") -> tuple[int, ...]:
    """The sums ``n + m`` that a mean and a difference allow: one, or the two beside it.

    Raises:
        ValueError: the mean is no multiple of one half, a side would have no word, or ``exact`` is
            asked for and no whole numbers have this mean and this difference.
    """
    _refuse_impossible(mean, abs(difference), parity)
    twice = round(2 * mean)
    return (twice,) if (twice - difference) % 2 == 0 else (twice - 1, twice + 1)


def _refuse_impossible(mean: float, size: int, parity: str) -> None:
    if round(2 * mean) != 2 * mean or int(size) != size or size < 0:
        raise ValueError(
            f"mean {mean}, difference {size}: a mean of two counts is a multiple of one half, and "
            "the size of a difference is a whole number, 0 or more"
        )
    odd = bool((round(2 * mean) - size) % 2)
    if parity == "exact" and odd:
        raise ValueError(
            f"no two whole numbers have a mean of {mean} and a difference of {size}: their sum and "
            f"their difference are both even or both odd. Use parity='balanced' (sums "
            f"{round(2 * mean) - 1} and {round(2 * mean) + 1}) or another mean"
        )
    if round(2 * mean) - odd - size < 2:
        raise ValueError(
            f"a difference of {size} at a mean of {mean} leaves no word on one side; "
            f"give differences below {round(2 * mean) - 1}"
        )


FIRST_STAGE = Design(means=(20,))
"""The notes' first stage: is there a psychometric function at all?"""
NOTES = Design()
"""The notes' whole design, with sums one off where the parity asks for it."""
WIDE = Design(means=(5, 10, 15, 20, 30, 40, 60), differences=tuple(range(1, 9)))
"""More means and larger differences."""


def pairs(design: Design) -> Pairs:
    """The counts of all trials, shuffled.

    At each mean and size half of the trials have more on the right. Where the parity asks for two
    sums, each gets half of the trials; where that half cannot be shared evenly within a side, the
    sides take turns, so that over the sizes no side goes with the larger sums.
    """
    rows: list[tuple[int, int, float]] = []
    for mean in design.means:
        odd_one = 0
        for size in design.differences:
            for side in (1, -1):
                allowed = sums(mean, size, design.parity)
                turn = odd_one if side == 1 else odd_one + 1
                for index in range(design.per_size // 2):
                    total = allowed[(index + turn) % len(allowed)]
                    rows.append(((total - side * size) // 2, (total + side * size) // 2, mean))
            odd_one += len(allowed) == 2
    order = np.random.default_rng(design.seed).permutation(len(rows))
    m, n, mean_of = (np.array([row[i] for row in rows])[order] for i in range(3))
    return Pairs(m, n, mean_of.astype(float))


# --- words ------------------------------------------------------------------------------------


def shipped_words(shortest: int = 2) -> tuple[str, ...]:
    """The small-letter words that are one token each for the book's language model, in order.

    The tokenizer lists pieces of words before whole words, so short words that are pieces too
    ("in", "he") are not among them. Nor are number words, and left and right, which might be taken
    for an answer.

    Args:
        shortest: letters that a word must have.
    """
    from mechbook.language_model import tokenizer, weights

    types = weights.load_tokenizer().get_vocab()
    first = types[tokenizer.ALWAYS[0]]
    out = {*tokenizer.NUMBERS, "left", "right"}
    own = (t for t in sorted(types, key=types.__getitem__) if types[t] >= first and t not in out)
    return tuple(
        t for t in own if len(t) >= shortest and t.isalpha() and t.islower() and t.isascii()
    )


def words_of(texts: Iterable[object], most: int = 200_000) -> tuple[str, ...]:
    """The running words of texts, in small letters, as often as they occur.

    Sampling from them samples words at random from the text (from Wikipedia, say)::

        words_of(corpora.hub("wikimedia/wikipedia", config="20231101.en", max_documents=200))

    Args:
        texts: strings, or documents of ``corpora``.
        most: stop after so many words.

    Raises:
        ValueError: there is no word in them.
    """
    running = (
        word.lower()
        for text in texts
        for word in _LETTERS.findall(str(getattr(text, "text", text)))
    )
    found = tuple(itertools.islice(running, most))
    if not found:
        raise ValueError("the texts hold no word; give texts with at least one")
    return found


def count_words(text: str) -> int:
    """Words as the trials count them: what stands between spaces."""
    return len(text.split())


# --- trials -----------------------------------------------------------------------------------


def write(
    counts: Pairs,
    source: Sequence[str],
    *,
    seed: int = 0,
    totals: str = "free",
    size: Size = len,
) -> list[Trial]:
    """Fill pairs of counts with random words, drawn with replacement.

    Args:
        counts: from `pairs`.
        source: words to draw from, repeated ones more often.
        seed: of the words.
        totals: ``free`` draws all words alike. ``equal`` makes the two texts of a trial equally
            large although one has more words; ``reversed`` gives the text with fewer words the
            size that the other's number of words would have, and the other way round.
        size: of a word: letters, or tokens, see ``templates.token_size``.

    Raises:
        ValueError: no words, a word with a space in it, an unknown ``totals``, or words whose sizes
            cannot reach the wanted totals.
    """
    if not len(source) or any(len(word.split()) != 1 for word in source):
        raise ValueError("the source must hold words, each without a space in it")
    if totals not in TOTALS:
        raise ValueError(f"totals is {totals!r}; give one of {', '.join(TOTALS)}")
    drawer = _Drawer(source, size, np.random.default_rng(seed))
    found = []
    for m, n, mean in zip(counts.m.tolist(), counts.n.tolist(), counts.mean.tolist(), strict=True):
        wanted = drawer.totals(m, n, totals)
        left, right = (drawer.text(k, total) for k, total in zip((m, n), wanted, strict=True))
        found.append(Trial(left, right, m, n, mean))
    return found


class _Drawer:
    """Draws texts of a number of words, and of a total size where one is asked for."""

    def __init__(self, source: Sequence[str], size: Size, draw: np.random.Generator):
        self.source, self.draw = np.array(source), draw
        sizes = {word: int(size(word)) for word in dict.fromkeys(source)}
        self.sizes = np.array([sizes[word] for word in source])
        self.of_size = {int(s): np.flatnonzero(self.sizes == s) for s in np.unique(self.sizes)}

    def totals(self, m: int, n: int, kind: str) -> tuple[int | None, int | None]:
        mean = float(self.sizes.mean())
        if kind == "free":
            return None, None
        if kind == "equal":
            return (round(mean * (m + n) / 2),) * 2
        return round(mean * n), round(mean * m)

    def text(self, words: int, total: int | None) -> str:
        chosen = self.draw.integers(len(self.source), size=words)
        if total is not None:
            chosen = self._moved(chosen, total)
        return " ".join(self.source[chosen].tolist())

    def _moved(self, chosen: np.ndarray, total: int) -> np.ndarray:
        """Exchange random words, whenever that brings the total no further away, until it fits."""
        gap = total - int(self.sizes[chosen].sum())
        for _ in range(_TRIES):
            if gap == 0:
                return chosen
            place, new = self.draw.integers(len(chosen)), self._candidate(gap)
            after = gap - int(self.sizes[new] - self.sizes[chosen[place]])
            if abs(after) <= abs(gap):
                chosen[place], gap = new, after
        low, high = (int(f(self.sizes)) * len(chosen) for f in (np.min, np.max))
        raise ValueError(
            f"{len(chosen)} words cannot be made {total} large: with these words they reach {low} "
            f"to {high}. Give a source with shorter and longer words, or smaller differences"
        )

    def _candidate(self, gap: int) -> int:
        """A random word; every other time one of a size drawn from all sizes alike."""
        if self.draw.random() < 0.5:
            return int(self.draw.integers(len(self.source)))
        sizes = list(self.of_size)
        return int(self.draw.choice(self.of_size[sizes[self.draw.integers(len(sizes))]]))


def share_of_longer(trials: Sequence[Trial], size: Size = len) -> float:
    """How often the side with more words is also the larger one (ties count one half).

    One for texts in which words and sizes go together, one half for ``equal`` totals, zero for
    ``reversed`` ones: what a judge scores who looks at size alone.

    Raises:
        ValueError: no trial has a longer side.
    """
    scores = [
        0.5 * (1 + np.sign(trial.difference) * np.sign(_excess(trial, size)))
        for trial in trials
        if trial.difference
    ]
    if not scores:
        raise ValueError("no trial has a side with more words; give trials with n - m not zero")
    return float(np.mean(scores))


def _excess(trial: Trial, size: Size) -> int:
    return sum(map(size, trial.right.split())) - sum(map(size, trial.left.split()))


def summary(counts: Pairs) -> dict[tuple[float, int], Counter[int]]:
    """For each mean and signed difference, how often each sum ``n + m`` occurs."""
    found: dict[tuple[float, int], Counter[int]] = {}
    for m, n, mean in zip(counts.m.tolist(), counts.n.tolist(), counts.mean.tolist(), strict=True):
        found.setdefault((mean, n - m), Counter())[m + n] += 1
    return found
