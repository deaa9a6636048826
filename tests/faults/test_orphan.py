"""A child that outlives its killed parent for a moment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil

from tests.faults.kill import start_program, wait_for_file

PROGRAM = "tests/faults/orphan_program.py"


def test_a_step_is_not_begun_again_before_the_child_of_a_killed_parent_is_gone(tmp_path: Path) -> None:
    first = start_program([PROGRAM, str(tmp_path)])
    pid = wait_for_file(tmp_path, "work-v1/*/scratch/pid")
    child = psutil.Process(int(pid.read_text()))
    child.suspend()  # so that it cannot notice
    first.kill()
    first.wait()
    second = start_program(
        [PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "ORPHAN_MAY_END": "yes"}
    )
    assert second.stdout is not None
    assert b"another session is making `tests.endless/1`" in second.stdout.readline()
    assert child.status() == psutil.STATUS_STOPPED
    child.resume()
    said, _ = second.communicate(timeout=60)
    assert said.decode().strip() == "['of-the-second']"
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
