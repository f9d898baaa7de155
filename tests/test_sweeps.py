from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechbook import artifacts, backends, grids, sweeps
from mechbook.backends import Backend
from mechbook.grids import grid
from mechbook.sweeps import Sweep, SweepError
from tests import sweep_work
from tests.sweep_work import Setting, work

ROOT = Path(__file__).parents[1]
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]), "OMP_NUM_THREADS": "1"}
SIZES, SEEDS = (3, 1, 2), (0, 1)
quiet_run = partial(sweeps.run, progress=False)


def a_sweep(function=work, sizes=SIZES, **fields):
    configs = grid(Setting(**fields), size=sizes, seed=SEEDS)
    return Sweep("a-sweep", configs, function, pack=("seed",))


def same(left, right):
    """Equal to the last bit, nan included, column by column in one order."""
    assert list(left) == list(right)
    for name in left:
        assert left[name].dtype == right[name].dtype
        assert left[name].tobytes() == right[name].tobytes()


def one_line(raised):
    text = str(raised.value)
    assert "\n" not in text
    return text


def told(diary):
    """The sizes that were worked on, in order."""
    return [int(line.split()[1]) for line in diary.read_text().splitlines()]


# --- configs ---


def test_a_grid_is_the_product_of_its_axes():
    configs = grid(Setting(pause=2.0), decay=[0, 0.1], seed=range(3))
    product = itertools.product([0, 0.1], range(3))
    assert configs == [Setting(decay=decay, seed=seed, pause=2.0) for decay, seed in product]


@dataclass(frozen=True)
class Derived:
    size: int = 1
    twice: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "twice", 2 * self.size)


@dataclass
class Loose:
    size: int = 1


@pytest.mark.parametrize(
    ("base", "axes", "message"),
    [
        (Setting(), {"sizes": [1]}, "sizes is no field of Setting; it has: size, decay, seed"),
        (Setting(), {"size": []}, "at least one value"),
        (Setting(), {"decay": [0, 0.1, 0.0]}, "each once"),
        (Setting(), {"size": 3}, "give a list"),
        (Setting(), {"diary": "abc"}, "give a list"),
        (Setting(), {"diary": [Path("x")]}, "finite numbers, text"),
        (Derived(), {"twice": [2]}, "it has: size"),
        (Loose(), {"size": [1]}, "no frozen dataclass"),
        (Setting, {"size": [1]}, "no frozen dataclass"),
    ],
)
def test_a_grid_refuses(base, axes, message):
    with pytest.raises(ValueError, match=message) as raised:
        grid(base, **axes)
    one_line(raised)


numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
some_settings = st.builds(Setting, size=numbers, decay=numbers, seed=numbers, diary=st.text())


@given(one=some_settings, other=some_settings)
def test_keys_are_equal_exactly_where_configs_are(one, other):
    assert (grids.key(one) == grids.key(other)) == (one == other)


@given(number=st.integers(-(2**53), 2**53))
def test_a_whole_number_has_one_key_however_it_is_written(number):
    written = [number, float(number), np.float64(number), np.int64(number)]
    assert len({grids.key(Setting(decay=decay)) for decay in written}) == 1


ELSEWHERE = """
from dataclasses import dataclass
from mechbook.grids import key
@dataclass(frozen=True)
class Arm:
    kind: str = "decoupled"
print(key(Arm("\u00e4")))
"""


def test_a_key_is_the_same_in_another_process_and_module():
    words = [sys.executable, "-c", ELSEWHERE]
    environment = os.environ | PATHS | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == grids.key(Arm("ä"))


@pytest.mark.parametrize(
    "value", [Path("x"), float("nan"), float("inf"), {"a": 1}, b"x", np.ones(1)]
)
def test_what_is_no_plain_value_has_no_key(value):
    with pytest.raises(ValueError, match=r"seed is .*; a config holds finite numbers"):
        grids.key(Setting(seed=value))


# --- sweeps ---


