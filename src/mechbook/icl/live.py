"""What the chapter computes itself: one contrast on Gaussian classes, and a race of two circuits in two equations.

Also the artifact ``icl-maps``, the attention of a few runs on a few fixed episodes over training::

    python -m mechbook make icl-maps          # needs Omniglot, see mechbook.icl.omniglot
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.special import expit
from torch import Tensor

from mechbook.grids import grid
from mechbook.icl import episodes, experiments, runs
from mechbook.icl.config import PAIRS, IclConfig, gaussian

CONTRAST = (128, 2048)
"""Class counts of the live run: too few to learn in context, and enough."""
SEED = 10
"""Of the live run; those of the artifact ``icl-gauss`` are 0, 1, 2."""
STEPS = 1000
WATCHED = 4
"""Episodes whose attention is kept."""
MAPS_SEED = 0
MAPS_DECAY = 0.3
"""The decay of the thinner grids: neither the notes' nor the strongest."""


# --- the live run -----------------------------------------------------------------------------


def contrast(
    steps: int = STEPS,
    seed: int = SEED,
    classes: Sequence[int] = CONTRAST,
    progress: bool | None = None,
    **changes: Any,
) -> dict[str, np.ndarray]:
    """Train one run for each class count, as ``icl-gauss`` does, for fewer updates.

    The learning rate is constant, so a shorter run is the beginning of a longer one.

    Args:
        steps: updates.
        seed: of weights, classes and sequences.
        classes: class counts.
        progress: show a bar; default: only where the page is not built statically.
        changes: other fields of `IclConfig`, for a smaller run.

    Returns:
        A table with the columns of ``icl-gauss``, but ``stage``.
    """
    settings = {"steps": steps, "seed": seed} | changes
    configs = [gaussian(n_classes=count, **settings) for count in classes]
    return tabled(configs, runs.run(configs, progress=progress))


