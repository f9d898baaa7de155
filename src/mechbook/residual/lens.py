"""Decoding the stream early: the logit lens by depth, and a trained probe beside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.residual import decomposition
from mechbook.residual import model as language_model
from mechbook.residual.model import KINDS, Run


@dataclass(frozen=True)
class Stream:
    """The stream at every depth.

    Attributes:
        labels: "embedding", then "attention 0", "MLP 0", … : what has been added so far.
        values: the vectors after each.
    """

    labels: tuple[str, ...]
    values: Float[Tensor, "depth batch posn d_model"]


def stream(model: Any, cache: Any) -> Stream:
    """Collect the stream after the embedding and after each attention and MLP."""
    labels, values = ["embedding"], [cache["blocks.0.hook_resid_pre"]]
    for layer in range(model.cfg.n_layers):
        labels += [f"attention {layer}", f"MLP {layer}"]
        values += [cache[f"blocks.{layer}.hook_resid_{place}"] for place in ("mid", "post")]
    return Stream(tuple(labels), torch.stack(values).detach())


@dataclass(frozen=True)
class LensTable:
    """What the stream says when it is decoded at each depth, by kind of position.

    Attributes:
        labels: of the depths.
        kinds: of the positions.
        accuracy: share of positions where the best word is the one that comes next.
        habit: share where the best word is the favorite successor of the current one.
        loss: cross-entropy in nats.
        divergence: KL divergence of the lens from the model's final output, in nats.
    """

    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    accuracy: Float[Tensor, "depth kind"]
    habit: Float[Tensor, "depth kind"]
    loss: Float[Tensor, "depth kind"]
    divergence: Float[Tensor, "depth kind"]


def logit_lens(run: Run, frozen: bool = False) -> LensTable:
    """Decode every depth with the model's own final norm and unembedding.

    Args:
        run: a model on held-out texts.
        frozen: divide by the final stream's scale; by default each depth is normed by its own.
    """
    depths, end = stream(run.model, run.cache), decomposition.readout(run.model)
    scale = end.scale(depths.values[-1]) if frozen else None
    logits = [end.logits(value, scale) for value in depths.values]
    return lens_table(run, depths.labels, logits)


def lens_table(
    run: Run, labels: tuple[str, ...], logits: list[Float[Tensor, "batch posn word"]]
) -> LensTable:
    """Score guesses against what came next, the habit, and the model's final output."""
    tokens = run.texts.tokens
    favorite = language_model.favorites(run.language)[tokens[:, :-1]]
    rows = []
    for guess in logits:
        best, say = guess.argmax(-1), guess.log_softmax(-1)
        final = run.logits.log_softmax(-1)
        values = torch.stack(
            [
                (best == tokens[:, 1:]).float(),
                (best == favorite).float(),
                language_model.next_word_loss(guess, tokens),
                (final.exp() * (final - say)).sum(-1),
            ]
        )
        rows.append(torch.stack([values[:, mask].mean(1) for mask in run.kinds.values()], 1))
    return LensTable(labels, KINDS, *torch.stack(rows, 1))


# --- what is there, whether or not the lens can read it ---------------------------------------


def fit_probe(
    inputs: Float[Tensor, "sample d_model"],
    target: Int[Tensor, " sample"],
    n_words: int,
    iterations: int = 60,
    penalty: float = 1e-4,
) -> tuple[Float[Tensor, "d_model word"], Float[Tensor, " word"]]:
    """Fit softmax regression by L-BFGS, a convex problem: a readout of its own for one depth.

    Args:
        inputs: vectors to read.
        target: the word to say for each.
        n_words: size of the vocabulary.
        iterations: of L-BFGS.
        penalty: on the mean of the squared weights.

    Raises:
        ValueError: inputs and target differ in number, or a target outside the vocabulary.
    """
    if len(inputs) != len(target) or not len(inputs):
        raise ValueError(f"{len(inputs)} inputs and {len(target)} targets; give one target each")
    if int(target.min()) < 0 or int(target.max()) >= n_words:
        raise ValueError(f"targets outside 0 to {n_words - 1}; n_words is {n_words}")
    weight = torch.zeros(inputs.shape[1], n_words, requires_grad=True)
    bias = torch.zeros(n_words, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        guess = inputs @ weight + bias
        loss = torch.nn.functional.cross_entropy(guess, target) + penalty * weight.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


def probe_lens(
    run: Run, teacher: Run, shuffled: bool = False, depths: Collection[str] | None = None
) -> LensTable:
    """A linear probe for each depth: what is there to be read, in any direction.

    Args:
        run: held-out texts, on which the probes are scored.
        teacher: the same model on other texts, on which they are fitted.
        shuffled: fit them on targets in random order, the control.
        depths: labels of the depths to probe; all by default.

    Raises:
        ValueError: a label that no depth has.
    """
    ours, taught = stream(run.model, run.cache), stream(teacher.model, teacher.cache)
    chosen = ours.labels if depths is None else tuple(depths)
    if unknown := set(chosen) - set(ours.labels):
        raise ValueError(f"no depth {sorted(unknown)}; there are {', '.join(ours.labels)}")
    end, target = decomposition.readout(run.model), teacher.texts.tokens[:, 1:].flatten()
    if shuffled:
        target = target[torch.randperm(len(target), generator=training.generator(0))]
    logits = []
    for index in map(ours.labels.index, chosen):
        known, value = taught.values[index], ours.values[index]
        inputs = (known / end.scale(known)).flatten(0, 1)
        weight, bias = fit_probe(inputs, target, run.language.n_words)
        logits.append(value / end.scale(value) @ weight + bias)
    return lens_table(run, chosen, logits)


@dataclass(frozen=True)
class Grid:
    """One text under the lens, for the figure.

    Attributes:
        depths: labels.
        read: the words read.
        answers: the words that came next.
        guesses: the best word by depth and position.
        chance: the probability given to the word that came next.
    """

    depths: tuple[str, ...]
    read: tuple[str, ...]
    answers: tuple[str, ...]
    guesses: tuple[tuple[str, ...], ...]
    chance: Float[Tensor, "depth posn"]


def grid(run: Run, text: int, first: int, last: int) -> Grid:
    """Decode one text at all depths, at positions ``first`` to ``last`` (not included).

    Raises:
        ValueError: no such text or positions.
    """
    batch, posn = run.logits.shape[:2]
    if not (0 <= text < batch and 0 <= first < last <= posn):
        raise ValueError(
            f"text {text}, positions {first} to {last}; texts 0 to {batch - 1}, positions 0 to {posn}"
        )
    depths, end = stream(run.model, run.cache), decomposition.readout(run.model)
    logits = end.logits(depths.values[:, text, first:last])
    tokens, vocabulary = run.texts.tokens[text], language_model.words(run.language)
    answer = tokens[first + 1 : last + 1]
    chance = logits.softmax(-1).gather(-1, answer.expand(len(logits), -1)[..., None])[..., 0]
    guesses = tuple(tuple(vocabulary[i] for i in row) for row in logits.argmax(-1).tolist())
    read = tuple(vocabulary[i] for i in tokens[first:last].tolist())
    answers = tuple(vocabulary[i] for i in answer.tolist())
    return Grid(depths.labels, read, answers, guesses, chance)
