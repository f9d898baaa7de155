"""From sources to pages: each chapter runs once, and only when something it depends on has changed.

The steps are ``stage`` (a copy of the sources), ``execute`` (nbmake runs the chapters whose key has changed), ``audit``
(the claim ledger against what was measured) and ``render`` (Jupyter Book builds from those very outputs).
"""

from __future__ import annotations

import argparse
import ast
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import yaml

from mechbook import claims

VERSIONS_SHOWN = ("torch", "transformer-lens", "numpy", "matplotlib", "jupyter-book")


class BuildError(ValueError):
    """The book could not be built; the text says what to do."""


@dataclass(frozen=True)
class Layout:
    """Where things are, all from the repository's root."""

    root: Path

    @property
    def book(self) -> Path:
        """The sources."""
        return self.root / "book"

    @property
    def package(self) -> Path:
        """The code that the chapters import."""
        return self.root / "src" / "mechbook"

    @property
    def stage(self) -> Path:
        """The copy of the sources that is executed and rendered."""
        return self.root / "build" / "stage"

    @property
    def executed(self) -> Path:
        """The last good execution of each chapter, with its record."""
        return self.root / "build" / "executed"

    @property
    def html(self) -> Path:
        """The finished pages."""
        return self.root / "build" / "html"


@dataclass(frozen=True)
class Execution:
    """The record of one chapter's execution."""

    key: str
    date: str
    seconds: float
    cores: int
    peak_gb: float
    versions: dict[str, str]


