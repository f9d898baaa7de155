"""Moving the month: add, swap, lerp, slerp, norm alone, rotation in the harmonic planes, random; layer by layer.

An intervention moves the stream of one token from class a toward class b by a strength s. At the
month's token the class is the month that was given, at the last token the month that is the answer.
It succeeds where the model then says the counterfactual month.

The moves themselves are in `mechbook.geometry.spaces`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import binomtest
from torch import Tensor

from mechbook import training
from mechbook.geometry import arithmetic, streams
from mechbook.geometry.arithmetic import CYCLES, FINAL, ITEM, Sums, Task
from mechbook.geometry.spaces import (
    KINDS,
    MATCHES,
    Space,
    are_one,
    centroids,
    matched,
    move,
    scatter,
    shortest,
    space,
    still,
)

SITES = {"item": ITEM, "final": FINAL}


# --- flips ------------------------------------------------------------------------------------


def wilson(hits: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a share; trials of one network are not independent of one another.

    Raises:
        ValueError: no trials, or more hits than trials.
    """
    if not 0 <= hits <= total or total < 1:
        raise ValueError(f"{hits} hits of {total}; give one trial or more, and no more hits")
    ends = binomtest(hits, total).proportion_ci(level, method="wilson")
    return float(ends.low), float(ends.high)


@dataclass(frozen=True)
class Bench:
    """A network with what its interventions need.

    Attributes:
        model: the network.
        first: the token of the cycle's first item.
        items: in the cycle.
        trials: held-out sums that the network gets right, each once for every other class.
        start: class a, by site.
        end: class b.
        spaces: by site, at each depth; from sums of the training.
        scatter: by site, at each depth, see `spaces.scatter`; 0 where nothing has been read.
    """

    model: Any
    first: int
    items: int
    trials: Sums
    start: dict[str, Int[Tensor, " trial"]]
    end: dict[str, Int[Tensor, " trial"]]
    spaces: dict[str, list[Space]]
    scatter: dict[str, list[float]]


def bench(model: Any, task: Task, cycle: int = 0, seed: int = 0, most: int | None = None) -> Bench:
    """Prepare the interventions on one cycle of a trained network.

    Args:
        model: the network.
        task: what it was trained on.
        cycle: which.
        seed: of the draws.
        most: so many of the trials at most, drawn at random; all by default.

    Raises:
        ValueError: the network gets no held-out sum of the cycle right.
    """
    known, new = (part.of(cycle) for part in arithmetic.split(task))
    new = new.take(arithmetic.predictions(model, new) == new.answer)
    if not len(new):
        raise ValueError("the network gets no held-out sum right; train it first")
    items, first = len(CYCLES[cycle]), task.first_item(cycle)
    repeat = torch.arange(len(new)).repeat_interleave(items - 1)
    shift = torch.arange(1, items).repeat(len(new))
    if most is not None:
        chosen = torch.randperm(len(repeat), generator=training.generator(seed))[:most]
        repeat, shift = repeat[chosen], shift[chosen]
    trials = new.take(repeat)
    start = {"item": trials.item, "final": trials.answer - first}
    draw = training.generator(seed)
    spaces: dict[str, list[Space]] = {}
    spread: dict[str, list[float]] = {}
    for site, position in SITES.items():
        classes = known.item if site == "item" else known.answer - first
        seen = streams.read(model, known.tokens, position)
        means = [centroids(h, classes, items) for h in seen]
        spaces[site] = [still(c, draw) if are_one(c) else space(c, draw) for c in means]
        pairs = zip(seen, spaces[site], strict=True)
        spread[site] = [0.0 if are_one(s.centroids) else scatter(h, classes, s) for h, s in pairs]
    return Bench(
        model,
        first,
        items,
        trials,
        start,
        {site: (classes + shift) % items for site, classes in start.items()},
        spaces,
        spread,
    )


def outcomes(
    own: Bench,
    site: str,
    depth: int,
    kind: str,
    strength: float,
    match: str = "as it is",
    seed: int = 0,
) -> tuple[Int[Tensor, " trial"], Int[Tensor, " trial"]]:
    """What the network says after an intervention, and what it would say if that moved the month.

    Returns:
        The tokens said, and the counterfactual ones.

    Raises:
        ValueError: no such site, depth, kind or match.
    """
    if site not in SITES:
        raise ValueError(f"no site {site!r}; there are: {', '.join(SITES)}")
    streams.hook_name(own.model, depth)
    where, start, end = own.spaces[site][depth], own.start[site], own.end[site]
    step = strength * (where.centroids[end] - where.centroids[start]).norm(dim=-1)

    def edit(h: Tensor) -> Tensor:
        draw = training.generator(seed, depth)
        return matched(h, move(kind, h, start, end, where, strength, draw), step, match)

    logits = streams.edited(own.model, own.trials.tokens, depth, edit, SITES[site])
    shift = own.trials.offset if site == "item" else 0
    return logits.argmax(-1), own.first + (end + shift) % own.items


def table(
    own: Bench,
    *,
    sites: Sequence[str] = tuple(SITES),
    depths: Sequence[int] | None = None,
    kinds: Sequence[str] = KINDS,
    strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    matches: Sequence[str] = MATCHES,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Flips for every combination, by distance of a and b around the circle.

    Returns:
        Rows with ``site``, ``depth``, ``kind``, ``match``, ``strength``, ``distance``, ``flips``
        (the counterfactual month is said), ``stays`` (the old answer is), ``along`` (the month
        that lies so far along the shorter way is, where there is one; else -1) and ``total``.
    """
    depths = range(own.model.cfg.n_layers + 1) if depths is None else depths
    rows: list[dict[str, Any]] = []
    for site in sites:
        way = shortest(own.end[site] - own.start[site], own.items)
        for depth, kind, match, strength in product(depths, kinds, matches, strengths):
            said, meant = outcomes(own, site, depth, kind, strength, match, seed)
            told = {"site": site, "depth": depth, "kind": kind, "match": match}
            told |= {"strength": strength}
            rows += _by_distance(told, said, meant, own, way)
    return rows


def _by_distance(
    told: dict[str, Any], said: Tensor, meant: Tensor, own: Bench, way: Tensor
) -> list[dict[str, Any]]:
    rows = []
    for steps in way.abs().unique().tolist():
        here = way.abs() == steps
        share = told["strength"] * steps
        counts = {
            "distance": steps,
            "flips": int((said == meant)[here].sum()),
            "stays": int((said == own.trials.answer)[here].sum()),
            "along": -1,
            "total": int(here.sum()),
        }
        if share == round(share):
            back = way.sign() * round(steps - share)
            between = own.first + (meant - own.first - back) % own.items
            counts["along"] = int((said == between)[here].sum())
        rows.append(told | counts)
    return rows


def rate(
    rows: Mapping[str, np.ndarray], of: str = "flips", **which: Any
) -> tuple[float, float, float]:
    """The flip rate of the rows with the given values, with Wilson's interval.

    Args:
        rows: columns of `table`, as arrays.
        of: what is counted: ``flips``, ``stays`` or ``along`` (rows that have none are left out).
        which: values of some of the columns, each a value or several.

    Raises:
        ValueError: no such rows.
    """
    here = rows[of] >= 0
    for name, value in which.items():
        here &= np.isin(rows[name], value)
    hits, total = int(rows[of][here].sum()), int(rows["total"][here].sum())
    if not total:
        raise ValueError(f"no rows with {which}")
    return (hits / total, *wilson(hits, total))
