"""Does the model continue what it has seen before, and which heads do it?

On random text the answer is clean: a random passage cannot be guessed, its second copy can, and
whatever is gained there is copying. On real text repeated pairs are often pairs that any model of
English would guess; so there the earlier occurrence is destroyed, and what counts is by how much
the *same* target gets harder.

Positions: a window begins with the end-of-text mark at position 0; ``loss[:, t - 1]`` is the loss
of the token at position ``t``. After Olsson et al. 2022, *In-context learning and induction heads*.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook import training
from mechbook.heads import Head, averaged, highest, patterns
from mechbook.language_model import score
from mechbook.language_model import tokenizer as tokenizers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Row = tuple[str, str, str, float]

HALF = 60
"""Tokens in a passage: two copies and the end-of-text mark fit into 128."""
LEAST = 0.2
"""Attention from which a head counts as an induction head."""
MATCHING = 3
"""Heads that are left out together to see what they do for real text."""
RARE = 1000
"""Token types above this rank of frequency count as rare: names, and the words of one story."""


# --- random text ------------------------------------------------------------------------------


def repeated(
    n_types: int,
    half: int,
    batch: int,
    generator: torch.Generator,
    allowed: Int[Tensor, " allowed"] | None = None,
    end: int = 0,
) -> Int[Tensor, "batch posn"]:
    """The end-of-text mark, a random passage, and the same passage again.

    A passage has no token twice, so that each token of the second copy has one earlier occurrence.

    Args:
        n_types: size of the vocabulary.
        half: tokens in the passage; a row has ``1 + 2 * half``.
        batch: rows.
        generator: draws the passages.
        allowed: token numbers to draw from; all but ``end`` if not given.
        end: number of the end-of-text mark.

    Raises:
        ValueError: fewer tokens to draw from than are needed, or a passage of no length.
    """
    passage = _draw(n_types, half, batch, generator, allowed, end)
    return torch.cat([torch.full((batch, 1), end), passage, passage], 1)


def unrepeated(
    n_types: int,
    half: int,
    batch: int,
    generator: torch.Generator,
    allowed: Int[Tensor, " allowed"] | None = None,
    end: int = 0,
) -> Int[Tensor, "batch posn"]:
    """The control of ``repeated``: the second half is fresh, and no token comes twice.

    Raises:
        ValueError: as ``repeated``, with twice as many tokens needed.
    """
    passage = _draw(n_types, 2 * half, batch, generator, allowed, end)
    return torch.cat([torch.full((batch, 1), end), passage], 1)


def permuted(
    tokens: Int[Tensor, "batch posn"], generator: torch.Generator
) -> Int[Tensor, "batch posn"]:
    """Repeated texts with the second copy in a random order: the same words, no sequence to copy.

    What is gained here is gained by knowing which words are about; `gain` compares position by
    position, so take the means of its two halves.
    """
    half = _half(tokens)
    order = torch.rand(len(tokens), half, generator=generator).argsort(1)
    second = tokens[:, 1 + half :].gather(1, order)
    return torch.cat([tokens[:, : 1 + half], second], 1)


def _draw(
    n_types: int,
    length: int,
    batch: int,
    generator: torch.Generator,
    allowed: Int[Tensor, " allowed"] | None,
    end: int,
) -> Int[Tensor, "batch length"]:
    """Rows of tokens, none twice in a row."""
    pool = torch.arange(n_types) if allowed is None else allowed
    pool = pool[pool != end].unique()
    if not 1 <= length <= len(pool):
        raise ValueError(
            f"the text needs {length} different tokens and there are {len(pool)} to draw from; "
            "give a half of 1 or more, a shorter half, or more allowed tokens"
        )
    return pool[torch.rand(batch, len(pool), generator=generator).topk(length).indices]


def whole_words(tokenizer: Tokenizer) -> Int[Tensor, " word"]:
    """Numbers of the types that are words: letters only, and no piece of a word.

    In the vocabulary the pieces come before the words that are always there.

    Raises:
        ValueError: a tokenizer without those words.
    """
    types = tokenizer.get_vocab()
    first = types.get(tokenizers.ALWAYS[0])
    if first is None:
        raise ValueError(
            f"the tokenizer has no {tokenizers.ALWAYS[0]!r}; take one of language_model.tokenizer"
        )
    return torch.tensor(sorted(i for t, i in types.items() if i >= first and t.isalpha()))


@dataclass(frozen=True)
class Gain:
    """Loss in nats by place in the passage, mean over the texts.

    Attributes:
        first: in the first copy.
        second: in the second copy (in unrepeated text: in the second half).
    """

    first: Float[Tensor, " half"]
    second: Float[Tensor, " half"]

    @property
    def value(self) -> float:
        """Nats a token gained by having seen the passage.

        The passage's first token is left out of both copies: in the second nothing announces it.
        """
        return float(self.first[1:].mean() - self.second[1:].mean())


def gain(model: Any, tokens: Int[Tensor, "batch posn"]) -> Gain:
    """How much easier the second copy is than the first.

    Args:
        model: anything that turns tokens into logits.
        tokens: from ``repeated`` or ``unrepeated``.

    Raises:
        ValueError: rows that are not the mark and two halves of two tokens or more.
    """
    half = _half(tokens)
    loss = score.token_losses(model, tokens).mean(0)
    return Gain(loss[:half], loss[half:])


def _half(tokens: Int[Tensor, "batch posn"]) -> int:
    half, rest = divmod(tokens.shape[1] - 1, 2)
    if rest or half < 2:
        raise ValueError(
            f"rows of {tokens.shape[1]} tokens are not the mark and two halves of two or more; "
            "take them from repeated or unrepeated"
        )
    return half


# --- heads ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Where each head looks from the second copy: mean attention, 0 to 1.

    Attributes:
        induction: to the token after the earlier occurrence of the current token.
        previous_token: to the token before.
        duplicate: to the earlier occurrence of the current token.
        first: to the end-of-text mark.
    """

    induction: Float[Tensor, "layer head"]
    previous_token: Float[Tensor, "layer head"]
    duplicate: Float[Tensor, "layer head"]
    first: Float[Tensor, "layer head"]


