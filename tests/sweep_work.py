"""Work for the tests of the sweeps: importable, so that other processes find it by its name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Setting:
    size: int = 1  # of a matrix
    decay: float = 0.0  # that shrinks it
    seed: int = 0
    diary: str = ""  # file that tells who worked on what
    pause: float = 0.0  # seconds


def value(setting: Setting, step: int) -> float:
    """A sum whose last bits depend on the order of the additions."""
    draw = torch.Generator().manual_seed(setting.seed)
    matrix = torch.randn(setting.size, 50, generator=draw) * (1 - setting.decay) ** step
    return (matrix @ matrix.T).sum().item()


def work(settings: Sequence[Setting]) -> list[dict]:
    """Two rows a setting, those of a step together, as a record of an ensemble gives them."""
    tell(settings)
    time.sleep(settings[0].pause)
    return [
        {"member": member, "step": step, "value": value(setting, step)}
        for step in (0, 1)
        for member, setting in enumerate(settings)
    ]


def tell(settings: Sequence[Setting]) -> None:
    if settings[0].diary:
        with Path(settings[0].diary).open("a") as file:
            file.write(f"{os.getpid()} {settings[0].size}\n")


def threads(settings: Sequence[Setting]) -> list[dict]:
    return [{"threads": torch.get_num_threads(), "process": os.getpid()} for _ in settings]


_busy: list[bool] = []


def together(settings: Sequence[Setting]) -> list[dict]:
    """How many packs this process works on at the same time."""
    _busy.append(True)
    time.sleep(settings[0].pause)
    count = len(_busy)
    _busy.pop()
    return [{"together": count} for _ in settings]


def fails_at_two(settings: Sequence[Setting]) -> list[dict]:
    """Fail at the size 2 until a file is there."""
    tell(settings)
    if settings[0].size == 2 and not Path(settings[0].diary).with_suffix(".mended").exists():
        raise ZeroDivisionError("two is\ntoo much")
    return [{"value": float(setting.size)} for setting in settings]


def dies_once(settings: Sequence[Setting]) -> list[dict]:
    """Take the own process down, as a machine does that runs out of memory; the second time not."""
    dead = Path(settings[0].diary)
    if settings[0].size == 2 and not dead.exists():
        dead.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"value": float(setting.size)} for setting in settings]
