"""Runs that share a program, trained as one ensemble: rows of measurements, resumable.

``run(configs)`` returns one row for each run and evaluation. Runs may differ in seed, decay, arm, number
of classes, burstiness and Zipf exponent; the sequences of a seed are the same for every decay. ::

    configs = [IclConfig(n_classes=k, decay=d, seed=s) for k in (100, 1600) for d in (0, 0.3) ...]
    rows = run(configs, "omniglot.npz", folder="runs")
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechbook import training
from mechbook.ensembles import Ensemble
from mechbook.icl import classes, decay, episodes, measures
from mechbook.icl.config import OF_A_MEMBER, IclConfig
from mechbook.icl.model import Transformer, build
from mechbook.icl.sequences import Stream, same_data

CHUNK = 256
"""Episodes that pass through the models at once in an evaluation."""


def groups(configs: Iterable[IclConfig], size: int) -> list[list[IclConfig]]:
    """The runs in packs for `run`: each of one program and at most so many members, in order.

    Runs with the same sequences stay together.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}; give 1 member or more")
    programs: dict[IclConfig, list[IclConfig]] = {}
    for config in dict.fromkeys(configs):
        programs.setdefault(config.program, []).append(config)
    packs = []
    for members in programs.values():
        order = {key: i for i, key in enumerate(dict.fromkeys(map(same_data, members)))}
        members.sort(key=lambda config: order[same_data(config)])
        packs += [members[i : i + size] for i in range(0, len(members), size)]
    return packs


def run(
    configs: Sequence[IclConfig],
    data: Path | str | None = None,
    *,
    folder: Path | str | None = None,
    checkpoint_every: int = 1000,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Train the runs as one ensemble and measure them on the way.

    Args:
        configs: runs that differ only in what a member may have of its own (`OF_A_MEMBER`).
        data: of Omniglot, see ``omniglot.load``.
        folder: where to keep a checkpoint; a run that was killed goes on from it.
        checkpoint_every: updates from one writing of it to the next.
        device: where to compute.
        progress: show a bar; default: only where the page is not built statically.

    Returns:
        A row for each run and evaluation: ``member`` (which of the configs), ``run`` (its name),
        ``step``, ``efolds``, ``train_loss`` (mean since the evaluation before), the columns of
        ``measures.answers`` for every kind of episodes, and those of ``measures.looks`` as the
        greatest of all heads and for each head (``label_mass 1.0`` is that of layer 1, head 0).

    Raises:
        ValueError: runs of different programs, or data that does not fit them.
        TrainingError: a loss that is not finite, or a checkpoint of other runs.
    """
    return Pack.of(configs, data).train(folder, checkpoint_every, device, progress).rows()


def work(configs: Sequence[IclConfig]) -> list[dict[str, Any]]:
    """`run` for ``mechbook.sweeps``: a worker knows its places from its environment alone.

    ``MECHBOOK_OMNIGLOT`` names the data (see ``omniglot.load``), ``MECHBOOK_CHECKPOINTS`` a folder
    for checkpoints; without the latter a killed pack begins anew.
    """
    return run(configs, folder=os.environ.get("MECHBOOK_CHECKPOINTS") or None, progress=False)


@dataclass(frozen=True)
class Trained:
    """What became of a pack.

    Attributes:
        configs: the runs.
        ensemble: the trained members.
        history: losses and measurements.
    """

    configs: tuple[IclConfig, ...]
    ensemble: Ensemble
    history: training.History

    def rows(self) -> list[dict[str, Any]]:
        """The measurements, one row for each run and evaluation."""
        steps = self.history.metric_steps.tolist()
        folds = [decay.efolds(config, steps).tolist() for config in self.configs]
        return [
            self._row(member, at, steps, folds[member][at])
            for member in range(len(self.configs))
            for at in range(len(steps))
        ]

    def _row(self, member: int, at: int, steps: list[int], efolds: float) -> dict[str, Any]:
        since = slice(steps[at - 1] if at else 0, steps[at])
        losses = self.history.loss[since, member]
        row: dict[str, Any] = {"member": member, "run": self.configs[member].run}
        row |= {"step": steps[at], "efolds": efolds}
        row["train_loss"] = float(losses.mean()) if len(losses) else float("nan")
        for name, values in self.history.metrics.items():
            value = values[at, member]
            if name in measures.LOOKS:
                for (layer, head), mass in np.ndenumerate(value):
                    row[f"{name} {layer}.{head}"] = float(mass)
            if name != "maps":
                row[name] = float(value.max())
        return row

    def maps(self) -> Float[np.ndarray, "measured member episode layer head query key"]:
        """Attention on the watched episodes, at each evaluation.

        Raises:
            ValueError: none were watched.
        """
        if "maps" not in self.history.metrics:
            raise ValueError("no episodes were watched; train the pack with watch=4, say")
        return self.history.metrics["maps"]


@dataclass(frozen=True)
class Pack:
    """Runs of one program, and their classes.

    Attributes:
        configs: the runs.
        pool: all classes of their source.
        watch: ``icl`` episodes whose attention is kept at each evaluation.
    """

    configs: tuple[IclConfig, ...]
    pool: classes.Pool
    watch: int = 0

    @classmethod
    def of(
        cls, configs: Sequence[IclConfig], data: Path | str | None = None, watch: int = 0
    ) -> Pack:
        """The runs as a pack.

        Raises:
            ValueError: none, or runs of different programs, or data that does not fit.
        """
        if not configs:
            raise ValueError("no run was given; give 1 or more")
        first = configs[0].program
        for config in configs:
            if config.program != first:
                raise ValueError(f"{_difference(first, config.program)}; see `groups`")
        pool = classes.pool(configs[0], data)
        for config in configs:
            pool.choose(config.n_classes, config.seed)
        return cls(tuple(configs), pool, watch)

    @cached_property
    def streams(self) -> tuple[list[Stream], list[int]]:
        """The different data of the members, and which of them each member reads."""
        first: dict[tuple, int] = {}
        streams: list[Stream] = []
        for config in self.configs:
            if same_data(config) not in first:
                first[same_data(config)] = len(streams)
                streams.append(Stream(config, self.pool))
        return streams, [first[same_data(config)] for config in self.configs]

    def train(
        self,
        folder: Path | str | None = None,
        checkpoint_every: int = 1000,
        device: str | torch.device = "cpu",
        progress: bool | None = None,
    ) -> Trained:
        """Train all members at once; the arguments are those of `run`."""
        lead = self.configs[0]
        ensemble = Ensemble([build(config) for config in self.configs]).to(device)
        names = [(name, _own_name(name)) for name, _ in ensemble.named_parameters()]
        optimizer = decay.adam(ensemble, names, self.configs)
        history = training.train(
            ensemble,
            Losses(self, torch.device(device)),
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lead.rate),
            steps=lead.steps,
            clip=lead.clip or None,
            metrics=Evaluation(self, torch.device(device)),
            metrics_every=lead.evaluate_every,
            checkpoint=None if folder is None else Path(folder) / self.checkpoint,
            checkpoint_every=checkpoint_every,
            settings=[[config.to_dict() for config in self.configs], self.watch],
            label=f"icl, {len(self.configs)} runs",
            progress=progress,
        )
        return Trained(self.configs, ensemble, history)

    @property
    def checkpoint(self) -> str:
        """The name of the pack's checkpoint."""
        names = " ".join(config.run for config in self.configs)
        return f"icl-{hashlib.sha256(names.encode()).hexdigest()[:12]}.safetensors"


def _own_name(stacked: str) -> str:
    """The name that a member has for a parameter of the ensemble."""
    return stacked.removeprefix("member/").replace("/", ".")


def _difference(one: IclConfig, other: IclConfig) -> str:
    names = [f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)]
    return (
        f"the runs differ in {', '.join(names)}; the runs of one ensemble may differ in "
        f"{', '.join(OF_A_MEMBER)}"
    )


