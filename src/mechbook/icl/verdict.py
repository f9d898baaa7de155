"""The verdict on the notes' experiment: measures fixed before the runs, on tables of finished runs.

A table is what ``artifacts.load_table("icl-laptop")`` gives: columns, a row for each run and
evaluation (``experiments.make_laptop`` names them). Nothing here trains, draws or rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from mechbook.icl.measures import CHANCE, transience

Table = Mapping[str, np.ndarray]

FEW, MANY = 100, 1600
GOAL = 0.9
"""Share of the baseline that is success, in the notes' words "about 90%"."""
COLLAPSED = 0.5
"""Share of the baseline's attention gap below which the path counts as collapsed."""
KEPT = 0.8
"""Share of the overall accuracy that must be left."""
DRAWS = 10_000
EXPOSURE = ((250, 4000), (500, 8000), (750, 12_000))
"""Steps with few classes, and those with 16 times as many at which each class was seen as often."""
VERDICTS = ("holds", "does not hold", "open")
OF_A_RUN = ("stage", "seed", "n_classes", "decay", "arm", "decayed", "zipf", "versions")
MORE_OF_A_RUN = ("label_scale", "d_model", "mlp", "steps")
WATCHED = ("icl", "icl_open", "novel", "novel_open", "iwl", "ciwl", "swap", "swap_open", "swap_own")
LOOKED = ("label_gap", "label_mass", "image_mass", "previous_mass")
LAST = 3
"""Evaluations whose mean is the final value."""


# --- reading a table --------------------------------------------------------------------------


def select(table: Table, **fields: Any) -> dict[str, np.ndarray]:
    """The rows in which each field has this value, or one of these values.

    Numbers are compared within rounding, since a table keeps some in single precision.

    Raises:
        ValueError: an unknown column, or no such row.
    """
    keep = np.ones(len(next(iter(table.values()))), dtype=bool)
    for name, wanted in fields.items():
        if name not in table:
            raise ValueError(f"the table has no column {name!r}; it has: {', '.join(table)}")
        values = list(wanted) if isinstance(wanted, (list, tuple, set)) else [wanted]
        keep &= np.any([_same(table[name], value) for value in values], axis=0)
    if not keep.any():
        raise ValueError(f"no row of the table has {fields}; see what its columns hold")
    return {name: column[keep] for name, column in table.items()}


def _same(column: np.ndarray, value: Any) -> Bool[np.ndarray, " row"]:
    if column.dtype.kind == "f":
        return np.isclose(column, float(value), rtol=1e-5, atol=1e-9)
    return column == value


def until(table: Table, step: int) -> dict[str, np.ndarray]:
    """The evaluations up to a step: runs of different lengths on equal terms.

    Raises:
        ValueError: a run that ended before that step: it is named.
    """
    for name in dict.fromkeys(table["run"].tolist()):
        last = int(table["step"][table["run"] == name].max())
        if last < step:
            raise ValueError(f"run {name} ended at step {last}; give at most that")
    keep = table["step"] <= step
    return {name: column[keep] for name, column in table.items()}


def primary(table: Table) -> dict[str, np.ndarray]:
    """The notes' grid alone: few and many classes at all decays of AdamW, all seeds.

    Raises:
        ValueError: a table without these stages.
    """
    stages = np.unique(table["stage"])
    wanted = [name for name in stages if str(name).endswith("-main")]
    if not wanted:
        raise ValueError(f"no stage of the grid is among {', '.join(stages)}; give icl-laptop")
    return select(table, stage=wanted)


def curves(
    table: Table, column: str
) -> tuple[Int[np.ndarray, " step"], Float[np.ndarray, "run step"]]:
    """A column over training, a row for each run, in the order in which the runs come.

    Raises:
        ValueError: runs that were measured at different steps.
    """
    names = list(dict.fromkeys(table["run"].tolist()))
    parts = [_of_run(table, name, ("step", column)) for name in names]
    if any(not np.array_equal(part["step"], parts[0]["step"]) for part in parts):
        raise ValueError("the runs were measured at different steps; select those of one length")
    return parts[0]["step"].astype(int), np.stack([part[column].astype(float) for part in parts])


def _of_run(table: Table, name: str, columns: Sequence[str]) -> dict[str, np.ndarray]:
    rows = np.flatnonzero(table["run"] == name)
    rows = rows[np.argsort(table["step"][rows], kind="stable")]
    return {column: table[column][rows] for column in columns}


