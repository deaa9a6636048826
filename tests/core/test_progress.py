"""Runs in the background, and how far they are."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import Interrupted, ModelError
from stillhouse.core.events import Event
from stillhouse.core.progress import Watch
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.core.steps import Numbers, Rubbish, Slow


def test_a_handle_tells_how_far_its_run_is_and_of_no_other(tmp_path: Path) -> None:
    with Session(tmp_path / "s", progress=False, track=False) as session:
        handle = session.start([Slow(rows=Numbers(count=300), seconds=0.01), Numbers(count=3)])
        other = session.start(Numbers(count=4))
        while not (handle.progress.steps and handle.progress.steps[0]["done"]):
            assert not handle.done
            time.sleep(0.01)
        seen = handle.progress
        assert (seen.status, seen.steps_total) == ("running", 3)
        assert (seen.steps[0]["step"], seen.steps[0]["total"], seen.steps[0]["unit"]) == ("test.slow", 300, "rows")
        assert "test.slow" in str(seen)
        assert "test.slow" in handle._repr_html_()
        assert len(handle.wait(120)[0]) == 300
        assert other.wait(60)
        assert (other.progress.status, other.progress.steps_done) == ("finished", 1)
        last = handle.progress
        assert (last.status, last.steps_done, last.steps) == ("finished", 3, ())
        time.sleep(0.02)
        assert handle.progress.seconds == last.seconds


def test_calls_and_money_are_those_of_the_run(tmp_path: Path) -> None:
    script("counted", ["yes"])
    rows = Import(data=[{"n": str(number)} for number in range(7)], require=("n",))
    by = Ask(model="scripted:counted")
    step = Prompt(rows=Prompt(rows=rows, template="{{ n }}", by=by, column="a"), template="{{ n }}!", by=by, column="b")
    with Session(tmp_path / "s", progress=False, track=False, prices={"counted": Price(1, 1)}) as session:
        handle = session.start(step)
        handle.wait(60)
        assert (handle.progress.calls, handle.progress.steps_done) == (14, 3)
        again = session.start(step)
        again.wait(60)
        assert (again.progress.calls, again.progress.steps_total) == (0, 0)


def test_a_failed_run_and_a_stopped_one(tmp_path: Path) -> None:
    with Session(tmp_path / "s", progress=False, track=False) as session:
        handle = session.start(Rubbish(rows=Numbers(count=30)))
        with pytest.raises(ModelError):
            handle.wait(60)
        assert handle.progress.status == "failed"
        slow = session.start(Slow(rows=Numbers(count=100_000), seconds=0.01))
        while not slow.progress.steps:
            time.sleep(0.01)
        slow.stop()
        with pytest.raises(Interrupted):
            slow.wait(60)


def test_a_session_runs_where_an_event_loop_runs_already(tmp_path: Path) -> None:
    """As in a notebook."""
    script("loop", ["yes"])
    rows = Import(data=[{"n": "1"}], require=("n",))

    async def cell() -> int:
        with Session(tmp_path / "s", progress=False, track=False) as session:
            handle = session.start(Prompt(rows=rows, template="{{ n }}", by=Ask(model="scripted:loop")))
            return len(handle.wait(60)) + len(session.run(Numbers(count=2)))

    assert asyncio.run(cell()) == 3


def test_speed_and_time_to_go_count_from_where_it_was_first_heard_of() -> None:
    now = 100.0
    watch = Watch(lambda: now)
    watch.keys.add("k")
    told = {"key": "k", "tag": "a.b/1", "total": 100, "unit": "rows"}
    watch(Event("step.progress", {**told, "done": 40}))
    watch(Event("step.progress", {"key": "other", "tag": "c.d/1", "done": 1, "total": 2}))
    now = 110.0
    watch(Event("step.progress", {**told, "done": 60}))
    (step,) = watch.now("running").steps
    assert (step["rate"], step["seconds_left"]) == (2.0, 20.0)
