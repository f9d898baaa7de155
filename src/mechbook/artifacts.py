"""Files too slow to compute in a chapter, each with a card that says where it came from.

Tensors are kept as safetensors under ``data/weights``, tables as parquet under ``data/results``,
texts as parquet under ``data/texts`` (`corpora.shipped` reads them), a tokenizer as JSON under
``data/settings``, and ``NAME.card.json`` beside each says what made it and what its sha256 is.
Loading reads the file once, compares the sha256, and only then looks inside; nothing is ever
unpickled::

    table = artifacts.load_table("induction-seeds")        # {"accuracy": array([...]), ...}
    tensors = artifacts.load_tensors("induction-model")    # {"W_E": tensor([...]), ...}

``data/recipes.yml`` lists what can be computed again, so that ``python -m mechbook make NAME`` can
reach a chapter's function without this module knowing any chapter. Such a function returns the
content and what its card must say: ``return columns, {"about": "…", "seeds": [0, 1, 2]}``.
"""

import hashlib
import importlib
import inspect
import io
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

DATA = Path(__file__).parent / "data"
LARGEST = 16 * 2**20
"""Bytes that one artifact may have."""

_FOLDERS = {
    "tensors": ("weights", ".safetensors"),
    "table": ("results", ".parquet"),
    "texts": ("texts", ".parquet"),
    "json": ("settings", ".json"),
}
_CARD = ".card.json"
_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_ABSOLUTE = re.compile(r"(?:^|[\s\"'=(,;:<\[{|])(?:/(?!/)[\w.~-]|~[\w-]*/|[A-Za-z]:[\\/]|\\\\)")
_WHERE = ("backend", "scheduler", "workers")
_PACKAGES = ("mechbook", "torch", "numpy", "transformer-lens", "safetensors", "pyarrow")


class ArtifactError(ValueError):
    """An artifact that is missing, broken, altered, or that nobody knows."""


def _commit() -> str:
    """The commit of the code, marked where the code has changes; "unknown" without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--", ".", ":(exclude)data")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit} with changes" if changes else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(DATA.parent), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass(frozen=True)
class Card:
    """Where an artifact came from.

    Attributes:
        about: what it is, in one or two sentences.
        made_by: the function, as ``package.module:function``.
        command: what makes it again.
        seeds: every seed that went in; empty where chance had no part.
        seconds: wall time.
        device: what it was computed on, in words.
        inputs: sha256 of each input by its name, see `checksum`.
        license: SPDX name of the license of the content.
        commit: of the code that made it.
        made: day, as year-month-day.
        versions: of Python and of the packages that matter.
        sha256: of the file; filled in on saving.
    """

    about: str
    made_by: str
    command: str
    seeds: list[int]
    seconds: float
    device: str = "cpu"
    inputs: dict[str, str] = field(default_factory=dict)
    license: str = "MIT"
    commit: str = field(default_factory=_commit)
    made: str = field(default_factory=_today)
    versions: dict[str, str] = field(default_factory=_versions)
    sha256: str = ""


@dataclass(frozen=True)
class Recipe:
    """How an artifact is computed again: an entry of ``data/recipes.yml``.

    Attributes:
        name: of the artifact.
        function: ``package.module:function``; returns the content and what its card must say.
        chapter: the chapter that it belongs to.
        kind: ``tensors``, ``table``, ``texts`` or ``json``.
        minutes: about how long it takes on two cores.
        shipped: whether it comes with the book; what does not is for a larger machine.
    """

    name: str
    function: str
    chapter: str
    kind: str
    minutes: float
    shipped: bool = True


@dataclass(frozen=True)
class Status:
    """What `listing` says of one artifact. ``problem`` is empty where all is well."""

    name: str
    kind: str
    size: int
    problem: str
    recipe: Recipe | None

    @property
    def ok(self) -> bool:
        """Whether the file is there and is what its card describes."""
        return not self.problem


# --- reading ----------------------------------------------------------------------------------


def load_tensors(name: str, *, data: Path = DATA) -> "dict[str, Tensor]":
    """The tensors of an artifact, in order of name, on the CPU, after its sha256 was compared.

    Raises:
        ArtifactError: no such artifact, or file or card missing, truncated or altered.
    """
    from safetensors.torch import load

    return dict(sorted(load(_verified(name, "tensors", data)).items()))


def load_table(name: str, *, data: Path = DATA) -> dict[str, np.ndarray]:
    """The columns of an artifact by name, after its sha256 was compared.

    Returns:
        One-dimensional arrays of one length: numbers, booleans, or text (dtype ``str``).
        ``pandas.DataFrame(load_table(name))`` makes a data frame of it.

    Raises:
        ArtifactError: no such artifact, or file or card missing, truncated or altered.
    """
    return _columns(_verified(name, "table", data))


def _columns(content: bytes) -> dict[str, np.ndarray]:
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(content))
    columns = {c: table.column(c).to_numpy() for c in table.column_names}
    return {c: x.astype(str) if x.dtype == object else x for c, x in columns.items()}


def load_texts(name: str, *, data: Path = DATA) -> dict[str, np.ndarray]:
    """The columns of a text that ships with the book, after its sha256 was compared.

    Raises:
        ArtifactError: no such artifact, or file or card missing, truncated or altered.
    """
    return _columns(_verified(name, "texts", data))


def load_json(name: str, *, data: Path = DATA) -> Any:
    """The content of a JSON artifact, after its sha256 was compared.

    Raises:
        ArtifactError: no such artifact, or file or card missing, truncated or altered.
    """
    return json.loads(_verified(name, "json", data))


def load_card(name: str, *, data: Path = DATA) -> Card:
    """The card of an artifact, without looking at the artifact itself.

    Raises:
        ArtifactError: no such artifact, or a card that is missing or cannot be read.
    """
    return _read_card(_file(name, _kind(name, data), data), name)


def checksum(name: str, *, data: Path = DATA) -> str:
    """The sha256 of an artifact, compared with its file: for the ``inputs`` of another's card."""
    return hashlib.sha256(_verified(name, _kind(name, data), data)).hexdigest()


