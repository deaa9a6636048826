"""Amplification killed with signal 9 and started again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.kill import run_program, run_with_kills

PROGRAM = "tests/generate/amplify_program.py"
WINDOW = 2


def asked(folder: Path) -> Counter[str]:
    return Counter((folder / "asked").read_text().split())


@pytest.mark.dear
def test_killed_at_any_moment_it_ends_with_the_same_rows_and_repeats_only_what_was_in_flight(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_program([PROGRAM, str(whole)])
    hits = run_with_kills([PROGRAM, str(killed)], seed=5, num_kills=4, longest=2.5)
    assert (killed / "digest").read_text() == (whole / "digest").read_text()
    assert set(asked(killed)) >= set(map(str, range(len(asked(whole)) - WINDOW)))
    repeated = asked(killed).total() - len(asked(killed))
    assert repeated <= hits * WINDOW