class Losses:
    """The losses of all members on the sequences of an update, [member]."""

    def __init__(self, pack: Pack, device: torch.device):
        self.streams, which = pack.streams
        self.which = torch.tensor(which, device=device)
        self.device = device
        self.half = pack.configs[0].precision == "bfloat16"

    def __call__(self, ensemble: Ensemble, step: int) -> Float[Tensor, " member"]:
        """Mean cross-entropy of the query's label, in nats."""
        drawn = [stream.batch(step) for stream in self.streams]
        batch = {
            name: torch.stack([each[name] for each in drawn]).to(self.device)[self.which]
            for name in drawn[0]
        }
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            return ensemble.map(_loss, batch)


def _loss(model: Transformer, batch: dict[str, Tensor]) -> Float[Tensor, ""]:
    logits = model(batch["inputs"], batch["labels"])
    return torch.nn.functional.cross_entropy(logits.float(), batch["target"])


class Evaluation:
    """Every kind of episodes, the same at each evaluation."""

    def __init__(self, pack: Pack, device: torch.device):
        self.streams, which = pack.streams
        self.which = torch.tensor(which)
        self.device = device
        self.watch = pack.watch
        self.asked = {kind: self._stacked(kind) for kind in episodes.KINDS}

    def _stacked(self, kind: str) -> list[episodes.Episodes]:
        return [episodes.make(kind, stream.config, stream.pool) for stream in self.streams]

    def __call__(self, ensemble: Ensemble, step: int) -> dict[str, Tensor]:
        """All columns of ``measures``, [member] or [member, layer, head]; and the maps."""
        found: dict[str, Tensor] = {}
        for kind, asked in self.asked.items():
            logits = self._logits(ensemble, asked)
            stacked = {
                name: torch.stack([getattr(each, name) for each in asked])[self.which]
                for name in ("target", "own", "offered")
            }
            found |= measures.answers(kind, logits, **stacked)
        found |= self._looks(ensemble)
        return found

    def _inputs(self, asked: list[episodes.Episodes], part: slice) -> list[Tensor]:
        names = ("inputs", "labels", "match")
        whole = (torch.stack([getattr(each, name)[part] for each in asked]) for name in names)
        return [value.to(self.device)[self.which.to(self.device)] for value in whole]

    def _logits(
        self, ensemble: Ensemble, asked: list[episodes.Episodes]
    ) -> Float[Tensor, "member episode label"]:
        parts = []
        for first in range(0, len(asked[0].target), CHUNK):
            inputs, labels, _ = self._inputs(asked, slice(first, first + CHUNK))
            parts.append(ensemble.map(_answer, inputs, labels).cpu())
        return torch.cat(parts, 1)

    def _looks(self, ensemble: Ensemble) -> dict[str, Tensor]:
        asked = self.asked["icl"]
        found = ensemble.map(_look, *self._inputs(asked, slice(0, CHUNK)))
        if self.watch:
            inputs, labels, _ = self._inputs(asked, slice(0, self.watch))
            found["maps"] = ensemble.map(_patterns, inputs, labels)
        return found


def _answer(model: Transformer, inputs: Tensor, labels: Tensor) -> Tensor:
    return model(inputs, labels).float()


def _look(
    model: Transformer, inputs: Tensor, labels: Tensor, match: Tensor
) -> dict[str, Float[Tensor, "layer head"]]:
    return measures.looks(model(inputs, labels, True)[1], match)


def _patterns(model: Transformer, inputs: Tensor, labels: Tensor) -> Tensor:
    return model(inputs, labels, True)[1]
