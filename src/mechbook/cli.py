"""The command line, ``python -m mechbook``.

``doctor`` says whether this machine is ready and what will be skipped; ``list`` shows chapters and
artifacts; ``make`` computes an artifact again; ``worksheet`` prints a chapter's exercises;
``address`` sets the book's public address; ``book`` builds the pages.

A wrong name ends with the list of the right ones and exit status 2. Everything that takes time to
import is imported by the command that needs it, so that ``list`` answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import yaml

from mechbook.backends import BACKENDS

if TYPE_CHECKING:
    from mechbook import artifacts

__all__ = ["Finding", "address", "diagnose", "find_root", "main", "set_address", "setup_cell"]


# ---------------------------------------------------------------- the repository


def find_root(start: Path | None = None) -> Path:
    """Return the root of the book's repository: around ``start``, or around this very package.

    Raises:
        ValueError: Neither lies in a repository of the book.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "book" / "chapters.yml").is_file():
            return folder
    raise ValueError(f"{here} is not in the book's repository (no book/chapters.yml); go there")


# ---------------------------------------------------------------- list


def _list(options: argparse.Namespace) -> int:
    for line in _listing(find_root()):
        print(line)
    return 0


def _listing(root: Path) -> Iterator[str]:
    """Yield the lines of ``list``: chapters in order, then artifacts, then recipes."""
    from mechbook import artifacts, chapters, claims

    ledger = claims.load(root / "book" / "claims.yml")
    yield "chapters"
    for number, chapter in enumerate(chapters.load(root / "book" / "chapters.yml"), start=1):
        count = sum(claim.chapter == chapter.stem for claim in ledger.values())
        facts = f"{count} claims, {_last_run(root, chapter.stem)}"
        state = facts if chapter.written else "not yet written"
        yield f"  {number:2}  {chapter.stem:24}{chapter.title:42}{state}"
    yield "artifacts"
    yield from _indented(_artifact_line(status) for status in artifacts.listing())
    yield "recipes (python -m mechbook make NAME)"
    yield from _indented(
        f"{recipe.name:32}{recipe.chapter}, about {recipe.minutes:g} min"
        for recipe in artifacts.recipes().values()
    )


def _indented(lines: Iterator[str]) -> Iterator[str]:
    any_line = False
    for line in lines:
        any_line = True
        yield f"  {line}"
    if not any_line:
        yield "  none"


def _artifact_line(status: artifacts.Status) -> str:
    return f"{status.name:32}{status.problem or f'{status.size / 2**10:,.0f} KiB'}"


def _last_run(root: Path, stem: str) -> str:
    """Say when a chapter last ran here and how long it took, from what ``make book`` keeps."""
    record = root / "build" / "executed" / f"{stem}.json"
    try:
        facts = json.loads(record.read_text(encoding="utf-8"))
        return f"ran {facts['date']} in {facts['seconds']:.0f} s"
    except (OSError, ValueError, KeyError):
        return "not yet run here"


# ---------------------------------------------------------------- make, worksheet, book

PRESETS = ("smoke", "laptop", "paper")
_MADE_WITH = ("device", "text", "preset", "backend", "scheduler", "workers")


def _make(options: argparse.Namespace) -> int:
    from mechbook import artifacts

    recipe = _recipe(options.name)
    given = {key: getattr(options, key) for key in _MADE_WITH if getattr(options, key) is not None}
    where = f" on {options.device}" if options.device else ""
    told = f"{recipe.name} by {recipe.function}{where}, about {recipe.minutes:g} min on two cores"
    if options.dry_run:
        words = artifacts.plan(recipe.name, **given)
        print("\n".join(filter(None, [f"would make {told}", words])))
        return 0
    into = _trial(recipe.name, options.preset)
    print(f"making {told}", flush=True)
    card = artifacts.make(recipe.name, into=into, **given)
    print(f"made in {card.seconds:.0f} s, sha256 {card.sha256}")
    if into:
        print(f"kept in build/{into.name}: a trial does not replace the book's own")
    return 0


def _recipe(name: str) -> artifacts.Recipe:
    from mechbook import artifacts

    recipes = artifacts.recipes()
    if name not in recipes:
        there = ", ".join(recipes) or "none yet"
        raise ValueError(f"no artifact {name!r} can be made; those that can: {there}")
    return recipes[name]


