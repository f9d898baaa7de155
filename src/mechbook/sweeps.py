"""Many runs as a grid of frozen settings: resumable, spread over processes or a cluster, one table.

Everything that decides a result stands in a config, a frozen dataclass of plain values, and
``work`` turns a pack of configs, those that differ in nothing but the fields named by ``pack``,
into rows: a pack is what one ensemble trains at once. Each finished pack is kept as a small parquet
file, so a killed run that is started again computes only what is missing and ends with the same
table::

    @dataclass(frozen=True)
    class Setting:
        classes: int = 100                           # to learn
        decay: float = 0.0                           # decoupled weight decay
        seed: int = 0

    def work(settings):                              # all of one class count
        return [{"accuracy": ...} for setting in settings]

    settings = grids.grid(Setting(), classes=[100, 1600], decay=[0, 0.1], seed=range(3))
    sweep = Sweep("decay", settings, work, pack=("decay", "seed"))
    columns = run(sweep, "build/sweeps", backend="loky")

A part of a table belongs to its configs, to the sweep's name and to the name of ``work``, not to
the code behind that name: after a change of the code give the sweep another name, or delete its
parts. A pack that gains a config is another pack and is computed anew; what may grow later (more
seeds) is best left out of ``pack``.
"""

import math
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from mechbook import grids, parts
from mechbook.artifacts import Card
from mechbook.backends import Backend, BackendError, Outcome
from mechbook.parts import Part, SweepError

C = TypeVar("C")
Work = Callable[[Sequence[C]], Sequence[Mapping[str, Any]]]

_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


# --- sweeps -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pack(Generic[C]):
    """Configs that run together, in an order that hangs on nothing but themselves.

    Attributes:
        key: of the pack: of its configs, the sweep's name and the work's.
        configs: what ``work`` is given.
        places: of each of them among the configs of the sweep.
        plain: the same configs as plain values.
    """

    key: str
    configs: tuple[C, ...]
    places: tuple[int, ...]
    plain: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Sweep(Generic[C]):
    """Configs, and the work that turns packs of them into rows.

    Attributes:
        name: small letters, digits, hyphens; the parts of the table are called after it.
        configs: frozen dataclasses of one class, each once.
        work: a function of a module (a worker finds it by its name): takes a pack of configs and
            returns rows, dicts of numbers, booleans and text. Either there is one row a config, in
            their order, or each row says by ``"member"`` which config it belongs to. All chance
            must come from the configs.
        pack: fields in which the configs of one pack may differ; empty: each config for itself.

    Raises:
        ValueError: an attribute is not as above.
    """

    name: str
    configs: Sequence[C]
    work: Work[C]
    pack: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse what could not be run, or not be found again."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a sweep; use a-z, 0-9, single hyphens")
        _require_named(self.work)
        object.__setattr__(self, "configs", tuple(self.configs))
        self._refuse_configs()
        known = grids.field_names(self.configs[0])
        unknown = [name for name in self._packed if name not in known]
        if unknown:
            raise ValueError(f"pack names {unknown[0]!r}; the configs have: {', '.join(known)}")

    def _refuse_configs(self) -> None:
        classes = {type(config) for config in self.configs}
        if len(classes) != 1:
            names = ", ".join(sorted(c.__qualname__ for c in classes)) or "none"
            raise ValueError(f"a sweep needs configs of one class; got: {names}")
        seen: set[str] = set()
        for config in self.configs:
            if (name := grids.key(config)) in seen:
                raise ValueError(f"{config} stands twice in the sweep {self.name}; give it once")
            seen.add(name)

    @property
    def _packed(self) -> tuple[str, ...]:
        return (self.pack,) if isinstance(self.pack, str) else tuple(self.pack)

    @cached_property
    def packs(self) -> list[Pack[C]]:
        """The packs, in the order of their first configs."""
        together: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for place, plain in enumerate(self._plain):
            shared = {name: v for name, v in plain.items() if name not in self._packed}
            together[grids.text_of(shared)].append((grids.text_of(plain), place))
        return [self._pack(sorted(members)) for members in together.values()]

    def _pack(self, members: list[tuple[str, int]]) -> Pack[C]:
        texts = [text for text, _ in members]
        places = tuple(place for _, place in members)
        key = grids.short_hash("\n".join([self.name, _full_name(self.work), *texts]))
        configs = tuple(self.configs[place] for place in places)
        return Pack(key, configs, places, tuple(self._plain[place] for place in places))

    @cached_property
    def _plain(self) -> list[dict[str, Any]]:
        return [grids.plain(config, grids.class_of(config)) for config in self.configs]

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """The fields of the configs as columns, in the order of the configs."""
        rows = [grids.flat(plain) for plain in self._plain]
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}

    def told(self, pack: Pack[C]) -> str:
        """A pack in words: the fields that vary in the sweep, with their values in the pack."""
        differ = {name: v for name, v in self.columns.items() if len({*map(str, v)}) > 1}
        return " ".join(
            f"{name}={'|'.join(dict.fromkeys(str(values[place]) for place in pack.places))}"
            for name, values in (differ or self.columns).items()
        )


