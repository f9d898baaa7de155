"""Repeated random tokens: what comes next can be known from the text alone, and only by looking back.

A passage of random tokens is said again and again until the text is full. Its length, the period, is
drawn anew for each text, so that no fixed distance tells where to look. In the first passage nothing
can be predicted; from the second on everything can. Where a passage has a token twice, the token alone
does not tell which of its successors comes next, and one has to look at more than one token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """The parameters of the texts.

    Attributes:
        n_types: size of the vocabulary.
        shortest: tokens in the shortest passage, 2 or more.
        longest: tokens in the longest passage.
        length: tokens in a text.
        distinct: whether a passage has no token twice.
        permuted: if a seed is given, what follows is not the next token of the passage but its
            image under a fixed permutation of the vocabulary, drawn from that seed; see `target`.
    """

    n_types: int = 64
    shortest: int = 8
    longest: int = 24
    length: int = 48
    distinct: bool = False
    permuted: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.shortest <= self.longest:
            raise ValueError(
                f"shortest={self.shortest}, longest={self.longest}; give 2 ≤ shortest ≤ longest"
            )
        if self.n_types < (self.longest if self.distinct else 2):
            raise ValueError(
                f"n_types is {self.n_types}; give 2 or more, and for a passage of {self.longest} "
                "different tokens as many"
            )
        if self.length <= self.longest:
            raise ValueError(
                f"a text of {self.length} tokens never repeats a passage of {self.longest}; give "
                "a length above the longest passage"
            )


@dataclass(frozen=True)
class Texts:
    """A batch of texts.

    Attributes:
        tokens: what is read, and predicted one further on.
        period: length of each text's passage.
        target: what each position is to say.
    """

    tokens: Int[Tensor, "batch posn"]
    period: Int[Tensor, " batch"]
    target: Int[Tensor, "batch posn"]

    @property
    def predictable(self) -> Bool[Tensor, "batch posn"]:
        """Where the target can be known: from the second passage on (the last token has no next)."""
        posn = torch.arange(self.tokens.shape[1])
        return (posn >= self.period[:, None]) & (posn < self.tokens.shape[1] - 1)

    @property
    def ambiguous(self) -> Bool[Tensor, "batch posn"]:
        """Where the target can be known, but not from the token alone.

        There the token was followed by different tokens before.
        """
        length = self.tokens.shape[1]
        before = torch.ones(length, length, dtype=torch.bool).tril(-1)
        same = (self.tokens[:, :, None] == self.tokens[:, None, :]) & before
        other = self.target[:, :, None] != self.target[:, None, :]
        return self.predictable & (same & other).any(-1)

    @property
    def source(self) -> Int[Tensor, "batch posn"]:
        """Where the target was said last: one after the token's earlier occurrence; -1 if nowhere."""
        posn = torch.arange(self.tokens.shape[1])
        return torch.where(self.predictable, posn - self.period[:, None] + 1, -1)


def permutation(task: Task) -> Int[Tensor, " type"]:
    """The image of each type: itself, unless the task is permuted."""
    if task.permuted is None:
        return torch.arange(task.n_types)
    draw = torch.Generator().manual_seed(task.permuted)
    return torch.randperm(task.n_types, generator=draw)


def sample(task: Task, batch: int, generator: torch.Generator) -> Texts:
    """Draw texts.

    Raises:
        ValueError: a batch of less than one.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; give 1 or more")
    if task.distinct:
        passage = torch.rand(batch, task.n_types, generator=generator).argsort(1)
    else:
        passage = torch.randint(task.n_types, (batch, task.longest), generator=generator)
    period = torch.randint(task.shortest, task.longest + 1, (batch,), generator=generator)
    tokens = passage.gather(1, torch.arange(task.length) % period[:, None])
    return Texts(tokens, period, permutation(task)[tokens.roll(-1, 1)])


def loss(logits: Float[Tensor, "batch posn type"], texts: Texts) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats where the target can be known."""
    where = texts.predictable
    return torch.nn.functional.cross_entropy(logits[where], texts.target[where])


def accuracy(
    logits: Float[Tensor, "batch posn type"],
    texts: Texts,
    where: Bool[Tensor, "batch posn"] | None = None,
) -> float:
    """Share of right best guesses where the target can be known, or where it is asked for."""
    right = logits.argmax(-1) == texts.target
    return float(right[texts.predictable if where is None else where].float().mean())


def best_fixed_distance(texts: Texts) -> float:
    """Share right of whoever says, at each position, the token that stands a fixed distance back.

    The distance may differ from position to position; for each the best one is taken. So much can
    be had without looking at any token.
    """
    right, length = 0.0, texts.tokens.shape[1]
    for posn in range(length - 1):
        known = texts.predictable[:, posn]
        if known.any():
            said = texts.tokens[known, : posn + 1] == texts.target[known, posn, None]
            right += float(said.float().sum(0).max())
    return right / float(texts.predictable.sum())


def in_context_score(logits: Float[Tensor, "batch posn type"], texts: Texts) -> float:
    """How much easier the second passage is than the first: difference of mean losses in nats.

    After Olsson et al. 2022, who compare the 500th token of a text with the 50th.
    """
    nats = torch.nn.functional.cross_entropy(logits.mT, texts.target, reduction="none")
    posn = torch.arange(texts.tokens.shape[1])
    first = posn < texts.period[:, None] - 1
    return float(nats[first].mean() - nats[texts.predictable].mean())


def from_words(line: str, task: Task) -> tuple[Int[Tensor, "1 posn"], list[str]]:
    """A line of words as a text: each new word gets the next number.

    Returns:
        The text, and the word of each number that is used.

    Raises:
        ValueError: no word, more words than a text has tokens, or more different words than there
            are types.
    """
    words = line.split()
    names = list(dict.fromkeys(words))
    if not 1 <= len(words) <= task.length or len(names) > task.n_types:
        raise ValueError(
            f"the line has {len(words)} words, {len(names)} of them different; give 1 to "
            f"{task.length}, and at most {task.n_types} different ones"
        )
    return torch.tensor([[names.index(word) for word in words]]), names