def tabled(
    configs: Sequence[IclConfig], rows: Sequence[Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """Rows of `runs.run` as columns, each with the fields of its config."""
    whole = [{**configs[row["member"]].to_dict(), **row} for row in rows]
    return {
        name: np.array([str(row[name]) if name == "burst" else row[name] for row in whole])
        for name in whole[0]
        if name != "member"
    }


# --- the race of two circuits -----------------------------------------------------------------


@dataclass(frozen=True)
class Race:
    """Two circuits that answer the same training questions; times are arbitrary.

    The context's margin is c = u², two weights in series; the weights' margin w is one, and its rate
    is shared out over the classes. Both fall the same loss log(1 + exp(-margin)).

    Attributes:
        n_classes: K.
        p_bursty: share of questions that the context can answer; the others only the weights can.
        decay: λ, of every weight.
        rate: r, of learning one class's label by heart.
        start: margin of the context's circuit at first.
        length: of the race.
        points: times at which it is watched, evenly spaced.
    """

    n_classes: int = 100
    p_bursty: float = 0.9
    decay: float = 0.0
    rate: float = 500.0
    start: float = 1e-3
    length: float = 600.0
    points: int = 601


@dataclass(frozen=True)
class Course:
    """How a race went.

    Attributes:
        time: of each point.
        context: margin c.
        weights: margin w.
    """

    time: Float[np.ndarray, " point"]
    context: Float[np.ndarray, " point"]
    weights: Float[np.ndarray, " point"]


def race(config: Race) -> Course:
    """Follow the gradient of the mean loss.

    With σ the logistic function: du/dt = 2u p σ(-(c + w)) - λu, c = u², and
    dw/dt = (r / K) (p σ(-(c + w)) + (1 - p) σ(-w)) - λw.
    """
    time = np.linspace(0, config.length, config.points)
    found = solve_ivp(
        lambda _, state: _slope(config, state),
        (0.0, config.length),
        [config.start**0.5, 0.0],
        t_eval=time,
        method="LSODA",
        rtol=1e-9,
        atol=1e-12,
    )
    return Course(time, found.y[0] ** 2, found.y[1])


def _slope(config: Race, state: Sequence[float]) -> list[float]:
    u, w = state
    p, both, alone = config.p_bursty, expit(-(u * u + w)), expit(-w)
    du = 2 * u * p * both - config.decay * u
    dw = config.rate / config.n_classes * (p * both + (1 - p) * alone) - config.decay * w
    return [float(du), float(dw)]


def orbit(config: Race, weights: Float[np.ndarray, " point"]) -> Float[np.ndarray, " point"]:
    """The context's margin at each margin of the weights, in closed form.

    Without decay and with bursty sequences only, c = start · exp(4 K w / r).
    """
    return config.start * np.exp(4 * config.n_classes * np.asarray(weights) / config.rate)


def takeover(config: Race) -> float:
    """How much the weights know when the context's margin is 1: r · ln(1 / start) / 4K."""
    return float(config.rate * np.log(1 / config.start) / (4 * config.n_classes))


def strongest(config: Race) -> float:
    """λ*: below it a small context circuit grows in the long run, above it dies.

    While c is small the weights settle where (r / K) σ(-w) = λ w, and c grows if 2p σ(-w) > λ. Both
    are equal at w = r / 2pK, so λ* = 2p σ(-r / 2pK).
    """
    p = config.p_bursty
    return float(2 * p * expit(-config.rate / (2 * p * config.n_classes)))


# --- attention on fixed episodes --------------------------------------------------------------


@dataclass(frozen=True)
class Maps:
    """Attention of some runs on some fixed episodes over training, from ``icl-maps``.

    Attributes:
        n_classes: of each run.
        decay: of each run.
        step: of each measurement.
        icl: accuracy of each run in context at each measurement.
        patterns: attention.
        labels: of each episode's context.
        match: where an episode's context shows the query's class.
    """

    n_classes: tuple[int, ...]
    decay: tuple[float, ...]
    step: tuple[int, ...]
    icl: Float[np.ndarray, "run measured"]
    patterns: Float[np.ndarray, "run measured episode layer query key"]
    labels: np.ndarray
    match: np.ndarray

    def tokens(self, episode: int) -> list[str]:
        """An episode in letters: A a picture of the query's class, B of the other; labels; ``?``."""
        found: list[str] = []
        for label, same in zip(self.labels[episode], self.match[episode], strict=True):
            found += ["A" if same else "B", str(int(label))]
        return [*found, "?"]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Maps:
        """From the tensors of the artifact."""
        known = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        return cls(
            tuple(int(count) for count in known["n_classes"]),
            tuple(round(float(decay), 6) for decay in known["decay"]),
            tuple(int(step) for step in known["step"]),
            known["icl"],
            known["patterns"],
            known["labels"].astype(int),
            known["match"].astype(bool),
        )


def map_configs(preset: str = "laptop") -> list[IclConfig]:
    """The runs of ``icl-maps``: few and many classes, without decay and with `MAPS_DECAY`.

    Raises:
        ValueError: a preset other than ``laptop`` and ``smoke``.
    """
    if preset not in experiments.PRESETS:
        raise ValueError(f"preset is {preset!r}; give one of {', '.join(experiments.PRESETS)}")
    given = experiments.PRESETS[preset]
    base = replace(given.base, seed=MAPS_SEED, evaluate_every=max(1, given.base.steps // 24))
    return grid(base, n_classes=(given.few, given.many), decay=(0.0, MAPS_DECAY))


def make_maps(preset: str = "laptop") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The artifact ``icl-maps``: patterns of four runs at 25 steps on four episodes, half precision.

    Tensors: ``patterns`` [run, measured, episode, layer, query, key], ``icl`` [run, measured],
    ``step``, ``n_classes``, ``decay``, ``labels`` and ``match`` [episode, pair]. One head a layer.

    Raises:
        ValueError: another preset; no Omniglot (for ``laptop``).
    """
    configs = map_configs(preset)
    pack = runs.Pack.of(configs, watch=WATCHED)
    trained = pack.train()
    asked = episodes.make("icl", configs[0], pack.pool)
    patterns = trained.maps()[:, :, :, :, 0]  # [measured member episode layer query key]
    tensors = {
        "patterns": torch.from_numpy(np.ascontiguousarray(patterns.swapaxes(0, 1))).half(),
        "icl": torch.from_numpy(np.ascontiguousarray(trained.history.metrics["icl"].T)).float(),
        "step": torch.as_tensor(trained.history.metric_steps),
        "n_classes": torch.tensor([config.n_classes for config in configs]),
        "decay": torch.tensor([config.decay for config in configs]),
        "labels": asked.labels[:WATCHED],
        "match": asked.match[:WATCHED].to(torch.uint8),
    }
    about = "Attention of four runs on four fixed episodes with held-out classes, over training"
    return tensors, {"about": about, "seeds": [MAPS_SEED]}


def path_of(
    patterns: Float[np.ndarray, "*any layer query key"], match: np.ndarray
) -> Float[np.ndarray, "*any layer"]:
    """Attention of the query on its class's labels less that on the others', on one episode.

    Args:
        patterns: of one episode.
        match: which pairs show the query's class, [pair].
    """
    labels = np.asarray(patterns)[..., -1, 1 : 2 * PAIRS : 2]
    return (labels * np.where(match, 1.0, -1.0)).sum(-1)
