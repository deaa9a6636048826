from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.core.plan import Expectation, Plan, Planned
from stillhouse.core.session import Session
from tests.core import helpers
from tests.core.steps import Apply, Copied, Halves, Join, Numbers, Suffix, Trained, Upper


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def open_session(folder: Path) -> Session:
    return Session(folder, track=False, progress=False)


def test_a_plan_shows_what_is_cached_and_what_will_run_and_spends_nothing(store: Path) -> None:
    with open_session(store) as session:
        session.run(Upper(rows=Numbers(count=10)))
        before = sorted(store.rglob("*"))
        plan = session.plan(Copied(rows=Upper(rows=Numbers(count=10))))
        assert [(step.tag, step.state) for step in plan.steps] == [
            ("test.numbers/1", "cached"),
            ("test.upper/1", "cached"),
            ("test.copied/1", "run"),
        ]
        assert plan.steps[2].rows_in == 7
        assert sorted(store.rglob("*")) == before
        assert "1 of 3 steps to run" in str(plan)


def test_a_plan_says_why_and_what_may_be_cut_off(store: Path) -> None:
    with open_session(store) as session:
        session.run(Copied(rows=Upper(rows=Numbers(count=10))))
        plan = session.plan(Copied(rows=Upper(rows=Numbers(count=11), suffix=Suffix(times=2))))
        states = {step.tag: step.state for step in plan.steps}
        assert states == {"test.numbers/1": "run", "test.upper/1": "run", "test.copied/1": "run"}
        reasons = {step.tag: [str(reason) for reason in step.reasons] for step in plan.steps}
        assert reasons["test.numbers/1"] == ["count: 10 → 11"]
        assert "rows.count: 10 → 11" in reasons["test.upper/1"]
        assert "rows.rows.count: 10 → 11" in reasons["test.copied/1"]


def test_a_plan_sees_through_a_step_with_several_outputs(store: Path) -> None:
    with open_session(store) as session:
        session.run(Copied(rows=Halves(rows=Numbers(count=10)).odd))
        reasons = session.plan(Copied(rows=Halves(rows=Numbers(count=12)).odd)).steps[-1].reasons
        assert [str(reason) for reason in reasons] == ["rows.rows.count: 10 → 12"]
        other = session.why(Copied(rows=Halves(rows=Numbers(count=10)).even))
        assert [str(reason) for reason in other] == ["rows.output: 'odd' → 'even'"]


def test_a_plan_shows_tokens_and_memory_and_the_sum_of_nothing(store: Path) -> None:
    expected = Expectation(calls=1, tokens_in=1200, tokens_out=300, memory_bytes=2_500_000_000)
    shown = str(Plan([Planned("test.a/1", "a", "run", 1, expected, False, [])]))
    assert "1,500" in shown
    assert "2.5 GB" in shown
    with open_session(store) as session:
        session.run(Numbers(count=1))
        assert str(session.plan(Numbers(count=1))).endswith(
            "0 of 1 steps to run; calls 0, tokens 0, cost $0.00, time 0s, memory 0 MB"
        )


def test_a_step_known_before_whose_input_is_gone_may_be_cut_off(store: Path) -> None:
    import shutil

    with open_session(store) as session:
        numbers = session.run(Numbers(count=10))
        upper = session.run(Upper(rows=Numbers(count=10)))
        shutil.rmtree(numbers.folder)
        shutil.rmtree(upper.folder)
        plan = session.plan(Upper(rows=Numbers(count=10)))
        assert [step.state for step in plan.steps] == ["run", "may be cut off"]


def test_why_follows_inputs_parts_functions_and_takes_the_nearest(store: Path) -> None:
    with open_session(store) as session:
        session.run(Apply(rows=Numbers(count=3), function=helpers.adder(1)))
        session.run(Apply(rows=Numbers(count=4), function=helpers.adder(2)))
        found = session.why(Apply(rows=Numbers(count=4), function=helpers.adder(3)))
        assert [difference.field for difference in found] == ["function.source"]
        assert session.why(Apply(rows=Numbers(count=4), function=helpers.adder(2))) == []
        assert session.why(Trained(rows=Numbers(count=1))) == []


def test_a_diamond_is_planned_once(store: Path) -> None:
    step = Numbers(count=1)
    joined = Join(tables=(step, step))
    for _ in range(15):
        joined = Join(tables=(joined, joined))
    with open_session(store) as session:
        assert len(session.plan(joined).steps) == 17


def test_a_plan_is_data_too(store: Path) -> None:
    with open_session(store) as session:
        plan = session.plan(Upper(rows=Numbers(count=10))).to_dict()
    assert [step["state"] for step in plan["steps"]] == ["run", "run"]
    assert set(plan["total"]) == {
        "calls",
        "cached_calls",
        "tokens_in",
        "tokens_out",
        "cost_usd",
        "seconds",
        "memory_bytes",
    }
