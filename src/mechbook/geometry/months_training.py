"""The artifact ``months-training``: what steps and turns flip while networks are still learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mechbook.geometry import arithmetic, interventions
from mechbook.geometry.arithmetic import NetConfig, Task

TRAINING = "months-training"
"""The artifact's name."""

KINDS = ("add", "angular", "turned centroid", "other calendar")
EVERY = 200
"""Updates between two measurements."""
TRIALS = 400


def flips(model: Any, task: Task, seed: int) -> dict[str, Float[np.ndarray, " depth"]]:
    """What each of `KINDS` flips at the last token at full strength, by depth.

    Not a number as long as the network gets no held-out sum of months right.
    """
    depths = model.cfg.n_layers + 1
    try:
        own = interventions.bench(model, task, seed=seed, most=TRIALS)
    except ValueError:
        return {kind: np.full(depths, np.nan) for kind in KINDS}
    rows = interventions.table(
        own, sites=["final"], kinds=KINDS, strengths=[1.0], matches=["as it is"], seed=seed
    )
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return {
        kind: np.array([interventions.rate(found, kind=kind, depth=d)[0] for d in range(depths)])
        for kind in KINDS
    }


def make_training(seeds: int = 5) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Recipe of ``months-training``: networks of seeds 0, 1, …, looked into every `EVERY` updates.

    Columns ``seed``, ``step``, ``name`` (a unit of `arithmetic.accuracies` or one of `KINDS`),
    ``depth`` (0 of accuracies) and ``value``. The networks are those of ``months-seeds``.

    Raises:
        ValueError: ``seeds`` below 1.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; give 1 or more")
    rows = []
    for seed in range(seeds):
        rows += [(seed, *row) for row in _watched(seed)]
        print(f"seed {seed}: {len(rows)} rows", flush=True)
    names = ("seed", "step", "name", "depth", "value")
    columns = {
        name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    about = (
        "Networks for calendar sums during training: what steps and turns at the last token flip"
    )
    return columns, {"about": about, "seeds": list(range(seeds))}


def _watched(
    seed: int, config: NetConfig | None = None, task: Task | None = None
) -> list[tuple[int, str, int, float]]:
    config, task = config or NetConfig(seed=seed), task or Task(seed=seed)
    history = arithmetic.train(
        arithmetic.build(task, config), task, config,
        measure_every=min(EVERY, config.steps),
        measure=lambda model, step: flips(model, task, seed),
        progress=False,
    )  # fmt: skip
    return [(step, name, int(place or 0), value) for step, name, place, value in history.rows()]


def by_seed(table: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The updates, and the values of an accuracy [seed update] or of an intervention [seed update depth].

    Raises:
        ValueError: nothing of that name.
    """
    here = table["name"] == name
    if not here.any():
        raise ValueError(f"the table has no {name!r}; it has {sorted(set(table['name']))}")
    steps, seeds = np.unique(table["step"]), np.unique(table["seed"])
    values = table["value"][here].reshape(len(seeds), len(steps), -1)
    return steps, values if name in KINDS else values[..., 0]


def at_arrival(
    table: Mapping[str, np.ndarray], kind: str, least: float = 0.5
) -> Float[np.ndarray, "seed update"]:
    """What an intervention flips at the first depth at which adding flips more than ``least``.

    Not a number where no depth does: the network has nothing to move yet.
    """
    _, added = by_seed(table, "add")
    _, values = by_seed(table, kind)
    there = np.nan_to_num(added) > least
    first = np.take_along_axis(values, there.argmax(-1)[..., None], -1)[..., 0]
    return np.where(there.any(-1), first, np.nan)
