"""What every test gets: no network by accident, one thread a process, repeatable properties, a session of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from stillhouse.core.session import Session

# Set before anything imports torch or tokenizers; child processes inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Tests start some hundred processes of Python, and each would compile everything anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile(
    "default",
    deadline=None,
    max_examples=40,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=1000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Dear tests first: one that is begun last is waited for by everybody."""
    items.sort(key=lambda item: item.get_closest_marker("dear") is None)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """An open session whose store is a folder of this test's own."""
    from stillhouse.core.session import Session

    with Session(tmp_path / "store", progress=False, track=False) as opened:
        yield opened
