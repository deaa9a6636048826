"""Map steps that fail, are stopped and taken up again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stillhouse.core.artifact import Rows
from stillhouse.core.errors import Interrupted, ModelError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from tests.core.steps import Gated, Numbers

SMALL = Options(chunk=16, first_look=5)


def gated(folder: Path, count: int, **fields: object) -> Gated:
    return Gated(rows=Numbers(count=count), gate=str(folder / "gate"), log=str(folder / "log"), **fields)


def run(folder: Path, step: Gated, options: Options = SMALL) -> Rows:
    with Session(folder / "store", options=options, track=False, progress=False) as session:
        return session.run(step)


def worked_on(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "log").read_text().split()]


@pytest.mark.parametrize("count", [1, 4, 5, 300])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_rows_that_failed_in_a_run_that_was_stopped_are_made_when_the_cause_is_mended(
    tmp_path: Path, count: int, asynchronous: bool
) -> None:
    step = gated(tmp_path, count, asynchronous=asynchronous)
    for _ in range(2):
        with pytest.raises(ModelError, match="the gate is shut"):
            run(tmp_path, step)
    (tmp_path / "gate").touch()
    rows = run(tmp_path, step)
    assert [row["i"] for row in rows] == list(range(count))
    assert rows.record["counts"] == {"in": count, "out": count, "dropped": 0, "failed": 0}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_rubbish_stops_early_in_the_first_run_and_in_the_next(tmp_path: Path, asynchronous: bool) -> None:
    step = gated(tmp_path, 1000, asynchronous=asynchronous)
    for attempt in (1, 2):
        with pytest.raises(ModelError, match="5 of the first 5 rows"):
            run(tmp_path, step)
        assert len(worked_on(tmp_path)) == 5 * attempt


def stopped(folder: Path, step: Gated, shut_at: int, stop_at: int) -> None:
    """A run whose gate shuts when `shut_at` rows were worked on, and that is stopped at `stop_at`."""
    (folder / "gate").touch()
    with Session(folder / "store", options=SMALL, track=False, progress=False) as session:
        handle = session.start(step)
        while not handle.done and (not (folder / "log").exists() or len(worked_on(folder)) < shut_at):
            time.sleep(0.005)
        (folder / "gate").unlink()
        while not handle.done and len(worked_on(folder)) < stop_at:  # rows that fail may end it before
            time.sleep(0.005)
        handle.stop()
        with pytest.raises((Interrupted, ModelError)):
            handle.wait(20)


def test_rubbish_stops_early_where_an_earlier_run_made_rows(tmp_path: Path) -> None:
    step = gated(tmp_path, 1000, seconds=0.005)
    stopped(tmp_path, step, 60, 80)
    before = len(worked_on(tmp_path))
    with pytest.raises(ModelError, match="5 of the first 5 rows"):
        run(tmp_path, step)
    assert len(worked_on(tmp_path)) == before + 5


def test_only_what_failed_is_done_again(tmp_path: Path) -> None:
    step = gated(tmp_path, 300, opens=200)
    with pytest.raises(ModelError, match="rows of `Gated` failed"):
        run(tmp_path, step, Options(chunk=16, first_look=5, max_failed=0.1))
    (tmp_path / "log").unlink()
    (tmp_path / "gate").touch()
    rows = run(tmp_path, step)
    assert [row["i"] for row in rows] == list(range(300))
    again = sorted(worked_on(tmp_path))
    assert 50 < again[0] <= 200
    assert again == list(range(again[0], 300))
    whole = gated(tmp_path, 300)
    with Session(tmp_path / "whole", track=False, progress=False) as session:
        assert session.run(whole).digest == rows.digest


def test_gaps_are_filled_and_the_result_is_that_of_an_unbroken_run(tmp_path: Path) -> None:
    step = gated(tmp_path, 400, seconds=0.005)
    stopped(tmp_path, step, 60, 80)
    stopped(tmp_path, step, 120, 140)
    (tmp_path / "gate").touch()
    rows = run(tmp_path, step)
    with Session(tmp_path / "whole", track=False, progress=False) as session:
        whole = session.run(step)
    assert rows.digest == whole.digest
    assert [path.read_bytes() for path in rows.paths] == [path.read_bytes() for path in whole.paths]


def test_a_stop_loses_no_row_that_was_worked_on(tmp_path: Path) -> None:
    step = gated(tmp_path, 40, seconds=0.1)
    (tmp_path / "gate").touch()
    with Session(tmp_path / "store", options=SMALL, track=False, progress=False) as session:
        handle = session.start(step)
        while not (tmp_path / "log").exists() or len(worked_on(tmp_path)) < 8:
            time.sleep(0.01)
        asked = time.monotonic()
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(20)
        assert time.monotonic() - asked < 3
    run(tmp_path, step)
    assert sorted(worked_on(tmp_path)) == list(range(40))