@given(configs=st.permutations(grid(Setting(), size=SIZES, decay=[0, 0.5], seed=SEEDS)))
def test_packs_hold_each_config_once_whatever_the_order(configs):
    sweep = Sweep("a", configs, work, pack=("decay", "seed"))
    assert sorted(place for pack in sweep.packs for place in pack.places) == list(range(12))
    for pack in sweep.packs:
        assert len({config.size for config in pack.configs}) == 1
        assert pack.configs == tuple(configs[place] for place in pack.places)
    ordered = Sweep("a", sorted(configs, key=str), work, pack=("decay", "seed"))
    assert {p.key: p.configs for p in sweep.packs} == {p.key: p.configs for p in ordered.packs}


def test_a_packs_key_hangs_on_name_work_and_configs():
    sweep = Sweep("a", [Setting()], work)
    others = [
        Sweep("b", [Setting()], work),
        Sweep("a", [Setting()], sweep_work.threads),
        Sweep("a", [Setting(seed=1)], work),
        Sweep("a", [Setting(), Setting(seed=1)], work, pack=("seed",)),
    ]
    assert len({s.packs[0].key for s in (sweep, *others)}) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "A sweep"}, "no name of a sweep"),
        ({"configs": []}, "configs of one class; got: none"),
        ({"configs": [Setting(), Derived()]}, "one class; got: Derived, Setting"),
        ({"configs": [Setting(), Setting(decay=0)]}, "stands twice"),
        ({"configs": [Loose()]}, "no frozen dataclass"),
        ({"pack": ("sed",)}, "pack names 'sed'; the configs have: size, decay, seed"),
        ({"work": lambda configs: []}, "a function of a module"),
        ({"work": partial(work)}, "a function of a module"),
    ],
)
def test_a_sweep_refuses(changes, message):
    whole = {"name": "a", "configs": [Setting()], "work": work, "pack": ()}
    with pytest.raises(ValueError, match=message) as raised:
        Sweep(**(whole | changes))
    one_line(raised)


# --- the table ---


def test_the_table_is_what_a_loop_gives(tmp_path):
    sweep = a_sweep()
    columns = quiet_run(sweep, tmp_path)
    rows = [(config, step) for config in sweep.configs for step in (0, 1)]
    for name in asdict(Setting()):
        assert columns[name].tolist() == [getattr(config, name) for config, _ in rows]
    assert columns["step"].tolist() == [step for _, step in rows]
    assert columns["value"].tolist() == [sweep_work.value(config, step) for config, step in rows]


def test_the_table_can_be_saved_as_an_artifact(tmp_path):
    sweep = a_sweep()
    columns = quiet_run(sweep, tmp_path / "parts")
    facts = sweeps.provenance(sweep, tmp_path / "parts")
    card = artifacts.Card(about="x", made_by="x", command="x", seeds=[0, 1], **facts)
    artifacts.save_table("a-sweep", columns, card=card, data=tmp_path)
    same(artifacts.load_table("a-sweep", data=tmp_path), columns)


@dataclass(frozen=True)
class Arm:
    kind: str = "decoupled"


@dataclass(frozen=True)
class Sparse:
    weight: float = 0.5


@dataclass(frozen=True)
class Nested:
    arm: Arm | Sparse = field(default_factory=Arm)
    sizes: tuple[int, ...] = (1, 2)
    limit: float | None = None


def uneven(configs):
    rows = [{"peak": 3}, {"peak": 0.5, "steps": 7, "ended": True, "word": "ä", "never": None}]
    return [row | {"member": member} for member, row in enumerate(rows[: len(configs)])]


