"""The chapter's measurements where the truth is known: settings that work, frozen, and one table.

Every section trains its autoencoders as one program and gives rows of the table

    section   setting   x   seed   quantity   value

where ``x`` is what the section varies: the price λ, ``k``, the width, a cosine, an update. The
artifact ``sae-known-truth`` holds all of them with all seeds; the chapter runs parts of it live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import training
from mechbook.sae import recovery
from mechbook.sae.training import Trained, TrainingConfig, train
from mechbook.sae.truth import Truth, toy_truth
from mechbook.sae.variants import SAE, SAEConfig

NAME = "sae-known-truth"
Row = tuple[str, str, float, int, str, float]
COLUMNS = ("section", "setting", "x", "seed", "quantity", "value")


@dataclass(frozen=True)
class World:
    """A toy model of superposition whose hidden activations are taken apart.

    Attributes:
        n: features, all equally important.
        n_hidden: dimensions of an activation.
        density: probability that a feature is there.
    """

    n: int = 40
    n_hidden: int = 10
    density: float = 0.05

    @property
    def name(self) -> str:
        """Such as ``40 in 10``."""
        return f"{self.n} in {self.n_hidden}"


PLANE, MIDDLE, LARGE = World(5, 2), World(), World(80, 20, 0.03)
STANDARD = TrainingConfig(steps=3000, learning_rate=3e-3, price_warm_up=500, measure_every=3000)
"""What finds the features: shorter runs, or smaller batches, recover clearly less."""
PRICES: dict[World, tuple[float, ...]] = {
    PLANE: (0.02, 0.05, 0.1, 0.2, 0.4, 0.8),
    MIDDLE: (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6),
    LARGE: (0.02, 0.05, 0.1, 0.2, 0.4),
}
PRICE = 0.4
"""A price at which forty features in ten dimensions are found."""


@lru_cache(maxsize=8)
def world_truth(world: World) -> Truth:
    """The trained toy model of a world; made once."""
    return toy_truth(world.n, world.n_hidden, world.density)


def shape(world: World, **options: Any) -> SAEConfig:
    """An autoencoder as wide as the world has features, unless ``d_sae`` says otherwise."""
    return SAEConfig(**({"d_in": world.n_hidden, "d_sae": world.n} | options))


def run(
    config: SAEConfig,
    truth: Truth,
    prices: Sequence[float] = (0.0,),
    seeds: Sequence[int] = range(5),
    how: TrainingConfig | None = None,
    batch: int = 512,
) -> Trained:
    """Train on fresh activations of a truth, one autoencoder for each price and seed.

    Args:
        config: what they have in common.
        truth: where the activations come from.
        prices: of sparsity.
        seeds: of starts and data.
        how: the training; `STANDARD` without.
        batch: activations an update.
    """
    data = truth.data(seeds, batch, len(prices))
    return train(config, how or STANDARD, data, prices, seeds, progress=False)


# --- what is measured -------------------------------------------------------------------------


@torch.no_grad()
def measures(sae: SAE, truth: Truth, h: Float[Tensor, "batch hidden"]) -> dict[str, float]:
    """What is known of one autoencoder when the features are known, by name.

    ``missing`` is `recovery.shrinkage`, ``aligned`` the median cosine between the encoder's and the
    decoder's direction of those latents that found a feature (of all, where none did).
    """
    z = sae.encode(h)
    alive = (z != 0).any(0)
    found = recovery.match(sae.W_dec, truth.directions, alive)
    own = found.latent[found.cosine > recovery.MATCHED]
    aligned = recovery.alignment(sae)
    quality = recovery.quality(sae, h)
    return {
        "recovered": found.recovered,
        "mean max cosine": found.mean_max_cosine,
        "L0": quality.l0,
        "explained": quality.explained,
        "dead": quality.dead,
        "missing": float(recovery.shrinkage(sae, h)),
        "aligned": float((aligned[own] if len(own) else aligned).median()),
        "copies": float(recovery.copies(sae.W_dec, truth.directions, alive).float().mean()),
    }


def measured(
    section: str, setting: str, trained: Trained, truth: Truth, at: Sequence[float] = ()
) -> list[Row]:
    """Rows of all members on held-out activations.

    Args:
        section: of the table.
        setting: of the section.
        trained: the autoencoders.
        truth: where their activations come from.
        at: ``x`` of each price; the prices themselves without.

    Raises:
        ValueError: not one ``x`` a price.
    """
    places = tuple(at) or trained.prices
    if len(places) != len(trained.prices):
        raise ValueError(f"{len(places)} places for {len(trained.prices)} prices; give one each")
    _, h = truth.held_out()
    rows: list[Row] = []
    for i, x in enumerate(places):
        for j, seed in enumerate(trained.seeds):
            found = measures(trained.sae(i, j), truth, h)
            rows += [(section, setting, x, seed, name, value) for name, value in found.items()]
    return rows


def agreement(trained: Trained, price: int = 0) -> Float[Tensor, " seed"]:
    """How much of the first seed's dictionary each other seed has: cosine above .9, one to one."""
    first = trained.sae(price, 0).W_dec.detach()
    others = [trained.sae(price, j).W_dec.detach() for j in range(1, len(trained.seeds))]
    return torch.tensor([recovery.match(W_dec, first).recovered for W_dec in others])


