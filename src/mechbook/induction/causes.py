"""What causes the prediction: heads left out, paths cut one by one, tags exchanged, heads turned up.

All of it is for the attention-only models of this room. The stream is a plain sum there (no norm),
so the part of one head can be taken out of what another head reads, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import heads, training
from mechbook.heads import Head
from mechbook.induction import circuits
from mechbook.induction import task as tasks
from mechbook.induction.task import Texts

WAYS: dict[str, Callable[..., AbstractContextManager]] = {
    "zero": heads.zeroed,
    "mean": heads.averaged,
    "resample": heads.resampled,
}
SIDES = ("query", "key", "value")


@dataclass(frozen=True)
class Effect:
    """What is left of the model's answers after something was done to it.

    Attributes:
        accuracy: share of right best guesses.
        loss: nats.
        logit: of the right token, above the mean logit.
    """

    accuracy: float
    loss: float
    logit: float


def effect(logits: Float[Tensor, "batch posn type"], texts: Texts) -> Effect:
    """Measure answers where the target can be known."""
    where = texts.predictable
    centered = logits - logits.mean(-1, keepdim=True)
    right = centered.gather(-1, texts.target[..., None])[..., 0][where]
    found = tasks.accuracy(logits, texts), float(tasks.loss(logits, texts)), float(right.mean())
    return Effect(*found)


@torch.no_grad()
def ablated(model: Any, texts: Texts, chosen: Iterable[Head], way: str = "mean") -> Effect:
    """The effect of leaving heads out.

    Args:
        model: a ``TransformerBridge``.
        texts: what it reads.
        chosen: pairs of layer and head.
        way: ``zero``: they write nothing. ``mean``: the same everywhere. ``resample``: what they
            write for another text.

    Raises:
        ValueError: no such way, or a head that the model has not.
    """
    if way not in WAYS:
        raise ValueError(f"way is {way!r}; give one of {', '.join(WAYS)}")
    with WAYS[way](model, chosen):
        return effect(model(texts.tokens), texts)


# --- from one head to another -----------------------------------------------------------------


@torch.no_grad()
def writes(
    model: Any, tokens: Int[Tensor, "batch posn"], chosen: Sequence[Head]
) -> Float[Tensor, "batch posn d_model"]:
    """What some heads of one layer add to the stream, together.

    Raises:
        ValueError: heads of different layers, a head that the model has not, or a model with
            norms, MLPs or biases.
    """
    circuits.require_plain(model)
    found = heads.require_heads(model, chosen)
    layers = {layer for layer, _ in found}
    if len(layers) != 1:
        raise ValueError(f"heads of layers {sorted(layers)}; give heads of one layer")
    (layer,) = layers
    own = [head for _, head in found]
    name = f"blocks.{layer}.attn.hook_z"
    _, cache = model.run_with_cache(tokens, names_filter=[name])
    z, W_O = cache[name][:, :, own], model.W_O[layer, own]
    return torch.einsum("bphe,hed->bpd", z, W_O)


def reading(
    model: Any, layer: int, sides: Iterable[str], change: Callable[[Tensor], Tensor]
) -> AbstractContextManager:
    """While this context is open, a layer's queries, keys or values are made from another stream.

    Args:
        model: a ``TransformerBridge``.
        layer: whose heads read.
        sides: some of ``SIDES``.
        change: from the stream to what is read in its place.

    Raises:
        ValueError: no such side or layer.
    """
    wanted = list(sides)
    wrong = [side for side in wanted if side not in SIDES]
    if wrong or not 0 <= layer < model.cfg.n_layers:
        raise ValueError(
            f"side {wrong or wanted}, layer {layer}; give sides out of {', '.join(SIDES)} and a "
            f"layer from 0 to {model.cfg.n_layers - 1}"
        )
    names = [f"blocks.{layer}.attn.{side[0]}.hook_in" for side in wanted]
    return model.hooks(fwd_hooks=[(name, lambda stream, hook: change(stream)) for name in names])


@torch.no_grad()
def cut(
    model: Any, texts: Texts, writers: Sequence[Head], sides: Sequence[str], layer: int = 1
) -> Effect:
    """Path patching: some heads' writes, as a later layer reads them, come from another text.

    Only the named sides of that layer read the other text's write; everything else is as it was.

    Args:
        model: an attention-only model without norms.
        texts: what it reads; the other text is the next one of the batch.
        writers: heads of one earlier layer.
        sides: some of ``SIDES``.
        layer: the reader.

    Raises:
        ValueError: as `writes` and `reading`, or writers that are not before the reader.
    """
    if any(early >= layer for early, _ in writers):
        raise ValueError(f"writers {list(writers)} for layer {layer}; give heads of earlier layers")
    with reading(model, layer, sides, from_next_text(model, texts.tokens, writers)):
        return effect(model(texts.tokens), texts)


def from_next_text(
    model: Any, tokens: Int[Tensor, "batch posn"], writers: Sequence[Head]
) -> Callable[[Tensor], Tensor]:
    """A change of the stream: the writers' part is what they write for the next text of the batch."""
    own = writes(model, tokens, writers)
    other = heads.from_next_text(own)
    return lambda stream: stream - own + other