def test_what_is_missing_is_nan_or_empty(tmp_path):
    configs = [Nested(), Nested(arm=Sparse(), limit=2)]
    columns = quiet_run(Sweep("a", configs, uneven, pack=("arm", "limit")), tmp_path)
    expected = {
        "arm.class": ["Arm", "Sparse"],
        "arm.kind": ["decoupled", ""],
        "sizes": ["[1, 2]"] * 2,
        "limit": [np.nan, 2],
        "arm.weight": [np.nan, 0.5],
        "peak": [3, 0.5],
        "steps": [np.nan, 7],
        "ended": [np.nan, 1],
        "word": ["", "ä"],
        "never": [np.nan, np.nan],
    }
    assert set(columns) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values)


def whole_then_half(configs):
    return [{"peak": np.float32(0.5) if c.seed else torch.tensor(2), "at": c.seed} for c in configs]


def test_parts_with_other_kinds_of_numbers_fit_together(tmp_path):
    columns = quiet_run(Sweep("a", grid(Setting(), seed=[0, 1]), whole_then_half), tmp_path)
    assert columns["peak"].tolist() == [2.0, 0.5]
    assert columns["at"].dtype == np.int64


def nothing(configs):
    return []


def too_few(configs):
    return [{"member": 0, "x": 1}]


def too_many(configs):
    return [{"x": 1}] * 5


def an_array(configs):
    return [{"x": np.ones(2)} for _ in configs]


def a_mixture(configs):
    return [{"x": config.seed or "none"} for config in configs]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nothing, "0 rows came for 2 configs"),
        (too_few, r"of the members \[0\]; give one row"),
        (too_many, r'5 rows .* say "member" in each, 0 to 1'),
        (an_array, r"x is array\(.*; a row holds single numbers"),
        (a_mixture, "the column x mixes"),
    ],
)
def test_rows_that_make_no_table_fail_their_pack(tmp_path, function, message):
    with pytest.raises(SweepError, match=message) as raised:
        quiet_run(a_sweep(function, sizes=[1]), tmp_path)
    one_line(raised)


def clash(configs):
    return [{"seed": 1} for _ in configs]


@pytest.mark.parametrize(
    ("function", "message"), [(clash, "column seed, which is a field"), (a_mixture, "disagree")]
)
def test_columns_that_do_not_fit_together_are_refused(tmp_path, function, message):
    with pytest.raises(SweepError, match=message) as raised:
        quiet_run(Sweep("a", grid(Setting(), seed=SEEDS), function), tmp_path)
    one_line(raised)


def test_an_unfinished_table_is_refused(tmp_path):
    with pytest.raises(SweepError, match=r"3 of the 3 packs .* such as \[size=3 seed=0|1\]"):
        sweeps.table(a_sweep(), tmp_path)


# --- going on ---


def test_what_is_done_is_not_done_again(tmp_path):
    sweep = a_sweep(diary=str(tmp_path / "diary"))
    first = quiet_run(sweep, tmp_path)
    same(quiet_run(sweep, tmp_path), first)
    assert told(tmp_path / "diary") == [3, 1, 2]


def test_parts_serve_any_order_and_other_parts_are_left_alone(tmp_path):
    diary = tmp_path / "diary"
    first = a_sweep(diary=str(diary))
    forward = quiet_run(first, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.parquet")}
    backward = quiet_run(replace(first, configs=first.configs[::-1]), tmp_path)
    assert backward["seed"].tolist() == [1, 1, 0, 0] * 3
    assert sorted(backward["value"]) == sorted(forward["value"])
    quiet_run(a_sweep(diary=str(diary), sizes=[2, 4]), tmp_path)
    assert told(diary) == [3, 1, 2, 4]
    assert all(path.read_bytes() == content for path, content in before.items())
    same(quiet_run(first, tmp_path), forward)


KILLED = """
from mechbook import grids, sweeps
from tests.sweep_work import Setting, work
configs = grids.grid(Setting(diary={diary!r}, pause={pause}), size=(3, 1, 2), seed=(0, 1))
sweeps.run(sweeps.Sweep("a-sweep", configs, work, pack=("seed",)), {folder!r}, progress=False)
"""


def test_a_killed_run_goes_on_and_ends_with_the_same_table(tmp_path):
    diary, folder = tmp_path / "diary", tmp_path / "broken"
    code = KILLED.format(diary=str(diary), folder=str(folder), pause=0.3)
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | PATHS)
    wait_until(lambda: diary.exists() and len(told(diary)) == 2)  # in the middle of the second
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(folder.glob("*.parquet"))) == 1
    sweep = a_sweep(diary=str(diary), pause=0.3)
    resumed = quiet_run(sweep, folder)
    assert told(diary) == [3, 1, 1, 2]
    same(resumed, quiet_run(sweep, tmp_path / "unbroken"))


