"""The artifact ``months-seeds``: networks for calendar sums, several seeds: circles by depth, flips, frequencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from mechbook.geometry import arithmetic, circles, clock, interventions, sphere
from mechbook.geometry.arithmetic import CYCLES, FINAL, Task
from mechbook.geometry.interventions import SITES, Bench

SEEDS = "months-seeds"
"""The artifact's name."""

MATCHED = ("add", "lerp", "slerp", "angular", "turned centroid", "other calendar", "random")
"""Kinds that are compared at the same step and at the same norm, too."""

PERIODS = (2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 10.0, 12.0)
"""Periods looked for in the numbers: those of a year, and those of decimal digits."""

SHUFFLES = 20
"""Other orders for the mean turning error."""

PANELS = {"item": "at the month's token", "final": "at the last token"}
"""Titles of the two sites."""

FACTORS = (0.5, 2.0)
"""What the stream's length is multiplied by."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        quantity: what was measured.
        value: the measurement; of ``flips``, their share.
        site: ``item`` or ``final``; empty where the whole network is meant.
        depth: of the stream, or the layer of neurons.
        kind: of the intervention, the harmonic, the unit.
        match: how interventions were made comparable.
        strength: of the intervention, or the factor of the norm.
        distance: months between a and b.
        flips: answers that became the counterfactual month.
        stays: answers that stayed.
        along: answers that became the month so far along the way; -1 where there is none.
        total: trials; 0 where the value is no share of trials.
    """

    quantity: str
    value: float
    site: str = ""
    depth: int = 0
    kind: str = ""
    match: str = ""
    strength: float = 0.0
    distance: int = 0
    flips: int = -1
    stays: int = -1
    along: int = -1
    total: int = 0


def measure(model: Any, task: Task, seed: int, orders: int = 500) -> list[Row]:
    """Everything that the table says of one network.

    Raises:
        ValueError: the network gets no held-out sum of months right.
    """
    own = interventions.bench(model, task, seed=seed)
    right = arithmetic.accuracies(model, arithmetic.split(task)[1], task.cycles)
    rows = [Row("accuracy", value, kind=unit) for unit, value in right.items()]
    rows += [row for site in SITES for row in around(own, site, orders, seed)]
    rows += flips(own, seed)
    rows += [row for site in SITES for row in frequencies(own, task, site, seed)]
    return rows + algorithm(model, task, seed) + norms(own)


def around(own: Bench, site: str, draws: int = 500, seed: int = 0) -> list[Row]:
    """Shares of the harmonics with p-values, the leave-one-out probe and the turning error, by depth."""
    rows = []
    for depth, where in enumerate(own.spaces[site]):
        if not bool(where.shares.sum() > 0):  # nothing has been read yet
            continue
        points = where.centroids.double().numpy()
        found = circles.circularity(points, orders=draws, seed=seed)
        for k, share in enumerate(found.shares, 1):
            rows.append(Row("share", share, site, depth, str(k)))
            rows.append(Row("p-value", found.p_values[k - 1], site, depth, str(k)))
        rows.append(Row("probe", circles.probe_r2(points), site, depth))
        rows.append(Row("scatter", own.scatter[site][depth], site, depth))
        rows.append(Row("turning error", circles.turning_error(points), site, depth))
        orders = [
            np.random.default_rng([seed, i]).permutation(len(points)) for i in range(SHUFFLES)
        ]
        null = np.mean([circles.turning_error(points[order]) for order in orders])
        rows.append(Row("turning error, shuffled", float(null), site, depth))
    return rows


def dial(own: Bench, kinds: Sequence[str], strengths: Sequence[float]) -> dict[str, np.ndarray]:
    """Interventions as they are on one network, as columns like the table's."""
    found = interventions.table(own, kinds=kinds, strengths=strengths, matches=["as it is"])
    return columns([(0, Row("flips", row["flips"] / row["total"], **row)) for row in found])


def flips(own: Bench, seed: int = 0) -> list[Row]:
    """Interventions as they are at four strengths, and some of them at the same step or norm at two."""
    found = interventions.table(own, matches=["as it is"], seed=seed)
    found += interventions.table(
        own, kinds=MATCHED, strengths=(0.5, 1.0), matches=interventions.MATCHES[1:], seed=seed
    )
    return [Row("flips", row["flips"] / row["total"], **row) for row in found]


