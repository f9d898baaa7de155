"""The measurement view (a probe reads a concept) and the intervention view (adding a direction writes it).

Both look at texts just before a word of a pair: there the model has not seen the word, and says by
its logits which of the two it expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold
from torch import Tensor

from mechbook import pretrained, training
from mechbook.geometry import concepts, inner_products, streams


@dataclass(frozen=True)
class Contexts:
    """Places in texts where a word of a concept comes next.

    Attributes:
        tokens: what stands before the word, the mark that begins a text first.
        pair: which pair of the concept the word belongs to.
        target: whether it is the pair's second word.
    """

    tokens: Int[Tensor, "context posn"]
    pair: Int[Tensor, " context"]
    target: Bool[Tensor, " context"]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.tokens)

    def take(self, which: Tensor) -> Contexts:
        """Some of them."""
        return Contexts(self.tokens[which], self.pair[which], self.target[which])

    def bases(self, most: int) -> Contexts:
        """About that many of those before a base word, or all, evenly over the pairs."""
        which = (~self.target).nonzero()[:, 0]
        return self.take(which[:: max(1, len(which) // most)])

    def with_word(self, ids: Int[Tensor, "pair 2"]) -> Int[Tensor, "context posn+1"]:
        """The texts with the word that follows."""
        return torch.cat([self.tokens, ids[self.pair, self.target.long()][:, None]], 1)


def tokenized(model: Any, texts: Iterable[str]) -> list[list[int]]:
    """The texts as tokens, without marks, so that several concepts can be looked for in them."""
    return [
        model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for text in texts
    ]


def contexts(
    model: Any,
    rows: Iterable[Sequence[int]],
    ids: Int[Tensor, "pair 2"],
    *,
    length: int = 32,
    each: int = 10,
    generator: torch.Generator,
) -> Contexts:
    """Find places before the words of a concept, equally many for each word, drawn at random.

    Args:
        model: a ``TransformerBridge`` with a tokenizer.
        rows: texts as `tokenized` gives them.
        ids: the concept's pairs.
        length: tokens before the word.
        each: places a word, at most; a pair is left out where one of its words has none.
        generator: draws among the places.

    Raises:
        ValueError: no pair has both of its words in the texts, or the length is too long.
    """
    if not 1 <= length < model.cfg.n_ctx:
        raise ValueError(
            f"length is {length}; the model reads 1 to {model.cfg.n_ctx - 1} and a mark"
        )
    found = _places(rows, ids, length)
    mark = pretrained.beginning(model)
    tokens: list[list[int]] = []
    pair: list[int] = []
    target: list[bool] = []
    for index in range(len(ids)):
        both = found[2 * index], found[2 * index + 1]
        count = min(each, *map(len, both))
        for side, here in enumerate(both):
            for i in torch.randperm(len(here), generator=generator)[:count].tolist():
                tokens.append([mark, *here[i]])
                pair.append(index)
                target.append(bool(side))
    if not tokens:
        raise ValueError("no pair has both of its words in the texts; give more text")
    return Contexts(torch.tensor(tokens), torch.tensor(pair), torch.tensor(target))


def _places(rows: Iterable[Sequence[int]], ids: Tensor, length: int) -> list[list[list[int]]]:
    """For each word of each pair what stands before its occurrences."""
    wanted: dict[int, list[int]] = {}
    for slot, token in enumerate(ids.flatten().tolist()):
        wanted.setdefault(token, []).append(slot)
    found: list[list[list[int]]] = [[] for _ in range(ids.numel())]
    for row in rows:
        for i in range(length, len(row)):
            for slot in wanted.get(row[i], ()):
                found[slot].append(list(row[i - length : i]))
    return found


# --- measurement ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """What a linear probe ``sigmoid(wᵀh + b)`` reads.

    Attributes:
        accuracy: on pairs it has not seen.
        seen: on other occurrences of words it has seen.
        control: on other occurrences of words it has seen, where the two labels of each pair
            were swapped by a coin: what it can learn by heart (Hewitt & Liang 2019).
        control_new: the same labels, on pairs it has not seen: chance.
    """

    accuracy: float
    seen: float
    control: float
    control_new: float

    @property
    def selectivity(self) -> float:
        """Accuracy on seen words minus that on the control's labels."""
        return self.seen - self.control