def _full_name(function: Callable) -> str:
    return f"{function.__module__}:{function.__qualname__}"


def _require_named(work: Any) -> None:
    name = getattr(work, "__qualname__", None)
    if not callable(work) or name is None or not name.isidentifier():
        raise ValueError(
            f"work is {name or work!r}; give a function of a module, so that a worker finds it by "
            "its name, and put what it needs into the configs"
        )


# --- running ----------------------------------------------------------------------------------


def run(
    sweep: Sweep[C],
    folder: Path | str,
    *,
    backend: str = "sequential",
    workers: int | None = None,
    scheduler: str | None = None,
    threads: int = 1,
    progress: bool | None = None,
) -> dict[str, np.ndarray]:
    """Run the packs whose part of the table is not yet in the folder; return the whole `table`.

    Args:
        sweep: what to run.
        folder: for the parts, one parquet file a pack. Those of other sweeps, or of other configs,
            may lie there too; they are left alone.
        backend: ``sequential``, ``loky`` (processes of this machine) or ``dask``; the table is the
            same.
        workers: number of processes, for ``loky``; default: one a core.
        scheduler: address of a running Dask scheduler, ``tcp://host:8786``, for ``dask``.
        threads: torch threads of each worker; another number may round sums otherwise.
        progress: show a bar; default: only where the page is not built statically.

    Raises:
        SweepError: a part in the folder is damaged (then nothing is run), a part cannot be
            written, or packs failed (then all others were run first).
        ValueError: an unknown backend, or an option that is not the backend's.
    """
    how = Backend(backend, workers, scheduler, threads)
    folder = Path(folder)
    done = _finished(sweep, folder)
    missing = [pack for pack in sweep.packs if pack.key not in done]
    if missing:
        _require_room(folder)
        failed = _run(sweep, missing, folder, how, progress)
        if failed:
            raise _failure(sweep, missing, failed)
    return table(sweep, folder)


def _run(
    sweep: Sweep[C], missing: list[Pack[C]], folder: Path, how: Backend, progress: bool | None
) -> list[Outcome]:
    """Run packs and keep their parts; return the outcomes of those that failed."""
    commit = Card(about="", made_by="", command="", seeds=[], seconds=0).commit
    failed: list[Outcome] = []
    outcomes = how.each(partial(_rows, sweep.work), [pack.configs for pack in missing])
    to_run = sum(len(pack.configs) for pack in missing)
    with _bar(sweep, to_run, progress) as bar, closing(outcomes):
        try:
            for outcome in outcomes:
                if outcome.error:
                    failed.append(outcome)
                    bar.set_postfix_str(f"{len(failed)} packs failed")
                else:
                    _keep(sweep, missing[outcome.index], folder, outcome, commit)
                bar.update(len(missing[outcome.index].configs))
        except BackendError as error:
            raise SweepError(f"{error}. {_kept(sweep, folder)}") from error
    return failed


def _rows(work: Work[C], configs: Sequence[C]) -> Any:
    """The rows of one pack as columns: this much happens on a worker."""
    return parts.rows_of_pack(work(configs), len(configs))