# --- one change, one predicted consequence ----------------------------------------------------


@dataclass(frozen=True)
class Swap:
    """Questions whose answer should change to a token that is known beforehand.

    Attributes:
        text: number of the text.
        query: position of the question.
        source: where its answer stands.
        other: another position of the first passage.
    """

    text: Int[Tensor, " question"]
    query: Int[Tensor, " question"]
    source: Int[Tensor, " question"]
    other: Int[Tensor, " question"]


def questions(texts: Texts, generator: torch.Generator) -> Swap:
    """For each text one question in the second passage, and another place of the first passage.

    In the second passage, because there each token has one earlier occurrence, if the passages have
    no token twice.

    Raises:
        ValueError: a passage has a token twice, so that a question has no one place to look.
    """
    heard = heads.places(texts.tokens)["duplicate token"].sum(-1)
    posn = torch.arange(texts.tokens.shape[1])
    if bool((heard[posn < 2 * texts.period[:, None]] > 1).any()):
        raise ValueError("a passage has a token twice; draw the texts with Task(distinct=True)")
    text = torch.arange(len(texts.tokens))
    last = (2 * texts.period).clamp(max=texts.tokens.shape[1] - 1) - texts.period
    draw = torch.rand(2, len(text), generator=generator)
    query = texts.period + (draw[0] * last).long()
    source = query - texts.period + 1
    # any other place from 1 to the end of the first passage; the first has no token before it
    step = 1 + (draw[1] * (texts.period - 2)).long()
    other = 1 + (source - 1 + step) % (texts.period - 1)
    return Swap(text, query, source, other)


@torch.no_grad()
def swap_tags(
    model: Any,
    texts: Texts,
    asked: Swap,
    writers: Sequence[Head],
    layer: int = 1,
    side: str = "key",
) -> dict[str, float]:
    """Exchange what the writers put at two places, for one side alone; where does the answer go?

    The place that said "I follow A" now stands elsewhere. If keys are how the answer is found, the
    answer becomes the token that stands there.

    Returns:
        Shares of questions whose best guess is: ``true``, the answer before the exchange;
        ``swapped``, the token at the other place.
    """
    own = writes(model, texts.tokens, writers)
    moved = own.clone()
    text, here, there = asked.text, asked.source, asked.other
    moved[text, here], moved[text, there] = own[text, there], own[text, here]
    with reading(model, layer, [side], lambda stream: stream - own + moved):
        guess = model(texts.tokens)[text, asked.query].argmax(-1)
    return _said(guess, texts, asked)


