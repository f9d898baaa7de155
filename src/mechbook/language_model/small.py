"""A smaller model, trained while the reader waits, on a text whose lowest possible loss is known.

The text that ships with the book was drawn from the book's own language model. So no other model
can, in expectation, have a lower loss on unseen text of that kind than the one that wrote it: with
``p`` the writer and ``q`` any reader,

    loss of q = loss of p + KL(p ‖ q)

where the loss of ``p`` is its entropy (nearly so here: read again, a word that was spelled in
pieces may be one token, see `sampling.documents`). Each reader's distance from that floor is what
it does not know: a table of counts, a small transformer, or the mean of their predictions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import artifacts, training
from mechbook.language_model import corpus, ngrams, score, weights
from mechbook.language_model.corpus import Stream, Windows
from mechbook.language_model.model import ModelConfig, build
from mechbook.language_model.tokenizer import TokenizerConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformer_lens.model_bridge import TransformerBridge

NAME, SAMPLES = "language-model-seeds", "language-model-samples"
"""The counting models by the length of what they count."""
HELD_OUT = 10
"""One document in so many is held out."""
N_TYPES = TokenizerConfig.n_types


@dataclass(frozen=True)
class SmallConfig:
    """The small model and its training (AdamW, warmup, cosine decay, clipped gradients, 32 bits).

    Attributes:
        n_layers: blocks.
        d_model: width of the residual stream.
        n_heads: heads a layer.
        d_mlp: neurons a layer.
        length: tokens of each document that are used, its first ones; shorter ones are left out.
        batch: documents an update.
        steps: updates.
        learning_rate: the highest, of everything outside the blocks (of the embedding, above all).
        block_rate: the highest, of the matrices in the blocks.
        weight_decay: of the matrices in the blocks; the rest has none.
        warmup: share of the updates until the highest.
        clip: longest gradient.
        measure_every: updates from one measurement on the held-out documents to the next.
    """

    n_layers: int = 1
    d_model: int = 64
    n_heads: int = 2
    d_mlp: int = 256
    length: int = 112
    batch: int = 2
    steps: int = 1500
    learning_rate: float = 1e-2
    block_rate: float = 3e-3
    weight_decay: float = 0.1
    warmup: float = 0.06
    clip: float = 1.0
    measure_every: int = 300

    def __post_init__(self) -> None:
        if min(self.length, self.batch, self.steps, self.measure_every) < 1:
            raise ValueError(f"{self}: length, batch, steps and measure_every must be 1 or more")
        if not (min(self.learning_rate, self.block_rate) > 0 and 0 < self.warmup < 1):
            raise ValueError(f"{self}: both rates must be above 0, warmup between 0 and 1")

    def model(self, seed: int) -> ModelConfig:
        """The transformer, with the seed of its initial weights."""
        shape = (self.n_layers, self.d_model, self.n_heads, self.d_mlp)
        return ModelConfig(*shape, n_ctx=self.length, seed=seed)


# --- the text ---------------------------------------------------------------------------------


def split(
    tokenizer: Tokenizer, texts: Iterable[str], config: SmallConfig | None = None
) -> tuple[Windows, Windows]:
    """Encode documents, cut each to its first ``length`` tokens, hold out every tenth.

    Each document becomes one window, so that all readers have the same past in view.

    Returns:
        Windows to train on, windows to measure on.

    Raises:
        ValueError: fewer than ten documents are long enough.
    """
    length, stream = (config or SmallConfig()).length, corpus.encode(tokenizer, texts)
    lengths = np.diff(stream.ends, prepend=0)
    kept = np.flatnonzero(lengths >= length)
    if len(kept) < HELD_OUT:
        raise ValueError(
            f"{len(kept)} of {len(lengths)} documents have {length} tokens; give at least "
            f"{HELD_OUT} such documents, or a smaller length"
        )
    held_out = np.arange(len(kept)) % HELD_OUT == HELD_OUT - 1
    parts = (_beginnings(stream, kept[which], length) for which in (~held_out, held_out))
    train, validation = (corpus.windows(tokenizer, part, length) for part in parts)
    return train, validation


def _beginnings(stream: Stream, which: Int[np.ndarray, " document"], length: int) -> Stream:
    """The first ``length`` tokens of some documents."""
    firsts = np.concatenate([[0], stream.ends[:-1]])[which]
    places = (firsts[:, None] + np.arange(length)).ravel()
    ends = length * np.arange(1, len(which) + 1)
    return Stream(stream.ids[places], ends, stream.begins[places], stream.characters[which])


def shipped(tokenizer: Tokenizer, config: SmallConfig | None = None) -> tuple[Windows, Windows]:
    """The text that ships with the book, as far as it was drawn at temperature 1, split.

    Raises:
        ArtifactError: missing or damaged.
    """
    columns = artifacts.load_texts(SAMPLES)
    texts = columns["text"][columns["temperature"] == 1].tolist()
    return split(tokenizer, texts, config)


# --- what to compare with ---------------------------------------------------------------------


def counted(
    train: Windows, validation: Windows, order: int, n_types: int = N_TYPES
) -> Float[np.ndarray, "window posn"]:
    """Nats by which each held-out token surprises a model that counts, see `ngrams`.

    Args:
        train: to count in.
        validation: to predict.
        order: length of what is counted: 1 for single tokens, 2 for pairs, 3 for triples.
        n_types: size of the vocabulary.
    """
    model = ngrams.fit(train.stream.ids, train.stream.ends, n_types, order)
    found = model.log_probabilities(validation.stream.ids, validation.stream.ends)
    return -found.reshape(len(validation), validation.length)


def references(train: Windows, validation: Windows, n_types: int = N_TYPES) -> dict[str, float]:
    """Nats a held-out token under the models that count, by their names in `ngrams.LADDER`."""
    orders = ngrams.LADDER.items()
    return {name: float(counted(train, validation, n, n_types).mean()) for name, n in orders}


def floor(model: Any, validation: Windows) -> float:
    """Nats a held-out token under the model that wrote the text: the lowest loss there can be.

    Nobody can do better in expectation; on one sample, a reader may by chance.

    Raises:
        ValueError: the documents are longer than the model's context.
    """
    return float(losses(model, validation).mean())


def losses(model: Any, windows: Windows) -> Float[np.ndarray, "window posn"]:
    """Nats by which each token surprises a transformer."""
    return score.token_losses(model, windows.take(np.arange(len(windows))), at_once=8).numpy()


@torch.no_grad()
def short_sighted(model: Any, windows: Windows) -> Float[np.ndarray, "window posn"]:
    """Nats by which each token surprises a transformer that is shown the token before it alone.

    What a table of pairs could know as well: the model reads the end-of-text mark and one token.
    """
    tokens = windows.take(np.arange(len(windows)))
    before = tokens[:, :-1].flatten()
    pairs = torch.stack([torch.full_like(before, windows.end), before], 1)
    guesses = torch.cat([model(part)[:, -1] for part in pairs.split(256)])
    nats = torch.nn.functional.cross_entropy(guesses, tokens[:, 1:].flatten(), reduction="none")
    return nats.reshape(len(tokens), -1).numpy()


def mixed(
    first: Float[np.ndarray, "*shape"], second: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """Nats by which each token surprises the mean of two models' probabilities.

    For one token it lies between the two, at most log 2 above the smaller; its mean over many
    tokens can be below the means of both, where they err on different tokens.
    """
    return np.log(2) - np.logaddexp(-first, -second)


# --- training ---------------------------------------------------------------------------------


def train_small(
    seed: int,
    tokenizer: Tokenizer,
    train: Windows,
    validation: Windows,
    config: SmallConfig | None = None,
    progress: bool | None = None,
) -> tuple[TransformerBridge, training.History]:
    """Build the small model and train it.

    The history has two losses of the held-out documents, in nats a token: ``validation``, of the
    model, and ``with bigram``, of the mean of its probabilities and the bigram's (see `mixed`).

    Args:
        seed: of the initial weights and of the order of the documents.
        tokenizer: that of the windows.
        train: from `split`.
        validation: from `split`.
        config: sizes and schedule.
        progress: show a bar; default: only where the page is not built statically.

    Raises:
        TrainingError: see `training.train`.
    """
    config = config or SmallConfig()
    model = build(config.model(seed), tokenizer)
    bigram = counted(train, validation, ngrams.LADDER["bigram"], tokenizer.get_vocab_size())

    def loss(model: Any, step: int) -> Tensor:
        tokens = train.batch(step, config.batch, seed)
        logits = model(tokens[:, :-1]).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())

    def measure(model: Any, step: int) -> Mapping[str, float]:
        own = losses(model, validation)
        return {
            "validation": float(own.mean()),
            "with bigram": float(mixed(own, bigram).mean()),
        }

    optimizer, schedule = _optimizer(model, config)
    history = training.train(
        model,
        loss,
        optimizer=optimizer,
        scheduler=schedule,
        steps=config.steps,
        clip=config.clip,
        metrics=measure,
        metrics_every=config.measure_every,
        label="small model",
        progress=progress,
        unit="tokens",
        units_a_step=config.batch * config.length,
    )
    return model, history


def _optimizer(model: Any, config: SmallConfig) -> tuple[Any, Any]:
    """AdamW, and the learning rates: up from a hundredth, then down to nothing, along cosines."""
    inside: list[Tensor] = []
    outside: list[Tensor] = []
    for name, tensor in model.original_model.named_parameters():
        (inside if tensor.ndim > 1 and "layers" in name else outside).append(tensor)
    groups = [
        {"params": inside, "weight_decay": config.weight_decay},
        {"params": outside, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [config.block_rate, config.learning_rate],
        total_steps=config.steps + 1,
        pct_start=config.warmup,
        cycle_momentum=False,
        div_factor=100,
    )
    return optimizer, schedule


# --- recipe -----------------------------------------------------------------------------------


def rows(
    seed: int, history: training.History, config: SmallConfig
) -> dict[str, Float[np.ndarray, " measured"]]:
    """A run as columns, one row a measurement, the untrained start first.

    Returns:
        ``seed``; ``steps`` (planned in all), ``step`` and ``tokens`` (read so far); ``training``
        (mean loss since the row before, nan at the start); ``validation`` and ``with_bigram``, see
        `train_small`.
    """
    step = history.metric_steps
    parts = [history.loss[first:last] for first, last in itertools.pairwise(step)]
    return {
        "seed": np.full(len(step), seed),
        "steps": np.full(len(step), config.steps),
        "step": step,
        "tokens": step * config.batch * config.length,
        "training": np.array([np.nan, *(part.mean() for part in parts)]),
        "validation": history.metrics["validation"],
        "with_bigram": history.metrics["with bigram"],
    }


def make_seeds(seeds: int = 5, longer: int = 4) -> tuple[dict[str, np.ndarray], dict]:
    """Recipe of the spread of the small model over seeds; and one run that goes on for longer.

    Args:
        seeds: runs like the chapter's own.
        longer: the last run, with seed 0, has so many times their updates; 0 leaves it out.
    """
    if seeds < 1 or longer < 0:
        raise ValueError(f"seeds={seeds}, longer={longer}; give 1 or more seeds, longer 0 or more")
    tokenizer, config = weights.load_tokenizer(), SmallConfig()
    train, validation = shipped(tokenizer, config)
    plan = [(seed, config) for seed in range(seeds)]
    if longer:
        plan.append((0, _stretched(config, longer)))
    found = []
    for seed, schedule in plan:
        history = train_small(seed, tokenizer, train, validation, schedule)[1]
        found.append(rows(seed, history, schedule))
        print(f"seed {seed}: {found[-1]['validation'][-1]:.3f} nats a token", flush=True)
    columns = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return columns, _facts(seeds, longer, train, validation)


def by_seed(table: Mapping[str, np.ndarray], column: str) -> Float[np.ndarray, "seed measured"]:
    """A column of the artifact, one row a seed; without the run that was longer.

    Raises:
        ValueError: no such column.
    """
    if column not in table:
        raise ValueError(f"no column {column!r}; there are {', '.join(table)}")
    kept = table["steps"] == table["steps"].min()
    seeds = np.unique(table["seed"][kept])
    return np.stack([table[column][kept & (table["seed"] == seed)] for seed in seeds])


def _stretched(config: SmallConfig, times: int) -> SmallConfig:
    """The same run with more updates, measured as often in all."""
    return replace(config, steps=times * config.steps, measure_every=times * config.measure_every)


def _facts(seeds: int, longer: int, train: Windows, validation: Windows) -> dict[str, Any]:
    sizes = f"{len(train.stream.ids):,} tokens, measured on {len(validation.stream.ids):,}"
    about = f"Loss in nats a token of a small transformer trained on {sizes}, for {seeds} seeds"
    about += f"; and once with {longer} times the updates" if longer else ""
    inputs = {name: artifacts.checksum(name) for name in (SAMPLES, weights.TOKENIZER)}
    return {"about": about, "seeds": list(range(seeds)), "inputs": inputs}