def peaks(table: Table, column: str = "icl", chance: float = CHANCE) -> dict[str, np.ndarray]:
    """A row for each run: its settings, and `measures.transience` of a column.

    Beside ``peak``, ``peak_step``, ``final`` and ``half_life`` there are, for accuracies, calibration
    errors and attention, the value at the step of the peak (``ciwl_at_peak``) and the mean of the
    last three evaluations (``ciwl_final``); ``efolds`` at the end; ``formed_step``, see `formed`; and
    ``iwl_half_step``, the first step at which in-weights accuracy has half of its final value.
    """
    settings = [name for name in (*OF_A_RUN, *MORE_OF_A_RUN) if name in table]
    watched = [c for c in (*WATCHED, *LOOKED) if c in table]
    watched += [c for c in table if c.endswith("_ece")]
    used = list(dict.fromkeys(["step", "efolds", column, *settings, *watched]))
    found = []
    for name in dict.fromkeys(table["run"].tolist()):
        own = _of_run(table, name, used)
        curve = transience(own["step"].tolist(), own[column].tolist(), chance)
        at = int(np.flatnonzero(own["step"] == curve.peak_step)[0])
        row: dict[str, Any] = {"run": name, **{key: own[key][0] for key in settings}}
        row |= {**vars(curve), "efolds": own["efolds"][-1]}
        row["formed_step"] = formed(own["step"], own[column], chance)
        row["iwl_half_step"] = half_step(own["step"], own["iwl"])
        row |= {f"{key}_at_peak": own[key][at] for key in watched}
        row |= {f"{key}_final": own[key][-LAST:].mean() for key in watched}
        found.append(row)
    return {key: np.array([row[key] for row in found]) for key in found[0]}


def half_step(steps: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray) -> float:
    """The first step at which a curve has half of its final value (the mean of its last three)."""
    known = np.asarray(values, dtype=float)
    return float(np.asarray(steps)[np.flatnonzero(known >= known[-LAST:].mean() / 2)[0]])


def formed(
    steps: Sequence[int] | np.ndarray, values: Sequence[float] | np.ndarray, chance: float = CHANCE
) -> float:
    """The first step from which three evaluations in a row are more than half of the way up from chance.

    The last step, if that never comes: at least so long did it take.
    """
    above = np.asarray(values, dtype=float) > (1 + chance) / 2
    runs = above[:-2] & above[1:-1] & above[2:]
    return float(np.asarray(steps)[np.flatnonzero(runs)[0] if runs.any() else -1])


@dataclass(frozen=True)
class Cells:
    """One measure of all runs of one class count.

    Attributes:
        seeds: in order.
        decays: in order, zero first.
        values: of the measure.
    """

    seeds: tuple[int, ...]
    decays: tuple[float, ...]
    values: Float[np.ndarray, "seed decay"]

    @property
    def without(self) -> Float[np.ndarray, " seed"]:
        """The values without decay."""
        return self.values[:, 0]

    @property
    def positive(self) -> Float[np.ndarray, "seed decay"]:
        """The values at the decays above zero."""
        return self.values[:, 1:]


def cells(found: Table, n_classes: int, measure: str = "peak") -> Cells:
    """A measure of `peaks` by seed and decay.

    Raises:
        ValueError: no run without decay, or a cell without exactly one run: it is named.
    """
    own = select(found, n_classes=n_classes)
    seeds, decays = sorted({*own["seed"].tolist()}), sorted({*own["decay"].tolist()})
    if decays[0] != 0:
        raise ValueError(f"no run of {n_classes} classes is without decay; the baseline needs it")
    values = np.full((len(seeds), len(decays)), np.nan)
    for row, seed in enumerate(seeds):
        for column, decay in enumerate(decays):
            here = (own["seed"] == seed) & (own["decay"] == decay)
            if here.sum() != 1:
                raise ValueError(
                    f"{here.sum()} runs have {n_classes} classes, decay {decay:g} and seed {seed}; "
                    "each cell needs one: finish the stage, or select one kind of runs"
                )
            values[row, column] = own[measure][here][0]
    return Cells(tuple(map(int, seeds)), tuple(map(float, decays)), values)


# --- success ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The best of several columns, chosen without the row on which it is scored.

    Attributes:
        columns: which was chosen for each row.
        scores: of the row left out, at that column.
    """

    columns: Int[np.ndarray, " seed"]
    scores: Float[np.ndarray, " seed"]

    @property
    def mean(self) -> float:
        """P*: the mean of the scores."""
        return float(self.scores.mean())


def choose(values: Float[np.ndarray, "seed decay"]) -> Choice:
    """For each seed the decay with the highest mean over the other seeds, scored on this one.

    Raises:
        ValueError: fewer than two seeds.
    """
    known = np.asarray(values, dtype=float)
    if known.ndim != 2 or len(known) < 2:
        raise ValueError(f"values have shape {known.shape}; give two seeds or more, [seed, decay]")
    best = np.array([np.delete(known, i, 0).mean(0).argmax() for i in range(len(known))])
    return Choice(best, known[np.arange(len(known)), best])


def share(value: Any, baseline: Any, chance: float = 0.0) -> Any:
    """How much of the baseline's distance from chance is reached; chance 0 gives the raw share."""
    return (value - chance) / (baseline - chance)


