"""Conversations killed with signal 9 and taken up again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.kill import run_program, run_with_kills

PROGRAM = "tests/generate/converse_program.py"
WIDTH = 8


def asked(folder: Path) -> Counter[str]:
    return Counter((folder / "asked").read_text().splitlines())


@pytest.mark.dear
def test_killed_at_any_moment_they_end_the_same_and_only_what_was_in_flight_is_asked_again(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_program([PROGRAM, str(whole)])
    hits = run_with_kills([PROGRAM, str(killed)], seed=3, num_kills=4, longest=3.0)
    assert (killed / "digest").read_text() == (whole / "digest").read_text()
    assert set(asked(killed)) == set(asked(whole))
    assert asked(killed).total() - len(asked(killed)) <= hits * WIDTH