def chapters(layout: Layout) -> list[str]:
    """The chapters of ``_toc.yml`` that are notebooks, in order.

    Raises:
        BuildError: the folder is no copy of the book.
    """
    if not (layout.root / "_toc.yml").is_file():
        raise BuildError(
            f"There is no _toc.yml in {layout.root.name}: run this from the repository."
        )
    toc = yaml.safe_load((layout.root / "_toc.yml").read_text(encoding="utf-8"))
    files = [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    return [Path(f).name for f in files if (layout.root / f).with_suffix(".ipynb").is_file()]


# ---------------------------------------------------------------- what a chapter depends on


def imported_modules(source: str) -> set[str]:
    """The modules that a piece of Python imports, as dotted names; magics are passed over."""
    plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)
    names: set[str] = set()
    for node in ast.walk(ast.parse(plain)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def module_file(layout: Layout, name: str) -> Path | None:
    """The file of a module of this package, or None for a module of somebody else's."""
    if name.split(".")[0] != "mechbook":
        return None
    path = layout.package.joinpath(*name.split(".")[1:])
    candidates = (path.with_suffix(".py") if path != layout.package else None, path / "__init__.py")
    return next((c for c in candidates if c is not None and c.is_file()), None)


def dependencies(layout: Layout, source: str) -> list[Path]:
    """The package's files that a piece of Python reaches through its imports, sorted."""
    found: set[Path] = set()
    waiting = [source]
    while waiting:
        for name in imported_modules(waiting.pop()):
            file = module_file(layout, name)
            if file is not None and file not in found:
                found.add(file)
                waiting.append(file.read_text(encoding="utf-8"))
    return sorted(found)


def artifacts_named(layout: Layout, texts: Sequence[str]) -> list[Path]:
    """The artifacts whose names stand as string literals in any of the texts, sorted."""
    files = sorted((layout.package / "data").glob("*/*"))
    joined = "\n".join(texts)
    return [f for f in files if any(q + f.name.split(".")[0] + q in joined for q in ("'", '"'))]


def code_of(notebook: nbformat.NotebookNode) -> list[str]:
    """The sources of a notebook's code cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def chapter_key(layout: Layout, stem: str) -> str:
    """What a chapter's outputs depend on, as one hash.

    Its code cells, the modules they reach, the artifacts these name, its claims, the lock, and the Python that runs it.
    Prose is not among them: a chapter whose text alone has changed is rendered again, not executed again.
    """
    cells = code_of(nbformat.read(layout.book / f"{stem}.ipynb", as_version=4))
    modules = dependencies(layout, "\n".join(cells))
    texts = [*cells, *(m.read_text(encoding="utf-8") for m in modules)]
    ledger = yaml.safe_load((layout.book / "claims.yml").read_text(encoding="utf-8")) or []
    digest = hashlib.sha256()
    facts = [claim for claim in ledger if claim.get("chapter") == stem]
    digest.update(
        json.dumps([cells, facts, platform.python_version(), platform.machine()]).encode()
    )
    for file in [layout.root / "requirements.txt", *modules, *artifacts_named(layout, texts)]:
        digest.update(file.relative_to(layout.root).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


# ---------------------------------------------------------------- stage


def stage(layout: Layout) -> None:
    """Copy the sources to the stage, with a configuration that renders and does not execute."""
    shutil.rmtree(layout.stage, ignore_errors=True)
    ignore = shutil.ignore_patterns(".ipynb_checkpoints", "_build")
    shutil.copytree(layout.book, layout.stage / "book", ignore=ignore)
    shutil.copy(layout.root / "_toc.yml", layout.stage)
    config = yaml.safe_load((layout.root / "_config.yml").read_text(encoding="utf-8"))
    config["execute"]["execute_notebooks"] = "off"
    text = yaml.safe_dump(config, sort_keys=False)
    (layout.stage / "_config.yml").write_text(text, encoding="utf-8")


# ---------------------------------------------------------------- execute


def last_execution(layout: Layout, stem: str) -> Execution | None:
    """The record of a chapter's last good execution, or None."""
    record = layout.executed / f"{stem}.json"
    if not (record.is_file() and record.with_suffix(".ipynb").is_file()):
        return None
    try:
        return Execution(**json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None  # half written, or of an older kind: execute again


def available_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(cores: int) -> tuple[int, int]:
    """How many chapters run at once, and with how many threads each.

    Small models keep one core busy and waste a second one on waiting for each other, so chapters
    run beside each other, at most four (each takes one or two gigabytes).
    """
    at_once = max(1, min(4, cores))
    return at_once, max(1, cores // at_once)


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment in which chapters run: outputs for the page, and no network."""
    offline = {"MECHBOOK_STATIC": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    backend = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    return {**os.environ, **offline, **backend, **limit}


@dataclass(frozen=True)
class Run:
    """What became of one chapter: exit status, seconds, largest resident memory in GB, nbmake's words."""

    status: int
    seconds: float
    peak_gb: float
    output: str


def run_nbmake(layout: Layout, stem: str, threads: int) -> Run:
    """Run one staged chapter through nbmake."""
    notebook = layout.stage / "book" / f"{stem}.ipynb"
    words = ["-m", "pytest", "--nbmake", "--overwrite", "--nbmake-timeout=600", "-q"]
    guard = ["-p", "no:cacheprovider", "--no-header", f"--rootdir={layout.stage}", "-c", os.devnull]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, *words, *guard, str(notebook)],
            env=environment(threads),
            cwd=layout.stage,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)  # the memory of this child alone
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        largest = usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
        return Run(process.returncode, time.monotonic() - started, largest, log.read())


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def execute(layout: Layout, stem: str, key: str, threads: int = 1) -> Execution:
    """Run one chapter and keep its outputs and record.

    Raises:
        BuildError: a cell failed or timed out; the text says which.
    """
    run = run_nbmake(layout, stem, threads)
    if run.status != 0:
        raise BuildError(
            f"{stem}: did not run to its end. Mend the cell below, then `make book`.\n{run.output}"
        )
    record = Execution(
        key=key,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=round(run.seconds, 1),
        cores=threads,
        peak_gb=round(run.peak_gb, 2),
        versions={name: version(name) for name in VERSIONS_SHOWN},
    )
    outputs = (layout.stage / "book" / f"{stem}.ipynb").read_text(encoding="utf-8")
    write_atomically(layout.executed / f"{stem}.ipynb", outputs)
    write_atomically(layout.executed / f"{stem}.json", json.dumps(asdict(record), indent=1))
    return record


def is_current(layout: Layout, stem: str, key: str) -> bool:
    """Whether a chapter's last good execution is still the one that its key asks for; says so."""
    last = last_execution(layout, stem)
    if last is None or last.key != key:
        return False
    print(f"== {stem}: unchanged since {last.date} ({last.seconds:.0f} s then)", flush=True)
    return True


def execute_stale(layout: Layout, keys: Mapping[str, str], *, force: bool) -> list[str]:
    """Run the chapters whose key has changed, some at once; return their names.

    Every chapter gets its turn: one that fails is named at the end, and those that passed are kept.
    """
    stale = [s for s, key in keys.items() if force or not is_current(layout, s, key)]
    at_once, threads = side_by_side(available_cores())
    failed: list[str] = []
    with ThreadPoolExecutor(at_once) as pool:
        waiting = {s: pool.submit(execute, layout, s, keys[s], threads) for s in stale}
        for stem, future in waiting.items():
            print(f"== {stem}: {_outcome(future, failed)}", flush=True)
    if failed:
        raise BuildError("\n".join(failed))
    return stale


def _outcome(future: Future[Execution], failed: list[str]) -> str:
    """Wait for a chapter and say how long it took; note what went wrong."""
    try:
        return f"executed in {future.result().seconds:.0f} s"
    except BuildError as error:
        failed.append(str(error))
        return "failed"


# ---------------------------------------------------------------- render


def colophon(record: Execution) -> str:
    """The line at a chapter's end that says when and with what it ran."""
    with_what = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    return (
        ":::{div} mb-colophon\n"
        f"Last executed {record.date} in {record.seconds:.0f} s on {record.cores} "
        f"{'core' if record.cores == 1 else 'cores'}, "
        f"peak memory {record.peak_gb:.1f} GB, with Python {platform.python_version()}, {with_what}.\n:::"
    )


def with_outputs(layout: Layout, stem: str) -> nbformat.NotebookNode:
    """A chapter's source with the outputs of its last execution and its colophon."""
    source = nbformat.read(layout.book / f"{stem}.ipynb", as_version=4)
    executed = nbformat.read(layout.executed / f"{stem}.ipynb", as_version=4)
    cells = [cell for cell in source.cells if cell.cell_type == "code"]
    done = [cell for cell in executed.cells if cell.cell_type == "code"]
    for cell, result in zip(cells, done, strict=True):
        cell.outputs, cell.execution_count = result.outputs, result.execution_count
    record = last_execution(layout, stem)
    assert record is not None
    last_cell = nbformat.v4.new_markdown_cell(colophon(record), id="colophon")
    source.cells.append(last_cell)
    return source


def audit(layout: Layout, stems: Sequence[str]) -> None:
    """Hold the ledger to what the chapters recorded.

    Raises:
        ClaimError: a claim that no chapter checked, or a check that no claim lists.
    """
    paths = [layout.stage / "book" / f"{stem}.ipynb" for stem in stems]
    claims.audit(claims.load(layout.book / "claims.yml"), claims.records(paths), stems)


def fingerprint(layout: Layout, keys: Mapping[str, str]) -> str:
    """One hash of everything that the pages are made of."""
    digest = hashlib.sha256(json.dumps([dict(keys), version("jupyter-book")]).encode())
    for file in sorted(files_rendered(layout)):
        digest.update(file.relative_to(layout.root).as_posix().encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def files_rendered(layout: Layout) -> Iterator[Path]:
    """The files that the pages are made of, apart from what only execution reads."""
    yield from (layout.root / name for name in ("_config.yml", "_toc.yml", "requirements.txt"))
    for folder in (layout.book, layout.package):
        for file in folder.rglob("*"):
            hidden = any(p.startswith(".") or p == "__pycache__" for p in file.parts[-3:])
            if file.is_file() and not hidden:
                yield file


def render(layout: Layout) -> None:
    """Build the pages from the stage, warnings as errors, and put them in place only when they are whole.

    Raises:
        BuildError: Jupyter Book refused something; its output says what.
    """
    print("== pages: building", flush=True)
    words = ["build", "--all", "-q", "-W", "-n", "--keep-going"]
    where = ["--path-output", str(layout.root / "build")]
    program = Path(sys.executable).with_name("jupyter-book")
    done = subprocess.run(
        [str(program), *words, *where, str(layout.stage)],
        env=environment(),
        cwd=layout.stage,
        check=False,
    )
    if done.returncode != 0:
        raise BuildError("The pages were not built: mend the warnings above, then `make book`.")
    shutil.rmtree(layout.html, ignore_errors=True)
    shutil.move(layout.root / "build" / "_build" / "html", layout.html)


def book(layout: Layout, *, force: bool = False) -> Path:
    """Bring the pages up to date and return the first one."""
    keys = {stem: chapter_key(layout, stem) for stem in chapters(layout)}
    stamp = layout.html / ".fingerprint"
    current = fingerprint(layout, keys)
    if not force and stamp.is_file() and stamp.read_text(encoding="utf-8") == current:
        print("== nothing changed", flush=True)
        return layout.html / "index.html"
    stage(layout)
    execute_stale(layout, keys, force=force)
    for stem in keys:
        nbformat.write(with_outputs(layout, stem), layout.stage / "book" / f"{stem}.ipynb")
    audit(layout, list(keys))
    render(layout)
    write_atomically(stamp, current)
    return layout.html / "index.html"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command ``python -m mechbook.build``: 0 when the book stands, 1 when it does not."""
    parser = argparse.ArgumentParser(prog="mechbook.build", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the repository")
    parser.add_argument("--force", action="store_true", help="execute every chapter again")
    options: Any = parser.parse_args(arguments)
    try:
        first = book(Layout(options.root.resolve()), force=options.force)
    except ValueError as error:
        print(f"== not built\n{error}", file=sys.stderr)
        return 1
    print(f"== the book: {first}\n   open that file in a browser, or `make serve`", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