@dataclass(frozen=True)
class Interval:
    """A share of the baseline, with its 95 % interval over seeds."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``holds`` if all of it reaches the `GOAL`, ``does not hold`` if none of it, else ``open``."""
        return VERDICTS[0] if self.low >= GOAL else VERDICTS[1] if self.high < GOAL else VERDICTS[2]


def redrawn(
    values: Float[np.ndarray, "seed decay"], draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, " draw"]:
    """P* of seeds drawn with replacement, the choice of the decay repeated in each draw.

    All copies of a seed are left out together when it is scored, or the choice would have seen it.
    A draw of one seed alone leaves nothing to choose on, and is drawn again.

    Raises:
        ValueError: fewer than two seeds.
    """
    known = np.asarray(values, dtype=float)
    choose(known)
    copies = _copies(len(known), draws, np.random.default_rng([seed, 1]), least=2)
    total = np.zeros(draws)
    for row in range(len(known)):
        others = copies.copy()
        others[:, row] = 0
        best = (others @ known).argmax(1)
        total += copies[:, row] * known[row, best]
    return total / len(known)


def _copies(
    count: int, draws: int, generator: np.random.Generator, least: int = 1
) -> Int[np.ndarray, "draw seed"]:
    """How often each seed comes in a draw with replacement, of so many different ones at least."""
    found = generator.multinomial(count, np.full(count, 1 / count), draws)
    while (few := (found > 0).sum(1) < least).any():
        found[few] = generator.multinomial(count, np.full(count, 1 / count), int(few.sum()))
    return found


@dataclass(frozen=True)
class Success:
    """What the notes' criterion comes to.

    Attributes:
        baseline: B, the mean peak of many classes without decay.
        reached: P*, few classes at the decay chosen on the other seeds.
        raw: P* / B.
        corrected: the same of distances from chance; it decides.
        decays: chosen for each seed.
        accuracy: share of the overall accuracy (``ciwl``) that the chosen runs have at their peaks,
            of that of few classes without decay at the end.
        gap: the chosen runs' attention gap at their peaks, as a share of the baseline's.
    """

    baseline: float
    reached: float
    raw: Interval
    corrected: Interval
    decays: tuple[float, ...]
    accuracy: float
    gap: float

    @property
    def verdict(self) -> str:
        """That of the corrected share; where it holds, the path and the accuracy must hold, too."""
        fine = self.accuracy >= KEPT and self.gap >= COLLAPSED
        return VERDICTS[1] if self.corrected.verdict == VERDICTS[0] and not fine else (
            self.corrected.verdict
        )  # fmt: skip


def success(found: Table, draws: int = DRAWS, few: int = FEW, many: int = MANY) -> Success:
    """The notes' criterion on the `peaks` of the notes' grid."""
    own, base = cells(found, few), cells(found, many)
    chosen = choose(own.positive)
    rows = np.arange(len(own.seeds))
    drawn = redrawn(own.positive, draws)
    bases = _copies(len(base.seeds), draws, np.random.default_rng([0, 2])) @ base.without
    bases = bases / len(base.seeds)
    at_peak = {
        name: cells(found, few, f"{name}_at_peak").positive[rows, chosen.columns].mean()
        for name in ("ciwl", "label_gap")
    }
    return Success(
        baseline=float(base.without.mean()),
        reached=chosen.mean,
        raw=_interval(chosen.mean, base.without.mean(), drawn, bases, 0.0),
        corrected=_interval(chosen.mean, base.without.mean(), drawn, bases, CHANCE),
        decays=tuple(own.decays[1 + i] for i in chosen.columns),
        accuracy=float(at_peak["ciwl"] / cells(found, few, "ciwl_final").without.mean()),
        gap=float(at_peak["label_gap"] / cells(found, many, "label_gap_at_peak").without.mean()),
    )


