"""A shell of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A working folder and the command line in it."""
    return Shell.in_folder(tmp_path / "work")