def frequencies(own: Bench, task: Task, site: str, seed: int = 0) -> list[Row]:
    """Held-out accuracy with some harmonics of the classes alone, by depth."""
    rows = []
    for depth, where in enumerate(own.spaces[site]):
        if not bool(where.shares.sum() > 0):
            continue
        found = clock.ablation(own.model, task, depth, position=SITES[site], seed=seed)
        for name, values in found.items():
            rows += [Row(f"kept: {name}", v, site, depth, str(k)) for k, v in enumerate(values)]
    return rows


def algorithm(model: Any, task: Task, seed: int = 0) -> list[Row]:
    """What logits, neurons and numbers depend on."""
    every, items = clock.whole(task), len(CYCLES[0])
    first = task.first_item(0)
    with torch.no_grad():
        logits = model(every.tokens)[:, -1, first : first + items]
    grid = clock.by_residue(logits, every, items)
    read = clock.readout(grid)
    rows = [
        Row("readout: sum", read.sum_share),
        Row("readout: difference", clock.difference_share(grid)),
    ]
    rows += [Row("readout: share", v, kind=str(k)) for k, v in enumerate(read.frequencies, 1)]
    for layer in range(model.cfg.n_layers):
        active = clock.by_residue(clock.neurons(model, every, layer, FINAL), every, items)
        rows += _neurons(active, layer)
    numbers = model.W_E.detach()[: task.offsets].double().numpy()
    mixed = numbers[np.random.default_rng(seed).permutation(len(numbers))]
    for name, vectors in (("numbers", numbers), ("numbers, shuffled", mixed)):
        shares = clock.period_shares(vectors, PERIODS)
        rows += [Row(name, v, kind=f"{p:g}") for p, v in zip(PERIODS, shares, strict=True)]
    return rows


def _neurons(active: Any, layer: int) -> list[Row]:
    """What a layer's neurons answer to, each by its variance; none where all are silent."""
    try:
        found = clock.tuned(active)
    except ValueError:
        return []
    weight = found.variance / found.variance.sum()
    rows = [
        Row("neurons", float((v * weight).sum()), "final", layer, k) for k, v in found.kinds.items()
    ]
    return [
        *rows,
        Row("neurons", float((found.share * weight).sum()), "final", layer, "one frequency"),
    ]


def norms(own: Bench) -> list[Row]:
    """How far the prediction moves when the stream is made longer or shorter, in nats."""
    rows = []
    for site, position in SITES.items():
        found = sphere.norm_effect(
            own.model, own.trials.tokens[:: own.items - 1], FACTORS, position
        )
        for depth, values in enumerate(found.tolist()):
            rows += [
                Row("norm effect", v, site, depth, strength=f)
                for f, v in zip(FACTORS, values, strict=True)
            ]
    return rows