@torch.no_grad()
def head_scores(model: Any, tokens: Int[Tensor, "batch posn"], at_once: int = 16) -> Scores:
    """Score every head by where it looks on repeated random text.

    Args:
        model: a ``TransformerBridge``.
        tokens: from ``repeated`` (or ``unrepeated``: then what is left is due to position alone).
        at_once: rows in one forward pass.

    Raises:
        ValueError: rows that are not the mark and two halves, or too long for the model.
    """
    half = _half(tokens)
    score.check_length(model, tokens.shape[1])
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    sums = torch.zeros(len(fields(Scores)), len(names), model.cfg.n_heads)
    for part in tokens.split(at_once):
        _, cache = model.run_with_cache(part, names_filter=names)
        found = [torch.stack(astuple(pattern_scores(cache[name], half))) for name in names]
        sums += torch.stack(found, 1) * len(part)
    return Scores(*(sums / len(tokens)))


def pattern_scores(pattern: Float[Tensor, "batch head query key"], half: int) -> Scores:
    """The scores of the heads of one layer (no layer axis), from its attention pattern."""

    def back(offset: int) -> Float[Tensor, " head"]:
        seen = pattern.diagonal(-offset, -2, -1)[..., half + 1 - offset :]
        return seen.mean((0, -1))

    first = pattern[:, :, half + 1 :, 0].mean((0, -1))
    return Scores(back(half - 1), back(1), back(half), first)


def other_heads(
    heads: Sequence[Head], n_layers: int, n_heads: int, generator: torch.Generator
) -> list[Head]:
    """As many heads that are not among ``heads``: from the same layers while those have any.

    Raises:
        ValueError: fewer heads are left than are needed.
    """
    free = [(i, j) for i in range(n_layers) for j in range(n_heads) if (i, j) not in heads]
    if len(free) < len(heads):
        raise ValueError(
            f"{len(heads)} of {n_layers * n_heads} heads leave {len(free)} others; "
            "give half of the heads at most"
        )
    free = [free[i] for i in torch.randperm(len(free), generator=generator).tolist()]
    chosen = []
    for layer, _ in heads:
        same = [head for head in free if head[0] == layer]
        chosen.append((same or free)[0])
        free.remove(chosen[-1])
    return chosen


# --- real text --------------------------------------------------------------------------------

CLASSES = ("seen pair", "seen word", "new word")
"""What was seen of a target: it and the token before, in this order; it alone; not even it."""


