"""The artifacts ``weber-inside`` and ``weber-model``: probes and exchanges over seeds, and one network's weights.

What the chapter shows for one trained transformer is measured here for several, each beside its own
untrained self. Directions are fitted to other rows than those that they are exchanged in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import artifacts, training
from mechbook.weber import mechanism, seeds, transformer
from mechbook.weber.seeds import VARIANTS, Variant
from mechbook.weber.transformer import TrainingConfig

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NAME = "weber-model"
OPENED = VARIANTS[0]
"""The kind of transformer that the chapter opens: no positions, any split of the words."""
ROWS = 1200
EXCHANGED = (4_000_003, 300)
"""Seed and number of the rows in which directions are exchanged."""
LINE = tuple(range(3, 40, 4))
"""Counts of the number line."""


# --- one model --------------------------------------------------------------------------------


def exchanges(model: Any, variant: Variant, rows: int = ROWS) -> dict[str, tuple[float, float]]:
    """What a decision follows when one direction after the last attention goes from row to row.

    The log-odds after the exchange are correlated with the log-odds that the donor and the receiver
    had before.

    Args:
        model: trained, or not.
        variant: its task, on whose rows it is asked.
        rows: to which the directions are fitted.

    Returns:
        For each direction, ``random`` among them, the correlations with the donor's and the own.
    """
    last = model.cfg.n_layers - 1
    fitted = mechanism.independent(variant.task, rows)
    stream = mechanism.streams(model, fitted)[f"attention {last}"]
    given = mechanism.independent(variant.task, EXCHANGED[1], seed=EXCHANGED[0])
    before = transformer.log_odds(model, given, variant.task).detach().numpy()
    found = {}
    for name, direction in directions(stream, mechanism.targets(fitted)).items():
        after, donor = mechanism.swapped_odds(model, given, variant.task, direction, last)
        against = (before[donor.numpy()], before)
        found[name] = tuple(float(np.corrcoef(after.numpy(), odds)[0, 1]) for odds in against)
    return found  # type: ignore[return-value]


def directions(
    stream: Float[Tensor, "row d_model"], targets: Mapping[str, Float[np.ndarray, " row"]]
) -> dict[str, Float[Tensor, " d_model"]]:
    """The directions of difference, ratio and sum in a stream, and a random one."""
    named = ("n - m", "(n - m) / (n + m)", "n + m")
    found = {name: mechanism.direction(stream, targets[name]) for name in named}
    random = torch.randn(stream.shape[1], generator=training.generator(5))
    return found | {"random": random / random.norm()}


def interventions(model: Any, variant: Variant) -> dict[str, tuple[float, float]]:
    """Accuracy, and exponent of the evidence: as it is, without the last MLP, with uniform attention."""
    found = {"whole": _asked(model, variant)}
    last = model.cfg.n_layers - 1
    held: dict[str, AbstractContextManager] = {}
    if variant.model.mlps:
        held["without the last MLP"] = mechanism.without_mlp(model, last)
    for layer in range(model.cfg.n_layers):
        held[f"uniform attention, layer {layer}"] = mechanism.uniform(model, [layer])
    for name, context in held.items():
        with context:
            found[name] = _asked(model, variant)
    return found


def _asked(model: Any, variant: Variant) -> tuple[float, float]:
    answers = transformer.answers(model, variant.task, means=seeds.MEANS, per_cell=32)
    return seeds.accuracy(answers.chosen), transformer.evidence(answers).exponent


def measured(model: Any, variant: Variant, rows: int = ROWS) -> list[tuple[str, str, str, float]]:
    """All of one model, as (quantity, place, name, value).

    ``probe`` (place: depth, name: target) and ``probe, shuffled``; ``unevenness`` (place: layer,
    name: head); ``exchange`` (place: direction, name: ``donor`` or ``own``); ``number line`` (name:
    scale); ``intervention`` (place: which, name: ``accuracy`` or ``exponent``).
    """
    given, kept = mechanism.independent(variant.task, rows), []
    for quantity, shuffled in (("probe", False), ("probe, shuffled", True)):
        for depth, values in mechanism.probe_table(model, given, shuffled=shuffled).items():
            kept += [(quantity, depth, name, value) for name, value in values.items()]
    few = mechanism.independent(variant.task, 64, seed=6_000_003)
    for layer, heads in enumerate(mechanism.unevenness(model, few).tolist()):
        kept += [("unevenness", str(layer), str(head), value) for head, value in enumerate(heads)]
    for direction, pair in exchanges(model, variant, rows).items():
        kept += [("exchange", direction, n, v) for n, v in zip(("donor", "own"), pair, strict=True)]
    line = mechanism.line_fit(mechanism.number_line(model, variant.task, LINE), LINE)
    kept += [("number line", "MLP 0", scale, value) for scale, value in line.items()]
    for name, two in interventions(model, variant).items():
        parts = zip(("accuracy", "exponent"), two, strict=True)
        kept += [("intervention", name, part, value) for part, value in parts]
    return kept


# --- the artifacts ----------------------------------------------------------------------------


def make_inside(number: int = 5) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The artifact ``weber-inside``: columns ``variant``, ``seed``, ``trained`` (1 or 0), and those of `measured`.

    Raises:
        ValueError: fewer than one seed.
    """
    if number < 1:
        raise ValueError(f"number is {number}; give 1 seed or more")
    rows: list[tuple] = []
    for variant in VARIANTS[:2]:
        for seed in range(number):
            rows += both(variant, seed, train(variant, seed))
            print(f"{variant.name}, seed {seed} done", flush=True)
    about = (
        "Probes, exchanges and interventions in transformers that compare two counts, over seeds"
    )
    return table(rows), {"about": about, "seeds": list(range(number))}