def _trial(name: str, preset: str | None) -> Path | None:
    """Where a preset that is not the recipe's own is kept, so that it replaces nothing."""
    from mechbook import artifacts

    if preset is None or artifacts.takes(name).get("preset", preset) == preset:
        return None
    return find_root() / "build" / preset


def _worksheet(options: argparse.Namespace) -> int:
    from mechbook import chapters, exercises

    listed = chapters.load(find_root() / "book" / "chapters.yml")
    chapter = chapters.named(listed, options.chapter.replace("-", "_"))
    if not chapter.written:
        written = ", ".join(other.stem for other in listed if other.written)
        raise ValueError(f"{chapter.stem!r} is not yet written; with exercises: {written}")
    found = chapters.exercises_of(chapter)
    print(exercises.worksheet(found, title=chapter.title, solutions=options.solutions))
    return 0


def _book(options: argparse.Namespace) -> int:
    from mechbook import build

    force = ["--force"] if options.force else []
    return build.main(["--root", str(find_root()), *force])


# ---------------------------------------------------------------- address

_CONFIGURED = re.compile(
    r"^(?P<before>repository:[ \t]*\n(?:[ \t]+.*\n|[ \t]*#.*\n|\s*\n)*?[ \t]+url:[ \t]*)"
    r"(?P<quote>[\"']?)(?P<url>[^\s\"'#]+)",
    re.MULTILINE,
)
_ADDRESS = re.compile(r"https://[\w.-]+(:\d+)?(/[\w.~-]+){2,}")
PLACEHOLDER = "OWNER"


def address(root: Path) -> str:
    """Return the repository's public address, as ``_config.yml`` states it.

    Raises:
        ValueError: ``_config.yml`` is missing or states none.
    """
    path = root / "_config.yml"
    found = _CONFIGURED.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        raise ValueError(f"{path}: no `url:` under `repository:`; the book's address goes there")
    return found["url"]


def set_address(root: Path, url: str) -> list[Path]:
    """Write the repository's public address into ``_config.yml`` and every set-up cell.

    Either all files change or none. Returns those that changed.

    Raises:
        ValueError: ``url`` is no https address of a repository, or a notebook's set-up cell does
            not carry the present address.
    """
    new = url.rstrip("/").removesuffix(".git")
    if not _ADDRESS.fullmatch(new):
        raise ValueError(f"{url!r} is no address of a repository; it reads https://host/owner/name")
    old = address(root)
    strays = _strays(root, old)
    if strays:
        names = ", ".join(path.name for path in strays)
        raise ValueError(
            f"the set-up cell (first code cell) lacks {old} in: {names}; mend it first"
        )
    config = root / "_config.yml"
    text = config.read_text(encoding="utf-8")
    changed = {config: _CONFIGURED.sub(rf"\g<before>\g<quote>{new}", text, count=1)}
    whole = re.compile(re.escape(old) + r"(?![\w-])")
    for path in _notebooks(root):
        changed[path] = whole.sub(new, path.read_text(encoding="utf-8"))
    return _write_all(changed)


def setup_cell(url: str) -> str:
    """Return the source of a chapter's first code cell, tagged ``remove-cell``.

    On Colab it fetches the book, installs it and enters ``book/``; elsewhere it does nothing.
    """
    return f'''\
import sys

if "google.colab" in sys.modules:  # an empty machine: fetch the book, install it, move in
    import os
    import site
    import subprocess

    if not os.path.isdir("/content/mechbook"):
        fetch = ["git", "clone", "--depth=1", "{url}", "/content/mechbook"]
        subprocess.run(fetch, check=True)
    os.chdir("/content/mechbook")
    install = [sys.executable, "-m", "pip", "install", "-q", "-r", "requirements.txt"]
    subprocess.run(install, check=True)
    site.main()  # makes the editable install visible to the running kernel
    os.chdir("book")'''


def _address(options: argparse.Namespace) -> int:
    root = find_root()
    if options.url is not None:
        for path in set_address(root, options.url):
            print(f"changed {path.relative_to(root)}")
    now = address(root)
    strays = _strays(root, now)
    print(now)
    for path in strays:
        print(f"{path.name}: its set-up cell has another address", file=sys.stderr)
    return 1 if strays else 0


def _notebooks(root: Path) -> list[Path]:
    return sorted((root / "book").glob("*.ipynb"))


