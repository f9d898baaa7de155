"""The runs behind the chapter: which settings, in which order, and the tables made of them.

A table is made of stages, each a sweep of its own, run one after the other. What is finished is
kept in ``build/sweeps``: a run that is killed and started again computes only what is missing. ::

    python -m mechbook make icl-laptop --dry-run
    python -m mechbook make icl-laptop --backend loky --workers 2
    python -m mechbook make icl-paper --backend dask --scheduler tcp://host:8786
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mechbook import sweeps
from mechbook.grids import grid
from mechbook.icl.config import IclConfig, gaussian, paper
from mechbook.icl.runs import work
from mechbook.sweeps import Sweep

NOTES = (0.0, 3e-4, 1e-3, 3e-3, 1e-2)
"""The notes' decays."""
DECAYS = (*NOTES, 0.03, 0.1, 0.3, 1.0)
PARTS = Path("build") / "sweeps"
SECONDS = 0.012
"""Of one update of one run of the laptop's model, on one core with others at work on it."""


def laptop(preset: str = "laptop") -> list[Sweep[IclConfig]]:
    """The stages on Omniglot with a two-layer model, in the order of running.

    ``icl-main`` is the notes' experiment with more decays; then other class counts, frequencies
    after Zipf; then side arms of half the length, coupled L2, decay of parts of a model with MLPs,
    L1, augmented drawings, other widths (two seeds).

    Args:
        preset: ``laptop``; or ``smoke``: a few updates on drawn glyphs, to see that all of it runs.

    Raises:
        ValueError: another preset.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; give one of {', '.join(PRESETS)}")
    given = PRESETS[preset]
    base, first, two = given.base, given.seeds, (given.few, given.many)
    every, many = (*first, *given.more_seeds), replace(given.base, n_classes=given.many)
    side = replace(base, steps=base.steps // 2)
    coupled, mlp = replace(side, arm="L2 in the loss"), replace(side, mlp=True)
    places = ("all", "mlp", "attention", "embedder")
    thin: dict[str, Any] = {"seed": first, "n_classes": two, "decay": (0.0, 0.3)}
    widths = (base.d_model * 3 // 4, base.d_model * 3 // 2)
    stages: dict[str, list[IclConfig]] = {
        "main": grid(base, seed=first, n_classes=two, decay=DECAYS),
        "counts": grid(base, seed=every, n_classes=given.between),
        "zipf": grid(many, seed=first, zipf=(1.0, 1.5), decay=(0.0, 0.3)),
        "coupled": grid(coupled, seed=first, n_classes=two, decay=(1e-5, 1e-4, 1e-3, 1e-2)),
        "parts": grid(mlp, seed=first, n_classes=two, decay=[0.0])
        + grid(replace(mlp, decay=0.3), seed=first, n_classes=two, decayed=places),
        "kinds": _kinds(replace(side, n_classes=given.few), first),
        "versions": grid(replace(side, versions=8), **thin),
        "widths": grid(side, seed=first[:2], d_model=widths, n_classes=two)
        + grid(replace(side, decay=0.3), seed=first[:2], d_model=widths, n_classes=two[:1]),
    }
    packed = {"counts": ["n_classes"], "zipf": ["zipf", "decay"], "parts": ["decay", "decayed"]}
    packed |= {"kinds": ["arm", "decay"]}
    return [
        _sweep(preset, name, runs, packed.get(name, ["decay"])) for name, runs in stages.items()
    ]


@dataclass(frozen=True)
class Preset:
    """What the stages of `laptop` start from.

    Attributes:
        base: every setting that a stage does not change.
        few: classes of the cells with few.
        many: classes of the others.
        between: class counts in between.
        seeds: of every stage.
        more_seeds: of the class counts, too.
    """

    base: IclConfig
    few: int
    many: int
    between: tuple[int, ...]
    seeds: tuple[int, ...]
    more_seeds: tuple[int, ...]


_TINY = IclConfig(
    source="glyphs", side=12, n_classes=30, n_holdout=10, n_features=16, n_labels=12,
    d_model=16, batch=16, steps=12, evaluate_every=6, episodes=16,
)  # fmt: skip
PRESETS = {
    "laptop": Preset(IclConfig(), 100, 1600, (200, 400, 800), (0, 1, 2), (3, 4)),
    "smoke": Preset(_TINY, 12, 30, (20,), (0,), (1,)),
}


def _kinds(base: IclConfig, seeds: Sequence[int]) -> list[IclConfig]:
    kinds = (("L1", 1e-3), ("L1", 1e-2), ("L1 in the loss", 1e-4))
    return [
        replace(base, seed=seed, arm=arm, decay=strength)
        for seed in seeds
        for arm, strength in kinds
    ]


def _sweep(
    preset: str, name: str, configs: Sequence[IclConfig], packed: Sequence[str]
) -> Sweep[IclConfig]:
    prefix = "icl" if preset == "laptop" else f"icl-{preset}"
    return Sweep(f"{prefix}-{name}", configs, work, packed)


def gauss(preset: str = "laptop") -> list[Sweep[IclConfig]]:
    """The stages on Gaussian classes, after Reddy 2024: transience, and what decay does to it.

    Raises:
        ValueError: a preset other than ``laptop`` and ``smoke``.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset is {preset!r}; give one of {', '.join(PRESETS)}")
    seeds = PRESETS[preset].seeds
    base = gaussian()
    if preset == "smoke":
        base = replace(base, steps=8, evaluate_every=4, episodes=16, batch=16)
    arms = [
        replace(base, seed=seed, decayed=place, decay=strength)
        for seed in seeds
        for place, strength in (("mlp", 0.3), ("mlp", 1.0), ("attention", 1.0))
    ]
    return [
        _sweep(preset, "gauss", grid(base, seed=seeds, n_classes=(128, 512, 1024, 2048)), ["n_classes"]),
        _sweep(preset, "gauss-decay", grid(base, seed=seeds, decay=(0.01, 0.3, 1.0)), ["decay"]),
        _sweep(preset, "gauss-arms", arms, ["decayed", "decay"]),
    ]  # fmt: skip


