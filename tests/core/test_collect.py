"""Collecting what no name reaches, beside runs that live, that failed, and that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillhouse.core.collect import YOUNG_SECONDS, collect
from stillhouse.core.errors import ModelError
from stillhouse.core.session import Session
from stillhouse.core.store import Store
from tests.core.steps import Copied, Gated, Join, Numbers, Slow

ROOT = Path(__file__).parents[2]


def aged(folder: Path, hours: float) -> None:
    """Make all results look as if they were made long ago."""
    then = time.time() - 3600 * hours
    for path in folder.glob("artifacts-v1/*/*"):
        os.utime(path, (then, then))


def open_session(folder: Path) -> Session:
    return Session(folder, track=False, progress=False)


@pytest.mark.parametrize("keep_seconds", [YOUNG_SECONDS, 0.0])
def test_what_a_living_run_uses_stays(tmp_path: Path, keep_seconds: float) -> None:
    numbers = Numbers(count=40)
    with open_session(tmp_path) as session:
        session.run(numbers)
        step = Join(tables=(numbers, Slow(rows=numbers, seconds=0.02)))
        handle = session.start(step, name="joined")
        while not list(tmp_path.glob("work-v1/*/scratch/chunks")):
            time.sleep(0.01)
        aged(tmp_path, 2)
        assert collect(Store(tmp_path), keep_seconds=keep_seconds) == []
        assert len(handle.wait(30)) == 80
    aged(tmp_path, 2)
    assert collect(Store(tmp_path)) == []


def test_what_no_run_and_no_name_reaches_goes(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        session.run(Copied(rows=Numbers(count=1)))
        session.run(Copied(rows=Numbers(count=2)), name="kept")
    aged(tmp_path, 2)
    assert [item.kind for item in collect(Store(tmp_path))] == ["artifact", "artifact"]
    with open_session(tmp_path) as session:
        assert session.names.need("kept").history
    assert not list(tmp_path.glob("work-v1/lease-*"))


def test_what_a_failed_run_made_stays_for_the_next(tmp_path: Path) -> None:
    numbers = Numbers(count=30)
    step = Gated(rows=Slow(rows=numbers), gate=str(tmp_path / "gate"), log=str(tmp_path / "log"))
    with open_session(tmp_path / "s") as session, pytest.raises(ModelError):
        session.run(step)
    aged(tmp_path / "s", 2)
    assert collect(Store(tmp_path / "s")) == []
    for path in (tmp_path / "s" / "work-v1").rglob("*"):
        os.utime(path, (0, 0))
    kinds = [item.kind for item in collect(Store(tmp_path / "s"))]
    assert kinds == ["artifact", "artifact", "unfinished work"]


def test_what_a_failed_run_made_stays_however_often_one_collects(tmp_path: Path) -> None:
    step = Gated(rows=Slow(rows=Numbers(count=30)), gate=str(tmp_path / "gate"), log=str(tmp_path / "log"))
    with open_session(tmp_path / "s") as session:
        session.run(Numbers(count=3))
        with pytest.raises(ModelError):
            session.run([Numbers(count=5), step])
    aged(tmp_path / "s", 2)
    assert [item.kind for item in collect(Store(tmp_path / "s"))] == ["artifact"]
    assert collect(Store(tmp_path / "s")) == []


def test_a_run_that_was_killed_counts_as_one_that_failed(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom stillhouse.core.session import Session\nfrom tests.core.steps import Numbers, Slow\n"
        "with Session(sys.argv[1], track=False, progress=False) as session:\n"
        "    session.run(Slow(rows=Numbers(count=9999), seconds=0.01))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT)
    while not list(tmp_path.glob("work-v1/*/scratch/chunks")):
        time.sleep(0.02)
    aged(tmp_path, 2)
    assert collect(Store(tmp_path), keep_seconds=0) == []
    child.kill()
    child.wait()
    assert collect(Store(tmp_path)) == []
    assert [item.kind for item in collect(Store(tmp_path), keep_seconds=0)] == ["artifact", "unfinished work"]