def classify(windows: Int[Tensor, "batch posn+1"]) -> Int[Tensor, "batch posn"]:
    """For each target, the number of its class in ``CLASSES``: what the window has shown of it."""
    before, target = windows[:, :-1], windows[:, 1:]
    pair = _earlier(before * (int(windows.max()) + 1) + target)
    word = _earlier(windows)[:, 1:]
    return torch.where(pair, 0, torch.where(word, 1, 2))


def _earlier(values: Int[Tensor, "batch posn"]) -> Bool[Tensor, "batch posn"]:
    """Whether the same value stands at an earlier position."""
    same = values[:, :, None] == values[:, None, :]
    return same.tril(-1).any(-1)


def ranks(counts: Int[np.ndarray, " type"] | Int[Tensor, " type"]) -> Int[Tensor, " type"]:
    """The rank of each type by how often it occurs; 1 is the most frequent."""
    order = torch.as_tensor(np.array(counts)).argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(1, len(order) + 1)
    return rank


@dataclass(frozen=True)
class Repeat:
    """A target whose pair stood earlier in its window, and which tokens are replaced.

    Attributes:
        window: row.
        posn: where the target stands.
        seconds: where its token stood earlier, after the same token as now.
        others: as many places of other tokens near those, for the control.
    """

    window: int
    posn: int
    seconds: tuple[int, ...]
    others: tuple[int, ...]


def find_repeat(
    windows: Int[Tensor, "batch posn+1"], window: int, posn: int, counts: Int[Tensor, " type"]
) -> Repeat | None:
    """The earlier places of one target's pair, and other places for the control.

    Another place is three tokens or more from the pair's (so in no phrase with it), before the
    current token, and of neither token of the pair; of the ten nearest such places it is the one
    whose token is closest in frequency to the target.

    Returns:
        ``None`` if the pair was not seen, if it touches itself, the current token or the window's
        beginning (to destroy one thing would destroy another), or if there are too few other
        tokens.
    """
    row = windows[window, : posn + 1]
    current, target = row[-2], row[-1]
    seconds = ((row[:-2] == current) & (row[1:-1] == target)).nonzero()[:, 0] + 1
    place = torch.arange(1, max(1, posn - 1))
    near = (place[:, None] - seconds).abs() < 3
    free = place[~near.any(1) & (row[place] != current) & (row[place] != target)]
    touching = torch.isin(seconds + 1, torch.cat([seconds - 1, torch.tensor([posn - 1])])).any()
    if not len(seconds) or current == target or touching or len(free) < len(seconds):
        return None
    if seconds[0] < 3:  # no token before the pair
        return None
    unlike = ((counts[row] + 1.0).log() - (counts[target] + 1.0).log()).abs()
    others = _others(seconds, free, unlike)
    return Repeat(window, posn, tuple(seconds.tolist()), tuple(others))


def _others(
    seconds: Int[Tensor, " seen"], free: Int[Tensor, " place"], unlike: Float[Tensor, " posn"]
) -> list[int]:
    """For each place, of the ten nearest free ones the least unlike; none twice."""
    chosen: list[int] = []
    for second in seconds:
        nearest = free[(free - second).abs().argsort(stable=True)[:10]]
        chosen.append(int(nearest[unlike[nearest].argmin()]))
        free = free[free != chosen[-1]]
    return chosen


def sample_repeats(
    windows: Int[Tensor, "batch posn+1"],
    counts: Int[Tensor, " type"],
    count: int,
    generator: torch.Generator,
    types: Int[Tensor, " wanted"],
) -> list[Repeat]:
    """At most ``count`` targets whose pair was seen, drawn at random.

    Args:
        windows: rows that begin with the end-of-text mark.
        counts: how often each type occurs.
        count: targets wanted.
        generator: draws them.
        types: only targets of these types.
    """
    parts = windows.split(256)
    found = torch.cat([(classify(part) == 0) & torch.isin(part[:, 1:], types) for part in parts])
    places = found.nonzero()
    order = torch.randperm(len(places), generator=generator)
    tried = (find_repeat(windows, i, j + 1, counts) for i, j in places[order].tolist())
    return list(itertools.islice((repeat for repeat in tried if repeat is not None), count))