def probe(
    h: Float[np.ndarray, "context d"],
    target: Bool[np.ndarray, " context"],
    pair: Int[np.ndarray, " context"],
    generator: torch.Generator,
    *,
    folds: int = 5,
    C: float = 0.01,
) -> Probe:
    """Fit a logistic probe; score it on new pairs, on seen words, and against random labels.

    Args:
        h: activations, one row a context.
        target: which word of the pair followed.
        pair: which pair it was.
        generator: tosses the coins of the control.
        folds: parts of a cross-validation.
        C: inverse strength of the ridge penalty, on activations of unit variance.

    Raises:
        ValueError: fewer pairs than folds, or shapes that do not fit.
    """
    if len({len(h), len(target), len(pair)}) != 1:
        raise ValueError(f"{len(h)} activations, {len(target)} labels, {len(pair)} pairs: one each")
    if len(np.unique(pair)) < folds:
        raise ValueError(f"{len(np.unique(pair))} pairs make no {folds} folds; give fewer folds")
    h = (h - h.mean(0)) / (h.std(0) + 1e-9)
    coins = torch.randint(2, (int(pair.max()) + 1,), generator=generator).numpy().astype(bool)
    wrong = target ^ coins[pair]
    new = list(GroupKFold(folds).split(h, target, pair))
    order = int(torch.randint(2**31 - 1, (), generator=generator))
    old = list(KFold(folds, shuffle=True, random_state=order).split(h))
    return Probe(
        *(_score(h, labels, parts, C) for parts, labels in ((new, target), (old, target))),
        *(_score(h, wrong, parts, C) for parts in (old, new)),
    )


def _score(h: np.ndarray, labels: np.ndarray, parts: Sequence[Any], C: float) -> float:
    right = 0
    for train, test in parts:
        fitted = LogisticRegression(C=C, solver="newton-cholesky").fit(h[train], labels[train])
        right += int((fitted.predict(h[test]) == labels[test]).sum())
    return right / len(labels)


def untrained_probe(
    h: Float[Tensor, "context d"], w: Float[Tensor, "context d"], target: Bool[Tensor, " context"]
) -> float:
    """Accuracy of the sign of ``w · h`` about its median: a probe of a given direction, not fitted.

    Args:
        h: activations.
        w: the direction for each context, from other pairs than its own.
        target: which word followed.
    """
    scores = (h.double() * w.double()).sum(-1)
    return float(((scores > scores.median()) == target).float().mean())


# --- intervention -----------------------------------------------------------------------------


@torch.no_grad()
def log_odds(
    logits: Float[Tensor, "context vocabulary"],
    ids: Int[Tensor, "pair 2"],
    pair: Int[Tensor, " context"],
) -> Float[Tensor, " context"]:
    """The log-odds of the target against the base of each context's pair."""
    rows = torch.arange(len(logits))
    return logits[rows, ids[pair, 1]] - logits[rows, ids[pair, 0]]


@torch.no_grad()
def steering_curve(
    model: Any,
    found: Contexts,
    ids: Int[Tensor, "pair 2"],
    vectors: Float[Tensor, "pair d_model"],
    strengths: Sequence[float],
    *,
    depth: int,
    others: Sequence[Int[Tensor, "other 2"]] = (),
) -> dict[str, Float[np.ndarray, " strength"]]:
    """Add a direction to the stream at the last position, and see what the model expects then.

    Args:
        model: a ``TransformerBridge``.
        found: contexts of a concept.
        ids: its pairs.
        vectors: the direction for each pair (from other pairs); only its direction counts.
        strengths: lengths of what is added, in lengths of the stream at that place.
        depth: where it is added.
        others: pairs of other concepts, whose log-odds should stay as they are.

    Returns:
        ``log-odds``: the mean change; ``flips``: among contexts in which the base was the likelier
        of its pair, the share in which the target is now (not a number where there is none);
        ``best``: the share in which the target is the likeliest of all words; with ``others``
        also ``beside``: the mean size of the change of their concepts' mean log-odds.

    Raises:
        ValueError: no such depth.
    """
    unit = (vectors / vectors.norm(dim=-1, keepdim=True)).to(torch.float32)
    run = _runner(model, found.tokens, depth)
    before = run(lambda h: h)
    rows = []
    for strength in strengths:

        def add(h: Tensor, strength: float = strength) -> Tensor:
            return h + strength * h.norm(dim=-1, keepdim=True) * unit[found.pair]

        after = run(add)
        rows.append(_compared(before, after, ids, found.pair))
        if others:
            rows[-1]["beside"] = _beside(before, after, others)
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _runner(
    model: Any, tokens: Tensor, depth: int
) -> Callable[[streams.Edit], Float[Tensor, "context vocabulary"]]:
    """Logits after the last token for a change of the stream; behind the last block, without running it again."""
    if depth != model.cfg.n_layers:
        return lambda edit: streams.edited(model, tokens, depth, edit)
    last = streams.read(model, tokens)[-1]
    return lambda edit: model.unembed(model.ln_final(edit(last)[:, None]))[:, 0]