def ambiguous_questions(texts: Texts, generator: torch.Generator) -> Swap:
    """For each text that has one, a question in the second passage that the token does not decide.

    The token stands twice in the first passage, after different tokens and before different ones.
    ``source`` is one after the place that has the same token before it as the question, ``other``
    one after another place.

    Raises:
        ValueError: there is no such question in any text.
    """
    tokens, target = texts.tokens, texts.target
    posn, before = torch.arange(tokens.shape[1]), tokens.roll(1, 1)
    differ = (before[:, :, None] != before[:, None, :]) & (target[:, :, None] != target[:, None, :])
    same = tokens[:, :, None] == tokens[:, None, :]
    second = texts.predictable & (posn > texts.period[:, None])
    asked = second & (posn < 2 * texts.period[:, None])
    first = (posn >= 1) & (posn < texts.period[:, None])
    possible = (same & differ & asked[:, :, None] & first[:, None, :]).flatten(1).float()
    text = possible.any(1).nonzero()[:, 0]
    if not len(text):
        raise ValueError("no passage has a token twice; draw the texts with Task(distinct=False)")
    pair = torch.multinomial(possible[text], 1, generator=generator)[:, 0]
    query, place = pair // len(posn), pair % len(posn)
    return Swap(text, query, query - texts.period[text] + 1, place + 1)


@torch.no_grad()
def swap_query(
    model: Any,
    texts: Texts,
    asked: Swap,
    writers: Sequence[Head],
    layer: int = 1,
    side: str = "query",
) -> dict[str, float]:
    """Give the question the tag of the other place of its token, for one side alone.

    The question then says "the token before me is" what stands before the other place. If queries
    are how the choice is made, the answer becomes the token after that place.

    Returns:
        As `swap_tags`.
    """
    own = writes(model, texts.tokens, writers)
    changed = own.clone()
    changed[asked.text, asked.query] = own[asked.text, asked.other - 1]
    with reading(model, layer, [side], lambda stream: stream - own + changed):
        guess = model(texts.tokens)[asked.text, asked.query].argmax(-1)
    return _said(guess, texts, asked)


def _said(guess: Int[Tensor, " question"], texts: Texts, asked: Swap) -> dict[str, float]:
    """Shares of answers from the old place and from the other one."""
    places = {"true": asked.source, "swapped": asked.other}
    return {
        name: float((guess == texts.target[asked.text, place - 1]).float().mean())
        for name, place in places.items()
    }


def turned(model: Any, chosen: Iterable[Head], gain: float) -> AbstractContextManager:
    """While this context is open, what some heads write is multiplied."""
    return heads.replaced(model, chosen, lambda z: gain * z)


# --- the whole circuit from its matrices ------------------------------------------------------


@torch.no_grad()
def composed_logits(
    model: Any,
    tokens: Int[Tensor, "batch posn"],
    writers: Sequence[Head],
    readers: Sequence[Head],
    two_back: Sequence[Head] = (),
) -> Float[Tensor, "batch posn type"]:
    """What the story predicts, from products of weights alone, without running the model.

    Each writer is taken to look exactly one position back. A reader's score for a key is then the
    composed QK circuit between the query's token and the token *before* the key; what it adds for
    each key it attends to is a row of its OV circuit. With ``two_back``, heads that are taken to look
    exactly two positions back, the score also has the circuit between the token before the query
    and the token two before the key. Everything else (positions, direct paths, what the writers
    really look at) is left out.

    Args:
        model: an attention-only model without norms and biases.
        tokens: what it would read.
        writers: previous-token heads of the first layer.
        readers: induction heads of the second.
        two_back: heads of the first layer that look two back; none for the textbook's story.
    """
    own, W_E, W_U = circuits.heads_of(model), model.W_E.detach(), model.W_U.detach()
    before, two_before = tokens.roll(1, 1), tokens.roll(2, 1)
    logits = torch.zeros(*tokens.shape, W_U.shape[1])
    for reader in (own[head] for head in readers):
        one = [circuits.k_composed_qk(W_E, own[w], reader) for w in writers]
        scores = _looked_up(torch.stack(one).sum(0), tokens, before)
        if two_back:
            pairs = [
                circuits.both_composed_qk(W_E, own[w], own[v], reader)
                for w in writers
                for v in two_back
            ]
            second = _looked_up(torch.stack(pairs).sum(0), before, two_before)
            second[:, 0], second[:, :, :2] = 0, 0  # nothing stands there
            scores = scores + second
        pattern = _attend(scores / own.W_Q.shape[-1] ** 0.5)
        logits = logits + pattern @ circuits.full_ov(W_E, reader, W_U)[tokens]
    return logits


