"""What a plan says of calls: those that will be made, those that are kept, what they cost and how long they take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.deployment import Deployments
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import Waiting
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.calls.batch_server import BatchServer


def asked(number: int, by: Ask, template: str = "{{ input }}") -> Prompt:
    rows = Import(data=[{"input": f"row {n} " + "word " * 50, "output": ""} for n in range(number)])
    return Prompt(rows=rows, template=template, by=by)


def test_a_plan_tells_kept_calls_from_new_ones_and_asks_nobody(tmp_path: Path) -> None:
    teacher = script("teacher", lambda messages, schema, sample: "fine")
    by = Ask(model="scripted:teacher")
    prices = {"scripted:teacher": Price(10.0, 10.0)}
    with Session(tmp_path, track=False, prices=prices) as session:
        session.run(asked(30, by))
        session.run(asked(50, by).rows)
        calls = teacher.num_calls
        plan = session.plan(asked(50, by))
        (step,) = [step for step in plan.steps if step.tag.startswith("generate.prompt")]
        assert (step.expectation.calls, step.expectation.cached_calls) == (20, 30)
        assert step.expectation.cost_usd is not None
        assert 0.5 < step.expectation.cost_usd / (20 * 10e-6 * (260 / 4 + 60)) < 2
        assert "30 more calls are kept" in str(plan)
        assert plan.to_dict()["total"]["cached_calls"] == 30
        assert teacher.num_calls == calls
        changed = session.plan(asked(30, by, template="other {{ input }}"))
        assert [step.expectation.calls for step in changed.steps][-1] == 30
        session.run(asked(50, by))
        assert teacher.num_calls == calls + 20
    assert not (tmp_path / "work-v1" / "plan").exists()


def test_more_rows_than_are_looked_at_are_reckoned(tmp_path: Path) -> None:
    script("teacher", lambda messages, schema, sample: "fine")
    by = Ask(model="scripted:teacher")
    with Session(tmp_path, track=False) as session:
        session.run(asked(10, by))
        session.run(asked(5000, by).rows)
        (step,) = [step for step in session.plan(asked(5000, by)).steps if step.tag.startswith("generate.prompt")]
    assert step.expectation.calls == pytest.approx(5000 - 25, abs=2)
    assert step.expectation.cached_calls == pytest.approx(25, abs=1)


def test_time_follows_the_width_and_the_limits_that_are_known(tmp_path: Path) -> None:
    def seconds(**limits: float) -> float | None:
        by = Ask(model="openai/teacher", deployment="house", max_tokens=10)
        endpoint = Endpoint(server.url, concurrency=2, **limits)  # type: ignore[arg-type]
        with Session(tmp_path, track=False, endpoints={"house": endpoint}, credentials=Credentials()) as session:
            session.run(asked(4, by))
            session.run(asked(100, by).rows)
            return session.plan(asked(100, by)).total("seconds")

    with BatchServer(lambda text: "fine") as server:
        free = seconds()
        assert free is not None
        assert free < 60
        assert seconds(rpm=6000.0) == pytest.approx(max(free, 0.96), rel=0.5)
        assert seconds(rpm=96.0) == pytest.approx(60.0, rel=0.01)


def test_what_is_in_a_batch_job_is_not_counted_again_and_a_job_costs_half(tmp_path: Path) -> None:
    by = Ask(model="openai/teacher", deployment="house", max_tokens=10)

    def session(batch: bool) -> Session:
        places = {"house": Endpoint(server.url)}
        prices = {"house": Price(10.0, 10.0)}
        return Session(
            tmp_path, track=False, endpoints=places, prices=prices, batch=batch or None, credentials=Credentials()
        )

    with BatchServer(lambda text: "fine") as server:
        with session(False) as live:
            live.run(asked(1, by))
            live.run(asked(20, by).rows)
            dear = live.plan(asked(20, by)).total("cost_usd")
        with session(True) as jobs:
            cheap = jobs.plan(asked(20, by)).total("cost_usd")
            with pytest.raises(Waiting):
                jobs.run(asked(20, by))
            after = jobs.plan(asked(20, by))
        assert dear is not None
        assert cheap == pytest.approx(dear / 2)
        assert (after.total("calls"), after.total("cached_calls"), after.total("cost_usd")) == (0, 20, 0)
        assert server.live == ["row 0 " + "word " * 50]


def deployments() -> Deployments:
    def no_model(step: object) -> Path:
        raise AssertionError

    return Deployments(
        endpoints={}, credentials=Credentials(), concurrency=None, prices={}, model_path=no_model, options=Options()
    )


@pytest.mark.parametrize(
    ("model", "endpoint", "told"),
    [
        ("any/x", "http://example.invalid/v1", True),
        ("any/x", "http://localhost:1/v1", False),
        ("openai/gpt-4o-mini", None, False),
    ],
)
def test_a_price_that_nobody_knows_is_said_once(model: str, endpoint: str | None, told: bool) -> None:
    said: list[str] = []
    deployment = deployments().of(Ask(model=model, endpoint=endpoint))
    warn: Callable[[str], None] = said.append
    for _ in range(2):
        deployment.warn_if_unpriced(warn)
    assert [f"no price is known of `{model}`" in message for message in said] == [True] * told