def _strays(root: Path, url: str) -> list[Path]:
    """Return the notebooks whose first code cell does not carry the address."""
    whole = re.compile(re.escape(url) + r"(?![\w-])")
    return [path for path in _notebooks(root) if not whole.search(_first_code(path))]


def _first_code(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return next(sources, "")


def _write_all(texts: dict[Path, str]) -> list[Path]:
    """Write the files whose text differs; when one cannot be written, put the others back."""
    from mechbook.artifacts import write_atomically

    before = {path: path.read_bytes() for path in texts}
    differing = [path for path, text in texts.items() if before[path] != text.encode()]
    try:
        for path in differing:
            write_atomically(path, texts[path].encode())
    except OSError:
        for path in differing:
            if path.read_bytes() != before[path]:
                write_atomically(path, before[path])
        raise
    return differing


# ---------------------------------------------------------------- doctor

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER_ON_MACOS = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")


@dataclass(frozen=True)
class Finding:
    """One line of ``doctor``.

    Attributes:
        part: What was looked at.
        state: ``ok``, ``skipped`` (the book stands without it) or ``broken`` (it does not).
        text: What was found, and the way out where there is something to do.
    """

    part: str
    state: str
    text: str


def diagnose(root: Path) -> Iterator[Finding]:
    """Yield what ``doctor`` finds, part by part; a part that fails is reported as broken."""
    parts: tuple[tuple[str, Callable[[Path], Iterator[Finding]]], ...] = (
        ("machine", _machine),
        ("packages", _packages),
        ("torch", _torch),
        ("kernel", _kernel),
        ("browser", _browser),
        ("artifacts", _artifacts),
        ("hub", _hub),
        ("address", _public_address),
    )
    for part, look in parts:
        try:
            yield from look(root)
        except Exception as error:  # whatever is wrong here is what a doctor is for
            yield Finding(part, "broken", _one_line(error))


def _doctor(options: argparse.Namespace) -> int:
    states = []
    for finding in diagnose(find_root()):
        print(f"{finding.state:8} {finding.part:10} {finding.text}", flush=True)
        states.append(finding.state)
    broken, skipped = states.count("broken"), states.count("skipped")
    verdict = f"{broken} broken: mend these first" if broken else "ready"
    print(f"{verdict}; {skipped} optional parts skipped")
    return 1 if broken else 0


def _machine(root: Path) -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("machine", "ok", f"{platform.platform()}, {cores} cores; book at {root}")
    allowed = _project(root)["requires-python"]
    state = "ok" if _within(allowed, platform.python_version()) else "broken"
    text = f"{platform.python_version()} at {sys.executable}; the book takes {allowed}"
    yield Finding("python", state, text)


def _packages(root: Path) -> Iterator[Finding]:
    """Compare what is installed with what ``pyproject.toml`` allows; what is missing gets a line."""
    project = _project(root)
    needed = [_fault(text) for text in project["dependencies"]]
    extra = [_fault(text) for text in project["optional-dependencies"]["dev"]]
    faults = [fault for fault in needed if fault]
    for fault in faults:
        yield Finding("packages", "broken", f"{fault}; make env")
    for fault in filter(None, extra):
        yield Finding("packages", "skipped", f"{fault}; only make test needs it")
    if not faults:
        shown = [f"{name} {metadata.version(name)}" for name in ("transformer-lens", "numpy")]
        shown += [f"{name} {metadata.version(name)}" for name in ("jupyter-book", "datasets")]
        text = f"all {len(needed)} within their bounds: {', '.join(shown)}, ..."
        yield Finding("packages", "ok", text)


def _torch(root: Path) -> Iterator[Finding]:
    import torch

    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    none = "none: everything runs on the CPU, as it was measured"
    yield Finding("gpu", "ok" if devices else "skipped", ", ".join(devices) or none)


def _kernel(root: Path) -> Iterator[Finding]:
    """Find the kernel that chapters name; it must start this very Python."""
    from jupyter_client.kernelspec import KernelSpecManager

    program = KernelSpecManager().get_kernel_spec("python3").argv[0]
    here = Path(sys.executable)
    ours = not os.path.isabs(program) or Path(program).parent == here.parent
    if ours:
        yield Finding("kernel", "ok", f"python3 ({metadata.version('ipykernel')})")
    else:
        way_out = f"{here} -m ipykernel install --sys-prefix --name python3"
        yield Finding("kernel", "broken", f"python3 starts {program}, not this Python: {way_out}")


def _browser(root: Path) -> Iterator[Finding]:
    given = os.environ.get("CHROMIUM")
    names = [given] if given else list(BROWSERS)
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and not given and BROWSER_ON_MACOS.exists():
        found = str(BROWSER_ON_MACOS)
    lacking = f"no {' or '.join(names)}: the browser tests are skipped; install one or set CHROMIUM"
    yield Finding("browser", "ok" if found else "skipped", found or lacking)


def _artifacts(root: Path) -> Iterator[Finding]:
    from mechbook import artifacts

    there = artifacts.listing()
    for status in there:
        yield Finding("artifact", "ok" if status.ok else "broken", _artifact_line(status))
    recipes = artifacts.recipes()
    for name in sorted(recipes.keys() - {status.name for status in there}):
        words = f"{name} is not there; python -m mechbook make {name}"
        if recipes[name].shipped:
            yield Finding("artifact", "broken", words)
        else:
            yield Finding("artifact", "skipped", f"{words}, on a larger machine")


def _hub(root: Path) -> Iterator[Finding]:
    from mechbook.corpora import hub_unreachable

    reason = hub_unreachable()
    skipped = f"{reason}: streamed text and the runs at full scale are skipped"
    yield Finding("hub", "skipped" if reason else "ok", skipped if reason else "answers")


def _public_address(root: Path) -> Iterator[Finding]:
    now = address(root)
    strays = ", ".join(path.name for path in _strays(root, now))
    way_out = "python -m mechbook address URL"
    if strays:
        yield Finding("address", "broken", f"{now} is not in the set-up cell of {strays}")
    elif f"/{PLACEHOLDER}/" in now:
        text = f"{now} is a placeholder, launch buttons lead nowhere: {way_out}"
        yield Finding("address", "skipped", text)
    else:
        yield Finding("address", "ok", now)


def _project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _within(specifier: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def _fault(requirement: str) -> str | None:
    """Say what is wrong with an installed package, or None when it is as required."""
    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    if wanted.marker is not None and not wanted.marker.evaluate():
        return None
    try:
        installed = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    if wanted.specifier.contains(installed, prereleases=True):
        return None
    return f"{wanted.name} is {installed}, allowed is {wanted.specifier}"


# ---------------------------------------------------------------- the parser


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show an error's traceback"
    )
    parser = _Parser(
        prog="python -m mechbook", description="The book's own commands.", parents=[common]
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], says: str) -> _Parser:
        added: _Parser = commands.add_parser(name, help=says, description=says, parents=[common])
        added.set_defaults(run=run)
        return added

    command("doctor", _doctor, "Is this machine ready, and what will be skipped and why?")
    command("list", _list, "Chapters, artifacts and recipes.")
    make = command("make", _make, "Compute an artifact again.")
    make.add_argument("name", metavar="NAME", help="as in `list`")
    make.add_argument("--device", help="cpu, cuda, mps; the recipe's own choice without it")
    make.add_argument("--text", help="folder of parquet files, or a data set of the hub")
    make.add_argument("--preset", choices=PRESETS, help="how large; kept apart if not the usual")
    make.add_argument("--backend", choices=BACKENDS, help="where many runs are spread")
    make.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, tcp://host:8786")
    make.add_argument("--workers", type=int, help="processes of the backend loky")
    make.add_argument("--dry-run", action="store_true", help="say what would be done")
    worksheet = command("worksheet", _worksheet, "A chapter's exercises as Markdown, to print.")
    worksheet.add_argument("chapter", metavar="CHAPTER", help="as in `list`")
    worksheet.add_argument("--solutions", action="store_true", help="with a part of solutions")
    place = command("address", _address, "Show the book's public address, or set it everywhere.")
    place.add_argument("url", metavar="URL", nargs="?", help="https://host/owner/name")
    book = command("book", _book, "Execute what has changed and build the pages.")
    book.add_argument("--force", action="store_true", help="execute every chapter again")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status: 0, 1 for a broken machine, 2 for a bad request."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except (ValueError, OSError, ImportError, yaml.YAMLError) as error:
        if debug:
            raise
        print(f"mechbook: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mechbook: stopped", file=sys.stderr)
        return 130


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
