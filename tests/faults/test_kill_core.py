from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kill import run_program, run_with_kills

PROGRAM = "tests/faults/core_program.py"


def contents(store: Path) -> dict[str, bytes]:
    """The data files that the two names lead to."""
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name in ("slow", "grown")
        for path in sorted((store / name).glob("*.parquet"))
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_the_same_program_ends_with_the_same_bytes(tmp_path: Path, seed: int) -> None:
    run_program([PROGRAM, str(tmp_path / "whole"), str(tmp_path / "whole.log")])
    killed = [PROGRAM, str(tmp_path / "killed"), str(tmp_path / "killed.log")]
    hits = run_with_kills(killed, seed, num_kills=4, longest=1.6)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 2
    rows = (tmp_path / "whole.log").stat().st_size
    repeated = (tmp_path / "killed.log").stat().st_size - rows
    assert repeated <= hits * 20  # at most the chunk in work is done again