def _interval(
    reached: float, baseline: float, drawn: np.ndarray, bases: np.ndarray, chance: float
) -> Interval:
    """The share with its interval; a drawn baseline at chance can be reached by anyone: infinite."""
    formed_ones = np.where(bases > chance, bases, np.nan)
    shares = np.nan_to_num(share(drawn, formed_ones, chance), nan=np.inf)
    low, high = np.percentile(shares, [2.5, 97.5], method="nearest")
    return Interval(float(share(reached, baseline, chance)), float(low), float(high))


# --- path and answer --------------------------------------------------------------------------


def path(found: Table, n_classes: int, baseline: float) -> Float[np.ndarray, " decay"]:
    """The mean attention gap at the peaks, by decay, as a share of the baseline's.

    Below `COLLAPSED` the path from the query to its class's labels counts as collapsed.
    """
    return cells(found, n_classes, "label_gap_at_peak").values.mean(0) / baseline


def dissociated(
    gaps: np.ndarray, accuracies: np.ndarray, gap: float, accuracy: float, chance: float = CHANCE
) -> np.ndarray:
    """Where the path stands and the answer does not follow it.

    Args:
        gaps: of attention, any shape.
        accuracies: in context, of the same shape.
        gap: the baseline's.
        accuracy: the baseline's.
        chance: of the accuracies.
    """
    stands = np.asarray(gaps) >= COLLAPSED * gap
    follows = share(np.asarray(accuracies), accuracy, chance) >= COLLAPSED
    return stands & ~follows


def dissociated_cells(
    found: Table, n_classes: int, at_the_end: bool = False, many: int = MANY
) -> list[float]:
    """The decays at which the means over seeds are `dissociated`, against many classes without decay.

    Args:
        found: the `peaks` of the notes' grid.
        n_classes: of the cells.
        at_the_end: their last values in place of those at their peaks; the baseline's stay.
        many: classes of the baseline.
    """
    names = ("label_gap_final", "final") if at_the_end else ("label_gap_at_peak", "peak")
    gaps, accuracies = (cells(found, n_classes, name) for name in names)
    gap = float(cells(found, many, "label_gap_at_peak").without.mean())
    accuracy = float(cells(found, many).without.mean())
    which = dissociated(gaps.values.mean(0), accuracies.values.mean(0), gap, accuracy)
    return [decay for decay, yes in zip(gaps.decays, which, strict=True) if yes]


@dataclass(frozen=True)
class Exposure:
    """Few classes against many, at equal tokens and at equal sequences a class.

    Attributes:
        few_step: step with few classes; many classes at this step have seen as many tokens.
        many_step: step with many classes at which each was seen as often as with few at ``few_step``.
        few: accuracy of few classes at ``few_step``.
        tokens: of many classes at ``few_step``.
        sequences: of many classes at ``many_step``.
    """

    few_step: int
    many_step: int
    few: Float[np.ndarray, " seed"]
    tokens: Float[np.ndarray, " seed"]
    sequences: Float[np.ndarray, " seed"]


def exposure(
    table: Table,
    column: str = "icl",
    pairs: Sequence[tuple[int, int]] = EXPOSURE,
    few: int = FEW,
    many: int = MANY,
) -> list[Exposure]:
    """Both readings of "equal exposure", on runs without decay."""
    bare = select(primary(table), decay=0.0)
    one, other = select(bare, n_classes=few), select(bare, n_classes=many)
    return [
        Exposure(t, s, at(one, column, t), at(other, column, t), at(other, column, s))
        for t, s in pairs
    ]


def at(table: Table, column: str, step: int) -> Float[np.ndarray, " run"]:
    """A column at a step, for each run.

    Raises:
        ValueError: nothing was measured then.
    """
    steps, values = curves(table, column)
    if step not in steps:
        raise ValueError(f"nothing was measured at step {step}; the nearest: {_near(steps, step)}")
    return values[:, list(steps).index(step)]


def _near(steps: np.ndarray, step: int) -> int:
    return int(steps[np.abs(steps - step).argmin()])


# --- the forecast, line by line ---------------------------------------------------------------


@dataclass(frozen=True)
class Memorizes:
    """Line 1: "few classes + no L2: the model quickly memorizes → low ICL, high in-weights".

    Attributes:
        peak: in-context accuracy of each seed at its peak.
        final: the same at the end.
        baseline: B, of many classes.
        in_weights: at the end.
        half_step: step at which in-weights accuracy has half of that.
        in_weights_many: at the end, of many classes.
    """

    peak: Float[np.ndarray, " seed"]
    final: Float[np.ndarray, " seed"]
    baseline: float
    in_weights: Float[np.ndarray, " seed"]
    half_step: Float[np.ndarray, " seed"]
    in_weights_many: Float[np.ndarray, " seed"]