def wait_until(there, seconds=60):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_pack_that_fails_does_not_lose_the_others(tmp_path):
    diary = tmp_path / "diary"
    sweep = a_sweep(sweep_work.fails_at_two, sizes=(1, 2, 3), diary=str(diary))
    with pytest.raises(SweepError, match=r"1 of the 3 packs .* The other 2 are kept") as raised:
        quiet_run(sweep, tmp_path)
    assert "[size=2 seed=0|1] ZeroDivisionError: two is too much" in one_line(raised)
    assert "sweep_work.py" in raised.value.__notes__[0]
    diary.with_suffix(".mended").touch()
    assert quiet_run(sweep, tmp_path)["value"].tolist() == [1, 1, 2, 2, 3, 3]
    assert told(diary) == [1, 2, 3, 2]


def always_fails(configs):
    raise ValueError("wrong")


def test_packs_that_fail_alike_are_told_together(tmp_path):
    with pytest.raises(SweepError, match=r"failed: \[size=1 .*\] \[size=2 .*\] Val") as raised:
        quiet_run(a_sweep(always_fails, sizes=[1, 2]), tmp_path)
    assert one_line(raised).count("wrong") == 1


def test_a_full_disk_is_one_line_and_keeps_what_there_is(tmp_path, monkeypatch):
    syncs = iter([None, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])

    def fsync(_):
        if error := next(syncs):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(artifacts.os, "fsync", fsync)
        with pytest.raises(SweepError, match=r"a-sweep\.\w+\.parquet cannot be written") as raised:
            quiet_run(a_sweep(), tmp_path)
    assert "No space left on device. 1 of 3 packs are kept" in one_line(raised)
    same(quiet_run(a_sweep(), tmp_path), quiet_run(a_sweep(), tmp_path / "other"))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    sweep = a_sweep(diary=str(tmp_path / "diary"))
    with pytest.raises(SweepError, match="the folder file cannot hold parts") as raised:
        quiet_run(sweep, tmp_path / "file")
    one_line(raised)
    assert not (tmp_path / "diary").exists()


# --- damage ---


def a_part(folder):
    return sorted(folder.glob("*.parquet"))[1]


def with_another_value(content):
    """A whole parquet file that somebody made nicer by hand."""
    table = pq.read_table(io.BytesIO(content))
    better = pa.array([1.0] * len(table))
    table = table.set_column(table.column_names.index("value"), "value", better)
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[:-1], "is damaged"),
        (lambda whole: b"", "is damaged"),
        (lambda whole: with_another_value(whole), "is damaged: its digest"),
    ],
)
def test_a_damaged_part_is_refused_by_name_and_nothing_is_run(tmp_path, content, message):
    diary = tmp_path / "diary"
    sweep = a_sweep(diary=str(diary))
    first = quiet_run(sweep, tmp_path)
    part = a_part(tmp_path)
    part.write_bytes(content(part.read_bytes()))
    for reader in (quiet_run, sweeps.table, sweeps.dry_run, sweeps.provenance):
        with pytest.raises(SweepError, match=f"{part.name} {message}.*delete it") as raised:
            reader(sweep, tmp_path)
        one_line(raised)
    assert told(diary) == [3, 1, 2]
    part.unlink()
    same(quiet_run(sweep, tmp_path), first)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, quiet_run(a_sweep(), folder), a_part(folder).read_bytes()


