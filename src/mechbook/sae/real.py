"""Autoencoders on the book's own language model: the two that ship, their seeds, and what to compare with.

Activations of the stream after a layer, the first position left out, are multiplied by one number
so that their mean length is the root of ``d_in``; codes and prices belong to these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import artifacts
from mechbook.language_model import corpus, weights
from mechbook.language_model.model import ModelConfig, build
from mechbook.sae import activations, beyond, recovery, steering
from mechbook.sae.activations import LossRecovered
from mechbook.sae.baselines import Reconstruct, best_of, first_of, random_dictionary
from mechbook.sae.questions import principal
from mechbook.sae.readers import VARIANTS, Reader, pack
from mechbook.sae.reading import drawn
from mechbook.sae.training import Trained, TrainingConfig, shuffled, train
from mechbook.sae.variants import SAEConfig

SEEDS = "sae-language-model-seeds"
ABLATED = 128
"""Latents, drawn at random, that are ablated one by one."""
HOW = TrainingConfig(
    steps=2900, learning_rate=1e-3, warm_up=100, price_warm_up=300, measure_every=500
)
"""One pass over a million and a half activations."""


@dataclass(frozen=True)
class RealConfig:
    """Where activations come from, and the autoencoders that are trained on them.

    Attributes:
        place: hook of the language model.
        windows: pieces of text that are read, at even distances through the books.
        every: one book in so many is read.
        characters: of each book, from its 20,000th on.
        d_sae: latents.
        k: of the TopK autoencoder.
        price: of the ReLU autoencoder, so that about ``k`` latents are active.
        batch: activations an update.
        how: the training.
        held_out: windows of other books to measure on.
        scored: of these, windows whose loss is measured with the activations replaced.
    """

    place: str = "blocks.2.hook_resid_post"
    windows: int = 12000
    every: int = 4
    characters: int = 120_000
    d_sae: int = 2048
    k: int = 32
    price: float = 1.6
    batch: int = 512
    how: TrainingConfig = HOW
    held_out: int = 256
    scored: int = 96

    def sae(self, variant: str, d_in: int) -> SAEConfig:
        """The autoencoder of a variant, ``topk`` or ``relu``."""
        return SAEConfig(d_in, self.d_sae, variant, k=self.k if variant == "topk" else 0)

    def prices(self, variant: str) -> tuple[float, ...]:
        """What the variant pays for sparsity."""
        return (self.price if variant == "relu" else 0.0,)


# --- text and activations ---------------------------------------------------------------------


def training_windows(
    tokenizer: Any, text: str, length: int, config: RealConfig
) -> Int[Tensor, "window posn"]:
    """Pieces of the training books, a stretch of each that is read."""
    books = [
        book.text for i, book in enumerate(corpus.open_text(text, "train")) if not i % config.every
    ]
    start = 20_000
    stretches = (book[start : start + config.characters] for book in books)
    stream = corpus.encode(tokenizer, (part for part in stretches if part.strip()))
    return corpus.windows(tokenizer, stream, length).evenly(config.windows)


def held_out_windows(
    tokenizer: Any, text: str, length: int, count: int
) -> Int[Tensor, "window posn"]:
    """Pieces of the validation books."""
    books = (book.text for book in corpus.open_text(text, "validation"))
    return corpus.windows(tokenizer, corpus.encode(tokenizer, books), length).evenly(count)


@dataclass(frozen=True)
class Activations:
    """What one model gives to train and to measure on.

    Attributes:
        model: the language model.
        scale: factor of the activations.
        mean: of the training activations, before the factor.
        train: times the factor, in 16 bits.
        held_out: times the factor.
        windows: the texts of ``held_out``, with a token more to predict.
    """

    model: Any
    scale: float
    mean: Float[Tensor, " d_in"]
    train: Float[Tensor, "row d_in"]
    held_out: Float[Tensor, "row d_in"]
    windows: Int[Tensor, "window posn+1"]


def gather(
    model: Any,
    windows: Int[Tensor, "window posn+1"],
    held_out: Int[Tensor, "window posn+1"],
    config: RealConfig,
) -> Activations:
    """Activations of a model on texts; the last token of a text is only predicted."""
    parts = windows[:, :-1].split(1000)
    rows = torch.cat([activations.collect(model, part, config.place).half() for part in parts])
    mean, scale = rows[:200_000].float().mean(0), activations.scale_of(rows[:200_000].float())
    other = activations.collect(model, held_out[:, :-1], config.place) * scale
    return Activations(model, scale, mean, rows.mul_(scale), other, held_out)


# --- autoencoders -----------------------------------------------------------------------------


def train_on(
    found: Activations, variant: str, config: RealConfig, seeds: Sequence[int] = (0,)
) -> Trained:
    """Autoencoders of one variant on a model's activations, one a seed."""
    data = shuffled(found.train, config.batch, seeds)
    shape = config.sae(variant, found.train.shape[1])
    return train(shape, config.how, data, config.prices(variant), seeds)


