"""How a network adds on a circle: Fourier components of neurons and logits, and what few frequencies can do.

That the months lie on a circle does not say that they are added by turning it. This module looks
at all sums of a cycle at once: a table whose rows are offsets and whose columns are items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechbook import training
from mechbook.geometry import arithmetic, streams
from mechbook.geometry.arithmetic import CYCLES, FINAL, Sums, Task
from mechbook.geometry.spaces import Space, centroids, space

KINDS = ("offset", "item", "sum", "difference", "mixed")


@torch.no_grad()
def neurons(
    model: Any, found: Sums, layer: int, position: int = FINAL
) -> Float[Tensor, "sum neuron"]:
    """The MLP's activations of a layer at one position.

    Raises:
        ValueError: no such layer.
    """
    if not 0 <= layer < model.cfg.n_layers:
        raise ValueError(f"layer is {layer}; give 0 to {model.cfg.n_layers - 1}")
    name = f"blocks.{layer}.mlp.hook_post"
    _, cache = model.run_with_cache(found.tokens, names_filter=[name])
    return cache[name][:, position]


def by_residue(
    values: Float[Tensor, "sum ..."], found: Sums, items: int
) -> Float[Tensor, "residue item ..."]:
    """The mean over offsets that ask for the same turn: 1, 13, 25, … for months.

    Args:
        values: one for each sum of a cycle.
        found: the sums; every item with every residue.
        items: in the cycle.

    Raises:
        ValueError: a residue that no sum has.
    """
    place = (found.offset % items) * items + found.item
    counts = torch.bincount(place, minlength=items * items)
    if bool((counts == 0).any()):
        raise ValueError("a pair of residue and item is missing; give all sums of the cycle")
    flat = values.reshape(len(values), -1)
    total = torch.zeros(items * items, flat.shape[1], dtype=flat.dtype).index_add_(0, place, flat)
    return (total / counts[:, None]).reshape(items, items, *values.shape[1:])


def spectrum(
    grid: Float[Tensor, "n n ..."],
) -> dict[str, Any]:
    """What a function of offset a and item b depends on, as shares of its variance.

    The table's 2-D Fourier components are ``offset`` (waves in a alone), ``item`` (in b alone),
    ``sum`` (waves in a + b), ``difference`` (in a - b) and ``mixed`` (all others).

    Returns:
        For each kind an array of the shape of one cell of the table.

    Raises:
        ValueError: a table that is not square, or does not vary at all.
    """
    power = _power(grid)
    n = len(grid)
    k = np.arange(1, n)
    shares = {
        "offset": power[1:, 0].sum(0),
        "item": power[0, 1:].sum(0),
        "sum": power[k, k].sum(0),
        "difference": power[k, (-k) % n].sum(0),
    }
    if n % 2 == 0:  # at the last frequency sum and difference are one wave; call it the sum's
        shares["difference"] = shares["difference"] - power[n // 2, n // 2]
    shares["mixed"] = 1 - sum(shares.values())
    return shares


def _power(grid: Float[Tensor, "n n ..."]) -> np.ndarray:
    """Squared Fourier components as shares of the variance; the constant is 0."""
    if grid.shape[0] != grid.shape[1]:
        raise ValueError(
            f"the table has shape {list(grid.shape)}; offsets and items must be as many"
        )
    power = np.abs(np.fft.fft2(grid.detach().double().numpy(), axes=(0, 1))) ** 2
    power[0, 0] = 0
    total = power.sum((0, 1))
    if not (np.asarray(total) > 0).all():
        raise ValueError("a function is constant over all sums; leave it out")
    return power / total


@dataclass(frozen=True)
class Neurons:
    """What the neurons of a layer answer to.

    Attributes:
        kinds: of `spectrum`, for each neuron.
        frequency: the frequency with the greatest share, all kinds together.
        share: that share.
        variance: of the neuron over all sums.
    """

    kinds: dict[str, Float[np.ndarray, " neuron"]]
    frequency: Int[np.ndarray, " neuron"]
    share: Float[np.ndarray, " neuron"]
    variance: Float[np.ndarray, " neuron"]


def tuned(grid: Float[Tensor, "n n neuron"], least: float = 1e-6) -> Neurons:
    """The frequency of each neuron that is not silent.

    Args:
        grid: activations by residue and item.
        least: neurons with less variance than this share of the mean variance are left out.

    Raises:
        ValueError: all are silent.
    """
    variance = grid.double().var((0, 1), unbiased=False)
    awake = variance > least * variance.mean()
    if not bool(awake.any()):
        raise ValueError("no neuron varies over the sums")
    grid = grid[:, :, awake]
    shares = frequency_shares(grid)
    return Neurons(spectrum(grid), shares.argmax(0) + 1, shares.max(0), variance[awake].numpy())


def frequency_shares(grid: Float[Tensor, "n n ..."]) -> Float[np.ndarray, "frequency ..."]:
    """For each frequency k the share of the waves in a, in b, in a + b and in a - b of it."""
    power = _power(grid)
    n = len(grid)
    rows = []
    for k in range(1, n // 2 + 1):
        corners = {(x % n, y % n) for x in (0, k, -k) for y in (0, k, -k)} - {(0, 0)}
        rows.append(sum(power[corner] for corner in sorted(corners)))
    return np.stack(rows)


# --- logits -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Readout:
    """What the logits of a cycle's items depend on.

    Attributes:
        sum_share: the share of their variance (over answers c, within each sum) that is one
            function of ``a + b - c``: 1 for a clock.
        profile: that function, by ``c - a - b``.
        frequencies: of the profile's variance, by frequency.
    """

    sum_share: float
    profile: Float[np.ndarray, " item"]
    frequencies: Float[np.ndarray, " frequency"]


def readout(grid: Float[Tensor, "n n answer"]) -> Readout:
    """Take the logits of a cycle apart.

    Args:
        grid: logits of the cycle's items, by residue and item.

    Raises:
        ValueError: not as many answers as items, or logits that do not vary.
    """
    n = len(grid)
    if grid.shape != (n, n, n):
        raise ValueError(f"the logits have shape {list(grid.shape)}; n offsets, items and answers")
    logits = grid.detach().double().numpy()
    logits = logits - logits.mean(-1, keepdims=True)
    total = (logits**2).sum()
    if not total > 0:
        raise ValueError("the logits are all equal")
    a, b, c = np.meshgrid(*[np.arange(n)] * 3, indexing="ij")
    turn = (c - a - b) % n
    profile = np.array([logits[turn == m].mean() for m in range(n)])
    power = np.abs(np.fft.fft(profile)) ** 2
    folded = power[1 : n // 2 + 1] * np.where(2 * np.arange(1, n // 2 + 1) == n, 1, 2)
    return Readout(float((profile[turn] ** 2).sum() / total), profile, folded / folded.sum())


def difference_share(grid: Float[Tensor, "n n answer"]) -> float:
    """The share of the right answers' margins that is a function of ``a - b``.

    A clock's margin is the same for all sums. Where cosines of halves of the two angles are
    averaged first (a "pizza", Zhong et al. 2023), the margin depends on how far apart they are.

    Raises:
        ValueError: as in `readout`, or margins that are all the same.
    """
    n = len(grid)
    logits = grid.detach().double().numpy()
    a, b = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    margin = logits[a, b, (a + b) % n] - logits.mean(-1)
    variance = ((margin - margin.mean()) ** 2).sum()
    if not variance > 0:
        raise ValueError("the margins are all the same")
    apart = (a - b) % n
    means = np.array([margin[apart == m].mean() for m in range(n)])
    return float(((means[apart] - margin.mean()) ** 2).sum() / variance)


def period_shares(
    vectors: Float[np.ndarray, "number d"], periods: Sequence[float]
) -> Float[np.ndarray, " period"]:
    """The share of the variance of the numbers' vectors in a wave of each period.

    Args:
        vectors: of the numbers 0, 1, 2, …, in order.
        periods: in numbers; 12 for months, 10 for decimal digits.

    Raises:
        ValueError: a period below 2, or vectors that are all alike.
    """
    if any(period < 2 for period in periods):
        raise ValueError(
            f"periods are {list(periods)}; a wave of numbers has a period of 2 or more"
        )
    centred = vectors - vectors.mean(0)
    total = (centred**2).sum()
    if not total > 0:
        raise ValueError("all vectors are alike; there is no wave")
    shares = []
    for period in periods:
        angle = 2 * np.pi * np.arange(len(vectors)) / period
        wave = np.stack([np.cos(angle), np.sin(angle)], 1)
        wave = wave - wave.mean(0)
        fit = wave @ np.linalg.lstsq(wave, centred, rcond=None)[0]
        shares.append((fit**2).sum() / total)
    return np.array(shares)


# --- few frequencies --------------------------------------------------------------------------


def kept(
    h: Float[Tensor, "batch d"], where: Space, harmonics: Sequence[int]
) -> Float[Tensor, "batch d"]:
    """The stream without the harmonic planes of the classes, but for some.

    Raises:
        ValueError: a harmonic that there is not.
    """
    most = len(where.planes)
    if any(not 1 <= k <= most for k in harmonics):
        raise ValueError(f"harmonics {list(harmonics)}; there are 1 to {most}")
    drop = [k - 1 for k in range(1, most + 1) if k not in set(harmonics)]
    axes = where.planes[drop].flatten(0, 1)
    return h - (h - where.mean) @ axes.mT @ axes


def without_random_planes(
    h: Float[Tensor, "batch d"], where: Space, planes: int
) -> Float[Tensor, "batch d"]:
    """The stream without some planes that have nothing to do with the classes: a control.

    Raises:
        ValueError: more planes than there are.
    """
    if not 0 <= planes <= len(where.random):
        raise ValueError(f"planes is {planes}; there are 0 to {len(where.random)}")
    axes = where.random[:planes].flatten(0, 1)
    return h - (h - where.mean) @ axes.mT @ axes


@torch.no_grad()
def ablation(
    model: Any, task: Task, depth: int, *, cycle: int = 0, position: int = FINAL, seed: int = 0
) -> dict[str, Float[np.ndarray, " kept"]]:
    """Held-out accuracy with only the strongest harmonics of the classes left, 0 to all.

    Returns:
        ``strongest``: with the k strongest harmonics; ``first``: with harmonics 1 to k;
        ``random planes``: with all harmonics, and as many other planes taken away.

    Raises:
        ValueError: no such depth or cycle.
    """
    known, new = (part.of(cycle) for part in arithmetic.split(task))
    items = len(CYCLES[cycle])
    classes = (known.answer - task.first_item(cycle)) if position == FINAL else known.item
    h = streams.read(model, known.tokens, position)
    streams.hook_name(model, depth)
    where = space(centroids(h[depth], classes, items), training.generator(seed))
    order = (where.shares.argsort(descending=True) + 1).tolist()
    found: dict[str, list[float]] = {"strongest": [], "first": [], "random planes": []}

    def score(edit: streams.Edit) -> float:
        logits = streams.edited(model, new.tokens, depth, edit, position)
        return float((logits.argmax(-1) == new.answer).float().mean())

    for k in range(len(order) + 1):
        found["strongest"].append(score(lambda h, k=k: kept(h, where, order[:k])))  # type: ignore[misc]
        found["first"].append(score(lambda h, k=k: kept(h, where, range(1, k + 1))))  # type: ignore[misc]
        dropped = len(order) - k
        found["random planes"].append(
            score(lambda h, n=dropped: without_random_planes(h, where, n))  # type: ignore[misc]
        )
    return {name: np.array(values) for name, values in found.items()}


def whole(task: Task, cycle: int = 0) -> Sums:
    """All sums of a cycle, trained on and held out, in as many rounds of offsets as are complete.

    Raises:
        ValueError: fewer offsets than items.
    """
    items = len(CYCLES[cycle])
    rounds = task.offsets // items
    if not rounds:
        raise ValueError(f"{task.offsets} offsets make no round of {items} items; give more")
    every = arithmetic.sums(task).of(cycle)
    return every.take(every.offset < rounds * items)
