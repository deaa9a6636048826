"""Libraries that are too big for the tests, as far as their own documentation promises: `put_in` makes them importable.

They stand at the very edge: what they are called with, and what they give back, is what the real ones take and give.
"""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


def put_in(monkeypatch: pytest.MonkeyPatch, name: str, module: ModuleType, **below: ModuleType) -> None:
    """Let `name` be imported as `module`, and `name.x` as `below["x"]`, until the test is over."""
    monkeypatch.setitem(sys.modules, name, module)
    for inner, found in below.items():
        monkeypatch.setitem(sys.modules, f"{name}.{inner}", found)
