"""The exercises of the chapter on induction heads.

Row convention, names of TransformerLens: a token is a row, a head reads `x @ W_V` and writes
`z @ W_O`. Specifications work in float64 and state properties; they never call a solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mechbook.exercises import (
    Exercise,
    Hint,
    Wrong,
    distinct_sizes,
    draw,
    equal,
    require_shape,
)

# --- 1. where to look -------------------------------------------------------------------------


def induction_keys(tokens: Int[Tensor, " posn"]) -> Bool[Tensor, "query key"]:
    """True where a key stands right after an earlier occurrence of the query's token."""
    raise NotImplementedError


def induction_keys_solution(tokens: Int[Tensor, " posn"]) -> Bool[Tensor, "query key"]:
    """Where the token came before, and from there one to the right."""
    earlier = torch.ones(len(tokens), len(tokens)).tril(-1) > 0
    same = (tokens[:, None] == tokens) & earlier
    after = torch.zeros_like(same)
    after[:, 1:] = same[:, :-1]
    return after


def _keys_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    period, n_types = distinct_sizes(2, generator, low=3, high=6)
    different = torch.randperm(period, generator=generator)
    noise = torch.randint(n_types, (5 * n_types,), generator=generator)
    mask = candidate(different)
    require_shape(mask, period, period)
    if mask.dtype != torch.bool:
        raise Hint("Each pair should be True or False. What does == give for two tensors?")
    if bool(mask.any()):
        raise Hint(
            "No token comes twice here, yet a key is marked. Is a token earlier than itself?"
        )
    for tokens in (different.repeat(3), noise):
        mask = candidate(tokens)
        query, key = mask.nonzero().unbind(1)
        if bool((key > query).any()):
            raise Hint("A query should look back, never ahead. Which occurrences are *earlier*?")
        if bool((key == 0).any()) or not torch.equal(tokens[key - 1], tokens[query]):
            raise Hint("Right before each key should stand the query's token. What is yours after?")
        heard = [tokens[:q].tolist().count(token) for q, token in enumerate(tokens.tolist())]
        if mask.sum(1).tolist() != heard:
            raise Hint("A token heard twice before should have two keys. How many has yours?")


def _occurrence_itself(tokens: Tensor) -> Tensor:
    return (tokens[:, None] == tokens).tril(-1)


def _own_position_too(tokens: Tensor) -> Tensor:
    return (tokens[:, None] == tokens).tril().roll(1, 1)


def _last_occurrence_only(tokens: Tensor) -> Tensor:
    same = (tokens[:, None] == tokens).tril(-1)
    later = same.flip(1).cumsum(1).flip(1)
    return (same & (later == 1)).roll(1, 1)


def _later_ones_too(tokens: Tensor) -> Tensor:
    same = (tokens[:, None] == tokens) & ~torch.eye(len(tokens), dtype=torch.bool)
    return torch.nn.functional.pad(same[:, :-1], (1, 0))


# --- 2. the summed score ----------------------------------------------------------------------


def summed_score(
    pattern: Float[Tensor, "head query key"], mask: Bool[Tensor, "query key"]
) -> Float[Tensor, ""]:
    """The attention that all heads together pay to the marked keys, a mean over queries."""
    raise NotImplementedError


def summed_score_solution(
    pattern: Float[Tensor, "head query key"], mask: Bool[Tensor, "query key"]
) -> Float[Tensor, ""]:
    """Sum over heads and keys, then the mean over the queries that have a key."""
    paid = (pattern * mask).sum((0, 2))
    return paid[mask.any(-1)].mean()


def _score_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    def is_one(pattern: Tensor, mask: Tensor) -> bool:
        found = torch.as_tensor(candidate(pattern, mask))
        require_shape(found)
        return equal(found, torch.ones(()))

    period, heads = distinct_sizes(2, generator, low=3, high=6)
    for times, question in (
        (2, "Which queries have no key to look at?"),
        (3, "How often does a query with two keys count, and with which of them?"),
    ):
        mask, perfect, idle = _looks(period, times)
        if not is_one(perfect[None], mask):
            raise Hint(f"One head that looks only at these keys should score 1. {question}")
    if not is_one(torch.stack([perfect, *[idle] * heads]), mask):
        raise Hint("Heads that look elsewhere should change nothing. Do you divide by heads?")
    share = 0.2 + 0.6 * torch.rand(len(mask), 1, generator=generator, dtype=torch.float64)
    parts = [part * perfect + (1 - part) * idle for part in (share, 1 - share)]
    if not is_one(torch.stack(parts), mask):
        raise Hint("Two heads that share the work should score 1. What do they pay *together*?")
    pattern = draw(heads, *mask.shape, generator=generator).softmax(-1)
    marked = torch.rand(mask.shape, generator=generator) < 0.3
    marked[0], marked[-1, 1] = False, True
    paid = [pattern[:, query, marked[query]].sum() for query in range(len(marked))]
    wanted = torch.stack([p for p, row in zip(paid, marked, strict=True) if row.any()]).mean()
    if not equal(torch.as_tensor(candidate(pattern, marked)), wanted):
        raise Hint("Sum over heads and over marked keys, and take the mean over queries only.")