def both(variant: Variant, seed: int, model: Any) -> list[tuple]:
    """Rows of the table: a trained model, and the same before its training."""
    start = transformer.build(variant.task, replace(variant.model, seed=seed))
    return [
        (variant.name, seed, trained, *row)
        for trained, own in ((1, model), (0, start))
        for row in measured(own, variant)
    ]


def table(rows: list[tuple]) -> dict[str, np.ndarray]:
    """The columns of `make_inside`."""
    names = ("variant", "seed", "trained", "quantity", "place", "name", "value")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


def train(variant: Variant, seed: int, steps: int = seeds.STEPS[-1]) -> TransformerBridge:
    """A transformer after its whole training, the one that `seeds.run` measures on the way."""
    model = transformer.build(variant.task, replace(variant.model, seed=seed))
    config = TrainingConfig(steps=steps, seed=seed)
    transformer.train(model, variant.task, config, progress=False)
    return model


def make_model(seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The artifact ``weber-model``: the weights of the transformer that the chapter opens."""
    about = f"Weights of a transformer that compares two counts: {OPENED.name}, after its training"
    return weights(train(OPENED, seed)), {"about": about, "seeds": [seed]}


def weights(model: Any) -> dict[str, Tensor]:
    """A model's parameters and buffers by name, as `load` wants them."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def load(*, data: Path = artifacts.DATA) -> TransformerBridge:
    """The trained transformer from its file.

    Raises:
        ArtifactError: the file is missing, damaged, or does not fit the model.
    """
    model = transformer.build(OPENED.task, OPENED.model)
    try:
        model.load_state_dict(artifacts.load_tensors(NAME, data=data))
    except RuntimeError as error:
        raise artifacts.ArtifactError(
            f"{NAME} does not fit the model; `python -m mechbook make {NAME}` makes it again"
        ) from error
    return model.eval()


def values(
    table: Mapping[str, np.ndarray],
    quantity: str,
    place: str,
    name: str,
    *,
    variant: str = OPENED.name,
    trained: bool = True,
) -> Float[np.ndarray, " seed"]:
    """One quantity of the artifact, for every seed.

    Raises:
        ValueError: no such rows.
    """
    wanted = {"variant": variant, "quantity": quantity, "place": place, "name": name}
    rows = table["trained"] == int(trained)
    for column, value in wanted.items():
        rows = rows & (table[column] == value)
    if not rows.any():
        raise ValueError(f"no rows of {quantity!r} at {place!r}, {name!r}, for {variant!r}")
    return table["value"][rows][np.argsort(table["seed"][rows])]