def _looked_up(
    circuit: Float[Tensor, "type type"],
    rows: Int[Tensor, "batch query"],
    columns: Int[Tensor, "batch key"],
) -> Float[Tensor, "batch query key"]:
    """The circuit's entry for each query and key, given the tokens that stand for them."""
    return circuit[rows[:, :, None], columns[:, None, :]]


def _attend(scores: Float[Tensor, "batch query key"]) -> Float[Tensor, "batch query key"]:
    """Causal softmax; nobody looks at the first key, before which nothing stands."""
    later = torch.ones(scores.shape[1:]).triu(1).bool()
    later[:, 0] = True
    later[0, 0] = False
    return scores.masked_fill(later, -torch.inf).softmax(-1)


@torch.no_grad()
def attribution(model: Any, texts: Texts) -> tuple[tuple[str, ...], Float[Tensor, " part"], float]:
    """What each part adds to the logit of the right token, above the mean logit; they sum to it.

    Returns:
        Names (embedding, positions, then heads as "layer.head"), the parts' means where the target
        can be known, and the same of the model's own logits.

    Raises:
        ValueError: a model with norms, MLPs or biases.
    """
    circuits.require_plain(model)
    names = ["hook_embed", "hook_pos_embed"]
    zs = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    logits, cache = model.run_with_cache(texts.tokens, names_filter=[*names, *zs])
    parts = [cache[name].expand(*texts.tokens.shape, -1) for name in names]
    for layer, name in enumerate(zs):
        parts += [*torch.einsum("bphe,hed->hbpd", cache[name], model.W_O[layer])]
    W_U = model.W_U - model.W_U.mean(1, keepdim=True)
    direction = W_U.T[texts.target]  # what raises the right logit above the mean
    where = texts.predictable
    added = torch.stack([(part * direction).sum(-1)[where].mean() for part in parts])
    size = (model.cfg.n_layers, model.cfg.n_heads)
    labels = [f"{i}.{j}" for i in range(size[0]) for j in range(size[1])]
    return ("embedding", "positions", *labels), added, effect(logits, texts).logit


# --- all of it, for a table of seeds ----------------------------------------------------------


@torch.no_grad()
def summary(model: Any, texts: Texts, distinct: Texts, seed: int = 0) -> dict[str, float]:
    """What is left of the right answers after each intervention, and how far the story carries.

    Args:
        model: two layers of attention without norms.
        texts: what it reads.
        distinct: texts of passages with no token twice, for the exchange of tags.
        seed: of the questions.

    Returns:
        Shares. ``without …`` and ``… cut``: right answers; those that end in ``, ambiguous`` are of
        the positions that the token does not decide. ``tags exchanged``, ``query tag exchanged``:
        answers that moved as predicted. ``story of one token``, ``… of two``: best guesses that are
        the model's.
    """
    looks = heads.head_scores(model, texts.tokens)
    one, two = ((0, int(looks[kind][0].argmax())) for kind in ("previous token", "two back"))
    readers = [(1, head) for head in range(model.cfg.n_heads)]
    draw = training.generator(seed)
    found = {
        "tags exchanged": swap_tags(model, distinct, questions(distinct, draw), [one])["swapped"]
    }
    changed = {"as it is": model(texts.tokens)}
    for name, head in (("previous-token head", one), ("two-back head", two)):
        with heads.averaged(model, [head]):
            changed[f"without {name}"] = model(texts.tokens)
        for side in SIDES:
            with reading(model, 1, [side], from_next_text(model, texts.tokens, [head])):
                changed[f"{side} from {name} cut"] = model(texts.tokens)
    groups = {"": texts.predictable}
    if texts.ambiguous.any():
        groups[", ambiguous"] = texts.ambiguous
        asked = ambiguous_questions(texts, draw)
        found["query tag exchanged"] = swap_query(model, texts, asked, [one])["swapped"]
    stories = {
        "story of one token": composed_logits(model, texts.tokens, [one], readers),
        "story of two tokens": composed_logits(model, texts.tokens, [one], readers, [two]),
    }
    for group, where in groups.items():
        for name, logits in changed.items():
            found[name + group] = tasks.accuracy(logits, texts, where)
        for name, logits in stories.items():
            same = logits.argmax(-1) == changed["as it is"].argmax(-1)
            found[name + group] = float(same[where].float().mean())
    return found