def memorizes(found: Table, few: int = FEW, many: int = MANY) -> Memorizes:
    """Line 1 of the forecast, on the `peaks` of the notes' grid."""
    names = ("peak", "final", "iwl_final", "iwl_half_step")
    own = {name: cells(found, few, name).without for name in names}
    return Memorizes(
        own["peak"],
        own["final"],
        float(cells(found, many).without.mean()),
        own["iwl_final"],
        own["iwl_half_step"],
        cells(found, many, "iwl_final").without,
    )


@dataclass(frozen=True)
class Change:
    """What decay does to the runs of one class count: with it less without it, seed by seed.

    Attributes:
        decays: above zero.
        efolds: by how many e-folds each alone would have shrunk the weights at the end.
        in_context: change of the peak.
        in_weights: change of the final in-weights accuracy.
    """

    decays: tuple[float, ...]
    efolds: Float[np.ndarray, " decay"]
    in_context: Float[np.ndarray, "seed decay"]
    in_weights: Float[np.ndarray, "seed decay"]

    def at(self, decay: float) -> tuple[np.ndarray, np.ndarray]:
        """Both changes at one decay, [seed].

        Raises:
            ValueError: a decay that was not run.
        """
        near = np.flatnonzero(np.isclose(self.decays, decay))
        if not len(near):
            raise ValueError(f"decay {decay:g} was not run; there are {self.decays}")
        return self.in_context[:, near[0]], self.in_weights[:, near[0]]


def change(found: Table, n_classes: int) -> Change:
    """The change that each decay makes."""
    peak, known = cells(found, n_classes), cells(found, n_classes, "iwl_final")
    folds = cells(found, n_classes, "efolds").positive.mean(0)
    differ = [c.positive - c.without[:, None] for c in (peak, known)]
    return Change(peak.decays[1:], folds, differ[0], differ[1])


def moderate_helps(found: Table, decay: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
    """Line 2: "moderate L2 (around 1e-3): … ICL should improve": both changes of few classes, [seed]."""
    return change(found, FEW).at(decay)


def too_much_hurts(found: Table, least: float = 1e-2) -> dict[int, Change]:
    """Line 3: "too much L2 (around 1e-2 or above): likely hurts both": changes from ``least`` on."""
    kept = {}
    for count in (FEW, MANY):
        whole = change(found, count)
        high = np.array(whole.decays) >= least * (1 - 1e-6)
        kept[count] = Change(
            tuple(d for d, keep in zip(whole.decays, high, strict=True) if keep),
            whole.efolds[high],
            whole.in_context[:, high],
            whole.in_weights[:, high],
        )
    return kept


def many_is_best(found: Table, few: int = FEW, many: int = MANY) -> tuple[float, float]:
    """Line 4: "many classes … likely remains the most reliable route": best mean of few, and B.

    The line holds where no cell of few classes has a higher mean peak than many without decay.
    """
    best = cells(found, few).values.mean(0).max()
    return float(best), float(cells(found, many).without.mean())


def closes_gap(found: Table, few: int = FEW, many: int = MANY) -> float:
    """Line 5: "few classes + moderate L2 may still close much of the gap": (P* - P₀) / (B - P₀).

    Raises:
        ValueError: no gap, because few classes without decay are as good as many.
    """
    own, baseline = cells(found, few), float(cells(found, many).without.mean())
    start = float(own.without.mean())
    if not start < baseline:
        raise ValueError(f"few classes reach {start:.3f}, many {baseline:.3f}: there is no gap")
    return float(share(choose(own.positive).mean, baseline, start))


# --- transience -------------------------------------------------------------------------------


def drop(found: Table, **fields: Any) -> Float[np.ndarray, " seed"]:
    """What is lost from the peak to the end, for the runs with these settings, seed by seed."""
    own = select(found, **fields)
    order = np.argsort(own["seed"], kind="stable")
    return (own["peak"] - own["final"])[order]


def with_and_without(
    found: Table, measure: str, decay: float = 0.3, **fields: Any
) -> tuple[float, float]:
    """Means over seeds of a measure of `peaks`, without decay and with it.

    Which weights decay (``decayed``) is not asked of runs without decay. Not a number where there
    is no such run.
    """
    plain = {name: value for name, value in fields.items() if name != "decayed"}
    return _mean(found, measure, decay=0.0, **plain), _mean(found, measure, decay=decay, **fields)


def _mean(found: Table, measure: str, **fields: Any) -> float:
    keep = np.all([_same(found[name], value) for name, value in fields.items()], axis=0)
    return float(found[measure][keep].mean()) if keep.any() else float("nan")
