"""The words around a trial, and what they cost: prompts, order of the sides, token budget.

A template shows the left text and the right text and asks; its two answers are what a judge may
say. Each trial can be shown in four ways: with its sides exchanged or not, and with the block of
the left text first or second. A judge who prefers a word, or the text read last, shows it there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mechbook.weber.stimuli import Size, Trial

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Template:
    """How a trial is put into words.

    Attributes:
        name: for tables and the cache.
        left: the block of the left text, with ``{text}``.
        right: the block of the right text, with ``{text}``.
        ask: what stands after the blocks.
        answers: the answers that mean left and right.
        instruction: what stands before the blocks (for a chat model: the system's message).
        right_first: whether the right text's block comes first.
    """

    name: str
    left: str
    right: str
    ask: str
    answers: tuple[str, str]
    instruction: str = ""
    right_first: bool = False

    def __post_init__(self) -> None:
        if any(block.count("{text}") != 1 for block in (self.left, self.right)):
            raise ValueError(f"template {self.name!r}: each block needs {{text}} just once")
        first, second = (answer.strip().lower() for answer in self.answers)
        if not first or not second or first == second:
            raise ValueError(f"template {self.name!r}: give two different answers")

    def body(self, trial: Trial) -> str:
        """The two blocks and the question, without the instruction."""
        blocks = [
            self.left.replace("{text}", trial.left),
            self.right.replace("{text}", trial.right),
        ]
        return "".join([*(blocks[::-1] if self.right_first else blocks), self.ask])

    def prompt(self, trial: Trial) -> str:
        """Instruction and body in one text, for a model that continues text."""
        return "\n\n".join(filter(None, (self.instruction, self.body(trial))))

    def swapped(self) -> Template:
        """The same with the blocks in the other order."""
        return replace(self, right_first=not self.right_first)


CHAT = Template(
    name="chat",
    instruction="You compare two lists of words. Answer with one word.",
    left="Left:\n{text}\n\n",
    right="Right:\n{text}\n\n",
    ask="Which side has more words? Answer only: left or right.",
    answers=("left", "right"),
)
LETTERS = Template(
    name="letters",
    instruction="You compare two lists of words. Answer with one letter.",
    left="A:\n{text}\n\n",
    right="B:\n{text}\n\n",
    ask="Which has more words? Answer only: A or B.",
    answers=("A", "B"),
)
CONTINUED = Template(
    name="continued",
    left="Left: {text}.\n\n",
    right="Right: {text}.\n\n",
    ask="The side with more words is the",
    answers=(" left", " right"),
)
TEMPLATES = {template.name: template for template in (CHAT, LETTERS, CONTINUED)}


def views(trial: Trial, template: Template) -> list[tuple[Trial, Template, int]]:
    """The four ways to show a trial; the last entry is -1 where left and right were exchanged."""
    return [
        (shown, words, sign)
        for words in (template, template.swapped())
        for shown, sign in ((trial, 1), (trial.mirrored(), -1))
    ]


def parse(reply: str, template: Template) -> bool | None:
    """True for right, False for left, None where the reply does not say just one of the two.

    Case, punctuation and other words do not matter; both answers, or neither, is no answer.
    """
    found = [
        re.search(rf"(?<!\w){re.escape(answer.strip())}(?!\w)", reply, re.IGNORECASE) is not None
        for answer in template.answers
    ]
    return None if found[0] == found[1] else found[1]


# --- tokens -----------------------------------------------------------------------------------


def counter(tokenizer: Any) -> CountTokens:
    """A function that counts tokens, from anything with ``encode`` (Hugging Face, tiktoken, …).

    Raises:
        ValueError: it has no ``encode``.
    """
    if not hasattr(tokenizer, "encode"):
        raise ValueError(f"{type(tokenizer).__name__} has no method encode; give a tokenizer")

    def count(text: str) -> int:
        encoded = tokenizer.encode(text)
        return len(getattr(encoded, "ids", encoded))

    return count


def token_size(count: CountTokens) -> Size:
    """Tokens that a word adds inside a text, for the ``size`` of `stimuli.write`."""
    alone = count("the")
    return lambda word: count(f"the {word}") - alone


@dataclass(frozen=True)
class Prices:
    """What an endpoint asks, in one currency, for a million tokens read and a million written."""

    read: float
    written: float

    def __post_init__(self) -> None:
        if min(self.read, self.written) < 0:
            raise ValueError(f"{self}: prices are 0 or more")


@dataclass(frozen=True)
class Budget:
    """Tokens by difference, one entry a row, in the order of the differences.

    Attributes:
        difference: ``n - m``.
        trials: how many trials have it.
        read: tokens sent for all of them.
        written: tokens that come back at most.
        cost: of the row in the prices' currency; not a number without prices.
    """

    difference: np.ndarray
    trials: np.ndarray
    read: np.ndarray
    written: np.ndarray
    cost: np.ndarray


def token_budget(
    trials: Sequence[Trial],
    count: CountTokens,
    template: Template = CHAT,
    *,
    answer_tokens: int = 4,
    overhead: int = 0,
    prices: Prices | None = None,
) -> Budget:
    """How many tokens the trials of each difference need, each shown once.

    Args:
        trials: what would be sent.
        count: tokens of a text, see `counter`.
        template: the words around them.
        answer_tokens: that a reply may have.
        overhead: tokens that a chat format adds to each request.
        prices: for the cost.

    Raises:
        ValueError: no trials.
    """
    if not trials:
        raise ValueError("there are no trials; a budget needs at least one")
    of = np.array([trial.difference for trial in trials])
    tokens = np.array([count(template.prompt(trial)) + overhead for trial in trials])
    difference, index, number = np.unique(of, return_inverse=True, return_counts=True)
    read = np.bincount(index, tokens).round().astype(int)
    written = number * answer_tokens
    cost = np.full(len(number), np.nan)
    if prices is not None:
        cost = (read * prices.read + written * prices.written) / 1e6
    return Budget(difference, number, read, written, cost)