def _compared(before: Tensor, after: Tensor, ids: Tensor, pair: Tensor) -> dict[str, float]:
    was, now = log_odds(before, ids, pair), log_odds(after, ids, pair)
    base = was < 0
    flips = float((now[base] > 0).float().mean()) if bool(base.any()) else float("nan")
    best = float((after.argmax(-1) == ids[pair, 1]).float().mean())
    return {"log-odds": float((now - was).mean()), "flips": flips, "best": best}


def _beside(before: Tensor, after: Tensor, others: Sequence[Tensor]) -> float:
    """Size of the change of other concepts: each concept's mean over its pairs, for each context."""
    change = after - before
    moved = [(change[:, ids[:, 1]] - change[:, ids[:, 0]]).mean(-1).abs().mean() for ids in others]
    return float(torch.stack(moved).mean())


# --- at full scale ----------------------------------------------------------------------------


def unembedding(model: Any) -> Float[Tensor, "word d_model"]:
    """The words' vectors γ in 64 bits, with the gain of the norm before them multiplied in.

    Then ``logits = γ · h``, up to a bias, for the normalized stream h without its gain.
    """
    gain = getattr(model.ln_final, "weight", None)
    gamma = model.W_U.detach().double().mT
    return gamma if gain is None else gamma * gain.detach().double()


def measured(
    gamma: Float[Tensor, "word d"],
    known: Sequence[concepts.Concept],
    ids: Sequence[Int[Tensor, "pair 2"]],
    metrics: dict[str, Float[Tensor, "d d"]],
    generator: torch.Generator,
) -> dict[str, dict[str, float]]:
    """Mean absolute cosine of separable concepts, of others, and of random word pairs, under each metric.

    Args:
        gamma: any unembedding, one row a word.
        known: concepts.
        ids: their pairs, as rows of gamma.
        metrics: by name.
        generator: draws the random pairs.

    Raises:
        ValueError: fewer than two pairs of a concept without a common word, or no two concepts.
    """
    which = concepts.pairings(known)
    if not all(which.values()):
        raise ValueError("give concepts of two families, and two of one, to compare")
    sides = {name: concepts.side_by_side(gamma, ids, two) for name, two in which.items()}
    sides["random words"] = concepts.random_directions(gamma, 100, 20, generator)
    return {
        name: {kind: float(inner_products.between(two, M).mean()) for kind, two in sides.items()}
        for name, M in metrics.items()
    }


def regressed_out(
    gamma: Float[Tensor, "word d"], amount: Float[Tensor, " word"]
) -> Float[Tensor, "word d"]:
    """Each word's vector without what a number of the word predicts of it, by least squares.

    Raises:
        ValueError: the number is the same for all words.
    """
    apart = (amount - amount.mean()).to(gamma.dtype)
    if not bool(apart.any()):
        raise ValueError("the number is the same for all words; give one that varies")
    slope = (gamma - gamma.mean(0)).mT @ apart / apart.pow(2).sum()
    return gamma - torch.outer(apart, slope)


def report(name: str, fewest: int = 5) -> str:
    """The comparison of inner products on a pretrained model; one line where there is none.

    Args:
        name: of the model, such as ``gpt2``, or a local folder.
        fewest: pairs of single tokens that a concept must have to be taken.
    """
    try:
        model = pretrained.load(name)
    except ValueError as missing:
        return f"Skipped: {missing}"
    found = [concepts.in_vocabulary(model.tokenizer, c, " ") for c in concepts.CONCEPTS]
    known = [concept for concept in found if len(concept.pairs) >= fewest]
    ids = [concepts.pair_ids(model.tokenizer, concept, " ") for concept in known]
    gamma, draw = unembedding(model), training.generator(0)
    cov = inner_products.covariance(gamma)
    metrics = inner_products.rivals(cov, draw) | {"causal": inner_products.power(cov, 1.0)}
    table = measured(gamma, known, ids, metrics, draw)
    lines = [f"{name}: {len(known)} concepts, width {len(cov)}, {len(gamma):,} words; mean |cos|"]
    for metric, row in table.items():
        said = ", ".join(f"{kind} {value:.3f}" for kind, value in row.items())
        lines.append(f"  {metric:18} {said}")
    return "\n".join(lines)
