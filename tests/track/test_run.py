"""Runs: what is written survives, whatever becomes of the process."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stillhouse.core.errors import StoreError
from stillhouse.track import api
from stillhouse.track.query import query
from stillhouse.track.run import Run, drop_torn_tail, process_lives, process_start, read_record, status_of

LOGGER = """
import sys
from stillhouse.track.run import Run

store, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
run = Run.start(store, name=name)
print(run.id, flush=True)
for step in range(steps):
    run.log({"loss": 1 / (step + 1), "rate": float(step)}, step=step)
    print(step, flush=True)
run.finish()
"""


def logger(store: Path, name: str, steps: int, out: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LOGGER, str(store), name, str(steps)], stdout=out, text=True)


def values(store: Path, metric: str, run: str | None = None) -> list[tuple[int, float]]:
    where = f"AND run = '{run}'" if run else ""
    rows = query(store, f"SELECT step, value FROM metrics WHERE metric = '{metric}' {where} ORDER BY step").to_pylist()
    return [(row["step"], row["value"]) for row in rows]


def test_metrics_are_found_while_the_run_lives_and_after_it_ends(tmp_path: Path) -> None:
    run = Run.start(tmp_path, name="first", config={"lr": 0.001})
    run.log({"loss": 2.0})
    run.log({"loss": 1.0, "eval": {"accuracy": 0.5}})
    expected = [(0, 2.0), (1, 1.0)]
    assert values(tmp_path, "loss") == expected
    run.finish()
    assert values(tmp_path, "loss") == expected
    assert values(tmp_path, "eval.accuracy") == [(1, 0.5)]
    assert not list(run.folder.glob("live-*"))
    (row,) = query(tmp_path, "SELECT name, status, config->>'lr' AS lr FROM runs").to_pylist()
    assert row == {"name": "first", "status": "finished", "lr": "0.001"}


def test_kill_9_loses_no_step_that_was_acknowledged_and_shows_the_run_as_crashed(tmp_path: Path) -> None:
    child = logger(tmp_path, "victim", 100_000)
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    acknowledged = -1
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 300:
            child.send_signal(signal.SIGKILL)
            break
    rest = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    found = values(tmp_path, "loss", run_id)
    assert len(found) >= max([acknowledged, *rest]) + 1
    assert [step for step, _ in found] == list(range(len(found)))
    assert query(tmp_path, "SELECT status FROM runs").to_pylist() == [{"status": "crashed"}]


def test_four_processes_at_once_lose_nothing_while_a_reader_polls(tmp_path: Path) -> None:
    children = [logger(tmp_path, f"w{i}", 250, subprocess.DEVNULL) for i in range(4)]
    polled = [0]
    while any(child.poll() is None for child in children):
        polled.append(query(tmp_path, "SELECT count(*) AS n FROM metrics").to_pylist()[0]["n"])
    assert [child.wait() for child in children] == [0, 0, 0, 0]
    assert polled == sorted(polled)
    total = query(tmp_path, "SELECT count(*) AS n, count(DISTINCT run) AS runs FROM metrics").to_pylist()[0]
    assert total == {"n": 4 * 250 * 2, "runs": 4}


def test_a_torn_last_line_is_dropped_when_the_run_goes_on(tmp_path: Path) -> None:
    run = Run.start(tmp_path, id="torn")
    run.log({"loss": 3.0})
    live = run.folder / f"live-{os.getpid()}.jsonl"
    with open(live, "ab") as file:
        file.write(b'{"step": 1, "ts": 1.0, "m": {"lo')
    assert values(tmp_path, "loss") == [(0, 3.0)]
    again = Run.start(tmp_path, id="torn")
    again.log({"loss": 2.0})
    again.finish()
    assert values(tmp_path, "loss") == [(0, 3.0), (1, 2.0)]


def test_a_torn_tail_is_cut_at_the_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    assert drop_torn_tail(path) == 0
    path.write_bytes(b"a\nb\n" + b"c" * 200_000)
    assert drop_torn_tail(path) == 200_000
    assert path.read_bytes() == b"a\nb\n"
    path.write_bytes(b"no line at all")
    drop_torn_tail(path)
    assert path.read_bytes() == b""


def test_the_same_metric_at_the_same_step_keeps_the_last_value(tmp_path: Path) -> None:
    run = Run.start(tmp_path, id="again")
    for value in (1.0, 2.0, 3.0):
        run.log({"loss": value}, step=7)
    run.finish()
    resumed = Run.start(tmp_path, id="again")
    resumed.log({"loss": 4.0}, step=7)
    assert values(tmp_path, "loss") == [(7, 4.0)]
    resumed.finish()
    assert values(tmp_path, "loss") == [(7, 4.0)]


def test_a_resumed_run_goes_on_with_the_next_step_and_keeps_its_start(tmp_path: Path) -> None:
    with Run.start(tmp_path, id="r", config={"a": 1}) as run:
        run.log({"x": 1.0})
        started = run.record["started"]
    with Run.start(tmp_path, id="r", config={"b": 2}) as run:
        run.log({"x": 2.0})
        assert (run.record["started"], run.record["config"]) == (started, {"a": 1, "b": 2})
    assert values(tmp_path, "x") == [(0, 1.0), (1, 2.0)]


def test_finishing_again_after_a_kill_between_parquet_and_clean_up_changes_nothing(tmp_path: Path) -> None:
    run = Run.start(tmp_path, id="twice")
    run.log({"x": 1.0})
    line = next(run.folder.glob("live-*")).read_bytes()
    run.finish()
    (run.folder / "live-99.jsonl").write_bytes(line)
    assert values(tmp_path, "x") == [(0, 1.0)]
    Run.start(tmp_path, id="twice").finish()
    assert values(tmp_path, "x") == [(0, 1.0)]


def test_what_is_no_plain_number_is_kept_too(tmp_path: Path) -> None:
    with Run.start(tmp_path) as run:
        run.log(
            {
                "nan": math.nan,
                "inf": -math.inf,
                "numpy": np.float32(0.5),
                "flag": True,
                "text": "line\nbreak \udcff",
                "list": [1, 2],
                "none": None,
            }
        )
    rows = {row["metric"]: row for row in query(tmp_path, "SELECT metric, value, text FROM metrics").to_pylist()}
    assert math.isnan(rows["nan"]["value"])
    assert (rows["inf"]["value"], rows["numpy"]["value"], rows["flag"]["value"]) == (-math.inf, 0.5, 1.0)
    assert (rows["text"]["text"], rows["list"]["text"]) == ("line\nbreak ?", "[1, 2]")
    assert "none" not in rows


def test_an_exception_in_the_block_marks_the_run_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Run.start(tmp_path):
        _ = 1 // 0
    (row,) = query(tmp_path, "SELECT status, error FROM runs").to_pylist()
    assert (row["status"], row["error"]) == ("failed", "ZeroDivisionError: integer division or modulo by zero")


def test_logging_never_raises_but_says_once_that_nothing_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.start(tmp_path)
    run.finish()
    run.log({"x": 1.0})
    run.log({"x": 2.0})
    assert capsys.readouterr().err.count("was not recorded") == 1


def test_an_id_cannot_leave_the_folder(tmp_path: Path) -> None:
    for bad in ("../x", "a/b", "", ".hidden", "a\0b"):
        with pytest.raises(StoreError, match="cannot be the id"):
            Run.start(tmp_path, id=bad)


def test_a_dead_process_with_a_reused_number_is_no_sign_of_life() -> None:
    own = os.getpid()
    assert process_lives(own, process_start(own))
    if process_start(own) is not None:
        assert not process_lives(own, "another boot/1")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not process_lives(child.pid, None)


def test_a_run_of_another_machine_counts_as_crashed_when_it_is_silent_for_long(tmp_path: Path) -> None:
    run = Run.start(tmp_path, id="far")
    record = {**(read_record(run.folder) or {}), "host": "elsewhere"}
    assert status_of(run.folder, record) == "running"
    os.utime(run.folder / "alive", (1.0, 1.0))
    assert status_of(run.folder, record) == "crashed"
    run.finish()


def test_init_log_finish_are_enough(tmp_path: Path) -> None:
    run = api.init(tmp_path, name="mine", config={"lr": 1})
    api.log({"loss": 1.0})
    api.log({"loss": 0.5})
    second = api.init(tmp_path)
    assert read_record(run.folder) is not None
    api.finish()
    assert values(tmp_path, "loss") == [(0, 1.0), (1, 0.5)]
    rows = query(tmp_path, "SELECT id, status FROM runs ORDER BY started").to_pylist()
    assert rows == [{"id": run.id, "status": "finished"}, {"id": second.id, "status": "finished"}]
    assert json.loads((run.folder / "run.json").read_text())["environment"]["versions"]["python"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_stops_the_record_and_not_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.start(tmp_path, id="full")
    (run.folder / f"live-{os.getpid()}.jsonl").symlink_to("/dev/full")
    for step in range(3):
        run.log({"x": float(step)})
    said = capsys.readouterr().err
    assert said.count("is not being recorded") == 1
    assert "No space left on device" in said


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        Run.start(tmp_path, id="x")