def _verified(name: str, kind: str, data: Path) -> bytes:
    """The bytes of the file, if they are those that the card describes."""
    there = _kind(name, data)
    if there != kind:
        raise ArtifactError(f"{name} holds {there}; read it with load_{there}")
    file = _file(name, kind, data)
    if not file.is_file():
        raise ArtifactError(f"{_shown(file)} is missing; {_again(name)}")
    card = _read_card(file, name)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise ArtifactError(
            f"{_shown(file)} is truncated or altered: its sha256 is not that of its card; "
            f"{_again(name)}"
        )
    return content


def _read_card(file: Path, name: str) -> Card:
    path = _card_path(file)
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ArtifactError(f"{_shown(path)} is missing; {_again(name)}") from error
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{_shown(path)} is no readable card; {_again(name)}") from error


def _kind(name: str, data: Path) -> str:
    """The kind of an artifact that is there, or that was and has a trace or a recipe."""
    for kind in _FOLDERS:
        file = _file(name, kind, data)
        if file.exists() or _card_path(file).exists():
            return kind
    known = recipes(data=data)
    if name in known:
        return known[name].kind
    there = ", ".join(sorted({*_names(data), *known})) or "none yet"
    raise ArtifactError(f"there is no artifact {name!r}; there are: {there}")


def _names(data: Path) -> list[str]:
    """Names with a file or a card, in order."""
    found = set()
    for folder, ending in _FOLDERS.values():
        cards = {p.name.removesuffix(_CARD) for p in (data / folder).glob(f"[!.]*{_CARD}")}
        files = {p.name for p in (data / folder).glob(f"[!.]*{ending}")}
        found |= cards | {f.removesuffix(ending) for f in files if not f.endswith(_CARD)}
    return sorted(found)


def _file(name: str, kind: str, data: Path) -> Path:
    if not _NAME.fullmatch(name):
        there = ", ".join(_names(data)) or "none yet"
        raise ArtifactError(
            f"{name!r} is no name of an artifact; use small letters, digits and single hyphens. "
            f"There are: {there}"
        )
    folder, ending = _FOLDERS[kind]
    return data / folder / f"{name}{ending}"


def _card_path(file: Path) -> Path:
    return file.with_name(f"{file.stem}{_CARD}")


