from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.core.session import Session
from tests.core import helpers
from tests.core.steps import Apply, Copied, Join, Numbers, Suffix, Trained, Upper


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
    assert set(plan["total"]) == {"calls", "tokens_in", "tokens_out", "cost_usd", "seconds"}
