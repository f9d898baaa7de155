"""Parts of a large table: one parquet file for each finished pack of runs, and the whole of them.

A part is written at once or not at all. It says what it belongs to and carries a digest of its
content, so that neither an altered part nor one that was renamed can slip into a table.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mechbook.artifacts import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa

MEMBER = "member"
"""The column that says which config of its pack a row belongs to: 0 for the first."""


class SweepError(ValueError):
    """Runs that failed, parts that are damaged or missing, or rows that make no table."""


@dataclass(frozen=True)
class Part:
    """What one finished pack left.

    Attributes:
        rows: of the pack, with the column ``member``.
        seconds: wall time of the pack.
        commit: of the code that computed it.
    """

    rows: "pa.Table"
    seconds: float
    commit: str


# --- rows -------------------------------------------------------------------------------------


def rows_of_pack(rows: Sequence[Mapping[str, Any]], size: int) -> "pa.Table":
    """The rows of a pack of ``size`` configs as columns; what a row lacks is null.

    Raises:
        SweepError: a config without a row, rows that do not say whose they are, a value that is
            no single number, boolean or text, or a column that mixes them.
    """
    plain = [{name: _scalar(name, value) for name, value in row.items()} for row in rows]
    if len(plain) == size and not any(MEMBER in row for row in plain):
        plain = [{MEMBER: i} | row for i, row in enumerate(plain)]
    members = {row.get(MEMBER) for row in plain}
    if members != set(range(size)):
        raise SweepError(
            f"{len(plain)} rows came for {size} configs, of the members {sorted(members, key=str)}; "
            f'give one row a config in their order, or say "{MEMBER}" in each, 0 to {size - 1}, '
            "with at least one row for each"
        )
    names = dict.fromkeys(name for row in plain for name in row)
    return _table({name: [row.get(name) for row in plain] for name in names})


def _scalar(name: str, value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SweepError(f"{name} is {value!r}; a row holds single numbers, booleans and text")


def _table(columns: Mapping[str, list[Any]]) -> "pa.Table":
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except pa.ArrowException as error:
            raise SweepError(f"the column {name} mixes numbers, booleans and text") from error
    return pa.table(arrays)


# --- files ------------------------------------------------------------------------------------


def write(path: Path, key: str, part: Part, about: Mapping[str, Any]) -> None:
    """Write a part, whole or not at all.

    Args:
        path: of the file.
        key: of the pack; `read` compares it.
        part: what to write.
        about: plain values for whoever opens the file, such as the configs.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    import pyarrow.parquet as pq

    facts = {"key": key, "seconds": part.seconds, "commit": part.commit, "about": dict(about)}
    facts["digest"] = _digest(facts, part.rows)
    stream = io.BytesIO()
    table = part.rows.replace_schema_metadata({"mechbook": json.dumps(facts)})
    pq.write_table(table, stream, compression="zstd")
    write_atomically(path, stream.getvalue())


def read(path: Path, key: str) -> Part | None:
    """The part in a file, or None where there is no file.

    Raises:
        SweepError: the file is damaged, or belongs to another pack.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        facts = json.loads(table.schema.metadata[b"mechbook"])
        rows = table.replace_schema_metadata(None)
        whole = facts.pop("digest") == _digest(facts, rows)
        part = Part(rows, facts["seconds"], facts["commit"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise SweepError(f"{path.name} is damaged; {_DELETE}") from error
    if not whole:
        raise SweepError(f"{path.name} is damaged: its digest does not fit; {_DELETE}")
    if facts["key"] != key:
        raise SweepError(f"{path.name} was renamed: it belongs to other configs; {_DELETE}")
    return part


_DELETE = "delete it, or put back a copy; without it, the same run computes it again"


def _digest(facts: Mapping[str, Any], rows: "pa.Table") -> str:
    content = [facts, [str(field.type) for field in rows.schema], rows.to_pydict()]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- the whole --------------------------------------------------------------------------------


def joined(
    parts: Sequence[tuple[Part, Sequence[int]]], configs: Mapping[str, list[Any]]
) -> dict[str, np.ndarray]:
    """All rows, those of the first config first, each with the fields of its config.

    Args:
        parts: each with the place of its members among the configs.
        configs: the fields of the configs, by name, in their order.

    Returns:
        One-dimensional arrays of one length. A number that a row lacks is ``nan``, a text is empty.

    Raises:
        SweepError: a column of the rows is called like a field, or mixes numbers and text.
    """
    import pyarrow as pa

    try:
        rows = pa.concat_tables([p.rows for p, _ in parts], promote_options="permissive")
    except pa.ArrowException as error:
        text = " ".join(str(error).split())
        raise SweepError(f"the packs disagree about what a column holds: {text}") from error
    places = np.concatenate([np.asarray(at)[p.rows[MEMBER].to_numpy()] for p, at in parts])
    order = np.argsort(places, kind="stable")
    rows = rows.drop_columns([MEMBER])
    if twice := [name for name in rows.column_names if name in configs]:
        raise SweepError(f"the rows have a column {twice[0]}, which is a field of the configs")
    whole = _table(configs).take(places)
    columns = {name: whole[name] for name in whole.column_names}
    columns |= {name: rows[name] for name in rows.column_names}
    return {name: _array(column)[order] for name, column in columns.items()}


def _array(column: "pa.ChunkedArray") -> np.ndarray:
    """A column without nulls: numbers get nan, text gets the empty text."""
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return np.asarray(column.fill_null("").to_pylist(), dtype=str)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.int8())
    return column.to_numpy()