def reader_of(trained: Trained, found: Activations, config: RealConfig, seed: int = 0) -> Reader:
    """One of the trained, ready to read the model; its densities are those on held-out text."""
    sae = trained.sae(0, seed)
    with torch.no_grad():
        counts = [(sae.encode(part) != 0).sum(0) for part in found.held_out.split(4096)]
    density = torch.stack(counts).sum(0) / len(found.held_out)
    return Reader(sae, config.place, found.scale, found.mean, density)


# --- what to compare with ---------------------------------------------------------------------


def baselines(found: Activations, config: RealConfig) -> dict[str, tuple[float, Reconstruct]]:
    """What needs no dictionary, by name: numbers an activation, and how it is reconstructed."""
    rows = found.train[:: max(1, len(found.train) // 100_000)].float() / found.scale
    d_in, k = rows.shape[1], config.k
    V, mean = principal(rows, d_in), found.mean
    return {
        "PCA, the same for all": (k, first_of(V[:, :k], mean)),
        "PCA, the best of each": (k, best_of(V, mean, k)),
        "PCA, twice as many": (2 * k, best_of(V, mean, 2 * k)),
        "single neurons": (k, best_of(torch.eye(d_in), mean, k)),
        "random dictionary": (k, random_dictionary(config.sae("topk", d_in), mean, found.scale)),
    }


@torch.no_grad()
def score(
    found: Activations, reconstruct: Reconstruct, config: RealConfig, ablated: LossRecovered | None
) -> dict[str, float]:
    """Variance explained, and the model's loss when it goes on from the reconstruction."""
    h = found.held_out / found.scale
    out = torch.cat([reconstruct(part) for part in h.split(4096)])
    result = {"explained": float(recovery.explained(h, out))}
    if ablated is not None:
        windows = found.windows[: config.scored]
        loss = activations.patched_loss(found.model, windows, config.place, reconstruct)
        now = replace(ablated, patched=loss)
        result |= {"loss": loss, "against mean": now.against_mean, "against zero": now.against_zero}
    return result


def ablations(found: Activations, config: RealConfig) -> LossRecovered:
    """The loss with the activations as they are (``patched`` too), zero, and the mean."""
    windows = found.windows[: config.scored]

    def loss(replacement: Reconstruct | None) -> float:
        return activations.patched_loss(found.model, windows, config.place, replacement)

    clean = loss(None)
    mean = loss(lambda value: found.mean.expand_as(value))
    return LossRecovered(clean, clean, loss(torch.zeros_like), mean)


# --- artifacts --------------------------------------------------------------------------------

Row = tuple[str, str, int, str, float]
COLUMNS = ("model", "method", "seed", "quantity", "value")


def make_autoencoders(text: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The artifact ``sae-language-model``: a TopK and a ReLU autoencoder, in 16 bits."""
    config, model = RealConfig(), weights.load()
    found = gathered(model, text, config)
    tensors: dict[str, Tensor] = {}
    told = []
    for variant in VARIANTS:
        reader = reader_of(train_on(found, variant, config), found, config)
        quality = recovery.quality(reader.sae, found.held_out)
        told.append(f"{variant}: L0 {quality.l0:.1f}, {quality.explained:.3f} of the variance")
        tensors |= {f"{variant}/{name}": tensor for name, tensor in pack(reader).items()}
    about = (
        f"Two sparse autoencoders with {config.d_sae} latents on {config.place} of the book's "
        f"language model, trained on {len(found.train):,} activations; on held-out books "
        + "; ".join(told)
    )
    inputs = {"model": artifacts.checksum(weights.NAME), **_books(text)}
    return tensors, {"about": about, "seeds": [0], "inputs": inputs}


def gathered(model: Any, text: str, config: RealConfig) -> Activations:
    """`gather` with the texts of a folder or data set, as `corpus.open_text` takes them."""
    tokenizer, length = weights.load_tokenizer(), model.cfg.n_ctx
    windows = training_windows(tokenizer, text, length, config)
    return gather(
        model, windows, held_out_windows(tokenizer, text, length, config.held_out), config
    )


def _books(text: str) -> dict[str, str]:
    return weights.sources(corpus.open_text(text, "validation"))


def rows_of(
    name: str, found: Activations, config: RealConfig, seeds: Sequence[int], scored: bool
) -> list[Row]:
    """Both variants, all seeds, and the baselines on the activations of one model."""
    ablated, rows = ablations(found, config) if scored else None, list[Row]()
    if ablated is not None:
        for quantity in ("clean", "zero", "mean"):
            rows.append((name, "loss", 0, quantity, getattr(ablated, quantity)))

    def add(method: str, seed: int, values: Mapping[str, float]) -> None:
        rows.extend((name, method, seed, key, value) for key, value in values.items())

    readers = {}
    for variant in VARIANTS:
        trained = train_on(found, variant, config, seeds)
        readers[variant] = reader_of(trained, found, config)
        for j, seed in enumerate(seeds):
            reader = reader_of(trained, found, config, j)
            quality = recovery.quality(reader.sae, found.held_out)
            add(variant, seed, {"L0": quality.l0, "dead": quality.dead})
            add(variant, seed, score(found, reader.reconstruct, config, ablated))
            add(variant, seed, {"aligned": float(recovery.alignment(reader.sae).detach().median())})
    for method, (numbers, reconstruct) in baselines(found, config).items():
        add(method, 0, {"L0": numbers, **score(found, reconstruct, config, ablated)})
    scored_units = beyond.scores(found.model, readers, found.windows[:, :-1])
    for kind, values in beyond.summary(scored_units).items():
        add(kind, 0, values)
    for name_of, reader in readers.items() if scored else ():
        latents = drawn(reader, ABLATED)
        effects = steering.ratios(found.model, reader, found.windows[:, :-1], latents)
        for quantity, part in zip(("over random", "over another"), effects.T, strict=True):
            rows += [(name, name_of, i, quantity, float(v)) for i, v in enumerate(part)]
    return rows


def make_real_seeds(text: str, seeds: int = 3) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``sae-language-model-seeds``: seeds, baselines, and the untrained model.

    Columns: ``model`` (trained, untrained), ``method``, ``seed``, ``quantity``, ``value``.

    Raises:
        ValueError: no seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    config = RealConfig()
    untrained = build(ModelConfig(), weights.load_tokenizer()).eval()
    rows: list[Row] = []
    for name, model in (("trained", weights.load()), ("untrained", untrained)):
        found = gathered(model, text, config)
        rows += rows_of(name, found, config, range(seeds), scored=name == "trained")
        print(f"{name} model done", flush=True)
    columns = zip(COLUMNS, zip(*rows, strict=True), strict=True)
    about = "Sparse autoencoders on the language model: seeds, baselines, and the untrained model"
    inputs = {"model": artifacts.checksum(weights.NAME), **_books(text)}
    facts = {"about": about, "seeds": list(range(seeds)), "inputs": inputs}
    return {name: np.array(values) for name, values in columns}, facts


def compared(
    table: Mapping[str, np.ndarray], method: str, quantity: str, model: str = "trained"
) -> Float[np.ndarray, " seed"]:
    """A quantity of the table for a method, one value a seed.

    Raises:
        ValueError: the table has no such rows.
    """
    rows = (table["method"] == method) & (table["quantity"] == quantity) & (table["model"] == model)
    if not rows.any():
        known = sorted({*table["method"].tolist()})
        raise ValueError(f"no {quantity!r} of {method!r} ({model}); methods: {', '.join(known)}")
    return table["value"][rows][np.argsort(table["seed"][rows])]