def _looks(period: int, times: int) -> tuple[Tensor, Tensor, Tensor]:
    """For passages said again: the keys, a head that looks only there, one that never does."""
    length = period * times
    mask = torch.zeros(length, length, dtype=torch.bool)
    for back in range(period, length, period):
        query = torch.arange(back, length)
        mask[query, query - back + 1] = True
    idle = torch.zeros(length, length, dtype=torch.float64)
    idle[:, 0] = 1
    perfect = torch.where(mask.any(-1, keepdim=True), mask.double(), idle)
    return mask, perfect / perfect.sum(-1, keepdim=True), idle


def _all_queries(pattern: Tensor, mask: Tensor) -> Tensor:
    return (pattern * mask).sum((0, 2)).mean()


def _best_head(pattern: Tensor, mask: Tensor) -> Tensor:
    return (pattern * mask).sum(2)[:, mask.any(-1)].mean(1).max()


def _mean_of_heads(pattern: Tensor, mask: Tensor) -> Tensor:
    return (pattern * mask).sum(2).mean(0)[mask.any(-1)].mean()


def _mean_of_pairs(pattern: Tensor, mask: Tensor) -> Tensor:
    return pattern[:, mask].sum(0).mean()


# --- 3. the full OV circuit -------------------------------------------------------------------