# --- the sections -----------------------------------------------------------------------------


def prices(seeds: Sequence[int], worlds: Sequence[World] = (PLANE, MIDDLE, LARGE)) -> list[Row]:
    """Recovery, reconstruction and what is missing, over the price, in worlds of three sizes."""
    rows: list[Row] = []
    for world in worlds:
        truth = world_truth(world)
        trained = run(shape(world), truth, PRICES[world], seeds)
        rows += measured("prices", world.name, trained, truth)
        for i, price in enumerate(trained.prices):
            shared = agreement(trained, i).tolist()
            pairs = zip(list(seeds)[1:], shared, strict=True)
            rows += [("prices", world.name, price, s, "as first seed", v) for s, v in pairs]
    return rows


VARIANTS: dict[str, tuple[float, ...]] = {
    "tied": (0.2, 0.3, 0.4, 0.6),
    "gated": (0.4, 0.6, 0.8, 1.2),
    "jumprelu": (0.1, 0.2, 0.3),
    "topk": (1, 2, 3, 4, 6),
    "batchtopk": (1, 2, 3),
}
"""Prices of the variants that pay, and ``k`` of those that count."""


def variants(
    seeds: Sequence[int], chosen: Mapping[str, Sequence[float]] = VARIANTS, world: World = MIDDLE
) -> list[Row]:
    """The Pareto plot: every other variant at several prices, or ``k``."""
    truth, rows = world_truth(world), list[Row]()
    for name, settings in chosen.items():
        if "topk" not in name:
            trained = run(shape(world, variant=name), truth, settings, seeds)
            rows += measured("variants", name, trained, truth)
            continue
        for k in settings:
            trained = run(shape(world, variant=name, k=int(k)), truth, seeds=seeds)
            rows += measured("variants", name, trained, truth, [k])
    return rows


PENALTIES: dict[str, tuple[dict[str, Any], float]] = {
    "L1": ({}, PRICE),
    "L2": ({"penalty": "l2"}, 0.8),
    "none": ({"penalty": "none"}, 0.0),
    "L1, no ReLU": ({"variant": "linear"}, PRICE),
    "ReLU after the decoder": ({"variant": "decoder-relu"}, 0.1),
    "L1, free lengths": ({"decoder": "free"}, PRICE),
}
"""What an autoencoder may pay for, and where its ReLU may stand."""


def penalties(
    seeds: Sequence[int], chosen: Sequence[str] = tuple(PENALTIES), world: World = MIDDLE
) -> list[Row]:
    """L1, L2, nothing; the ReLU left out, or at the wrong end; directions of any length."""
    truth, rows = world_truth(world), list[Row]()
    for name in chosen:
        options, price = PENALTIES[name]
        trained = run(shape(world, **options), truth, [price], seeds)
        rows += measured("penalties", name, trained, truth)
    return rows


def paired_truth(cosine: float, pairs: int = 4, density: float = 0.05) -> Truth:
    """Pairs of features at a given cosine, the pairs at right angles, as many as dimensions.

    Raises:
        ValueError: no cosine from 0 to below 1.
    """
    if not 0 <= cosine < 1:
        raise ValueError(f"cosine is {cosine}; give a number from 0 to below 1")
    block = torch.tensor([[1.0, cosine], [0.0, (1 - cosine**2) ** 0.5]])
    return Truth(torch.block_diag(*[block] * pairs), density)


def predicted_alignment(cosine: float) -> float:
    """Cosine of a feature with the direction that reads it and not its partner: ``√(1 - c²)``."""
    return (1 - cosine**2) ** 0.5


PAIRED = replace(STANDARD, steps=4000, learning_rate=4e-3, price_warm_up=300, decay=0.5)


def duals(
    seeds: Sequence[int], cosines: Sequence[float] = (0.0, 0.3, 0.5, 0.8), price: float = 0.02
) -> list[Row]:
    """Features in pairs that overlap: the direction that reads, and what tied weights cost."""
    rows: list[Row] = []
    for cosine in cosines:
        truth = paired_truth(cosine)
        for name, variant in (("own encoder", "relu"), ("tied", "tied")):
            config = SAEConfig(truth.n, truth.n, variant)
            trained = run(config, truth, [price], seeds, PAIRED, batch=256)
            rows += measured("duals", name, trained, truth, [cosine])
    return rows


def widths(
    seeds: Sequence[int], sizes: Sequence[int] = (20, 40, 80, 160), world: World = MIDDLE
) -> list[Row]:
    """Dictionaries of several sizes, with the L1 sum and with the mean (equal at width ``n``)."""
    truth, rows = world_truth(world), list[Row]()
    for size in sizes:
        for name, mean in (("sum", False), ("mean", True)):
            price = PRICE * world.n if mean else PRICE
            config = shape(world, d_sae=size, mean=mean)
            trained = run(config, truth, [price], seeds)
            rows += measured("widths", name, trained, truth, [size])
    return rows


