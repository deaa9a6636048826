"""A teacher that is out of order for a while: rows that got no answer are asked again by the next run, no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.retry import Patience
from stillhouse.core.artifact import Rows
from stillhouse.core.errors import ModelError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.curate.dedup import Dedup
from stillhouse.generate.amplify import Amplify
from stillhouse.generate.answer import Answer
from stillhouse.generate.cot import SynthesizeCoT
from stillhouse.generate.policy import ExtractPolicy
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.combine import Concat
from stillhouse.rows.import_ import Import
from tests.calls.server import Act, Call, MisbehavingServer
from tests.generate import teachers

PATIENCE = Patience(attempts=2, first_wait=0.01, longest_wait=0.02)
INPUTS = Import(data=tuple({"input": f"item {number}"} for number in range(50)), require=("input",))


class Outage:
    """Answers 503 while `on`, to every question or to those that hold one of `texts`."""

    def __init__(self, *texts: str) -> None:
        self.on = True
        self.texts = texts

    def __call__(self, call: Call) -> Act | None:
        hit = not self.texts or any(text in call.text for text in self.texts)
        return Act.error_of(503, "overloaded") if self.on and hit else None


def open_session(folder: Path, events: list[Event] | None = None) -> Session:
    on_event = None if events is None else events.append
    return Session(folder, patience=PATIENCE, on_event=on_event, track=False, progress=False)


def by(server: MisbehavingServer, **settings: Any) -> Ask:
    return Ask(model="lab/teacher", endpoint=server.url, **settings)


def asked(server: MisbehavingServer) -> Prompt:
    return Prompt(rows=INPUTS, by=by(server), template="{{ input }}!")


def made(events: list[Event]) -> list[str]:
    return [event.data["tag"] for event in events if event.kind == "step.finished"]


def whole(folder: Path, step: Step[Rows]) -> Rows:
    """What a run without trouble makes."""
    with open_session(folder) as session:
        return session.run(step)


def test_the_next_run_asks_the_unanswered_rows_and_no_others(tmp_path: Path) -> None:
    outage = Outage("item 7!", "item 8!", "item 9!")
    with MisbehavingServer(behave=outage) as server:
        step = Dedup(rows=asked(server), columns=("reply",))
        with open_session(tmp_path / "a") as session:
            first = session.run(step)
        assert len(first) == 47
        with open_session(tmp_path / "a") as session:
            rows = session.run(asked(server))
        assert rows.record["counts"]["unanswered"] == 3
        outage.on, before = False, server.num_calls
        with open_session(tmp_path / "a") as session:
            second = session.run(step)
        assert server.num_calls == before + 3
        assert len(second) == 50
        assert "unanswered" not in second.record["counts"]
        assert second.digest == whole(tmp_path / "b", step).digest


def test_a_run_goes_on_with_the_rows_it_has_and_asks_twice_for_none(tmp_path: Path) -> None:
    outage = Outage("item 7!")
    with MisbehavingServer(behave=outage) as server, open_session(tmp_path) as session:
        one, other = Dedup(rows=asked(server), columns=("reply",)), Concat(rows=(asked(server), asked(server)))
        both = session.run([one, other, asked(server)])
        assert [len(table) for table in both] == [49, 98, 49]  # type: ignore[arg-type]
        assert server.num_calls == 49 + PATIENCE.attempts


def test_nothing_after_it_runs_again_where_nothing_changed(tmp_path: Path) -> None:
    with MisbehavingServer(behave=Outage("item 7!")) as server:
        step = Dedup(rows=asked(server), columns=("reply",))
        with open_session(tmp_path) as session:
            first = session.run(step)
        events: list[Event] = []
        with open_session(tmp_path, events) as session:
            assert session.run(step).digest == first.digest
        assert made(events) == ["generate.prompt/1"]
        assert not list(tmp_path.glob("set-aside-v1/*"))


def test_plan_says_that_rows_are_asked_again(tmp_path: Path) -> None:
    with MisbehavingServer(behave=Outage("item 7!", "item 8!")) as server:
        step = Dedup(rows=asked(server), columns=("reply",))
        with open_session(tmp_path) as session:
            session.run(step)
            plan = session.plan(step)
    assert [entry.state for entry in plan.steps] == ["cached", "run", "may be cut off"]
    assert "2 rows got no answer last time: asked again" in str(plan)
    assert plan.steps[1].expectation.calls == 2


def test_a_step_that_stopped_in_an_outage_asks_all_its_rows_when_run_again(tmp_path: Path) -> None:
    outage = Outage()
    with MisbehavingServer(behave=outage) as server:
        with open_session(tmp_path) as session, pytest.raises(ModelError, match="overloaded"):
            session.run(asked(server))
        outage.on = False
        assert len(whole(tmp_path, asked(server))) == 50


def test_a_seed_whose_every_attempt_got_no_answer_is_asked_again(tmp_path: Path) -> None:
    outage = Outage("Bob has 10")
    seeds = Import(data=tuple({"input": f"{name} has 10", "output": "10"} for name in ("Ann", "Bob", "Cy")))
    with MisbehavingServer(teachers.reply, behave=outage) as server:
        step = SynthesizeCoT(rows=seeds, by=by(server), instruction="Add.", examples=0)
        first = whole(tmp_path, step)
        assert [row["verified"] for row in first] == [True, True]
        assert [row["kind"] for row in first.failed()] == ["exhausted"]
        outage.on = False
        assert [row["verified"] for row in whole(tmp_path, step)] == [True, True, True]


def test_no_vote_is_held_before_all_were_heard(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        hit = down[0] and call.sample > 0 and "Cy" not in call.text
        return Act.error_of(503, "overloaded") if hit else None

    down = [True]
    rows = Import(data=tuple({"input": f"{name} has 3"} for name in ("Ann", "Bob", "Cy")), require=("input",))
    with MisbehavingServer(teachers.reply, behave=behave) as server:
        step = Answer(rows=rows, by=by(server, temperature=0.7), instruction="Add.", samples=3)
        first = whole(tmp_path, step)
        assert (len(first), first.record["counts"]["unanswered"], list(first.dropped())) == (1, 2, [])
        down[0] = False
        assert [row["agreement"] for row in whole(tmp_path, step)] == [1.0, 1.0, 1.0]


def test_growth_that_ended_in_an_outage_goes_on_in_the_next_run(tmp_path: Path) -> None:
    outage = Outage("new inputs")
    seeds = Import(data=tuple({"input": f"{name} has 10 and gets 5", "output": "15"} for name in ("Ann", "Bob", "Cy")))

    def behave(call: Call) -> Act | None:
        return outage(call) if call.sample >= 3 else None

    with MisbehavingServer(teachers.reply, behave=behave) as server:
        policy = ExtractPolicy(rows=seeds, by=by(server), instruction="Add.")
        step = Amplify(rows=seeds, policy=policy, by=by(server), instruction="Add.", factor=20, patience=5, per_call=4)
        first = whole(tmp_path / "a", step)
        assert len(first) < 60
        assert first.record["counts"]["unanswered"] >= 5
        outage.on = False
        second = whole(tmp_path / "a", step)
        assert len(second) == 60
        assert second.digest == whole(tmp_path / "b", step).digest


def test_calls_that_growth_made_up_for_are_not_asked_again(tmp_path: Path) -> None:
    seeds = Import(data=tuple({"input": f"{name} has 10 and gets 5", "output": "15"} for name in ("Ann", "Bob", "Cy")))

    def behave(call: Call) -> Act | None:
        return Act.error_of(503, "overloaded") if call.schema and call.sample == 2 else None

    with MisbehavingServer(teachers.reply, behave=behave) as server:
        policy = ExtractPolicy(rows=seeds, by=by(server), instruction="Add.")
        step = Amplify(rows=seeds, policy=policy, by=by(server), instruction="Add.", factor=20, per_call=4)
        first = whole(tmp_path, step)
        assert (len(first), first.record["counts"]["failed"]) == (60, 1)
        before = server.num_calls
        assert whole(tmp_path, step).digest == first.digest
        assert server.num_calls == before
