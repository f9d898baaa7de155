"""What the artifact ``residual-lens-seeds`` holds: the chapter's numbers for one seed, as rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechbook import training
from mechbook.residual import decomposition, lens, subspaces
from mechbook.residual.model import (
    KINDS,
    Language,
    ModelConfig,
    Run,
    TrainingConfig,
    build,
    held_out,
    run,
    train,
)

Row = dict[str, Any]
TEACHER_SEED = 1_000_033


@dataclass
class _Rows:
    """Rows of one seed and one model."""

    seed: int
    model: str
    rows: list[Row] = field(default_factory=list)

    def add(self, quantity: str, value: float | Tensor, place: str = "", kind: str = "") -> None:
        identity = {"seed": self.seed, "model": self.model, "quantity": quantity}
        self.rows.append({**identity, "place": place, "kind": kind, "value": float(value)})

    def grid(
        self,
        quantity: str,
        values: Float[Tensor, "place kind"],
        places: tuple[str, ...],
        kinds: tuple[str, ...] = KINDS,
    ) -> None:
        for place, line in zip(places, values, strict=True):
            for kind, value in zip(kinds, line, strict=True):
                self.add(quantity, value, place, kind)


def measure(seed: int, steps: int) -> list[Row]:
    """Train the chapter's model with one seed and measure it, and its controls.

    Args:
        seed: of the initial weights and of the texts.
        steps: of training.

    Returns:
        Rows with ``seed``, ``model`` ("trained", "untrained", "two layers", "one layer"), ``quantity``, ``place``
        (a depth, a component, a side), ``kind`` (of position) and ``value``.
    """
    language, schedule = Language(), TrainingConfig(steps=steps, seed=seed)
    rows: list[Row] = []
    for name, n_layers in (("untrained", 3), ("trained", 3), ("two layers", 2), ("one layer", 1)):
        model, found = build(language, ModelConfig(n_layers=n_layers, seed=seed)), _Rows(seed, name)
        if name != "untrained":
            train(model, language, schedule)
        seen = run(model, language)
        _lens(found, seen)
        if n_layers == 3:
            _norms(found, seen)
            _composition(found, seen)
        if name == "trained":
            _probes(found, seen)
            _identities(found, seen)
            _attribution(found, seen)
        rows += found.rows
    return rows


def _lens(found: _Rows, seen: Run) -> None:
    for prefix, frozen in (("", False), ("frozen scale ", True)):
        table = lens.logit_lens(seen, frozen)
        for quantity in ("accuracy", "habit", "loss", "divergence"):
            if not frozen or quantity in ("loss", "divergence"):
                found.grid(f"{prefix}lens {quantity}", getattr(table, quantity), table.labels)


def _probes(found: _Rows, seen: Run) -> None:
    teacher = run(seen.model, seen.language, held_out(seen.language, seed=TEACHER_SEED))
    for prefix, shuffled in (("", False), ("shuffled ", True)):
        table = lens.probe_lens(seen, teacher, shuffled, ("embedding",) if shuffled else None)
        found.grid(f"{prefix}probe accuracy", table.accuracy, table.labels)
        found.grid(f"{prefix}probe habit", table.habit, table.labels)


def _norms(found: _Rows, seen: Run) -> None:
    depths = lens.stream(seen.model, seen.cache)
    grown = subspaces.growth(depths.values)
    for label, value in zip(depths.labels, grown.norm, strict=True):
        found.add("norm", value, label)
    for label, length, cosine in zip(depths.labels[1:], grown.write, grown.cosine, strict=True):
        found.add("write norm", length, label)
        found.add("write cosine", cosine, label)


def _composition(found: _Rows, seen: Run) -> None:
    circuits = subspaces.circuits(seen.model)
    found.add("participation OV", subspaces.participation_ratio(circuits.OV).mean())
    found.add("participation QK", subspaces.participation_ratio(circuits.QK).mean())
    for early, late in ((0, 1), (1, 2)):
        result = subspaces.composition(circuits, early, late, training.generator(0))
        overlap = subspaces.subspace_overlaps(seen.model, early, late)
        for i, side in enumerate(subspaces.SIDES):
            found.add("composition z", result.z[i].mean(), f"{early} to {late}", side)
            ratio = (result.score[i] / result.null[i]).mean()
            found.add("composition ratio", ratio, f"{early} to {late}", side)
            found.add("overlap", overlap[i].mean(), f"{early} to {late}", side)


def _identities(found: _Rows, seen: Run) -> None:
    parts = decomposition.components(seen.model, seen.cache)
    whole = decomposition.final_stream(seen.model, seen.cache)
    found.add("decomposition error", decomposition.decomposition_error(parts, whole))
    for name in parts.names:
        found.add("left out", decomposition.decomposition_error(parts, whole, [name]), name)
    for place, bias in (("", True), ("no bias", False)):
        found.add("heads error", decomposition.heads_error(seen.model, seen.cache, bias), place)
    end = decomposition.readout(seen.model)
    logits = decomposition.direct_logits(parts, end, end.scale(whole))
    found.add("attribution error", decomposition.error(logits.sum(0), seen.logits))


def _attribution(found: _Rows, seen: Run) -> None:
    table = decomposition.attribute(seen, training.generator(0))
    for target in ("answer", "favorite", "chance"):
        found.grid(f"direct {target}", getattr(table, target), table.names)
    copiers = decomposition.copying_heads(seen)
    found.add("falls back", decomposition.falls_back(seen, copiers), "copying heads")
    first = [f"0.{head}" for head in range(seen.model.cfg.n_heads)]
    found.add("falls back", decomposition.falls_back(seen, first), "heads of layer 0")
    scores = decomposition.head_scores(seen)
    for quantity in ("previous", "induction"):
        for (layer, head), value in np.ndenumerate(getattr(scores, quantity).numpy()):
            found.add(f"{quantity} attention", float(value), f"{layer}.{head}")


def values(table: Mapping[str, np.ndarray], **where: str) -> Float[np.ndarray, " seed"]:
    """One number a seed: the rows where the given columns have the given values.

    Raises:
        ValueError: no such rows, or several for a seed.
    """
    keep = np.ones(len(table["value"]), dtype=bool)
    for column, wanted in where.items():
        keep &= table[column] == wanted
    seeds = table["seed"][keep]
    if not len(seeds) or len(set(seeds.tolist())) < len(seeds):
        names = sorted(set(table["quantity"].tolist()))
        raise ValueError(f"{where} selects {len(seeds)} rows; one a seed is needed among {names}")
    return table["value"][keep][np.argsort(seeds)]


def by_place(
    table: Mapping[str, np.ndarray], places: tuple[str, ...], **where: str
) -> Float[np.ndarray, "seed place"]:
    """``values`` at several places, side by side."""
    return np.stack([values(table, place=place, **where) for place in places], 1)