def substitute(
    row: Int[Tensor, " posn"],
    places: Iterable[int],
    words: Int[Tensor, " word"],
    counts: Int[Tensor, " type"],
    generator: torch.Generator,
) -> Int[Tensor, " posn"]:
    """The row with other words at some places.

    Each is drawn from the hundred words closest in rank to the token that it replaces, of the
    words that the row has not.

    Args:
        row: a window.
        places: where to replace.
        words: words to draw from, the most frequent first.
        counts: how often each type occurs.
        generator: draws the words.
    """
    changed, fresh = row.clone(), words[~torch.isin(words, row)]
    for place in places:
        rank = int((counts[fresh] > counts[row[place]]).sum())
        near = fresh[max(0, rank - 50) : rank + 50]
        changed[place] = near[torch.randint(len(near), (), generator=generator)]
    return changed


VERSIONS = (
    "as it is",
    "second token replaced",
    "first token replaced",
    "next token replaced",
    "token before replaced",
    "unrelated token replaced",
)


@dataclass(frozen=True)
class Counterfactual:
    """The same targets in windows with and without the earlier occurrence of their pair.

    Attributes:
        rows: the window of each target, for each of ``VERSIONS``.
        losses: nats at each target, for each of them.
        repeats: the targets.
    """

    rows: dict[str, Int[Tensor, "target posn+1"]]
    losses: dict[str, Float[Tensor, " target"]]
    repeats: list[Repeat]

    def extra(self, version: str = VERSIONS[1]) -> Float[Tensor, " target"]:
        """Nats by which each target is harder in that version."""
        return self.losses[version] - self.losses[VERSIONS[0]]

    def gain(self, version: str = VERSIONS[1]) -> float:
        """The mean of ``extra``."""
        return float(self.extra(version).mean())

    def error(self, version: str = VERSIONS[1]) -> float:
        """Standard error of ``gain``, as if the targets were independent."""
        extra = self.extra(version)
        return float(extra.std()) / math.sqrt(len(extra))

    def by_group(self, groups: Sequence[str], version: str = VERSIONS[1]) -> dict[str, float]:
        """``gain`` for each group of windows, given the group of each window."""
        own = np.array([groups[repeat.window] for repeat in self.repeats])
        extra = self.extra(version).numpy()
        return {str(name): float(extra[own == name].mean()) for name in dict.fromkeys(own.tolist())}

    def distance(self, version: str = VERSIONS[1]) -> float:
        """Tokens from what is replaced to the target, mean over targets."""
        places = _places(self.repeats)[VERSIONS.index(version)]
        return float(
            np.mean([r.posn - np.mean(p) for r, p in zip(self.repeats, places, strict=True)])
        )


def counterfactual_gain(
    model: Any,
    windows: Int[Tensor, "batch posn+1"],
    counts: Int[np.ndarray, " type"] | Int[Tensor, " type"],
    count: int,
    generator: torch.Generator,
    above: int = 0,
) -> Counterfactual:
    """What it is worth to have seen a pair before: take the earlier occurrence away.

    "Second token replaced" leaves of the pair only its first token; "first token replaced" leaves
    the word, but no longer after the same token, so that what is lost is the match. Three controls
    change as much of the window: "next token replaced", right after the pair; "token before
    replaced", right before it, which the word's place sees as well; and "unrelated token replaced",
    elsewhere.

    Targets are words that are one token: what goes on with a word in pieces is spelling.

    Args:
        model: a ``TransformerBridge`` with its tokenizer.
        windows: rows that begin with the end-of-text mark.
        counts: how often each type occurs in the training text.
        count: targets to sample (all, where there are fewer).
        generator: draws targets and words.
        above: only targets with a higher rank of frequency than this.

    Raises:
        ValueError: no target of the sort.
    """
    counts = torch.as_tensor(np.array(counts))
    words = whole_words(model.tokenizer.backend_tokenizer)
    types = words[ranks(counts)[words] > above]
    repeats = sample_repeats(windows, counts, count, generator, types)
    if not repeats:
        raise ValueError(
            f"no pair is seen twice in these {len(windows)} windows with a target of a rank above "
            f"{above}; give more windows or a lower rank"
        )
    words = words[counts[words].argsort(descending=True, stable=True)]
    targets = torch.tensor([r.posn for r in repeats])
    rows = {
        version: torch.stack(
            [
                substitute(windows[r.window], where, words, counts, generator)
                for r, where in zip(repeats, places, strict=True)
            ]
        )
        for version, places in zip(VERSIONS, _places(repeats), strict=True)
    }
    losses = {version: losses_at(model, changed, targets) for version, changed in rows.items()}
    return Counterfactual(rows, losses, repeats)


