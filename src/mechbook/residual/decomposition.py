"""The stream as a sum: every component's write, and what each write adds to the logits.

Row convention, as in TransformerLens: a vector is a row, and a head writes ``z @ W_O``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import einops
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechbook.explore import Example
from mechbook.residual.model import KINDS, Run, favorites, words


@dataclass(frozen=True)
class Components:
    """All that is ever added to the stream, in the order in which it is added.

    Attributes:
        names: "embedding", "positions", then for each layer its heads "0.0", "0.1", …, the
            attention's output bias "bias 0" and "MLP 0".
        writes: the vectors.
    """

    names: tuple[str, ...]
    writes: Float[Tensor, "component batch posn d_model"]

    def groups(self) -> dict[str, tuple[str, ...]]:
        """The names by place: "input", then "layer 0" and so on."""
        grouped: dict[str, list[str]] = {}
        for name in self.names:
            digits = name.removeprefix("bias ").removeprefix("MLP ").partition(".")[0]
            grouped.setdefault(f"layer {digits}" if digits.isdigit() else "input", []).append(name)
        return {place: tuple(names) for place, names in grouped.items()}


def head_writes(
    z: Float[Tensor, "batch posn head d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch posn head d_model"]:
    """What each head adds to the stream: its own ``z`` through its own ``W_O``, no bias."""
    return einops.einsum(
        z, W_O, "batch posn head d_head, head d_head d_model -> batch posn head d_model"
    )


def concatenated_write(
    z: Float[Tensor, "batch posn head d_head"], W_O: Float[Tensor, "head d_head d_model"]
) -> Float[Tensor, "batch posn d_model"]:
    """The textbook form of the same: concatenate the heads, then one matrix for all."""
    rows = einops.rearrange(z, "batch posn head d_head -> batch posn (head d_head)")
    return rows @ einops.rearrange(W_O, "head d_head d_model -> (head d_head) d_model")


def components(model: Any, cache: Any) -> Components:
    """Split the final stream into everything that was added to it.

    Args:
        model: a pre-norm ``TransformerBridge`` with MLPs.
        cache: its activations, from ``run_with_cache``.
    """
    names, writes = ["embedding", "positions"], [cache["hook_embed"], cache["hook_pos_embed"]]
    for layer in range(model.cfg.n_layers):
        heads = head_writes(cache[f"blocks.{layer}.attn.hook_z"], model.W_O[layer])
        names += [f"{layer}.{head}" for head in range(heads.shape[2])]
        writes += list(heads.unbind(2))
        names += [f"bias {layer}", f"MLP {layer}"]
        writes += [model.b_O[layer].expand_as(writes[0]), cache[f"blocks.{layer}.hook_mlp_out"]]
    return Components(tuple(names), torch.stack(writes).detach())


def final_stream(model: Any, cache: Any) -> Float[Tensor, "batch posn d_model"]:
    """The stream after the last block, as the model computed it."""
    return cache[f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"]


def error(ours: Float[Tensor, "*shape"], theirs: Float[Tensor, "*shape"]) -> float:
    """The larger of the greatest absolute and the relative (Frobenius) difference.

    Raises:
        ValueError: the shapes differ, so the difference would be a broadcast.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {list(ours.shape)} and {list(theirs.shape)}; give equal ones")
    difference, theirs = (ours - theirs).detach(), theirs.detach()
    return max(float(difference.abs().max()), float(difference.norm() / theirs.norm()))


def decomposition_error(parts: Components, whole: Tensor, without: Sequence[str] = ()) -> float:
    """How far the sum of the components is from the final stream.

    Args:
        parts: from ``components``.
        whole: from ``final_stream``.
        without: names to leave out: the identity broken on purpose.

    Raises:
        ValueError: a name that is no component.
    """
    if unknown := set(without) - set(parts.names):
        raise ValueError(f"no component {sorted(unknown)}; there are {', '.join(parts.names)}")
    kept = [index for index, name in enumerate(parts.names) if name not in without]
    return error(parts.writes[kept].sum(0), whole)


def heads_error(model: Any, cache: Any, bias: bool = True) -> float:
    """Greatest error, over layers, of per-head sum and concatenated write against the model's own.

    Args:
        model: a ``TransformerBridge``.
        cache: its activations.
        bias: add the output bias, once for all heads together.
    """
    errors = []
    for layer in range(model.cfg.n_layers):
        z, W_O = cache[f"blocks.{layer}.attn.hook_z"], model.W_O[layer]
        own = cache[f"blocks.{layer}.hook_attn_out"]
        for write in (head_writes(z, W_O).sum(2), concatenated_write(z, W_O)):
            errors.append(error(write + model.b_O[layer] * bias, own))
    return max(errors)