def _shown(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _again(name: str) -> str:
    return f"`python -m mechbook make {name}` makes it again"


# --- writing ----------------------------------------------------------------------------------


def save_tensors(
    name: str, tensors: "Mapping[str, Tensor]", *, card: Card, data: Path = DATA
) -> Card:
    """Write tensors and their card; the card as it was written, sha256 included.

    Raises:
        ArtifactError: a bad name, a card with an absolute path, or more than 16 MiB.
    """
    from safetensors.torch import save

    copies = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
    return _write(name, "tensors", save(copies), card, data)


def save_table(name: str, columns: Mapping[str, Any], *, card: Card, data: Path = DATA) -> Card:
    """Write a table and its card; the card as it was written, sha256 included.

    Args:
        name: small letters, digits, hyphens.
        columns: one-dimensional arrays of one length by name: numbers, booleans or text. A
            missing number is ``nan``.
        card: where the table came from.
        data: folder that holds ``weights`` and ``results``.

    Raises:
        ArtifactError: a bad name, columns that are no table, a card with an absolute path, or
            more than 16 MiB.
    """
    return _write(name, "table", _parquet(columns), card, data)


def save_texts(name: str, columns: Mapping[str, Any], *, card: Card, data: Path = DATA) -> Card:
    """Write a text that ships with the book, one document a row, and its card.

    Raises:
        ArtifactError: as `save_table`, or no column ``text``.
    """
    if "text" not in columns:
        raise ArtifactError(f"{name} needs a column text; it has: {', '.join(columns) or 'none'}")
    return _write(name, "texts", _parquet(columns), card, data)


def save_json(name: str, content: Any, *, card: Card, data: Path = DATA) -> Card:
    """Write plain values as JSON, and their card; the card as it was written, sha256 included.

    Raises:
        ArtifactError: a bad name, a card with an absolute path, or more than 16 MiB.
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return _write(name, "json", text.encode(), card, data)


def _parquet(columns: Mapping[str, Any]) -> bytes:
    """Columns of one length as the content of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {key: np.asarray(values) for key, values in columns.items()}
    shapes = {key: array.shape for key, array in arrays.items()}
    if len({*shapes.values()}) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ArtifactError(f"columns must be one-dimensional and of one length; got {shapes}")
    if wrong := [key for key, array in arrays.items() if array.dtype.kind not in "biufU"]:
        raise ArtifactError(f"column {wrong[0]} holds neither numbers, nor booleans, nor text")
    stream = io.BytesIO()
    pq.write_table(
        pa.table({k: pa.array(a) for k, a in arrays.items()}), stream, compression="zstd"
    )
    return stream.getvalue()


def _write(name: str, kind: str, content: bytes, card: Card, data: Path) -> Card:
    """The file first, then its card: a crash between them leaves a pair that loading refuses."""
    file = _file(name, kind, data)
    for other in set(_FOLDERS) - {kind}:
        if _file(name, other, data).exists():
            raise ArtifactError(f"{name} is there already and holds {other}; use another name")
    if len(content) > LARGEST:
        size, most = len(content) / 2**20, LARGEST / 2**20
        raise ArtifactError(f"{_shown(file)} would have {size:.1f} MiB; at most {most:.0f} may be")
    facts = asdict(card) | {"sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    _refuse_paths(json.loads(text), name)
    write_atomically(file, content)
    write_atomically(_card_path(file), f"{text}\n".encode())
    return Card(**json.loads(text))


def _refuse_paths(value: Any, name: str) -> None:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        for item in value:
            _refuse_paths(item, name)
    elif isinstance(value, str) and _ABSOLUTE.search(value):
        raise ArtifactError(
            f"the card of {name} would name an absolute path ({value!r}), which means nothing on "
            "another machine; name inputs by their names"
        )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, finds the old content or the new, never a part.

    The folder is made where it is missing. The content is on the disk when the function returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


# --- making again -----------------------------------------------------------------------------


def recipes(*, data: Path = DATA) -> dict[str, Recipe]:
    """What ``data/recipes.yml`` lists, by name.

    Raises:
        ArtifactError: an entry with other keys than those of `Recipe`, a bad name or kind, or a
            name that stands there twice.
    """
    import yaml

    file = data / "recipes.yml"
    entries = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None) or []
    found: dict[str, Recipe] = {}
    for entry in entries:
        recipe = _recipe(entry)
        if recipe.name in found:
            raise ArtifactError(f"{recipe.name} stands twice in recipes.yml; keep one entry")
        found[recipe.name] = recipe
    return found


def _recipe(entry: Any) -> Recipe:
    keys = [f.name for f in fields(Recipe) if f.name != "shipped"]
    if not isinstance(entry, dict) or set(entry) - {"shipped"} != set(keys):
        raise ArtifactError(f"recipes.yml: an entry needs {', '.join(keys)}; got {entry}")
    recipe = Recipe(**entry)
    if not _NAME.fullmatch(str(recipe.name)):
        raise ArtifactError(f"recipes.yml: {recipe.name!r} is no name; use a-z, 0-9 and hyphens")
    if recipe.kind not in _FOLDERS or not re.fullmatch(r"[\w.]+:\w+", str(recipe.function)):
        raise ArtifactError(
            f"recipes.yml: {recipe.name} needs a kind among {', '.join(_FOLDERS)} and a function "
            f"as package.module:function; got {recipe.kind} and {recipe.function}"
        )
    return recipe


def make(name: str, /, *, data: Path = DATA, into: Path | None = None, **options: Any) -> Card:
    """Compute an artifact by its recipe and save it with its card.

    Args:
        name: of a recipe.
        data: folder that holds ``recipes.yml``, ``weights`` and ``results``.
        into: folder to save in, where it shall not be ``data``: for a trial.
        options: handed to the recipe's function. The card's command leaves out those that say
            where it runs (``backend``, ``scheduler``, ``workers``), and not what.

    Returns:
        The card as it was written.

    Raises:
        ArtifactError: no such recipe, no such function, or options that it does not take.
    """
    recipe = _known(name, data)
    function = _function(recipe, options)
    start = time.perf_counter()
    content, facts = function(**options)
    seconds = round(time.perf_counter() - start, 1)
    told = {key: value for key, value in options.items() if key not in _WHERE}
    given = "".join(f" --{key} {_without_folder(value)}" for key, value in told.items())
    command = f"python -m mechbook make {name}{given}"
    card = _card(recipe, {"command": command, "seconds": seconds, **facts})
    save = {
        "tensors": save_tensors,
        "table": save_table,
        "texts": save_texts,
        "json": save_json,
    }[recipe.kind]
    return save(name, content, card=card, data=into or data)


def plan(name: str, /, *, data: Path = DATA, **options: Any) -> str:
    """What `make` would compute, in the words of a recipe that takes ``dry_run``; else nothing.

    Raises:
        ArtifactError: as `make`, or words that are no text.
    """
    recipe = _known(name, data)
    function = _function(recipe, options)
    if "dry_run" not in takes(name, data=data):
        return ""
    words = function(**options, dry_run=True)
    if not isinstance(words, str):
        raise ArtifactError(f"{recipe.function} must return text for dry_run; it gave {words!r}")
    return words


def takes(name: str, *, data: Path = DATA) -> dict[str, Any]:
    """The options that a recipe's function takes, with their defaults.

    Raises:
        ArtifactError: no such recipe, or no such function.
    """
    parameters = inspect.signature(_function(_known(name, data), {})).parameters
    return {key: parameter.default for key, parameter in parameters.items()}


def _known(name: str, data: Path) -> Recipe:
    known = recipes(data=data)
    if name not in known:
        there = ", ".join(sorted(known)) or "none yet"
        raise ArtifactError(f"there is no recipe for {name!r}; there are: {there}")
    return known[name]


def _without_folder(value: Any) -> Any:
    """A path on this machine by its last name; any other value as it is."""
    return Path(value).resolve().name if isinstance(value, str) and Path(value).exists() else value


def _card(recipe: Recipe, facts: Mapping[str, Any]) -> Card:
    try:
        return Card(made_by=recipe.function, **facts)
    except TypeError as error:
        raise ArtifactError(
            f"{recipe.function} gave {', '.join(facts)} for the card of {recipe.name}; it must "
            "give about and seeds, and may give device, inputs and license"
        ) from error


def _function(recipe: Recipe, options: Mapping[str, Any]) -> Any:
    module, _, attribute = recipe.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ArtifactError(f"{recipe.name}: {recipe.function} cannot be found: {error}") from error
    takes = inspect.signature(function).parameters
    if unknown := [key for key in options if key not in takes]:
        raise ArtifactError(
            f"{recipe.name} takes no option {unknown[0]}; it takes: {', '.join(takes) or 'none'}"
        )
    return function


def listing(*, data: Path = DATA) -> list[Status]:
    """The artifacts that are there, or whose card is, in order of name, each one checked."""
    known = recipes(data=data)
    return [_status(name, known.get(name), data) for name in _names(data)]


def _status(name: str, recipe: Recipe | None, data: Path) -> Status:
    kind = "unknown"
    try:
        kind = _kind(name, data)
        size = len(_verified(name, kind, data))
    except ArtifactError as error:
        return Status(name, kind, 0, str(error), recipe)
    return Status(name, kind, size, "", recipe)
