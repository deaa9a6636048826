"""Progress on a terminal and in a log file."""

from __future__ import annotations

import io
from pathlib import Path

from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.rows.import_ import Import
from stillhouse.track.progress import LINE_SECONDS, Progress, attach, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def moved(done: float, **facts: float) -> Event:
    return Event(
        "step.progress", {"key": "k", "tag": "generate.amplify/1", "done": done, "total": 100, "unit": "rows", **facts}
    )


STARTED = Event("step.started", {"key": "k", "tag": "generate.amplify/1", "recipe_key": "r"})
FINISHED = Event(
    "step.finished",
    {
        "key": "k",
        "tag": "generate.amplify/1",
        "seconds": 75.0,
        "counts": {"in": 100, "out": 90, "dropped": 10, "failed": 0},
    },
)


def test_a_log_file_gets_a_line_at_the_start_now_and_then_and_at_the_end() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    view(moved(10))
    clock.now += LINE_SECONDS + 1
    view(moved(72, failed=3))
    view(moved(73))
    view(FINISHED)
    assert out.getvalue().splitlines() == [
        "generate.amplify/1 …",
        "generate.amplify  72/100 rows  2/s  14 s left  failed 3",
        "generate.amplify/1  1 min 15 s  90 rows, 10 dropped",
    ]


def test_a_terminal_gets_one_line_that_is_wiped_before_others() -> None:
    out, clock = Terminal(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    clock.now += 1
    view(moved(10))
    view(Event("warning", {"message": "look out"}))
    clock.now += 1
    view(moved(20))
    view.close()
    assert out.getvalue().count("\n") == 1
    assert "\r\x1b[2Klook out\n" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[2K")


def test_work_done_before_a_resume_does_not_count_as_speed() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(moved(90))
    clock.now += LINE_SECONDS + 1
    view(moved(91))
    assert "0.0323/s" in out.getvalue()


def test_a_session_shows_its_steps(tmp_path: Path) -> None:
    out = io.StringIO()
    with Session(tmp_path / "s", progress=False, track=False) as session:
        session.bus.subscribe(Progress(out))
        session.run(Import(data=({"input": "a", "output": "b"},)))
        attach(session)()
    first, last = out.getvalue().splitlines()
    assert first == "rows.import/1 …"
    assert last.endswith("1 rows")


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0.04, 9.96, 59.4, 59.6, 3599, 3600, 7800)] == [
        "0.0 s",
        "10.0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 10 min",
    ]