def core() -> list[Sweep[IclConfig]]:
    """The notes' grid in the setting of Chan et al. 2022: for an accelerator."""
    configs = grid(paper(), n_classes=(100, 1600), seed=(0, 1, 2), decay=NOTES)
    return [Sweep("icl-paper", configs, work, ("seed", "decay"))]


# --- the artifacts ----------------------------------------------------------------------------


def make_laptop(
    preset: str = "laptop",
    backend: str = "sequential",
    scheduler: str | None = None,
    workers: int | None = None,
    dry_run: bool = False,
) -> Any:
    """The artifact ``icl-laptop``: all stages of `laptop`, a row for each run and evaluation.

    Columns: ``stage``, the fields of `IclConfig`, those of `mechbook.icl.runs.run`. Omniglot is read
    from where ``MECHBOOK_OMNIGLOT`` says, see `mechbook.icl.omniglot.load`.
    """
    about = (
        "In-context learning against weight decay on Omniglot: two layers, the notes' grid and more"
    )
    return _made(laptop(preset), about, backend, scheduler, workers, dry_run)


def make_gauss(
    preset: str = "laptop",
    backend: str = "sequential",
    scheduler: str | None = None,
    workers: int | None = None,
    dry_run: bool = False,
) -> Any:
    """The artifact ``icl-gauss``: all stages of `gauss`; columns as in `make_laptop`."""
    about = "In-context learning against weight decay on Gaussian classes: transience"
    return _made(gauss(preset), about, backend, scheduler, workers, dry_run)


def make_paper(
    backend: str = "sequential",
    scheduler: str | None = None,
    workers: int | None = None,
    dry_run: bool = False,
) -> Any:
    """The artifact ``icl-paper``: `core`; columns as in `make_laptop`. Not made yet."""
    about = "In-context learning against weight decay in the setting of Chan et al. 2022"
    return _made(core(), about, backend, scheduler, workers, dry_run)


def _made(
    stages: Sequence[Sweep[IclConfig]],
    about: str,
    backend: str,
    scheduler: str | None,
    workers: int | None,
    dry_run: bool,
) -> Any:
    if dry_run:
        return "\n\n".join(_planned(stage, workers or 1) for stage in stages)
    options: dict[str, Any] = {"backend": backend, "scheduler": scheduler, "workers": workers}
    tables = [sweeps.run(stage, PARTS, **options) for stage in stages]
    facts = [sweeps.provenance(stage, PARTS) for stage in stages]
    seeds = sorted({config.seed for stage in stages for config in stage.configs})
    card = {
        "about": about,
        "seeds": seeds,
        "seconds": sum(fact["seconds"] for fact in facts),
        "commit": ", ".join(dict.fromkeys(c for fact in facts for c in fact["commit"].split(", "))),
    }
    return joined([stage.name for stage in stages], tables), card


def _planned(stage: Sweep[IclConfig], workers: int) -> str:
    most = max(sum(config.steps for config in pack.configs) for pack in stage.packs)
    return sweeps.dry_run(stage, PARTS, seconds_per_pack=most * SECONDS, workers=workers)


def joined(names: Sequence[str], tables: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Tables one below the other, with a column that says which; measurements in single precision.

    A number that a table does not have is ``nan``.
    """
    columns = {"stage": np.repeat(names, [len(next(iter(t.values()))) for t in tables])}
    for name in dict.fromkeys(name for table in tables for name in table):
        kind = next(table[name].dtype for table in tables if name in table)
        parts = [t.get(name, np.full(len(next(iter(t.values()))), np.nan)) for t in tables]
        whole = np.concatenate(parts)
        measured = kind == np.float64 and name not in ("decay", "lr", "efolds")
        columns[name] = whole.astype(np.float32) if measured else whole
    return columns