def _places(repeats: list[Repeat]) -> list[list[tuple[int, ...]]]:
    """For each version, what is replaced for each target."""

    def beside(offset: int) -> list[tuple[int, ...]]:
        return [tuple(place + offset for place in r.seconds) for r in repeats]

    pair_and_neighbors = [beside(offset) for offset in (0, -1, 1, -2)]
    return [[()] * len(repeats), *pair_and_neighbors, [r.others for r in repeats]]


def losses_at(
    model: Any,
    windows: Int[Tensor, "target posn+1"],
    posn: Int[Tensor, " target"],
    at_once: int = 16,
) -> Float[Tensor, " target"]:
    """The loss in nats of one token a row; the model reads no further than it has to."""
    losses = torch.empty(len(windows))
    for part in posn.argsort(stable=True).split(at_once):
        last = int(posn[part].max())
        read = score.token_losses(model, windows[part, : last + 1])
        losses[part] = read.gather(1, posn[part, None] - 1)[:, 0]
    return losses


@torch.no_grad()
def attention_before(
    model: Any,
    windows: Int[Tensor, "target posn+1"],
    posn: Int[Tensor, " target"],
    places: Sequence[tuple[int, ...]],
    at_once: int = 16,
) -> Float[Tensor, "layer head"]:
    """The attention that each head pays to some places of each row, from right before a target.

    Args:
        model: a ``TransformerBridge``.
        windows: a row a target.
        posn: where the target stands in its row.
        places: for each target, where to sum the attention.
        at_once: rows in one forward pass.

    Returns:
        Mean over targets.
    """
    total = torch.zeros(model.cfg.n_layers, model.cfg.n_heads)
    for part in posn.argsort(stable=True).split(at_once):
        pattern = patterns(model, windows[part, : int(posn[part].max())])
        for row, target in enumerate(part.tolist()):
            from_there = pattern[:, row, :, int(posn[target]) - 1]
            total += from_there[..., list(places[target])].sum(-1)
    return total / len(posn)


# --- all of it as a table ---------------------------------------------------------------------


