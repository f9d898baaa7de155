"""Configs as frozen dataclasses: a grid of them, a stable name for each, their fields as columns.

::

    @dataclass(frozen=True)
    class Setting:
        classes: int = 100                           # to learn
        seed: int = 0

    grid(Setting(), classes=[100, 1600], seed=range(3))     # six settings
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

C = TypeVar("C")

_DIGITS = 20


def grid(base: C, **axes: Iterable[Any]) -> list[C]:
    """Every combination of the axes' values, as copies of ``base``; the last axis varies fastest.

    Args:
        base: a frozen dataclass with the values of all other fields.
        axes: values by field.

    Raises:
        ValueError: ``base`` is no frozen dataclass, an axis is no field of it, is empty, is no
            list of values, or has a value twice.
    """
    _require_frozen(base)
    known = field_names(base)
    configs = [base]
    for name, values in axes.items():
        if name not in known:
            raise ValueError(f"{name} is no field of {class_of(base)}; it has: {', '.join(known)}")
        listed = _axis(name, values)
        configs = [_with(config, name, value) for config in configs for value in listed]
    return configs


def _with(config: Any, name: str, value: Any) -> Any:
    return replace(config, **{name: value})


def field_names(config: Any) -> list[str]:
    """The fields that a config is made of; those that follow from others are left out."""
    return [f.name for f in fields(config) if f.init]


def _axis(name: str, values: Iterable[Any]) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"the axis {name} is {values!r}; give a list of values, if only of one")
    listed = list(values)
    texts = [text_of(plain(value, name)) for value in listed]
    if not listed or len(set(texts)) < len(texts):
        raise ValueError(f"the axis {name} is {listed}; give at least one value, and each once")
    return listed


def key(config: Any) -> str:
    """A name for a config that depends on its class's name and its fields alone: 20 hex digits.

    Configs that are equal have equal keys (``1`` and ``1.0`` are the same number), in every
    process, whatever else is in the sweep.

    Raises:
        ValueError: no frozen dataclass, or a field that is no plain value.
    """
    _require_frozen(config)
    return short_hash(text_of(plain(config, class_of(config))))


def _require_frozen(config: Any) -> None:
    if not _is_config(config) or not config.__dataclass_params__.frozen:
        raise ValueError(f"{config!r} is no frozen dataclass; a config must be one, to stay as is")


def _is_config(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def class_of(config: Any) -> str:
    """The name of a config's class, without its module, which may move."""
    return type(config).__qualname__


def plain(value: Any, where: str) -> Any:
    """A value as JSON has it; a dataclass is a dict with its class under "class".

    Args:
        value: of a config's field, or a config.
        where: its name, for the error.

    Raises:
        ValueError: nothing that means the same everywhere.
    """
    if _is_config(value):
        own = {name: plain(getattr(value, name), name) for name in field_names(value)}
        return {"class": class_of(value)} | own
    if isinstance(value, (tuple, list)):
        return [plain(item, where) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    raise ValueError(
        f"{where} is {value!r}; a config holds finite numbers, text, booleans, None, and tuples or "
        "frozen dataclasses of these, so that it means the same on every machine"
    )


def text_of(plain: Any) -> str:
    """The one text of a plain value: keys in order, and 1.0 written as 1."""
    same = json.loads(json.dumps(plain), parse_float=_number)
    return json.dumps(same, sort_keys=True, separators=(",", ":"))


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def short_hash(text: str) -> str:
    """The first 20 hex digits of a text's sha256."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields by name, those of a dataclass inside as ``outer.inner``, a tuple as its JSON."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif prefix or name != "class":
            found[prefix + name] = json.dumps(value) if isinstance(value, list) else value
    return found
