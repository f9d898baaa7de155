"""Small tests on a machine that may be busy: one thread each."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two threads on two busy cores can take a hundred times as long as one for a tiny product."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
