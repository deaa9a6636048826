"""The contract of providers: whatever way a model is reached, the rows are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import RowFault
from stillhouse.text.schema import Schema
from tests.calls import teachers
from tests.calls.helpers import prompts, with_service
from tests.calls.server import Act, MisbehavingServer

SAID = Schema(
    {"title": "Said", "type": "object", "properties": {"said": {"type": "string"}}, "required": ["said"]},
    drop_extra=True,
)


class Reached(NamedTuple):
    """A way to reach the teacher `orders`."""

    ask: Ask
    settings: dict[str, Any]


def over_http(structured: Any) -> Callable[[MisbehavingServer], Reached]:
    def reach(server: MisbehavingServer) -> Reached:
        server.behave = lambda call: _told_in_words(call) if structured != "native" else None
        ask = Ask(model="openai/teacher", endpoint=server.url)
        return Reached(ask, {"endpoints": {server.url: Endpoint(server.url, structured=structured)}})

    return reach


def _told_in_words(call: Any) -> Act | None:
    """A server without schemas: the teacher reads what the system prompt says."""
    system = call.body["messages"][0]
    if system["role"] != "system" or '"title":"Said"' not in system["content"]:
        return None
    return Act(text=teachers.orders(call.body["messages"], {"title": "Said"}, call.sample))


def in_process(model: str, latency: float | None = None) -> Callable[[MisbehavingServer], Reached]:
    def reach(server: MisbehavingServer) -> Reached:
        script("orders", teachers.orders, latency=latency)
        return Reached(Ask(model=model), {})

    return reach


WAYS: dict[str, Callable[[MisbehavingServer], Reached]] = {
    "openai": over_http("native"),
    "openai, any JSON object": over_http("object"),
    "openai, in words": over_http("prompt"),
    "python": in_process("python:tests.calls.teachers:orders"),
    "python, async": in_process("python:tests.calls.teachers:orders_later"),
    "scripted": in_process("scripted:orders"),
    "scripted, with latency": in_process("scripted:orders", 0.001),
}


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer(teachers.orders) as running:
        yield running


@pytest.fixture(params=list(WAYS))
def reached(request: pytest.FixtureRequest, server: MisbehavingServer) -> Reached:
    return WAYS[request.param](server)


def ask_all(folder: Path, reached: Reached, asked: list[Prompt]) -> list[Outcome]:
    return with_service(folder, lambda service: service.ask_many(reached.ask, asked), **reached.settings)


def texts(outcomes: list[Outcome]) -> list[str]:
    assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
    return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]


def test_each_prompt_has_its_own_reply(tmp_path: Path, reached: Reached) -> None:
    words = [f"word {number} äöü 漢字 \u2028 \"'" for number in range(40)]

    assert texts(ask_all(tmp_path, reached, prompts(words))) == [f"{word} (u, sample 0)" for word in words]


def test_turns_system_prompt_and_sample_arrive(tmp_path: Path, reached: Reached) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    with_system = reached._replace(ask=reached.ask.replace(system="Be brief."))

    found = texts(ask_all(tmp_path, with_system, [Prompt(turns), Prompt(turns, sample=2), Prompt("d")]))

    assert found == ["c (s u a u, sample 0)", "c (s u a u, sample 2)", "d (s u, sample 0)"]


def test_structured_replies_are_parsed(tmp_path: Path, reached: Reached) -> None:
    (outcome,) = ask_all(tmp_path, reached, [Prompt("hello", SAID)])

    assert isinstance(outcome, Answer)
    assert (outcome.value, outcome.repaired) == ({"said": "hello"}, "no")


def test_a_refusal_is_the_fault_of_its_row(tmp_path: Path, reached: Reached) -> None:
    first, second = ask_all(tmp_path, reached, prompts(["refuse", "comply"]))

    assert isinstance(first, RowFault)
    assert (first.kind, first.message) == ("refused", "I would rather not")
    assert isinstance(second, Answer)


def test_one_answer_is_as_many(tmp_path: Path, reached: Reached) -> None:
    async def work(service: CallService) -> tuple[Answer, Outcome]:
        one = await service.ask(reached.ask, "hello", schema=SAID)
        with pytest.raises(RowFault, match="refused"):
            await service.ask(reached.ask, "refuse")
        (many,) = await service.ask_many(reached.ask, [Prompt("hello", SAID)])
        return one, many

    one, many = with_service(tmp_path, work, **reached.settings)

    assert one._replace(cached=True) == many


def test_a_service_that_closed_can_be_opened_again(tmp_path: Path, reached: Reached) -> None:
    first = texts(ask_all(tmp_path, reached, prompts(["a"])))

    assert texts(ask_all(tmp_path, reached, prompts(["a", "b"])))[0] == first[0]


def test_a_deployment_gives_equal_rows_however_it_is_reached(tmp_path: Path, server: MisbehavingServer) -> None:
    asked = [Prompt("hello", SAID), Prompt("refuse"), *prompts(f"word {number}" for number in range(20))]
    http = Ask(model="openai/teacher", endpoint=server.url, deployment="orders-teacher")
    python = Ask(model="python:tests.calls.teachers:orders", deployment="orders-teacher")

    def run(folder: str, ask: Ask) -> list[Any]:
        outcomes = with_service(tmp_path / folder, lambda service: service.ask_many(ask, asked))
        return [
            str(outcome) if isinstance(outcome, RowFault) else (outcome.text, outcome.value, outcome.keys)
            for outcome in outcomes
        ]

    assert run("http", http) == run("python", python)
    assert server.num_calls == len(asked)
    run("http", python)  # the other way finds the same calls kept
    run("python", http)
    assert server.num_calls == len(asked) + 1  # a function's refusal is not a reply, so it is not kept


def test_a_declared_deployment_is_asked_where_the_session_says(tmp_path: Path, server: MisbehavingServer) -> None:
    ask = Ask(model="openai/teacher", deployment="orders-teacher")
    endpoints = {"orders-teacher": Endpoint(server.url, model="served-as-this")}

    found = with_service(tmp_path, lambda service: service.ask(ask, "hello"), endpoints=endpoints)

    assert found.text == "hello (u, sample 0)"
    assert server.calls[0].body["model"] == "served-as-this"


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({}, {"temperature": 0.0}),
        ({"temperature": None}, {}),
        ({"temperature": 1.5, "top_p": 0.5, "max_tokens": 7}, {"temperature": 1.5, "top_p": 0.5, "max_tokens": 7}),
        ({"stop": ["a", "b"], "seed": 5}, {"temperature": 0.0, "stop": ["a", "b"], "seed": 5}),
    ],
)
def test_only_settings_that_are_made_are_sent(
    tmp_path: Path, server: MisbehavingServer, fields: dict[str, Any], sent: dict[str, Any]
) -> None:
    ask = Ask(model="openai/teacher", endpoint=server.url, **fields)

    with_service(tmp_path, lambda service: service.ask(ask, "hello"))

    body = server.calls[0].body
    assert body == {"model": "teacher", "messages": [{"role": "user", "content": "hello"}], **sent}


def test_samples_and_resamples_have_seeds_of_their_own(tmp_path: Path, server: MisbehavingServer) -> None:
    server.behave = lambda call: Act(text="") if call.number == 1 else None
    ask = Ask(model="openai/teacher", endpoint=server.url, seed=10)

    with_service(tmp_path, lambda service: service.ask_many(ask, [Prompt("a"), Prompt("a", sample=1)]), concurrency=1)

    seeds = [call.body["seed"] for call in server.calls]
    assert seeds[:2] == [10, 11]
    assert len(set(seeds)) == 3


def test_a_schema_is_sent_strictly_where_it_can_be(tmp_path: Path, server: MisbehavingServer) -> None:
    ask = Ask(model="openai/teacher", endpoint=server.url)
    loose = Schema({"title": "Said, or so!", "type": "object", "properties": {"said": {"type": "string"}}})

    with_service(
        tmp_path, lambda service: service.ask_many(ask, [Prompt("a", SAID), Prompt("b", loose)]), concurrency=1
    )

    strict, free = (call.body["response_format"]["json_schema"] for call in server.calls)
    assert (strict["name"], strict["strict"], strict["schema"]["additionalProperties"]) == ("Said", True, False)
    assert (free["name"], free["strict"]) == ("Said__or_so_", False)
    assert free["schema"] == loose.form


def test_a_function_is_called_in_one_thread_that_is_not_the_loops(tmp_path: Path) -> None:
    import asyncio
    import threading

    teachers.threads.clear()
    ask = Ask(model="python:tests.calls.teachers:reply")

    async def work(service: CallService) -> int:
        await asyncio.gather(*(service.ask_many(ask, prompts(f"{index} {n}" for n in range(50))) for index in range(4)))
        return threading.get_ident()

    loop_thread = with_service(tmp_path, work)

    assert len(teachers.threads) == 1
    assert loop_thread not in teachers.threads


@pytest.mark.parametrize("function", ["moody", "moody_later"])
def test_a_function_that_fails_costs_its_row_and_shows_where(tmp_path: Path, function: str) -> None:
    ask = Ask(model=f"python:tests.calls.teachers:{function}")

    refused, broken, number, fine = with_service(
        tmp_path, lambda service: service.ask_many(ask, prompts(["refuse", "break", "number", "fine"]))
    )

    assert isinstance(refused, RowFault)
    assert isinstance(broken, RowFault)
    assert isinstance(number, RowFault)
    assert isinstance(fine, Answer)
    assert (refused.kind, refused.message, refused.raw) == ("refused", "I would rather not", "…")
    assert broken.kind == "error"
    assert "ZeroDivisionError: by nothing" in broken.message
    assert "teachers.py" in broken.message
    assert "returned int" in number.message


def test_a_function_may_want_tools_called_and_count_its_tokens(tmp_path: Path) -> None:
    ask = Ask(model="python:tests.calls.teachers:handy")
    told = [{"role": "tool", "content": "clear", "tool_call_id": "call_1"}]

    wish, answer = with_service(tmp_path, lambda service: service.ask_many(ask, [Prompt("Hat?"), Prompt(told)]))

    assert isinstance(wish, Answer)
    assert isinstance(answer, Answer)
    assert [(call.name, call.arguments) for call in wish.tool_calls] == [("weather", {"place": "Bern"})]
    assert (answer.text, answer.usage[:2]) == ("Take a hat.", (7, 3))


def test_a_server_is_not_followed_elsewhere_with_our_key(tmp_path: Path, server: MisbehavingServer) -> None:
    server.behave = lambda call: Act(status=307, raw=b"", headers={"Location": server.url.replace("/v1", "/v2")})
    ask = Ask(model="openai/teacher", endpoint=server.url)

    (outcome,) = with_service(tmp_path, lambda service: service.ask_many(ask, prompts(["a"])))

    assert isinstance(outcome, RowFault)
    assert (outcome.kind, server.num_calls) == ("rejected", 1)