# --- direct logit attribution -----------------------------------------------------------------


@dataclass(frozen=True)
class Readout:
    """The end of the model: RMSNorm with a gain, then the unembedding.

    Attributes:
        gain: of the final norm.
        W_U: unembedding.
        eps: inside the norm's root.
    """

    gain: Float[Tensor, " d_model"]
    W_U: Float[Tensor, "d_model word"]
    eps: float

    def scale(self, stream: Float[Tensor, "*shape d_model"]) -> Float[Tensor, "*shape 1"]:
        """What the final norm divides by: the root mean square of the stream."""
        return (stream.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def logits(
        self, stream: Float[Tensor, "*shape d_model"], scale: Tensor | None = None
    ) -> Float[Tensor, "*shape word"]:
        """Decode a stream, or one write of it.

        Args:
            stream: the vectors.
            scale: divide by this instead of the vectors' own root mean square. With the *final*
                stream's scale, held fixed, decoding is linear: sums of writes give sums of logits.
        """
        scale = self.scale(stream) if scale is None else scale
        return (stream / scale * self.gain) @ self.W_U


def readout(model: Any) -> Readout:
    """The final norm and unembedding of a model whose final norm is an RMSNorm."""
    return Readout(model.ln_final.weight.detach(), model.W_U.detach(), model.cfg.eps)


def direct_logits(
    parts: Components, end: Readout, scale: Float[Tensor, "batch posn 1"]
) -> Float[Tensor, "component batch posn word"]:
    """What each component adds to each logit, with the final norm's scale held fixed."""
    return end.logits(parts.writes, scale)


def of_word(
    logits: Float[Tensor, "*component batch posn word"], word: Int[Tensor, "batch posn"]
) -> Float[Tensor, "*component batch posn"]:
    """The logit of one word at each position, above the mean of all words.

    The softmax sees only differences, so a contribution that lifts every word alike is none.
    """
    index = word.expand(logits.shape[:-1])[..., None]
    return logits.gather(-1, index)[..., 0] - logits.mean(-1)


@dataclass(frozen=True)
class Attribution:
    """Mean direct contribution by component and kind of position, in logits above the mean word.

    Attributes:
        names: of the components.
        kinds: of the positions.
        answer: to the word that came next.
        favorite: to the favorite successor of the current word.
        chance: to a word drawn at random, the control.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    answer: Float[Tensor, "component kind"]
    favorite: Float[Tensor, "component kind"]
    chance: Float[Tensor, "component kind"]


def attribute(run: Run, generator: torch.Generator) -> Attribution:
    """Direct logit attribution of every component, averaged over each kind of position."""
    end, parts = readout(run.model), components(run.model, run.cache)
    scale = end.scale(final_stream(run.model, run.cache))
    logits = direct_logits(parts, end, scale)
    tokens = run.texts.tokens
    chance = torch.randint(run.language.n_words, tokens[:, 1:].shape, generator=generator)
    targets = (tokens[:, 1:], favorites(run.language)[tokens[:, :-1]], chance)
    means = [_mean_by_kind(of_word(logits, word), run.kinds) for word in targets]
    return Attribution(parts.names, KINDS, *means)


def _mean_by_kind(
    values: Float[Tensor, "component batch posn"], kinds: Mapping[str, Bool[Tensor, "batch posn"]]
) -> Float[Tensor, "component kind"]:
    return torch.stack([values[:, mask].mean(1) for mask in kinds.values()], 1)


def logits_without(
    run: Run, names: Sequence[str], random: torch.Generator | None = None
) -> Float[Tensor, "batch posn word"]:
    """The logits less what some components write to them directly, with the scale held fixed.

    What later components made of those writes stays in: this is no ablation.

    Args:
        run: a model on texts.
        names: the components.
        random: take away a random vector of the same length instead (a control).

    Raises:
        ValueError: a name that is no component.
    """
    parts, end = components(run.model, run.cache), readout(run.model)
    if unknown := set(names) - set(parts.names):
        raise ValueError(f"no component {sorted(unknown)}; there are {', '.join(parts.names)}")
    index = [parts.names.index(name) for name in names]
    scale = end.scale(final_stream(run.model, run.cache))
    written = parts.writes[index].sum(0)
    if random is not None:
        noise = torch.randn(written.shape, generator=random)
        written = noise * (written.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True))
    return run.logits - end.logits(written, scale)


def falls_back(run: Run, names: Sequence[str], random: torch.Generator | None = None) -> float:
    """Share of right copies against the habit that turn into the habit without these writes.

    Args:
        run: a model on texts.
        names: the components whose writes are taken away.
        random: as for ``logits_without``.

    Raises:
        ValueError: the model has no right copy against the habit.
    """
    tokens = run.texts.tokens
    right = run.kinds[KINDS[2]] & (run.logits.argmax(-1) == tokens[:, 1:])
    if not right.any():
        raise ValueError("no right copy against the habit on these texts; train the model first")
    habit = logits_without(run, names, random).argmax(-1) == favorites(run.language)[tokens[:, :-1]]
    return float(habit[right].float().mean())


# --- heads by what they attend to -------------------------------------------------------------


@dataclass(frozen=True)
class HeadScores:
    """Where each head looks on held-out texts.

    Attributes:
        previous: attention to the word before, mean over positions.
        induction: attention to the words that came next in earlier rounds of the passage, mean
            over the positions where there was an earlier round.
    """

    previous: Float[Tensor, "layer head"]
    induction: Float[Tensor, "layer head"]


def head_scores(run: Run) -> HeadScores:
    """Score every head as a previous-word head and as an induction head."""
    layers = range(run.model.cfg.n_layers)
    pattern = torch.stack([run.cache[f"blocks.{layer}.attn.hook_pattern"] for layer in layers])
    position = torch.arange(pattern.shape[-1])
    ahead = position[:, None] + 1 - position
    period = run.texts.period[:, None, None]
    target = (ahead % period == 0) & (ahead > 0) & (position > 0)
    repeated = target.any(-1).sum()
    induction = (pattern * target[:, None]).sum((1, 3, 4)) / repeated
    return HeadScores(pattern.diagonal(-1, -2, -1).mean((1, -1)), induction)


def copying_heads(run: Run, least: float = 0.2) -> tuple[str, ...]:
    """Names of the heads whose induction score is ``least`` or more."""
    heads = (head_scores(run).induction >= least).nonzero().tolist()
    return tuple(f"{layer}.{head}" for layer, head in heads)


# --- the switchboard --------------------------------------------------------------------------


@dataclass(frozen=True)
class Switchboard:
    """What ``explore.switchboard`` needs: pass ``**vars(board)`` with a name and an alt text.

    Attributes:
        examples: prompts with the contributions of each component to each word's logit.
        components: names by group, in the order of the rows.
        outputs: the words, in the order of the columns.
        presets: names that a button leaves on, by the button's title.
    """

    examples: tuple[Example, ...]
    components: dict[str, tuple[str, ...]]
    outputs: tuple[str, ...]
    presets: dict[str, tuple[str, ...]]


def switchboard(run: Run, each: int = 2, copying: float = 0.2, earliest: int = 5) -> Switchboard:
    """Contributions at a few positions of each kind, for the reader to switch on and off.

    Args:
        run: the trained model on held-out texts.
        each: positions of each kind: the ones where the model is right and about as sure as usual.
        copying: induction score from which a head counts as one that copies.
        earliest: first position to take, so that a prompt has something to read.

    Raises:
        ValueError: the model is right too seldom to show that many.
    """
    parts, end = components(run.model, run.cache), readout(run.model)
    logits = direct_logits(parts, end, end.scale(final_stream(run.model, run.cache)))
    logits = logits - logits.mean(-1, keepdim=True)
    copiers = copying_heads(run, copying)
    presets = {
        "without copying heads": tuple(name for name in parts.names if name not in copiers),
        "copying heads only": tuple(name for name in parts.names if name in copiers),
    }
    examples = tuple(
        _example(run, logits, kind, row, posn)
        for kind in reversed(KINDS)  # first where habit and copy disagree
        for row, posn in _right_positions(run, kind, each, earliest)
    )
    return Switchboard(examples, parts.groups(), words(run.language), presets)


def _right_positions(run: Run, kind: str, count: int, earliest: int) -> list[list[int]]:
    """Text and position of typical right answers of a kind: those as sure as the median one."""
    answers = run.texts.tokens[:, 1:]
    right = run.kinds[kind] & (run.logits.argmax(-1) == answers)
    right[:, :earliest] = False
    places = right.nonzero()
    if len(places) < count:
        raise ValueError(
            f"{len(places)} positions have a right answer of kind {kind!r}; need {count}"
        )
    sure = run.logits.softmax(-1).gather(-1, answers[..., None])[..., 0][right]
    nearest = (sure - sure.median()).abs().argsort(stable=True)
    return [places[index].tolist() for index in nearest[:count].tolist()]


def _example(run: Run, logits: Tensor, kind: str, row: int, posn: int) -> Example:
    vocabulary, tokens = words(run.language), run.texts.tokens[row].tolist()
    prompt = [vocabulary[token] for token in tokens[: posn + 1]]
    answer = vocabulary[tokens[posn + 1]]
    return Example(prompt, logits[:, row, posn], answer, title=f"{kind} (text {row})")