@settings(max_examples=100)
@given(position=st.integers(0, 100_000), bit=st.integers(0, 7))
def test_no_flipped_bit_changes_the_table(finished, position, bit):
    folder, table, content = finished
    flipped = bytearray(content)
    flipped[position % len(content)] ^= 1 << bit
    part = a_part(folder)
    part.write_bytes(bytes(flipped))
    with contextlib.suppress(SweepError):
        same(sweeps.table(a_sweep(), folder), table)
    part.write_bytes(content)


def test_a_renamed_part_is_refused(tmp_path):
    quiet_run(a_sweep(), tmp_path)
    one, other = sorted(tmp_path.glob("*.parquet"))[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(SweepError, match=f"{one.name} was renamed"):
        quiet_run(a_sweep(), tmp_path)


# --- looking ahead ---


def test_a_dry_run_lists_the_packs_and_the_time_and_writes_nothing(tmp_path):
    sweep = a_sweep()
    text = sweeps.dry_run(sweep, tmp_path / "new", seconds_per_pack=600, workers=2)
    assert text.splitlines() == [
        "a-sweep: 6 runs in 3 packs",
        "  to run     2 runs  size=3 seed=0|1",
        "  to run     2 runs  size=1 seed=0|1",
        "  to run     2 runs  size=2 seed=0|1",
        "0 of 3 packs done, 3 to run: about 20 min, 2 at a time, 10 min each",
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_knows_what_is_done_and_how_long_it_took(tmp_path):
    quiet_run(a_sweep(sizes=[1], pause=0.1), tmp_path)
    text = sweeps.dry_run(a_sweep(sizes=[1, 2, 3], pause=0.1), tmp_path)
    assert "  done       2 runs  size=1 seed=0|1\n" in text
    found = re.search(r"1 of 3 packs done, 2 to run: about (.*) s, 1 at a time, (.*) s each", text)
    both, each = map(float, found.groups())
    assert each >= 0.1
    assert both == pytest.approx(2 * each, rel=0.1)  # two digits are shown
    assert sweeps.dry_run(a_sweep(), tmp_path).endswith("not known before one is done")
    done = sweeps.dry_run(a_sweep(sizes=[1], pause=0.1), tmp_path, seconds_per_pack=5)
    assert done.endswith("1 of 1 packs done, 0 to run")


def test_provenance_adds_up_the_packs(tmp_path, monkeypatch):
    sweep = a_sweep(pause=0.1)
    monkeypatch.setattr(sweeps, "Card", lambda **_: artifacts.Card(**_, commit="one"))
    quiet_run(a_sweep(sizes=[1], pause=0.1), tmp_path)
    monkeypatch.setattr(sweeps, "Card", lambda **_: artifacts.Card(**_, commit="two"))
    quiet_run(sweep, tmp_path)
    facts = sweeps.provenance(sweep, tmp_path)
    assert set(facts["commit"].split(", ")) == {"one", "two"}
    assert 0.3 <= facts["seconds"] < 3


@pytest.mark.parametrize("static", [True, False])
def test_the_bar_is_silent_in_the_built_page(tmp_path, capsys, monkeypatch, static):
    monkeypatch.setattr("mechbook.plotting.is_static", lambda: static)
    sweeps.run(a_sweep(), tmp_path)
    assert ("6/6" in capsys.readouterr().err) is not static


# --- where it runs ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "threads"}, "choose one of: sequential, loky, dask"),
        ({"backend": "loky", "workers": 0}, "workers is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"workers": 2}, "workers is for the backend loky"),
        ({"backend": "dask"}, "address of a running scheduler"),
        ({"scheduler": "tcp://a:1"}, "backend is sequential and scheduler is tcp://a:1"),
    ],
)
def test_options_that_do_not_fit_the_backend_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        quiet_run(a_sweep(), tmp_path / "new", **options)
    one_line(raised)
    assert not (tmp_path / "new").exists()


def test_a_work_may_set_off_a_small_sweep_of_its_own():
    inner = partial(_all, Backend())
    assert _all(Backend(), [[1, 2], [3]], inner) == [[1, 2], [3]]


def _all(backend, pieces, function=int):
    return [outcome.result for outcome in backend.each(function, pieces)]


def test_each_backend_sets_the_threads_and_puts_them_back(tmp_path):
    torch.set_num_threads(2)
    columns = quiet_run(a_sweep(sweep_work.threads), tmp_path, threads=3)
    assert set(columns["threads"]) == {3}
    assert torch.get_num_threads() == 2


def full_disk(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def importable(monkeypatch):
    """Let the processes of joblib find the work of these tests."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.mark.usefixtures("importable")
class TestProcesses:
    def test_the_table_is_that_of_one_process(self, tmp_path):
        spread = quiet_run(a_sweep(), tmp_path / "spread", backend="loky", workers=2)
        same(spread, quiet_run(a_sweep(), tmp_path / "one"))

    def test_they_are_others_with_one_thread_each(self, tmp_path):
        columns = quiet_run(a_sweep(sweep_work.threads), tmp_path, backend="loky", workers=2)
        assert set(columns["threads"]) == {1}
        assert os.getpid() not in columns["process"]

    def test_a_pack_that_fails_does_not_lose_the_others(self, tmp_path):
        sweep = a_sweep(sweep_work.fails_at_two, diary=str(tmp_path / "diary"))
        with pytest.raises(SweepError, match=r"\[size=2 seed=0|1\] ZeroDivisionError"):
            quiet_run(sweep, tmp_path, backend="loky", workers=2)
        assert len(list(tmp_path.glob("*.parquet"))) == 2

    def test_a_full_disk_is_one_line_and_no_warning(self, tmp_path, monkeypatch, recwarn):
        monkeypatch.setattr(sweeps.parts, "write_atomically", full_disk)
        with pytest.raises(SweepError, match=r"No space left.* 0 of 3 packs are kept") as raised:
            quiet_run(a_sweep(), tmp_path, backend="loky", workers=2)
        one_line(raised)
        assert [str(warning.message) for warning in recwarn] == []

    def test_one_that_is_killed_loses_nothing(self, tmp_path):
        sweep = a_sweep(sweep_work.dies_once, diary=str(tmp_path / "dead"))
        columns = quiet_run(sweep, tmp_path, backend="loky", workers=2)
        assert columns["value"].tolist() == columns["size"].tolist()
        assert (tmp_path / "dead").exists()

    def test_those_that_die_every_time_end_the_run(self, tmp_path, monkeypatch):
        monkeypatch.setattr(backends, "_ATTEMPTS", 1)
        sweep = a_sweep(sweep_work.dies_once, diary=str(tmp_path / "dead"))
        with pytest.raises(
            SweepError, match=r"use fewer workers\. \d of 3 packs are kept"
        ) as raised:
            quiet_run(sweep, tmp_path, backend="loky", workers=2)
        one_line(raised)


# --- a cluster ---


class Cluster:
    """A Dask scheduler and its workers, each a process of this machine, without nannies."""

    def __init__(self, folder):
        self.file = folder / "scheduler.json"
        self.begin()

    def begin(self):
        self.file.unlink(missing_ok=True)
        self.scheduler = self.start("scheduler", "--port=0", "--host=127.0.0.1", "--no-dashboard")
        self.workers = []
        wait_until(lambda: self.file.exists() and self.file.read_text().rstrip().endswith("}"))

    def start(self, kind, *options):
        program = [sys.executable, "-m", f"distributed.cli.dask_{kind}"]
        return subprocess.Popen(
            [*program, f"--scheduler-file={self.file}", *options],
            env=os.environ | PATHS,
            cwd=self.file.parent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def with_workers(self, count):
        """Start what is missing, end what is too many; the address."""
        if self.scheduler.poll() is not None:
            end(self.workers)
            self.begin()
        alive = [worker for worker in self.workers if worker.poll() is None]
        end(alive[count:])
        missing = range(count - len(alive))
        new = [self.start("worker", "--no-nanny", "--nthreads=2") for _ in missing]
        self.workers = alive[:count] + new
        return json.loads(self.file.read_text())["address"]


def end(processes):
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    pytest.importorskip("distributed")
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    end([cluster.scheduler, *cluster.workers])


def test_a_scheduler_without_workers_is_one_line(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "_WAIT", 2.0)
    address = cluster.with_workers(0)
    with pytest.raises(SweepError, match=r"no worker came.*0 of 3 packs are kept") as raised:
        quiet_run(a_sweep(), tmp_path / "parts", backend="dask", scheduler=address)
    one_line(raised)


def kill_first_worker(diary, killed):
    """Kill the first worker that begins a pack, in the middle of it."""
    wait_until(lambda: diary.exists() and diary.read_text().endswith("\n"))
    pid = int(diary.read_text().split()[0])
    killed.append(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_cluster_that_loses_a_worker_midway_loses_nothing(cluster, tmp_path):
    diary, killed = tmp_path / "diary", []
    address = cluster.with_workers(2)
    sweep = a_sweep(sizes=(1, 2, 3, 4, 5), diary=str(diary), pause=0.3)
    killer = threading.Thread(target=kill_first_worker, args=(diary, killed))
    killer.start()
    columns = quiet_run(sweep, tmp_path / "parts", backend="dask", scheduler=address)
    killer.join()
    assert killed[0] in [worker.pid for worker in cluster.workers]
    lines = [tuple(map(int, line.split())) for line in diary.read_text().splitlines()]
    first = lines[0][1]
    assert [pid == killed[0] for pid, size in lines if size == first] == [True, False]
    assert {size for _, size in lines} == {1, 2, 3, 4, 5}
    same(columns, quiet_run(sweep, tmp_path / "one"))


def test_a_cluster_gives_what_a_pack_failed_of_and_the_others(cluster, tmp_path):
    address = cluster.with_workers(1)
    sweep = a_sweep(sweep_work.fails_at_two, diary=str(tmp_path / "diary"))
    with pytest.raises(SweepError, match=r"\[size=2 seed=0|1\] ZeroDivisionError"):
        quiet_run(sweep, tmp_path, backend="dask", scheduler=address)
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_workers_of_two_threads_work_on_one_pack_at_a_time(cluster, tmp_path):
    address = cluster.with_workers(1)
    sweep = a_sweep(sweep_work.together, pause=0.1)
    columns = quiet_run(sweep, tmp_path, backend="dask", scheduler=address)
    assert set(columns["together"]) == {1}


def test_a_scheduler_that_dies_is_one_line_and_keeps_what_there_is(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "_WAIT", 4.0)  # so long the client tries to come back, times 4
    folder = tmp_path / "parts"

    def kill():
        wait_until(lambda: list(folder.glob("*.parquet")))
        cluster.scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    address = cluster.with_workers(1)
    with pytest.raises(SweepError, match=r"is gone; start it again\. [12] of 3 packs") as raised:
        quiet_run(a_sweep(pause=0.3), folder, backend="dask", scheduler=address)
    killer.join()
    cluster.scheduler.wait()
    one_line(raised)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "no address", "tcp://no.such.host:1"])
def test_no_scheduler_is_one_line(tmp_path, monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr(backends, "_WAIT", 2.0)
    with pytest.raises(SweepError, match=f"no Dask scheduler answers at {address}") as raised:
        quiet_run(a_sweep(), tmp_path, backend="dask", scheduler=address)
    one_line(raised)


def test_without_dask_there_is_a_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SweepError, match=r"pip install 'mechbook\[cluster\]'"):
        quiet_run(a_sweep(), tmp_path, backend="dask", scheduler="tcp://127.0.0.1:9")
