"""What a session does is recorded, as runs, steps and metrics."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse.core.artifact import Report
from stillhouse.core.context import Context
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.rows.import_ import Import
from stillhouse.track.listener import Listener
from stillhouse.track.query import query

ROOT = Path(__file__).parents[2]
SEEDS = Import(data=({"input": "a", "output": "b"},))


class Fitting(Step[Report], tag="test_listener.fitting/1"):
    """Logs a falling loss; fails when told to."""

    breaks: bool = False
    scale: float = 1.0

    def run(self, context: Context) -> None:
        for step in range(3):
            context.log(step, loss=self.scale / (step + 1))
        if self.breaks:
            raise RuntimeError("the bottom fell out")
        (context.folder / "report.json").write_text("{}")


class Killed(Step[Report], tag="test_listener.killed/1"):
    """Logs five updates and is killed; taken up again it goes on after the third."""

    def run(self, context: Context) -> None:
        again = (context.scratch / "begun").exists()
        (context.scratch / "begun").touch()
        for step in range(4, 8) if again else range(1, 6):
            context.log(step, loss=step + (0.5 if again else 0.0))
        if not again:
            os.kill(os.getpid(), signal.SIGKILL)
        (context.folder / "report.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_a_session_run_stands_in_runs_with_its_steps_as_events(store: Path) -> None:
    with Session(store, progress=False) as session:
        session.run(SEEDS, name="seeds")
        session.run(SEEDS, name="seeds")
    rows = query(
        store, "SELECT name, kind, status, record->'environment'->'versions'->>'stillhouse' AS v FROM runs"
    ).to_pylist()
    assert [(row["name"], row["kind"], row["status"]) for row in rows] == [("seeds", "session", "finished")] * 2
    assert all(row["v"] for row in rows)
    events = query(store, "SELECT record->>'$.events[0].kind' AS kind FROM runs ORDER BY started").to_pylist()
    assert events == [{"kind": "step.finished"}, {"kind": "step.cached"}]


def test_metrics_of_a_step_stand_in_a_run_of_their_own_under_the_session_run(store: Path) -> None:
    with Session(store, progress=False) as session:
        made = session.run(Fitting())
    (row,) = query(store, "SELECT * FROM runs WHERE kind = 'step'").to_pylist()
    assert (row["step_key"], row["name"], row["status"]) == (made.key, "test_listener.fitting/1", "finished")
    parents = query(store, f"SELECT kind FROM runs WHERE id = '{row['parent']}'").to_pylist()
    assert parents == [{"kind": "session"}]
    losses = query(store, f"SELECT step, value FROM metrics WHERE run = '{row['id']}' ORDER BY step").to_pylist()
    assert losses == [{"step": 0, "value": 1.0}, {"step": 1, "value": 0.5}, {"step": 2, "value": pytest.approx(1 / 3)}]


def test_a_step_that_was_killed_has_one_run_with_the_whole_series(store: Path) -> None:
    program = (
        "import sys; from stillhouse.core.session import Session; from tests.track.test_listener import Killed\n"
        "with Session(sys.argv[1], progress=False) as session: session.run(Killed(), name='killed')"
    )
    for code in (-signal.SIGKILL, 0):
        done = subprocess.run([sys.executable, "-c", program, str(store)], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
    (run,) = query(store, "SELECT id, status, parent FROM runs WHERE kind = 'step'").to_pylist()
    assert run["status"] == "finished"
    (parent,) = query(store, f"SELECT status FROM runs WHERE id = '{run['parent']}'").to_pylist()
    assert parent["status"] == "finished"
    losses = query(store, "SELECT step, value FROM metrics WHERE metric = 'loss' ORDER BY step").to_pylist()
    assert [(row["step"], row["value"]) for row in losses] == [
        (1, 1), (2, 2), (3, 3), (4, 4.5), (5, 5.5), (6, 6.5), (7, 7.5)
    ]  # fmt: skip


def test_a_step_that_is_made_again_after_it_was_finished_has_another_run(store: Path) -> None:
    for _ in range(2):
        with Session(store, progress=False) as session:
            made = session.run(Fitting())
            shutil.rmtree(made.folder)
    assert len(query(store, "SELECT id FROM runs WHERE kind = 'step'")) == 2


def test_a_step_that_fails_leaves_failed_runs_with_the_reason(store: Path) -> None:
    with Session(store, progress=False) as session, pytest.raises(RuntimeError, match="bottom"):
        session.run(Fitting(breaks=True))
    rows = query(store, "SELECT kind, status, error FROM runs ORDER BY kind").to_pylist()
    assert rows == [
        {"kind": "session", "status": "failed", "error": None},
        {"kind": "step", "status": "failed", "error": "the bottom fell out"},
    ]


def test_evaluation_scores_are_metrics(store: Path) -> None:
    from stillhouse.evaluate.compare import Compare

    given = Import(data=({"input": "a", "reply": "b"},), require=())
    with Session(store, progress=False) as session:
        session.run(Compare(models={"m": given}, on=SEEDS))
    (score,) = query(store, "SELECT value FROM metrics WHERE metric = 'm/exact match (strip)'").to_pylist()
    assert score == {"value": 1.0}


def test_what_is_open_at_the_end_is_closed_as_interrupted(store: Path) -> None:
    listener = Listener(store)
    listener(Event("run.started", {"name": "n", "steps": ["a.b/1"]}))
    listener(Event("metric", {"key": "k", "tag": "a.b/1", "step": 0, "metrics": {"x": 1.0}}))
    listener.close()
    assert {row["status"] for row in query(store, "SELECT status FROM runs").to_pylist()} == {"interrupted"}


def test_runs_that_overlap_are_told_apart_by_their_names(store: Path) -> None:
    listener = Listener(store)
    listener(Event("run.started", {"name": "one", "steps": []}))
    listener(Event("run.started", {"name": "two", "steps": []}))
    listener(Event("run.finished", {"name": "one", "status": "finished", "seconds": 1.0}))
    listener(Event("run.finished", {"name": "two", "status": "failed", "seconds": 1.0}))
    rows = query(store, "SELECT name, status FROM runs ORDER BY name").to_pylist()
    assert rows == [{"name": "one", "status": "finished"}, {"name": "two", "status": "failed"}]
    listener.close()