def full_ov(
    W_E: Float[Tensor, "type d_model"],
    W_V: Float[Tensor, "head d_model d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, "head source output"]:
    """What attending to the token `source` adds to the logit of `output`, for each head."""
    raise NotImplementedError


def full_ov_solution(
    W_E: Float[Tensor, "type d_model"],
    W_V: Float[Tensor, "head d_model d_head"],
    W_O: Float[Tensor, "head d_head d_model"],
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, "head source output"]:
    """One letter for the head in both of its matrices; the source comes first."""
    return torch.einsum("sd,hde,hef,ft->hst", W_E, W_V, W_O, W_U)


def _ov_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    heads, n_types, width, d_head = distinct_sizes(4, generator)
    W_E, W_U = draw(n_types, width, generator=generator), draw(width, n_types, generator=generator)
    W_V = draw(heads, width, d_head, generator=generator)
    W_O = draw(heads, d_head, width, generator=generator)
    found = candidate(W_E, W_V, W_O, W_U)
    if found.shape == (n_types, n_types):
        raise Hint("One matrix came out for all heads. Which letter is missing after the arrow?")
    require_shape(found, heads, n_types, n_types)
    alone = torch.zeros_like(W_O)
    alone[0] = W_O[0]
    own, *others = candidate(W_E, W_V, alone, W_U)
    if not bool(own.any()):
        raise Hint("Only head 0 writes, and its own matrix is 0. Whose W_O follows whose W_V?")
    if bool(torch.stack(others).any()):
        raise Hint("Only head 0 writes, yet others have a circuit. Which heads did you sum over?")
    rare = torch.zeros_like(W_E)
    rare[0] = W_E[0]
    if bool(candidate(rare, W_V, W_O, W_U)[:, 1:].any()):
        raise Hint("With token 0 alone embedded only row 0 should be filled. What is a row here?")
    tokens = torch.randint(n_types, (5,), generator=generator)
    attention = draw(5, generator=generator).softmax(0)
    z = torch.einsum("k,kd,hde->he", attention, W_E[tokens], W_V)
    logits = torch.einsum("he,hed->hd", z, W_O) @ W_U
    if not equal(torch.einsum("k,hkt->ht", attention, found[:, tokens]), logits):
        raise Hint("A head's logits should be the rows it attends to, weighted. Compare one row.")


def _colleague(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    return torch.einsum("sd,hde,gef,ft->hts", W_E, W_V, W_O, W_U)


def _next_heads_output(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    return W_E @ W_V @ W_O.roll(1, 0) @ W_U


def _in_columns(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    return W_U.T @ W_O.mT @ W_V.mT @ W_E.T


def _heads_together(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    return torch.einsum("sd,hde,hef,ft->st", W_E, W_V, W_O, W_U)


# --- 4. eigenvalues without the big matrix ----------------------------------------------------


def copying_ratio(
    W_E: Float[Tensor, "type d_model"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "d_head d_model"],
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, ""]:
    """``Σ Re λ / Σ |λ|`` of one head's full OV circuit, without a tensor of n_types × n_types."""
    raise NotImplementedError


def copying_ratio_solution(
    W_E: Float[Tensor, "type d_model"],
    W_V: Float[Tensor, "d_model d_head"],
    W_O: Float[Tensor, "d_head d_model"],
    W_U: Float[Tensor, "d_model type"],
) -> Float[Tensor, ""]:
    """AB and BA have the same eigenvalues other than 0: begin the product at W_O instead."""
    small = W_O @ (W_U @ W_E) @ W_V  # [d_head, d_head]
    values = torch.linalg.eigvals(small)
    return values.real.sum() / values.abs().sum()


class _NothingLarge(TorchFunctionMode):
    """While this mode is on, a tensor with more than so many entries ends in a hint."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries = entries

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in (Tensor.numpy, Tensor.__array__):
            raise Hint("Stay in torch: the check has to see how large your tensors get.")
        found = function(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.numel() > self.entries:
            raise Hint(
                f"A tensor of shape {list(found.shape)} came up. How many eigenvalues can differ "
                "from 0, and what other order of the four matrices has the same ones?"
            )
        return found


def _ratio_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    def ratio(*weights: Tensor) -> Tensor:
        found = torch.as_tensor(candidate(*weights))
        require_shape(found)
        return found

    width, n_types = distinct_sizes(2, generator, low=6)
    angle = 0.4 + 0.8 * float(torch.rand((), generator=generator))
    for turn, words in (
        (0.0, "A head that writes back what it reads should score 1. Is yours a ratio of sums?"),
        (math.pi, "A head that writes the opposite should score −1. Do your values keep a sign?"),
        (angle, "A head that turns all it reads by an angle θ should score cos θ: what is |λ|?"),
    ):
        weights = _turning_head(n_types + width, width, turn, generator)
        if not equal(ratio(*weights), torch.tensor(turn).cos()):
            raise Hint(words)
    shapes = ((n_types, width), (width, 3), (3, width), (width, n_types))
    W_E, W_V, W_O, W_U = (draw(*shape, generator=generator) for shape in shapes)
    found, R = ratio(W_E, W_V, W_O, W_U), draw(3, 3, generator=generator)
    if not equal(ratio(W_E, W_V, W_O, -W_U), -found):
        raise Hint("With −W_U in place of W_U the score should change its sign. Is W_U in yours?")
    if not equal(ratio(W_E, 5 * W_V @ R, torch.linalg.inv(R) @ W_O, W_U), found):
        raise Hint("Another basis of the head's values, or longer ones, should change nothing.")
    values = torch.linalg.eigvals(W_E @ W_V @ W_O @ W_U)
    if not equal(found, values.real.sum() / values.abs().sum()):
        raise Hint("For few tokens it should be Σ Re λ / Σ |λ| of the whole matrix. Compare them.")
    weights = _turning_head(2000, width, angle, generator)
    with _NothingLarge(2000 * 2000 // 2):
        candidate(*weights)


def _turning_head(
    n_types: int, width: int, angle: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A head that reads four directions and writes them back turned; what is written is unembedded.

    The unembedding undoes the embedding, so the circuit's eigenvalues are those of the turn.
    """
    W_E = draw(n_types, width, generator=generator)
    reads = torch.linalg.qr(draw(width, 4, generator=generator)).Q
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.kron(torch.eye(2), torch.tensor([[cos, sin], [-sin, cos]])).double()
    return W_E, reads, turn @ reads.T, torch.linalg.pinv(W_E)


def _whole_matrix(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    values = torch.linalg.eigvals(W_E @ W_V @ W_O @ W_U)
    return values.real.sum() / values.abs().sum()


def _stream_to_stream(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    values = torch.linalg.eigvals(W_O @ W_V)
    return values.real.sum() / values.abs().sum()


def _real_parts_only(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    values = torch.linalg.eigvals(W_O @ (W_U @ W_E) @ W_V).real
    return values.sum() / values.abs().sum()


def _singular_values(W_E: Tensor, W_V: Tensor, W_O: Tensor, W_U: Tensor) -> Tensor:
    values = torch.linalg.svdvals(W_O @ (W_U @ W_E) @ W_V)
    return values.sum() / values.abs().sum()


# --- 5. who stands before ---------------------------------------------------------------------


def who_stands_before(
    W_E: Float[Tensor, "type d_model"],
    W_Q: Float[Tensor, "layer d_model d_head"],
    W_K: Float[Tensor, "layer d_model d_head"],
    W_V: Float[Tensor, "layer d_model d_head"],
    W_O: Float[Tensor, "layer d_head d_model"],
) -> Float[Tensor, "query before"]:
    """Layer 1's score between a token and what stands before the key, if head 0 looks one back."""
    raise NotImplementedError


def who_stands_before_solution(
    W_E: Float[Tensor, "type d_model"],
    W_Q: Float[Tensor, "layer d_model d_head"],
    W_K: Float[Tensor, "layer d_model d_head"],
    W_V: Float[Tensor, "layer d_model d_head"],
    W_O: Float[Tensor, "layer d_head d_model"],
) -> Float[Tensor, "query before"]:
    """Layer 0 writes the tag, layer 1 makes its key from it."""
    tag = W_E @ W_V[0] @ W_O[0]
    return (W_E @ W_Q[1]) @ (tag @ W_K[1]).T


def _before_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    n_types, width, d_head = distinct_sizes(3, generator, low=3)
    W_E = draw(n_types, width, generator=generator)
    W_Q, W_K, W_V = draw(3, 2, width, d_head, generator=generator)
    W_O = draw(2, d_head, width, generator=generator)
    found = candidate(W_E, W_Q, W_K, W_V, W_O)
    require_shape(found, n_types, n_types)
    layer = torch.tensor([1.0, 2.0], dtype=W_E.dtype)[:, None, None]
    if not equal(candidate(W_E, W_Q, W_K, layer * W_V, layer * W_O), found):
        raise Hint("Layer 1 writes after it has looked. Which layer's W_V and W_O make the tag?")
    if not equal(candidate(W_E, layer.flip(0) * W_Q, layer.flip(0) * W_K, W_V, W_O), found):
        raise Hint("Layer 0 is known to look one back. Whose W_Q and W_K compare with the tag?")
    if bool(candidate(W_E, W_Q, W_K, W_V, (layer - 1) * W_O).any()):
        raise Hint("If layer 0 writes nothing, every score should be 0. Where in yours is the tag?")
    rare, asks = W_E.clone(), W_Q.clone()
    rare[1:, 0], asks[1, 1:] = 0, 0
    if bool(candidate(rare, asks, W_K, W_V, W_O)[1:].any()):
        raise Hint(
            "Token 0 alone asks for anything, so only row 0 should be filled. What is a row?"
        )
    query, before, key = torch.randint(n_types, (3, 6), generator=generator)
    stream = torch.stack([W_E[key], W_E[key] + W_E[before] @ W_V[0] @ W_O[0]])
    score = ((W_E[query] @ W_Q[1]) * (stream @ W_K[1])).sum(-1)
    if not equal(found[query, before], score[1] - score[0]):
        raise Hint("It should be what the tag adds to layer 1's score, before the root is applied.")


def _without_the_tag(W_E: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    return (W_E @ W_Q[1]) @ (W_E @ W_K[1]).T


def _keys_in_rows(W_E: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    return (W_E @ W_V[0] @ W_O[0] @ W_K[1]) @ (W_E @ W_Q[1]).T


def _own_values(W_E: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    return (W_E @ W_Q[1]) @ (W_E @ W_V[1] @ W_O[1] @ W_K[1]).T


def _first_layers_score(W_E: Tensor, W_Q: Tensor, W_K: Tensor, W_V: Tensor, W_O: Tensor) -> Tensor:
    return (W_E @ W_Q[0]) @ (W_E @ W_V[0] @ W_O[0] @ W_K[0]).T


# --- 6. by hand -------------------------------------------------------------------------------

Weights = dict[str, Tensor]


def by_hand(n_types: int, length: int) -> dict[str, Float[Tensor, ...]]:
    """Weights of two layers with one head each that complete repeated texts of `length` tokens.

    `W_E` [n_types, d_model], `W_pos` [length, d_model], `W_Q`, `W_K`, `W_V`
    [2, d_model, d_head], `W_O` [2, d_head, d_model], `W_U` [d_model, n_types]. The first axis of
    the heads' matrices is the layer; `d_model` and `d_head` are yours to choose.
    """
    raise NotImplementedError


def by_hand_solution(n_types: int, length: int) -> dict[str, Float[Tensor, ...]]:
    """Four rooms in the stream, each with its own directions; heads as wide as the stream."""
    same = torch.eye(3 * n_types + length)
    token, posn, tag, answer = same.split([n_types, length, n_types, n_types])
    return {
        "W_E": token,
        "W_pos": posn,
        # p asks for p - 1; a token asks who follows it, but not position 0, whose tag is itself
        "W_Q": 500 * torch.stack([posn[1:].T @ posn[:-1], token.T @ (tag - posn[0])]),
        "W_K": torch.stack([same, same]),
        "W_V": torch.stack([token.T @ tag, token.T @ answer]),
        "W_O": torch.stack([same, same]),
        "W_U": answer.T,
    }


def _hand_specification(candidate: Callable[..., Weights], generator: torch.Generator) -> None:
    n_types, more = distinct_sizes(2, generator, low=5)
    length = 2 * n_types + more
    weights = _fitting(candidate(n_types, length), n_types, length)
    period = torch.randint(3, n_types + 1, (16, 1), generator=generator)
    passage = torch.rand(16, n_types, generator=generator).argsort(1)
    text = passage.gather(1, torch.arange(length + 1) % period)
    tokens, target = text[:, :-1], text[:, 1:, None]
    (back, looks), logits = _run(weights, tokens)
    rivals = logits.scatter(-1, target, -torch.inf).amax(-1)
    wrong = ~(logits.gather(-1, target)[..., 0] > rivals + 1e-6)
    wrong &= torch.arange(length) >= period
    if bool(wrong.any()):
        places = (target == tokens[:, None]).tril()  # where the answer stands
        raise Hint(_diagnosis(back, looks, places, wrong, period))


def _diagnosis(back: Tensor, looks: Tensor, places: Tensor, wrong: Tensor, period: Tensor) -> str:
    """Which part of the circuit fails, told from the two patterns and the wrong positions."""
    posn = torch.arange(wrong.shape[1])
    if not (share := float(back.diagonal(-1, -2, -1).mean())) > 0.9:
        return (
            f"Layer 0 pays {share:.0%} of its attention to the position before. Whom does each "
            "position ask for, and are the scores far apart after the root?"
        )
    if not bool((wrong & (posn % period > 0)).any()):
        return (
            "All is right but after the passage's first token. Nothing stands before position 0: "
            "where does its head look, and which tag does it get?"
        )
    if not (share := float((looks * places).sum(-1)[posn >= period].mean())) > 0.9:
        return (
            f"Layer 1 pays {share:.0%} of its attention to places where the answer stands. With "
            "what in the key should the query's token be compared?"
        )
    return "Layer 1 looks at the right place but says another token. What does its W_V read?"


def _fitting(weights: Weights, n_types: int, length: int) -> Weights:
    """The weights in float64; refuses what is missing or does not fit together."""
    names = ("W_E", "W_pos", "W_Q", "W_K", "W_V", "W_O", "W_U")
    if missing := [name for name in names if name not in weights]:
        raise Hint(f"The dictionary should have seven matrices. Where is {', '.join(missing)}?")
    d_model, d_head = weights["W_E"].shape[-1], weights["W_Q"].shape[-1]
    reader = (2, d_model, d_head)
    wanted = ((n_types, d_model), (length, d_model), *[reader] * 3, (2, d_head, d_model))
    for name, shape in zip(names, (*wanted, (d_model, n_types)), strict=True):
        if (found := tuple(weights[name].shape)) != shape:
            raise Hint(
                f"{name} has shape {list(found)}, but {list(shape)} is what fits a stream of "
                f"{d_model} (W_E) and a head of {d_head} (W_Q). What is a row of it?"
            )
    return {name: weights[name].double() for name in names}


def _run(weights: Weights, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
    """The patterns of the two layers, and the logits: no norm, no bias, attention only."""
    x = weights["W_E"][tokens] + weights["W_pos"]
    later, patterns = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1) > 0, []
    for W_Q, W_K, W_V, W_O in zip(*(weights[f"W_{name}"] for name in "QKVO"), strict=True):
        scores = (x @ W_Q) @ (x @ W_K).mT / W_Q.shape[-1] ** 0.5
        patterns.append(scores.masked_fill(later, -torch.inf).softmax(-1))
        x = x + patterns[-1] @ x @ W_V @ W_O
    return patterns, x @ weights["W_U"]


def _changed(n_types: int, length: int, name: str, layer: int, rooms: tuple[int, int]) -> Weights:
    """A right circuit with one matrix set again: from one room of the stream to another."""
    weights = by_hand_solution(n_types, length)
    parts = torch.eye(3 * n_types + length).split([n_types, length, n_types, n_types])
    weights[name][layer] = 500 * parts[rooms[0]].T @ parts[rooms[1]]
    return weights


def _unembedding_turned(n_types: int, length: int) -> Weights:
    weights = by_hand_solution(n_types, length)
    return {**weights, "W_U": weights["W_U"].T}


def _looks_at_itself(n_types: int, length: int) -> Weights:
    return _changed(n_types, length, "W_Q", 0, (1, 1))


def _first_position_deceives(n_types: int, length: int) -> Weights:
    return _changed(n_types, length, "W_Q", 1, (0, 2))


def _compares_tokens(n_types: int, length: int) -> Weights:
    return _changed(n_types, length, "W_Q", 1, (0, 0))


def _says_the_tag(n_types: int, length: int) -> Weights:
    return _changed(n_types, length, "W_V", 1, (2, 3))


# --- 7. only the keys -------------------------------------------------------------------------

Streams = tuple[Tensor, Tensor, Tensor]


def only_the_keys(
    x: Float[Tensor, "posn d_model"],
    own: Float[Tensor, "posn d_model"],
    other: Float[Tensor, "posn d_model"],
) -> tuple[
    Float[Tensor, "posn d_model"], Float[Tensor, "posn d_model"], Float[Tensor, "posn d_model"]
]:
    """The streams from which layer 1 makes queries, keys and values, in this order.

    `x` is what layer 1 reads, `own` what the head of layer 0 wrote into it, `other` what it writes
    for another text.
    """
    raise NotImplementedError


def only_the_keys_solution(
    x: Float[Tensor, "posn d_model"],
    own: Float[Tensor, "posn d_model"],
    other: Float[Tensor, "posn d_model"],
) -> tuple[
    Float[Tensor, "posn d_model"], Float[Tensor, "posn d_model"], Float[Tensor, "posn d_model"]
]:
    """One write out, the other in, on one of three copies."""
    return x, x - own + other, x


def _patch_specification(candidate: Callable[..., Streams], generator: torch.Generator) -> None:
    posn, width = distinct_sizes(2, generator)
    x, own, other = draw(3, posn, width, generator=generator)
    found = candidate(x.clone(), own.clone(), other.clone())
    if len(found) != 3:
        raise Hint("Queries, keys, values: three streams should come back. How many are yours?")
    for stream in found:
        require_shape(stream, posn, width)
    touched = [not equal(stream, x) for stream in found]
    if all(touched):
        raise Hint(
            "All three streams changed: a cut of every path at once. Was x changed in place?"
        )
    if not touched[1]:
        raise Hint("The keys still read this text's write. In which order are the three given?")
    if touched[0] or touched[2]:
        raise Hint("Besides the keys another side changed. Which two paths should stay whole?")
    again = candidate(x.clone(), own.clone(), own.clone())
    if not equal(torch.stack(again), torch.stack([x, x, x])):
        raise Hint(
            "If the other text is the same text nothing should change. What is in x already?"
        )
    if not equal(found[1] - other, x - own):
        raise Hint("Without the head's write, the keys' stream should be x without it. Is yours?")


def _every_path(x: Tensor, own: Tensor, other: Tensor) -> Streams:
    patched = x - own + other
    return patched, patched, patched


def _added_on_top(x: Tensor, own: Tensor, other: Tensor) -> Streams:
    return x, x + other, x


def _queries_instead(x: Tensor, own: Tensor, other: Tensor) -> Streams:
    return x - own + other, x, x


# --- 8. the pull of cross-entropy -------------------------------------------------------------


def pull(
    M: Float[Tensor, "source output"], image: Int[Tensor, " source"]
) -> Float[Tensor, "source output"]:
    """The gradient with respect to `M` of the mean cross-entropy, row `b` being to say `image[b]`."""
    raise NotImplementedError


def pull_solution(
    M: Float[Tensor, "source output"], image: Int[Tensor, " source"]
) -> Float[Tensor, "source output"]:
    """What each row says, minus what it should say, over the number of rows."""
    should = torch.nn.functional.one_hot(image, M.shape[1])
    return (M.softmax(-1) - should) / len(M)


def _pull_specification(candidate: Callable[..., Tensor], generator: torch.Generator) -> None:
    sources, outputs = sorted(distinct_sizes(2, generator, low=3))
    M = draw(sources, outputs, generator=generator)
    image = torch.randperm(outputs, generator=generator)[:sources]
    found = candidate(M, image)
    require_shape(found, sources, outputs)
    if not equal(found.sum(-1), torch.zeros(sources)):
        raise Hint(
            "A number added to a whole row changes no probability, so each row of the gradient "
            "should sum to 0. Along which axis do your probabilities sum to 1?"
        )
    right = torch.zeros(sources, outputs).scatter(1, image[:, None], 1) > 0
    if not torch.equal(found < 0, right):
        raise Hint(
            "Descent goes against the gradient and should raise the right logit. Which sign?"
        )
    twice = candidate(M.repeat(2, 1), image.repeat(2))
    if not equal(2 * twice[:sources], found):
        raise Hint("With each row given twice the mean loss stays, and each row should pull half.")
    step = 1e-5 * draw(sources, outputs, generator=generator)
    ends = [torch.nn.functional.cross_entropy(M + sign * step, image) for sign in (0.5, -0.5)]
    if not equal((found * step).sum() * 1e5, (ends[0] - ends[1]) * 1e5):
        raise Hint("A small step changes the loss by another amount than the gradient says.")


def _not_a_mean(M: Tensor, image: Tensor) -> Tensor:
    return M.softmax(-1) - torch.nn.functional.one_hot(image, M.shape[1])


def _uphill(M: Tensor, image: Tensor) -> Tensor:
    return (torch.nn.functional.one_hot(image, M.shape[1]) - M.softmax(-1)) / len(M)


def _softmax_of_columns(M: Tensor, image: Tensor) -> Tensor:
    return (M.softmax(0) - torch.nn.functional.one_hot(image, M.shape[1])) / len(M)


# --- all of them ------------------------------------------------------------------------------

EXERCISES = (
    Exercise(
        name="where-to-look",
        prompt="Given the tokens of a text, `[posn]`, mark for each query the keys that an "
        "induction head looks at, `[query key]`: the positions right *after* each earlier "
        "occurrence of the query's token. If there are several, mark all of them. No model is "
        "needed for this: the text alone says where to look.",
        stub=induction_keys,
        solution=induction_keys_solution,
        specification=_keys_specification,
        wrong=(
            Wrong(_occurrence_itself, "What is yours after?"),
            Wrong(_own_position_too, "Is a token earlier than itself?"),
            Wrong(_last_occurrence_only, "should have two keys"),
            Wrong(_later_ones_too, "never ahead"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="the-summed-score",
        prompt="Two heads may share the work. Score the whole layer instead. From the patterns of "
        "its heads, `[head query key]`, and a mask of keys, `[query key]`, write how much "
        "attention goes to the marked keys: summed over heads and over keys, and the mean over "
        "those queries that have any marked key. One head that looks nowhere else scores 1, two "
        "such heads score 2.",
        stub=summed_score,
        solution=summed_score_solution,
        specification=_score_specification,
        wrong=(
            Wrong(_all_queries, "Which queries have no key"),
            Wrong(_mean_of_pairs, "a query with two keys"),
            Wrong(_mean_of_heads, "Do you divide by heads?"),
            Wrong(_best_head, "What do they pay *together*?"),
        ),
        level="warm-up",
    ),
    Exercise(
        name="the-full-ov-circuit",
        prompt="For each head of a layer, write the matrix `[source output]`: what attending to "
        "the token `source` adds to the logit of the token `output`. The weights have a head "
        "axis, `W_V` `[head d_model d_head]` and `W_O` `[head d_head d_model]`. A colleague "
        "wrote\n\n"
        "```python\n"
        'torch.einsum("sd,hde,gef,ft->hts", W_E, W_V, W_O, W_U)\n'
        "```\n\n"
        "and tried it on a layer of four heads. For a head that copies every token, more than half "
        "of the rows had their largest entry off the diagonal. There are two mistakes in the "
        "line. Which of them moves the largest entries away, and which one would a diagonal "
        "matrix never show?",
        stub=full_ov,
        solution=full_ov_solution,
        specification=_ov_specification,
        wrong=(
            Wrong(_colleague, "Which heads did you sum over?"),
            Wrong(_next_heads_output, "Whose W_O follows whose W_V?"),
            Wrong(_in_columns, "What is a row here?"),
            Wrong(_heads_together, "One matrix came out for all heads"),
        ),
        answer="`W_V` and `W_O` had different letters for the head, so what head $h$ read went out "
        "through the $W_O$ of all heads, added up. Its own is among them, so the copy is still in "
        "there; but the others expect values in other bases and lay noise over it, more with "
        "each head. (With random heads that copy, two heads hardly show the mistake, and of eight "
        "little is left.) The second mistake, `hts` for `hst`, turns the matrix over its diagonal "
        "and leaves the diagonal itself in place. To see it, test with a head that moves tokens, "
        "for example in the model with permuted targets.",
    ),
    Exercise(
        name="eigenvalues-without-the-big-matrix",
        prompt="The share $\\sum \\mathrm{Re}\\,\\lambda \\,/ \\sum |\\lambda|$ of the full OV "
        "circuit of one head is 1 where the head copies. With a vocabulary of 50,000 the circuit "
        "has 2.5 billion entries, ten gigabytes, and finding its eigenvalues would take far "
        "longer still. But its rank is at most `d_head`. Write the share without ever making a "
        "tensor of `n_types × n_types`. Which product of the same four matrices is small and has "
        "the same eigenvalues, but for zeros?",
        stub=copying_ratio,
        solution=copying_ratio_solution,
        specification=_ratio_specification,
        wrong=(
            Wrong(_whole_matrix, "what other order of the four matrices"),
            Wrong(_stream_to_stream, "Is W_U in yours?"),
            Wrong(_real_parts_only, "cos θ"),
            Wrong(_singular_values, "Do your values keep a sign?"),
        ),
        answer="If $AB\\,v = \\lambda v$ with $\\lambda \\neq 0$, then $w = Bv$ is not zero and "
        "$BA\\,w = B(AB\\,v) = \\lambda w$. With $A = W_E W_V$ and $B = W_O W_U$ the product $BA$ "
        "is `d_head × d_head`. Zeros add nothing to either sum.",
    ),
    Exercise(
        name="who-stands-before",
        prompt="Each layer has one head; the weights have a layer axis. Suppose that the head of "
        "layer 0 looks exactly one position back. What it writes there is a tag: which token "
        "stands before. Write the part of layer 1's attention score that comes from the query's "
        "token and the tag in the key's place, `[query before]`, for all pairs of tokens. Leave "
        "out the division by the root of `d_head`. (This is K-composition.)",
        stub=who_stands_before,
        solution=who_stands_before_solution,
        specification=_before_specification,
        wrong=(
            Wrong(_without_the_tag, "Where in yours is the tag?"),
            Wrong(_keys_in_rows, "What is a row?"),
            Wrong(_own_values, "Which layer's W_V and W_O make the tag?"),
            Wrong(_first_layers_score, "Whose W_Q and W_K"),
        ),
    ),
    Exercise(
        name="by-hand",
        prompt="Build an induction circuit without training. Set the weights of an attention-only "
        "transformer of two layers with one head each (no norm, no bias, scores divided by the "
        "root of `d_head`, causal). The texts are `length` tokens long: a passage, said again "
        "until the text is full, with no token twice in a passage. From the second passage on, "
        "the next token should have the largest logit at *every* position, with no tie. Choose "
        "`d_model` and `d_head` as you like; give each kind of thing its own directions in the "
        "stream. What should stand in a position after layer 0? And beware of position 0.",
        stub=by_hand,
        solution=by_hand_solution,
        specification=_hand_specification,
        wrong=(
            Wrong(_unembedding_turned, "W_U has shape"),
            Wrong(_looks_at_itself, "to the position before"),
            Wrong(_first_position_deceives, "Nothing stands before position 0"),
            Wrong(_compares_tokens, "should the query's token be compared?"),
            Wrong(_says_the_tag, "What does its W_V read?"),
        ),
        level="challenge",
    ),
    Exercise(
        name="only-the-keys",
        prompt="A head of layer 0 wrote into the stream that layer 1 reads. Is its write used "
        "where layer 1 makes its keys, or its queries, or its values? Path patching tells: one of "
        "the three is made from a stream in which the head wrote what it writes for *another* "
        "text. Given the stream `x` of this text, the head's own write in it, and its write for "
        "the other text, all `[posn d_model]`, return the three streams for queries, keys and "
        "values, so that the keys alone read the other text's write.",
        stub=only_the_keys,
        solution=only_the_keys_solution,
        specification=_patch_specification,
        wrong=(
            Wrong(_every_path, "a cut of every path at once"),
            Wrong(_added_on_top, "What is in x already?"),
            Wrong(_queries_instead, "The keys still read"),
        ),
        answer="Since the model has no norm, the stream is a plain sum, and one write can be "
        "taken out exactly. With a norm between the layers, its scale would change as well.",
    ),
    Exercise(
        name="the-pull-of-cross-entropy",
        prompt="A head attends to one token $b$, and row $b$ of the matrix $M$ `[source output]` "
        "gives the logits. It is to say `image[b]`. Write the gradient of the mean cross-entropy\n\n"
        "$$\nL(M) = \\frac{1}{n} \\sum_b \\Big( \\log \\sum_j e^{M_{bj}} - M_{b,\\,"
        "\\mathrm{image}(b)} \\Big)\n$$\n\n"
        "with respect to $M$ in closed form, on paper first, with $n$ the number of rows. Which "
        "of its entries are negative, and what does that say about the circuit that training "
        "makes?",
        stub=pull,
        solution=pull_solution,
        specification=_pull_specification,
        wrong=(
            Wrong(_not_a_mean, "each row should pull half"),
            Wrong(_uphill, "Which sign?"),
            Wrong(_softmax_of_columns, "Along which axis"),
        ),
        answer="One entry of each row is negative, the right one, and all others are positive, "
        "whatever $M$ is. So descent raises the right entry and lowers the others. Where every "
        "token is its own image, that is the diagonal; where the targets are permuted, it is the "
        "permutation.",
    ),
    Exercise(
        name="a-third-layer",
        prompt="In `A B D … C B E … A B` the token `B` was followed by both `D` and `E`. Only the "
        "*two* last tokens tell that `D` is next. What would a head have to find in the key's "
        "place, and what would it have to know about its own place? Which compositions bring it "
        "there (keys, queries, values)? The chapter's model does it with two heads in layer 0. "
        "Could one head in each of three layers do it? Could one head in layer 0 that looks at "
        "both places? Decide on paper, write down what each model should be able to do, and then "
        "design an experiment: `Task(distinct=False)` with few types has such texts, and `ModelConfig` "
        "sets the layers and heads.",
        level="open-ended",
        answer="No single answer. On paper: the key's place has to hold the two tokens before it, "
        "and the query has to bring its own token and the one before *that*; the second part is "
        "Q-composition. With one head in each layer, the head of layer 1 can carry the tag one "
        "place further, and layer 2 compares. With two heads in layer 0, one back and two back, "
        "two layers are enough: the two scores are added, and softmax lets the place where both "
        "agree win. (What could a single head do that attends to both places?) A good experiment "
        "measures apart the positions whose token had different successors before and those where "
        "one token was enough, trains several seeds of each shape, keeps the number of weights in "
        "view (a third layer is also a larger model), and cuts the queries' and the keys' path one "
        "by one. That a model solves the task does not yet show that it does so in the way that "
        "was written down.",
    ),
    Exercise(
        name="who-gets-the-job",
        prompt="In the chapter both heads of layer 1 do the whole job, in every seed. Find a setting "
        "in which one head wins (narrower heads, a shorter training, a penalty on attention), and "
        "look at several seeds. Is the winner decided by the weights at the start, or on the way, by "
        "the order of the texts? `ModelConfig(seed=…)` draws the weights and "
        "`TrainingConfig(seed=…)` the texts, so each can be held while the other changes. Define "
        "the share of a head, say before you run it what each of the two explanations predicts, "
        "and choose a control that could prove your measure wrong.",
        level="open-ended",
        answer="No single answer. A good one crosses several seeds of the weights with several of "
        "the texts and compares how much the share varies within a row and within a column of that "
        "table. Controls: exchange the two heads' weights at the start, and the share must change "
        "hands (if it does not, the measure depends on the head's number); the same pair of seeds "
        "twice gives the noise of the machine. If the start decides, some number measured there "
        "(for example each head's composed QK circuit) should foretell the winner on seeds that "
        "were not used to find it. If not, continue one run from several steps with other texts: "
        "from which step on does the winner stay the same? Attention is not effect, so leave out "
        "each head in turn as well.",
    ),
)
