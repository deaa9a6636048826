"""A disk that is full again and again, at whatever is being written then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stillhouse.train.finetune import Finetune
from tests.faults.full_disk_program import rows, training
from tests.faults.kill import ROOT

PROGRAM = "tests/faults/full_disk_program.py"


def on_a_tiny_disk(folder: Path, what: str, step_bytes: int) -> list[dict[str, Any]]:
    """What the program printed; skips where nobody may mount a disk."""
    disk = folder / "disk"
    disk.mkdir()
    mounting = f'mount -t tmpfs -o size={step_bytes} tmpfs "{disk}" && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-Urm"]):
        prefix = [*unshare, "sh", "-c", mounting, "sh"]
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("no disk can be mounted here")
    done = subprocess.run(
        [*prefix, sys.executable, PROGRAM, what, str(disk), str(step_bytes)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("what", "step_bytes"), [("rows", 64 << 10), ("training", 350 << 10)])
def test_a_full_disk_is_told_whatever_was_written_and_the_same_call_goes_on(
    tmp_path: Path, what: str, step_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Finetune, "isolated", False)
    *failures, last = on_a_tiny_disk(tmp_path, what, step_bytes)
    assert len(failures) >= 3
    assert {failure["type"] for failure in failures} == {"StoreError"}, failures
    assert [failure["message"] for failure in failures if "the disk is full" not in failure["message"]] == []
    assert last["made"] == {"rows": rows, "training": training}[what](tmp_path / "roomy")
