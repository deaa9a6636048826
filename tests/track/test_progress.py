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
    view(moved(73, failed=3))
    view(moved(74))
    view(FINISHED)
    assert out.getvalue().splitlines() == [
        "generate.amplify …",
        "generate.amplify  73/100 rows  3/s  9.0 s left  failed 3",
        "generate.amplify  1 min 15 s  90 rows, 10 dropped",
    ]


def test_a_silent_step_is_told_of_by_the_clock() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    view.tick()
    clock.now += LINE_SECONDS
    view.tick()
    view.tick()
    assert out.getvalue().splitlines() == ["generate.amplify …", "generate.amplify  20 s"]


def test_a_terminal_gets_one_line_for_each_step_and_they_are_wiped_before_others() -> None:
    out, clock = Terminal(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    view(Event("step.started", {"key": "other", "tag": "train.finetune/2"}))
    clock.now += 1
    view(moved(10))
    assert out.getvalue().endswith("generate.amplify  10/100 rows\ntrain.finetune  1.0 s")
    view(Event("warning", {"message": "look out"}))
    assert out.getvalue().endswith("\r\x1b[1A\x1b[Jwarning: look out\n")
    clock.now += 1
    view(moved(20))
    view.close()
    assert out.getvalue().endswith("\r\x1b[1A\x1b[J")


def test_calls_and_their_price_are_counted_for_the_step_that_makes_them() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    view(Event("call.done", {"key": "k", "model": "m", "calls": 40, "cached": 2, "retries": 1, "cost_usd": 0.25}))
    view(Event("call.done", {"key": "k", "model": "m", "calls": 10, "cached": 0, "retries": 0, "cost_usd": 0.05}))
    view(Event("call.done", {"key": "elsewhere", "model": "m", "calls": 1000, "cached": 0}))
    view(FINISHED)
    assert out.getvalue().endswith("90 rows, 10 dropped  52 calls (2 cached)  1 retries  $0.3000\n")


def test_calls_show_tokens_a_second_what_the_rest_may_cost_and_how_the_endpoint_is_asked() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(STARTED)
    view(moved(0))
    paid = {"key": "k", "model": "m", "calls": 25, "cached": 0, "prompt_tokens": 900, "reply_tokens": 100}
    view(Event("call.done", {**paid, "cost_usd": 0.5}))
    pace = {"model": "m", "endpoint": "http://m", "in_flight": 60, "width": 64, "most": None, "waiting": 12}
    limits = {"rpm": 480, "rpm_limit": 500, "tpm": 9000, "tpm_limit": None, "paused_until": None, "down": False}
    view(Event("calls.pace", {**pace, **limits}))
    clock.now += LINE_SECONDS
    view(moved(25))
    assert out.getvalue().splitlines()[-1] == (
        "generate.amplify  25/100 rows  1.25/s  1 min 00 s left  25 calls  $0.5000 of about $2.00  50 tokens/s  "
        "m: 60 of 64 in flight, 480 of 500 requests/min, 12 waiting"
    )
    view(Event("calls.pace", {**pace, **limits, "paused_until": 1.0}))
    clock.now += LINE_SECONDS
    view(moved(50))
    assert out.getvalue().splitlines()[-1].endswith("12 waiting, pauses as it was told to")


def test_what_a_step_did_before_its_rows_were_all_there_goes_on_under_its_own_name() -> None:
    out, clock = Terminal(), Clock()
    view = Progress(out, clock)
    view(Event("step.progress", {"key": "r", "tag": "generate.amplify/1", "done": 5, "total": None, "unit": "rows"}))
    view(Event("call.done", {"key": "r", "model": "m", "calls": 5, "cached": 0}))
    view(STARTED)
    clock.now += 1
    view(moved(10))
    assert out.getvalue().endswith("generate.amplify  10/100 rows  5 calls")
    view(FINISHED)
    view.close()
    assert "\n" not in out.getvalue().rpartition("90 rows, 10 dropped")[2].strip("\n")


def test_training_shows_loss_and_speed() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(Event("step.started", {"key": "t", "tag": "train.finetune/2"}))
    told = {"key": "t", "tag": "train.finetune/2", "total": 200, "unit": "updates"}
    view(Event("step.progress", {**told, "done": 1, "loss": 4.0}))
    clock.now += LINE_SECONDS
    view(Event("metric", {"key": "t", "step": 101, "metrics": {"loss": 1.25, "tokens_per_second": 5120.4}}))
    view(Event("step.progress", {**told, "done": 101, "loss": 1.25}))
    assert out.getvalue().splitlines()[-1] == (
        "train.finetune  101/200 updates  5/s  20 s left  loss 1.25  5,120 tokens/s"
    )


def test_work_done_before_a_resume_does_not_count_as_speed() -> None:
    out, clock = io.StringIO(), Clock()
    view = Progress(out, clock)
    view(moved(90))
    clock.now += LINE_SECONDS
    view(moved(91))
    assert "  0.05/s  3 min 00 s left" in out.getvalue()


def test_waiting_for_another_session_is_said() -> None:
    out = io.StringIO()
    Progress(out)(
        Event("step.waiting", {"key": "k", "tag": "a.b/1", "message": "another session is making it; waiting"})
    )
    assert out.getvalue() == "another session is making it; waiting\n"


def test_a_session_shows_its_steps(tmp_path: Path) -> None:
    out = io.StringIO()
    with Session(tmp_path / "s", progress=False, track=False) as session:
        session.bus.subscribe(Progress(out))
        session.run(Import(data=({"input": "a", "output": "b"},)))
        attach(session)()
    first, last = out.getvalue().splitlines()
    assert first == "rows.import …"
    assert last.endswith("1 rows")


def test_durations_read_well() -> None:
    assert [duration(s) for s in (0.04, 9.94, 9.96, 59.4, 59.6, 3599, 3600, 7800)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "2 h 10 min",
    ]