def _require_room(folder: Path) -> None:
    """Find out before the first hour, not after it, that nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"room")
    except OSError as error:
        raise SweepError(
            f"the folder {folder.name} cannot hold parts: {error.strerror}; give another"
        ) from error


def _keep(sweep: Sweep[C], pack: Pack[C], folder: Path, outcome: Outcome, commit: str) -> None:
    path = _path(sweep, folder, pack)
    part = Part(outcome.result, round(outcome.seconds, 3), commit)
    about = {"sweep": sweep.name, "work": _full_name(sweep.work), "configs": pack.plain}
    try:
        parts.write(path, pack.key, part, about)
    except OSError as error:
        why = error.strerror or error
        raise SweepError(f"{path.name} cannot be written: {why}. {_kept(sweep, folder)}") from error


def _failure(sweep: Sweep[C], missing: list[Pack[C]], failed: list[Outcome]) -> SweepError:
    packs: dict[str, str] = defaultdict(str)
    for outcome in failed:
        packs[outcome.error] += f"[{sweep.told(missing[outcome.index])}] "
    told = "; ".join(f"{places}{words}" for words, places in packs.items())
    kept = len(sweep.packs) - len(failed)
    error = SweepError(
        f"{len(failed)} of the {len(sweep.packs)} packs of {sweep.name} failed: {told}. The other "
        f"{kept} are kept; the same run again tries only what is missing"
    )
    for trace in dict.fromkeys(outcome.trace for outcome in failed):
        error.add_note(trace)
    return error


def _kept(sweep: Sweep[C], folder: Path) -> str:
    kept = sum(_path(sweep, folder, pack).exists() for pack in sweep.packs)
    return f"{kept} of {len(sweep.packs)} packs are kept; the same run again goes on from there"


def _bar(sweep: Sweep[C], to_run: int, progress: bool | None) -> Any:
    from tqdm.auto import tqdm

    if progress is None:
        from mechbook.plotting import is_static

        progress = not is_static()
    total = len(sweep.configs)
    start = total - to_run
    return tqdm(total=total, initial=start, desc=sweep.name, unit=" runs", disable=not progress)


# --- what there is ----------------------------------------------------------------------------


def table(sweep: Sweep[C], folder: Path | str) -> dict[str, np.ndarray]:
    """The rows of all packs, in the order of the configs, each with the fields of its config.

    Returns:
        One-dimensional arrays of one length, ready for ``artifacts.save_table``: first the fields
        (``outer.inner`` where a field is a dataclass), then the columns of the rows. A number that
        is missing is ``nan``, a text is empty.

    Raises:
        SweepError: a part is missing or damaged, or the packs' columns do not fit together.
    """
    done = _finished(sweep, Path(folder))
    if missing := [pack for pack in sweep.packs if pack.key not in done]:
        raise SweepError(
            f"{len(missing)} of the {len(sweep.packs)} packs of {sweep.name} are not there yet, "
            f"such as [{sweep.told(missing[0])}]; run the sweep in the same folder"
        )
    return parts.joined([(done[pack.key], pack.places) for pack in sweep.packs], sweep.columns)


def provenance(sweep: Sweep[C], folder: Path | str) -> dict[str, Any]:
    """For the card of the table: the seconds of all packs together, and the commits they ran at.

    Raises:
        SweepError: a part is damaged.
    """
    done = _finished(sweep, Path(folder)).values()
    commits = dict.fromkeys(part.commit for part in done)
    return {"seconds": round(sum(part.seconds for part in done), 1), "commit": ", ".join(commits)}


def dry_run(
    sweep: Sweep[C],
    folder: Path | str,
    *,
    seconds_per_pack: float | None = None,
    workers: int = 1,
) -> str:
    """The packs, which of them are done, and how long the others will take; nothing is written.

    Args:
        sweep: what would be run.
        folder: where the parts are.
        seconds_per_pack: measured before; default: the mean of the packs that are done.
        workers: how many packs run at the same time.

    Raises:
        SweepError: a part is damaged.
    """
    done = _finished(sweep, Path(folder))
    missing = len(sweep.packs) - len(done)
    lines = [f"{sweep.name}: {len(sweep.configs)} runs in {len(sweep.packs)} packs"]
    for pack in sweep.packs:
        state = "done" if pack.key in done else "to run"
        lines.append(f"  {state:8}{len(pack.configs):4} runs  {sweep.told(pack)}")
    if seconds_per_pack is None and done:
        seconds_per_pack = statistics.fmean(part.seconds for part in done.values())
    return "\n".join([*lines, _estimate(len(done), missing, seconds_per_pack, workers)])


def _estimate(done: int, missing: int, seconds: float | None, workers: int) -> str:
    counts = f"{done} of {done + missing} packs done, {missing} to run"
    if not missing:
        return counts
    if seconds is None:
        return f"{counts}; the time is not known before one is done"
    left = math.ceil(missing / workers) * seconds
    return f"{counts}: about {_duration(left)}, {workers} at a time, {_duration(seconds)} each"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _path(sweep: Sweep[C], folder: Path, pack: Pack[C]) -> Path:
    return folder / f"{sweep.name}.{pack.key}.parquet"


def _finished(sweep: Sweep[C], folder: Path) -> dict[str, Part]:
    """The parts that are there, by the keys of their packs."""
    found = {p.key: parts.read(_path(sweep, folder, p), p.key) for p in sweep.packs}
    return {key: part for key, part in found.items() if part is not None}
