"""Small tests on a machine that may be busy: one thread each."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> None:
    """Two threads on two busy cores can take a hundred times as long as one for a tiny product."""
    if "torch" in sys.modules and "benchmarks" not in request.path.parts:
        sys.modules["torch"].set_num_threads(1)