def make_seeds(seeds: int = 5) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Recipe of ``months-seeds``: networks of seeds 0, 1, …, trained, measured and forgotten.

    Raises:
        ValueError: ``seeds`` below 1, or so many that the shipped network's own is among them.
    """
    if not 1 <= seeds <= arithmetic.SEED:
        raise ValueError(f"seeds is {seeds}; give 1 to {arithmetic.SEED}")
    rows = []
    for seed in range(seeds):
        model = arithmetic.trained(seed)
        rows += [(seed, row) for row in measure(model, Task(seed=seed), seed)]
        print(f"seed {seed}: {rows[-1][1]}", flush=True)
    about = (
        "Networks for calendar sums over seeds: accuracy, circles by depth, what interventions on "
    )
    about += "the months do on held-out sums, and which frequencies the networks use"
    return columns(rows), {"about": about, "seeds": list(range(seeds))}


def columns(rows: list[tuple[int, Row]]) -> dict[str, np.ndarray]:
    """The rows as columns, with the seed in front."""
    names = list(Row.__dataclass_fields__)
    seed = {"seed": np.array([seed for seed, _ in rows])}
    return seed | {name: np.array([getattr(row, name) for _, row in rows]) for name in names}


# --- reading ----------------------------------------------------------------------------------


def select(table: Mapping[str, np.ndarray], **which: Any) -> dict[str, np.ndarray]:
    """The rows with the given values of some columns.

    Raises:
        ValueError: no such rows.
    """
    here = np.ones(len(table["seed"]), dtype=bool)
    for name, value in which.items():
        here &= np.isin(table[name], value)
    if not here.any():
        raise ValueError(f"no rows with {which}")
    return {name: values[here] for name, values in table.items()}


def by_seed(
    table: Mapping[str, np.ndarray], of: str = "value", **which: Any
) -> Float[np.ndarray, " seed"]:
    """One number for each seed: the mean value, or the share of ``flips``, ``stays`` or ``along``.

    Raises:
        ValueError: no such rows.
    """
    rows = select(table, **which)
    if of == "value":
        return np.array([rows["value"][rows["seed"] == s].mean() for s in np.unique(rows["seed"])])
    return np.array([interventions.rate(rows, of, seed=s)[0] for s in np.unique(rows["seed"])])


def by_depth(
    table: Mapping[str, np.ndarray], of: str = "value", **which: Any
) -> tuple[np.ndarray, Float[np.ndarray, "seed depth"]]:
    """The depths at which something was measured, and `by_seed` at each.

    Raises:
        ValueError: no such rows.
    """
    depths = np.unique(select(table, **which)["depth"])
    return depths, np.stack([by_seed(table, of, depth=d, **which) for d in depths], 1)


def curves(
    table: Mapping[str, np.ndarray], kinds: Sequence[str], of: str = "flips", **which: Any
) -> tuple[dict[str, dict[str, list[float]]], dict[str, dict[str, np.ndarray]]]:
    """Shares of ``flips``, ``stays`` or ``along`` by depth, all seeds together, with Wilson's intervals.

    Returns:
        Panel → kind → [depth], and panel → kind → [two, depth].

    Raises:
        ValueError: no such rows.
    """
    depths = np.unique(select(table, quantity="flips")["depth"])
    shares: dict[str, dict[str, list[float]]] = {}
    ends: dict[str, dict[str, np.ndarray]] = {}
    for site, panel in PANELS.items():
        shares[panel], ends[panel] = {}, {}
        for kind in kinds:
            at = {"quantity": "flips", "site": site, "kind": kind, **which}
            found = np.array([interventions.rate(table, of, depth=d, **at) for d in depths])
            shares[panel][kind], ends[panel][kind] = found[:, 0].tolist(), found[:, 1:].T
    return shares, ends


def arrival(table: Mapping[str, np.ndarray], least: float = 0.5) -> Int[np.ndarray, " seed"]:
    """For each seed the first depth at which adding the difference flips enough answers.

    At the last token, at full strength. Which block brings the answer there differs by training.

    Raises:
        ValueError: a seed in which no depth does, or no such rows.
    """
    which = {"quantity": "flips", "site": "final", "kind": "add", "match": "as it is"}
    depths, found = by_depth(table, "flips", strength=1.0, **which)
    if not (found > least).any(1).all():
        raise ValueError(f"in a seed adding flips no more than {least} at any depth")
    return depths[(found > least).argmax(1)]


def at_arrival(table: Mapping[str, np.ndarray], kind: str) -> Float[np.ndarray, " seed"]:
    """Flips of an intervention at full strength at the last token, at each seed's `arrival`.

    Raises:
        ValueError: as in `arrival`.
    """
    which = {"quantity": "flips", "site": "final", "kind": kind, "match": "as it is"}
    depths, found = by_depth(table, "flips", strength=1.0, **which)
    return found[np.arange(len(found)), np.searchsorted(depths, arrival(table))]


def value_at(
    table: Mapping[str, np.ndarray], quantity: str, depths: Int[np.ndarray, " seed"], **which: Any
) -> Float[np.ndarray, " seed"]:
    """A quantity of the last token, for each seed at a depth of its own.

    Raises:
        ValueError: no such rows, or a depth at which it was not measured.
    """
    known, found = by_depth(table, quantity=quantity, site="final", **which)
    if not np.isin(depths, known).all():
        raise ValueError(f"{quantity} was measured at depths {known}, not at {depths}")
    return found[np.arange(len(found)), np.searchsorted(known, depths)]
