"""What a model answers, how sure it is, and where it looks; and how long what it learned stays.

Everything works on stacks of members: a leading axis ``*member`` may be there or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CHANCE = 0.5
"""Restricted accuracy on two ways without any knowledge."""
LOOKS = ("image_mass", "label_mass", "wrong_label_mass", "label_gap", "previous_mass")


def accuracy(
    logits: Float[Tensor, "*member episode label"], target: Int[Tensor, "*member episode"]
) -> Float[Tensor, "*member"]:
    """Share of right best guesses."""
    return (logits.argmax(-1) == target).float().mean(-1)


def restricted(
    logits: Float[Tensor, "*member episode label"], offered: Bool[Tensor, "*member episode label"]
) -> Float[Tensor, "*member episode label"]:
    """The logits, minus infinity where a label does not stand in the context."""
    return logits.masked_fill(~offered, float("-inf"))


def calibration_error(
    logits: Float[Tensor, "*member episode label"],
    target: Int[Tensor, "*member episode"],
    bins: int = 10,
) -> Float[Tensor, "*member"]:
    """Expected calibration error (Guo et al. 2017): mean gap of confidence and accuracy, over bins.

    The best guess's probability is sorted into ``bins`` equal parts of [0, 1]; each part's gap
    counts with the share of episodes in it.
    """
    sure, guess = logits.softmax(-1).max(-1)
    gap = (guess == target).to(sure) - sure
    place = (sure * bins).long().clamp(max=bins - 1)
    into = torch.nn.functional.one_hot(place, bins).to(sure)
    return (into * gap[..., None]).mean(-2).abs().sum(-1)


def answers(
    kind: str, logits: Tensor, target: Tensor, own: Tensor, offered: Tensor
) -> dict[str, Float[Tensor, "*member"]]:
    """Accuracies and calibration errors of one kind of episodes, by the name of the column.

    ``KIND_open`` is over all labels, ``KIND`` among those in the context (for ``iwl``, whose answer
    never stands there, over all labels); ``KIND_ece`` and ``KIND_open_ece`` go with them.
    ``swap_own`` is how often the label of the training was said.
    """
    found = {f"{kind}_open": accuracy(logits, target)}
    found[f"{kind}_open_ece"] = calibration_error(logits, target)
    if kind == "iwl":
        return {"iwl": found["iwl_open"], "iwl_ece": found["iwl_open_ece"]}
    among = restricted(logits, offered)
    found |= {kind: accuracy(among, target), f"{kind}_ece": calibration_error(among, target)}
    if kind == "swap":
        found["swap_own"] = accuracy(logits, own)
    return found


def looks(
    patterns: Float[Tensor, "episode layer head query key"], match: Bool[Tensor, "episode pair"]
) -> dict[str, Float[Tensor, "layer head"]]:
    """Where the query looks, and whether labels look at the picture before them; means over episodes.

    Returns:
        ``image_mass`` and ``label_mass``: attention of the query paid to the pictures of its class
        and to their labels, ``wrong_label_mass``: to the other labels, ``label_gap``: the second
        less the third, 0 without knowledge, ``previous_mass``: of a label to its picture.
    """
    query = patterns[..., -1, :]
    image, label = query[..., 0:-1:2], query[..., 1::2]
    right = match.to(patterns)[:, None, None]
    back = patterns.diagonal(-1, -2, -1)[..., ::2]
    found = {
        "image_mass": (image * right).sum(-1),
        "label_mass": (label * right).sum(-1),
        "wrong_label_mass": (label * (1 - right)).sum(-1),
        "label_gap": (label * (2 * right - 1)).sum(-1),
        "previous_mass": back.mean(-1),
    }
    return {name: value.mean(0) for name, value in found.items()}


@dataclass(frozen=True)
class Transience:
    """How a curve rises and falls.

    Attributes:
        peak: its highest value, after a running median of three.
        peak_step: the first step there.
        final: the mean of its last three values.
        half_life: updates from the peak until half of what was above chance is lost; not a number
            where that never comes.
    """

    peak: float
    peak_step: int
    final: float
    half_life: float


def transience(steps: Sequence[int], values: Sequence[float], chance: float = CHANCE) -> Transience:
    """Peak, final value and half-life of an accuracy over training.

    A running median of three evaluations keeps one lucky evaluation from being the peak; the first
    and the last count for no more than their neighbor's median.

    Raises:
        ValueError: lengths that differ, or nothing measured.
    """
    if len(steps) != len(values) or not len(steps):
        raise ValueError(f"{len(steps)} steps and {len(values)} values; give as many, 1 or more")
    known = np.asarray(values, dtype=float)
    smooth = _running_median(known)
    top = int(smooth.argmax())
    below = np.flatnonzero(smooth[top:] <= chance + (smooth[top] - chance) / 2)
    lost = float(steps[top + below[0]] - steps[top]) if len(below) else float("nan")
    if smooth[top] <= chance:
        lost = float("nan")
    return Transience(float(smooth[top]), int(steps[top]), float(known[-3:].mean()), lost)


def _running_median(values: Float[np.ndarray, " step"]) -> Float[np.ndarray, " step"]:
    if len(values) < 3:
        return values
    inner = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), 0)
    return np.minimum(np.pad(inner, 1, mode="edge"), [values[0], *inner, values[-1]])


def summary(
    rows: Sequence[Mapping[str, Any]], column: str = "icl", chance: float = CHANCE
) -> list[dict[str, Any]]:
    """The transience of a column, one row a run, in the order in which the runs come.

    Beside `Transience`'s fields there are ``run``; ``label_mass``, ``label_gap`` and ``ciwl`` at the
    step of the peak, named ``..._at_peak``; ``iwl_final`` and ``ciwl_final``.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["run"], []).append(row)
    found = []
    for name, own in runs.items():
        own = sorted(own, key=lambda row: row["step"])
        curve = transience([row["step"] for row in own], [row[column] for row in own], chance)
        peak = next(row for row in own if row["step"] == curve.peak_step)
        looked = {f"{n}_at_peak": peak[n] for n in ("label_mass", "label_gap", "ciwl")}
        known = {f"{kind}_final": own[-1][kind] for kind in ("iwl", "ciwl")}
        found.append({"run": name, **vars(curve), **looked, **known})
    return found
