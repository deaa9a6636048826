"""Several endpoints of one model: balanced by what each can take, and those in trouble left out meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.embed_deployments import embed_deployment
from stillhouse.calls.embedder import Embedder
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.retry import Patience
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.events import Event
from stillhouse.recipes.settings import SessionSettings
from tests.calls.helpers import QUICK, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer

TEACHER = Ask(model="openai/teacher", deployment="teacher")


@contextlib.contextmanager
def servers(*each: MisbehavingServer) -> Iterator[tuple[MisbehavingServer, ...]]:
    with contextlib.ExitStack() as stack:
        yield tuple(stack.enter_context(server) for server in each)


def ask_pool(
    folder: Path,
    pool: list[Endpoint | str],
    number: int,
    *,
    patience: Patience = QUICK,
    events: list[Event] | None = None,
    **settings: Any,
) -> list[Outcome]:
    asked = prompts(f"q{index}" for index in range(number))
    return with_service(
        folder,
        lambda service: service.ask_many(TEACHER, asked),
        events,
        endpoints={"teacher": pool},
        patience=patience,
        **settings,
    )


def all_answered(outcomes: list[Outcome], *each: MisbehavingServer) -> None:
    """Every prompt has its answer, and was asked once over all servers."""
    assert [outcome.text for outcome in outcomes if isinstance(outcome, Answer)] == [
        f"reply to q{index}" for index in range(len(outcomes))
    ]
    answered: Counter[str] = sum((server.answered for server in each), Counter())
    assert set(answered) == {f"q{index}" for index in range(len(outcomes))}


def test_unequal_servers_are_each_used_to_the_full(tmp_path: Path) -> None:
    with servers(MisbehavingServer(latency=0.05), MisbehavingServer(latency=0.25)) as (quick, slow):
        outcomes = ask_pool(tmp_path, [Endpoint(quick.url, concurrency=8), Endpoint(slow.url, concurrency=4)], 200)

    all_answered(outcomes, quick, slow)
    assert quick.num_calls + slow.num_calls == 200
    assert (quick.peak_in_flight, slow.peak_in_flight) == (8, 4)
    assert quick.num_calls > slow.num_calls > 0


def test_a_slow_server_holds_up_nothing(tmp_path: Path) -> None:
    """No batch waits: while one server keeps its first calls, the other answers all the rest."""
    with servers(MisbehavingServer(), MisbehavingServer()) as (quick, stuck):

        async def work(service: CallService) -> list[Outcome]:
            stuck.hold()
            asked = prompts(f"q{index}" for index in range(100))
            task = asyncio.ensure_future(service.ask_many(TEACHER, asked))
            await asyncio.to_thread(quick.wait_for, 97)
            stuck.let_go()
            return await task

        pool = [Endpoint(quick.url, concurrency=2), Endpoint(stuck.url, concurrency=3)]
        outcomes = with_service(tmp_path, work, endpoints={"teacher": pool}, patience=Patience(alone=0.1))

    all_answered(outcomes, quick, stuck)


def test_a_pool_is_one_model_in_keys_so_a_moved_one_asks_nothing(tmp_path: Path) -> None:
    with servers(MisbehavingServer(), MisbehavingServer()) as (one, two):
        ask_pool(tmp_path, [one.url], 20)
        again = ask_pool(tmp_path, [two.url, Endpoint(one.url, model="other")], 20)

    assert all(isinstance(outcome, Answer) and outcome.cached for outcome in again)
    assert (one.num_calls, two.num_calls) == (20, 0)


def test_a_server_that_is_down_gets_nothing_and_the_others_go_on(tmp_path: Path) -> None:
    with servers(MisbehavingServer(latency=0.005), MisbehavingServer()) as (up, down):
        down.stop()
        outcomes = ask_pool(tmp_path, [down.url, up.url], 100, patience=Patience(attempts=1, unreachable=0.01))

    all_answered(outcomes, up)
    assert (up.num_calls, down.num_calls) == (100, 0)


def test_a_server_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    with servers(MisbehavingServer(latency=0.02), MisbehavingServer(latency=0.02)) as (up, down):
        down.stop()

        async def work(service: CallService) -> list[Outcome]:
            asked = prompts(f"q{index}" for index in range(2000))
            task = asyncio.ensure_future(service.ask_many(TEACHER, asked))
            await asyncio.to_thread(up.wait_for, 20)
            await asyncio.to_thread(down.restart)
            return await task

        pool = [Endpoint(each.url, concurrency=4) for each in (up, down)]
        outcomes = with_service(tmp_path, work, endpoints={"teacher": pool}, patience=Patience(first_wait=0.05))

    all_answered(outcomes, up, down)
    assert down.num_calls > 100


def test_a_throttled_server_gets_nothing_while_it_asks_for_a_pause(tmp_path: Path) -> None:
    def busy(call: Call) -> Act | None:
        return Act.error_of(429, "slow down", retry_after="600")

    with servers(MisbehavingServer(behave=busy), MisbehavingServer(latency=0.002)) as (throttled, free):
        outcomes = ask_pool(tmp_path, [throttled.url, free.url], 100, patience=Patience())

    all_answered(outcomes, free)
    assert throttled.num_calls == 1
    assert free.num_calls == 100


@pytest.mark.parametrize(
    "refusal",
    [
        Act.error_of(401, "wrong key", "invalid_api_key"),
        Act.error_of(404, "no such model", "model_not_found"),
        Act.error_of(429, "You exceeded your current quota", "insufficient_quota"),
    ],
)
def test_a_server_that_refuses_us_is_left_out_with_a_warning(tmp_path: Path, refusal: Act) -> None:
    events: list[Event] = []
    with servers(MisbehavingServer(behave=lambda call: refusal), MisbehavingServer(latency=0.002)) as (closed, open_):
        outcomes = ask_pool(
            tmp_path, [closed.url, open_.url], 60, patience=Patience(alone=60.0), events=events, concurrency=8
        )

    all_answered(outcomes, open_)
    assert closed.num_calls == 1
    (warning,) = [event.data["message"] for event in events if event.kind == "warning"]
    assert f"`{closed.url}` is left out of `teacher`" in warning


def test_when_all_servers_refuse_the_run_stops(tmp_path: Path) -> None:
    def refuse(call: Call) -> Act | None:
        return Act.error_of(401, "wrong key", "invalid_api_key")

    refusing = MisbehavingServer(behave=refuse), MisbehavingServer(behave=refuse)
    with servers(*refusing) as pool, pytest.raises(ModelError) as caught:
        ask_pool(tmp_path, [each.url for each in pool], 60, patience=Patience(alone=60.0))

    assert caught.value.kind == "credentials"
    assert [each.num_calls for each in pool] == [1, 1]


def test_a_pool_whose_servers_are_all_down_stops_the_run(tmp_path: Path) -> None:
    with servers(MisbehavingServer(), MisbehavingServer()) as pool:
        for each in pool:
            each.stop()
        with pytest.raises(ModelError, match="`teacher` is down"):
            ask_pool(tmp_path, [each.url for each in pool], 10)


def test_a_broken_reply_of_one_server_is_asked_again_anywhere(tmp_path: Path) -> None:
    def broken(call: Call) -> Act | None:
        return Act(text="lost", wire="reset") if call.number % 3 == 0 else None

    with servers(MisbehavingServer(behave=broken, latency=0.002), MisbehavingServer(latency=0.002)) as pool:
        outcomes = ask_pool(tmp_path, [each.url for each in pool], 60, patience=Patience(attempts=8, first_wait=0.01))

    assert [outcome.text for outcome in outcomes if isinstance(outcome, Answer)] == [
        f"reply to q{index}" for index in range(60)
    ]


def test_a_recipe_file_declares_a_pool_as_a_list() -> None:
    urls = ["http://localhost:8000/v1", {"url": "http://localhost:8001/v1", "rpm": 600, "concurrency": 8}]
    read = SessionSettings.read({"endpoints": {"teacher": urls, "one": urls[0]}})

    assert read.endpoints == {
        "teacher": [Endpoint("http://localhost:8000/v1"), Endpoint("http://localhost:8001/v1", rpm=600, concurrency=8)],
        "one": Endpoint("http://localhost:8000/v1"),
    }
    with pytest.raises(RecipeError, match="`rmp` is not a setting of `session.endpoints.teacher.1`"):
        SessionSettings.read({"endpoints": {"teacher": [urls[0], {"url": urls[0], "rmp": 1}]}})


def test_embedders_have_pools_and_paces_too(tmp_path: Path) -> None:
    by = Embedder(model="openai/vectors", deployment="vectors")

    async def work(service: CallService) -> None:
        deployment = embed_deployment(service._deployments, by, "document")[0]
        assert [source.name for source in deployment.gate.sources] == ["http://a/v1", "http://b/v1"]
        assert deployment.gate.limit == 3 + 5

    declared = [Endpoint("http://a/v1", concurrency=3), Endpoint("http://b/v1", concurrency=5)]
    with_service(tmp_path, work, endpoints={"vectors": declared})


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (lambda: {"teacher": []}, "a pool of no endpoints"),
        (lambda: {"http://a/v1": ["http://a/v1", "http://b/v1"]}, "a pool cannot be declared under the URL"),
        (lambda: {"teacher": Endpoint("http://a/v1", rpm=0)}, "`rpm` of the endpoint"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(tmp_path: Path, declared: Callable[[], Any], says: str) -> None:
    async def nothing(service: CallService) -> None:
        return None

    with pytest.raises(RecipeError, match=says):
        with_service(tmp_path, nothing, endpoints=declared())