def evaluation_rows(
    model: Any,
    windows: Int[Tensor, "batch posn+1"],
    books: Sequence[str],
    counts: Int[np.ndarray, " type"] | Int[Tensor, " type"],
    model_name: str,
    *,
    seed: int = 0,
    passages: int = 64,
    draws: int = 5,
    count: int = 600,
    rare: int = RARE,
) -> list[dict[str, Any]]:
    """Every measurement of this module, one value a row.

    Args:
        model: a ``TransformerBridge`` with its tokenizer.
        windows: real text, rows that begin with the end-of-text mark.
        books: the title of each window's book.
        counts: how often each type occurs in the training text.
        model_name: for the column ``model``.
        seed: of passages, control heads, sampled targets and substitutes.
        passages: random texts.
        draws: of control heads, as many as `MATCHING`.
        count: targets of the counterfactual, among all and among rare ones.
        rare: rank of frequency above which a word is rare.

    Returns:
        Rows with ``model``, ``quantity``, ``place`` ("layer.head", several with a space between,
        or ""), ``kind`` and ``value`` (nats, mean attention, or a number of targets).
    """
    counts, generator = torch.as_tensor(np.array(counts)), training.generator(seed)
    allowed = whole_words(model.tokenizer.backend_tokenizer)
    shape = (model.cfg.d_vocab, min(HALF, (model.cfg.n_ctx - 1) // 2), passages)
    texts = {
        "repeated": repeated(*shape, generator, allowed),
        "unrepeated": unrepeated(*shape, generator, allowed),
    }
    texts["permuted"] = permuted(texts["repeated"], generator)
    texts |= said_twice(windows, passages, shape[1])
    rows = _random_rows(model, texts)
    for group, above in (("all", 0), ("rare", rare)):
        natural = (windows, counts, count)
        rows += _counterfactual_rows(model, *natural, books, seed, group, above, draws)
    names = ("quantity", "place", "kind", "value")
    return [{"model": model_name, **dict(zip(names, row, strict=True))} for row in rows]


def said_twice(
    windows: Int[Tensor, "batch posn+1"], passages: int, half: int
) -> dict[str, Int[Tensor, "passage posn"]]:
    """Passages of real text said twice, and in the control followed by another one instead.

    Raises:
        ValueError: fewer windows than passages, or windows that are too short.
    """
    if len(windows) < passages or windows.shape[1] <= half:
        raise ValueError(
            f"{len(windows)} windows of {windows.shape[1] - 1} tokens do not give {passages} "
            f"passages of {half}"
        )
    evenly = torch.linspace(0, len(windows) - 1, passages).long()
    rows = windows[evenly, : half + 1]
    return {
        "real text twice": torch.cat([rows, rows[:, 1:]], 1),
        "real text, then another": torch.cat([rows, rows.roll(1, 0)[:, 1:]], 1),
    }


def _random_rows(model: Any, texts: dict[str, Int[Tensor, "batch posn"]]) -> list[Row]:
    """Gain and head scores on random text of each kind."""
    rows: list[Row] = []
    for kind, tokens in texts.items():
        found, scores = gain(model, tokens), head_scores(model, tokens)
        rows += [
            ("gain", "", kind, found.value),
            ("loss, first copy", "", kind, float(found.first[1:].mean())),
            ("loss, second copy", "", kind, float(found.second[1:].mean())),
        ]
        for field in fields(Scores):
            table = getattr(scores, field.name).tolist()
            rows += [
                (f"attention, {kind}", f"{layer}.{head}", field.name, value)
                for layer, values in enumerate(table)
                for head, value in enumerate(values)
            ]
    return rows


def place_of(heads: Iterable[Head]) -> str:
    """Heads as "layer.head", with a space between."""
    return " ".join(f"{layer}.{head}" for layer, head in heads)


def _counterfactual_rows(
    model: Any,
    windows: Int[Tensor, "batch posn+1"],
    counts: Int[Tensor, " type"],
    count: int,
    books: Sequence[str],
    seed: int,
    group: str,
    above: int,
    draws: int,
) -> list[Row]:
    """The counterfactual gain by version: in all, by book, and without some heads."""

    def measured() -> Counterfactual:
        draw = training.generator(seed, above)  # the same targets and words each time
        return counterfactual_gain(model, windows, counts, count, draw, above)

    found = measured()
    rows: list[Row] = [(f"counterfactual targets, {group}", "", "", float(len(found.repeats)))]
    for version in VERSIONS[1:]:
        rows += [
            (f"counterfactual gain, {group}", version, "all", found.gain(version)),
            (f"counterfactual error, {group}", version, "all", found.error(version)),
            (f"counterfactual distance, {group}", version, "all", found.distance(version)),
        ]
        gains = found.by_group(books, version)
        rows += [(f"counterfactual gain, {group}", version, *gain) for gain in gains.items()]
    looks = attention_rows(model, found)
    for kind, attention in looks.items():
        rows += [
            (f"counterfactual attention, {group}", f"{layer}.{head}", kind, value)
            for layer, values in enumerate(attention.tolist())
            for head, value in enumerate(values)
        ]
    matched = looks["what followed"] - looks["what followed, first token replaced"]
    for kind, chosen in matching_sets(matched, draws, training.generator(seed)):
        with averaged(model, chosen):
            left = measured()
        quantity = f"counterfactual gain, {group}, without {kind}"
        rows += [
            (quantity, version, place_of(chosen), left.gain(version)) for version in VERSIONS[1:]
        ]
    return rows


def attention_rows(model: Any, found: Counterfactual) -> dict[str, Float[Tensor, "layer head"]]:
    """Where heads look right before the targets: at the earlier occurrence, and elsewhere.

    Returns:
        ``what followed``: to the earlier occurrence of the target, after the same token as now;
        the same where that token is replaced, so that the same word stands at the same place but
        does not match; ``unrelated``: to the places of the control.
    """
    posn = torch.tensor([r.posn for r in found.repeats])
    seconds, others = [r.seconds for r in found.repeats], [r.others for r in found.repeats]
    as_it_is, without_match = found.rows["as it is"], found.rows["first token replaced"]
    return {
        "what followed": attention_before(model, as_it_is, posn, seconds),
        "what followed, first token replaced": attention_before(
            model, without_match, posn, seconds
        ),
        "unrelated": attention_before(model, as_it_is, posn, others),
    }


def matching_sets(
    matched: Float[Tensor, "layer head"], draws: int, generator: torch.Generator
) -> list[tuple[str, list[Head]]]:
    """The `MATCHING` heads with the highest values (half of all at most), and ``draws`` times as many others."""
    top = highest(matched, min(MATCHING, matched.numel() // 2))
    others = [other_heads(top, matched.shape[0], matched.shape[1], generator) for _ in range(draws)]
    return [("matching heads", top), *(("other heads", chosen) for chosen in others)]