def family_truth(n: int = 20, parents: int = 5, seed: int = 0) -> Truth:
    """Features at right angles, the first of them with a child that never comes alone."""
    square = torch.randn(n, n, generator=training.generator(seed))
    return Truth(torch.linalg.qr(square).Q, 0.15, parents=parents)


FAMILIES: dict[str, tuple[dict[str, Any], float]] = {
    "TopK 3": ({"variant": "topk", "k": 3}, 0.0),
    "L1": ({}, 0.1),
    "nothing paid": ({}, 0.0),
}


def families(seeds: Sequence[int], chosen: Sequence[str] = tuple(FAMILIES)) -> list[Row]:
    """Whether the latent of a parent falls silent beside its child's (absorption)."""
    truth, rows = family_truth(), list[Row]()
    x, h = truth.held_out()
    for name in chosen:
        options, price = FAMILIES[name]
        config = SAEConfig(truth.n, truth.n, **options)
        trained = run(config, truth, [price], seeds, batch=256)
        rows += measured("families", name, trained, truth)
        for j, seed in enumerate(trained.seeds):
            with torch.no_grad():
                found = recovery.absorption(trained.sae(0, j), x, h, truth.directions, 5)
            for quantity in ("alone", "together", "mixed"):
                value = float(getattr(found, quantity).mean())
                rows.append(("families", name, price, seed, quantity, value))
    return rows


PROVOKED = TrainingConfig(
    steps=1500, learning_rate=1e-1, decay=0.4, window=100, measure_every=150,
    resample_every=150, resample_until=1000,
)  # fmt: skip
"""A learning rate so high that latents die, which they hardly do otherwise."""


def deaths(
    seeds: Sequence[int],
    kinds: Sequence[str] = ("none", "simple", "bricken"),
    how: TrainingConfig = PROVOKED,
) -> list[Row]:
    """Dead latents over the updates, without and with resampling, where death is provoked."""
    truth, rows = world_truth(MIDDLE), list[Row]()
    config = shape(MIDDLE, start="independent")
    for kind in kinds:
        trained = run(config, truth, [PRICE], seeds, replace(how, resample=kind), batch=256)
        steps, dead = trained.history.metric_steps, trained.history.metrics["dead"]
        for step, values in zip(steps, dead, strict=True):
            pairs = zip(seeds, values, strict=True)
            rows += [("deaths", kind, float(step), s, "dead", float(v)) for s, v in pairs]
        end = [row for row in measured("deaths", kind, trained, truth) if row[4] != "dead"]
        rows += [(*row[:2], float(how.steps), *row[3:]) for row in end]
    return rows


# --- the artifact -----------------------------------------------------------------------------

SECTIONS: dict[str, Callable[[Sequence[int]], list[Row]]] = {
    "prices": prices,
    "variants": variants,
    "penalties": penalties,
    "duals": duals,
    "widths": widths,
    "families": families,
    "deaths": deaths,
}


def table(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Rows as the columns of an artifact."""
    return {
        name: np.array(values)
        for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)
    }


def make_known_truth(seeds: int = 5) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``sae-known-truth``: all sections, all seeds; columns as in `COLUMNS`.

    Raises:
        ValueError: fewer than two seeds.
    """
    if seeds < 2:
        raise ValueError(f"seeds is {seeds}; give 2 or more")
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        rows += section(range(seeds))
        print(f"{name} done", flush=True)
    about = "Sparse autoencoders on activations whose features are known, by section of the chapter"
    return table(rows), {"about": about, "seeds": list(range(seeds))}


def along(
    known: Mapping[str, np.ndarray], section: str, setting: str, quantity: str
) -> tuple[Float[np.ndarray, " x"], Float[np.ndarray, "x seed"]]:
    """A quantity of the table: its places, rising, and the values of all seeds.

    Raises:
        ValueError: the table has no such rows.
    """
    rows = (known["section"] == section) & (known["quantity"] == quantity)
    rows &= known["setting"] == setting
    if not rows.any():
        there = sorted({*zip(known["section"].tolist(), known["setting"].tolist(), strict=True)})
        raise ValueError(f"no {quantity!r} for {section}, {setting}; the table has {there}")
    order = np.lexsort((known["seed"][rows], known["x"][rows]))
    places = np.unique(known["x"][rows])
    return places, known["value"][rows][order].reshape(len(places), -1)


def at(
    known: Mapping[str, np.ndarray], section: str, setting: str, quantity: str, x: float
) -> Float[np.ndarray, " seed"]:
    """The same at one place.

    Raises:
        ValueError: the table has no such rows, or not that place.
    """
    places, values = along(known, section, setting, quantity)
    near = np.isclose(places, x)
    if not near.any():
        raise ValueError(f"{section}, {setting}: no {x}; there are {places.tolist()}")
    return values[near][0]
