"""The call service: equal prompts, order, samples, bills, events, budgets, and walking away from calls."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.budget import Budget
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import LIST_PRICES, Price, price_of
from stillhouse.calls.providers.scripted import Scripted, script, scripted_reply
from stillhouse.calls.request import Prompt
from stillhouse.calls.retry import TryAgain
from stillhouse.calls.service import CallService
from stillhouse.core.errors import BudgetError, ModelError, RecipeError, RowFault
from stillhouse.core.events import Bus, Event
from stillhouse.text.schema import Schema
from tests.calls import teachers
from tests.calls.helpers import asking, prompts, with_service
from tests.calls.server import MisbehavingServer

TEACHER = Ask(model="scripted:teacher")
LATENCIES = [None, 0.001]
"""Without latency a script is asked by slices, with one through the slots."""


def answers(outcomes: list[Outcome]) -> list[Answer]:
    assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Answer)]


def ask_all(folder: Path, asked: list[Prompt], by: Ask = TEACHER, **settings: Any) -> list[Outcome]:
    return with_service(folder, lambda service: service.ask_many(by, asked), **settings)


@pytest.mark.parametrize("latency", LATENCIES)
def test_fifty_equal_prompts_are_one_call(tmp_path: Path, latency: float | None) -> None:
    teacher = script("teacher", latency=latency)

    found = answers(ask_all(tmp_path, prompts(["hello"] * 50)))

    assert [answer.text for answer in found] == ["hello"] * 50
    assert len({answer.key for answer in found}) == 1
    assert teacher.num_calls == 1


@pytest.mark.parametrize("latency", LATENCIES)
def test_fifty_samples_of_a_prompt_are_fifty_calls(tmp_path: Path, latency: float | None) -> None:
    teacher = script("teacher", lambda messages, schema, sample: f"sample {sample}", latency=latency)

    found = answers(ask_all(tmp_path, [Prompt("hello", sample=number) for number in range(50)]))

    assert [answer.text for answer in found] == [f"sample {number}" for number in range(50)]
    assert teacher.num_calls == 50


def test_equal_prompts_of_several_callers_at_once_are_one_call(tmp_path: Path) -> None:
    with MisbehavingServer(latency=0.05) as server:

        async def work(service: CallService) -> list[Any]:
            one, by = service.ask(asking(server), "hello"), asking(server)
            many = [service.scope(f"step {number}").ask_many(by, prompts(["hello", "you"])) for number in range(8)]
            return list(await asyncio.gather(one, *many))

        first, *others = with_service(tmp_path, work)

    assert first.text == "reply to hello"
    assert all([answer.text for answer in answers(found)] == ["reply to hello", "reply to you"] for found in others)
    assert server.texts() == {"hello": 1, "you": 1}


@pytest.mark.parametrize("latency", LATENCIES)
def test_a_second_run_asks_nothing_and_says_the_same(tmp_path: Path, latency: float | None) -> None:
    teacher = script("teacher", latency=latency)
    asked = prompts(f"question {number % 700}" for number in range(2500))

    first = answers(ask_all(tmp_path, asked))
    second = answers(ask_all(tmp_path, asked))

    assert teacher.num_calls == 700
    assert all(answer.cached for answer in second)
    assert [answer._replace(cached=False) for answer in second] == [answer._replace(cached=False) for answer in first]


def test_answers_come_in_the_order_of_their_prompts_whatever_the_latency(tmp_path: Path) -> None:
    draw = random.Random(3)
    script("teacher", latency=lambda call: draw.uniform(0, 0.02))
    texts = [f"question {number}" for number in range(200)]

    found = answers(ask_all(tmp_path, prompts(texts), concurrency=17))

    assert [answer.text for answer in found] == texts


def test_no_more_calls_are_in_flight_than_the_concurrency_over_all_steps(tmp_path: Path) -> None:
    with MisbehavingServer(latency=0.01) as server:

        async def work(service: CallService) -> None:
            steps = [service.scope(str(step)) for step in range(4)]
            await asyncio.gather(
                *(
                    step.ask_many(asking(server), prompts(f"{index}.{n}" for n in range(40)))
                    for index, step in enumerate(steps)
                )
            )

        with_service(tmp_path, work, concurrency=6)

    assert server.num_calls == 160
    assert 2 <= server.peak_in_flight <= 6


def test_a_slow_call_holds_up_nothing_else(tmp_path: Path) -> None:
    teachers.finished.clear()
    asked = prompts(["slow", *(f"quick {number}" for number in range(60))])

    ask_all(tmp_path, asked, Ask(model="python:tests.calls.teachers:patient"), concurrency=2)

    assert teachers.finished[-1] == "slow"


@pytest.mark.parametrize("latency", LATENCIES)
def test_a_fault_of_one_row_is_in_its_place(tmp_path: Path, latency: float | None) -> None:
    def reply(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        if messages[-1]["content"] == "b":
            raise RowFault("refused", "not this one")
        return "fine"

    script("teacher", reply, latency=latency)

    first, second, third = ask_all(tmp_path, prompts(["a", "b", "c"]))

    assert isinstance(first, Answer)
    assert isinstance(third, Answer)
    assert isinstance(second, RowFault)
    assert (second.kind, second.message) == ("refused", "not this one")


@pytest.mark.parametrize("latency", LATENCIES)
def test_trouble_that_passes_is_tried_again(tmp_path: Path, latency: float | None) -> None:
    trouble = {0: TryAgain("server", "hiccup"), 3: TryAgain("throttled", "slow down", wait=0.01)}
    teacher = script("teacher", latency=latency, failures=trouble)

    found = answers(ask_all(tmp_path, prompts(["a", "a", "b", "c"])))

    assert [answer.text for answer in found] == ["a", "a", "b", "c"]
    assert teacher.num_calls == 5


@pytest.mark.parametrize("latency", LATENCIES)
def test_a_cut_and_an_empty_reply_are_judged_the_same_on_both_ways(tmp_path: Path, latency: float | None) -> None:
    def reply(messages: list[dict[str, Any]], schema: Any, sample: int) -> Any:
        return {"cut": scripted_reply("half", "length"), "empty": ""}.get(messages[-1]["content"], "fine")

    teacher = script("teacher", reply, latency=latency)

    cut, empty, fine = ask_all(tmp_path, prompts(["cut", "empty", "fine"]))
    again = ask_all(tmp_path, prompts(["cut", "empty", "fine"]))

    assert isinstance(cut, RowFault)
    assert isinstance(empty, RowFault)
    assert isinstance(fine, Answer)
    assert (cut.kind, cut.raw, empty.kind) == ("cut", "half", "empty")
    assert teacher.num_calls == 4  # the empty one twice; nothing again on the second run
    assert [str(outcome) for outcome in again[:2]] == [str(cut), str(empty)]


@pytest.mark.parametrize("latency", LATENCIES)
def test_structured_answers_are_parsed_filtered_and_repaired_from_the_cache_alike(
    tmp_path: Path, latency: float | None
) -> None:
    schema = Schema(
        {"title": "N", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, drop_extra=True
    )

    def reply(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        assert schema["title"] == "N"
        last = messages[-1]["content"]
        return {"good": '{"n": 1, "m": 2}', "fenced": 'Sure!\n```json\n{"n": 2}\n```', "bad": "three"}.get(
            last, '{"n": 3}'
        )

    teacher = script("teacher", reply, latency=latency)
    asked = [Prompt(text, schema) for text in ("good", "fenced", "bad", "bad")]

    first = answers(ask_all(tmp_path, asked))
    second = answers(ask_all(tmp_path, asked))

    assert [answer.value for answer in first] == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 3}]
    assert [answer.repaired for answer in first] == ["no", "text", "asked", "asked"]
    assert [answer.keys for answer in second] == [answer.keys for answer in first]
    assert teacher.num_calls == 4


def test_what_came_over_the_wire_is_kept_so_a_better_reader_never_asks_again(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        answer = with_service(tmp_path, lambda service: service.ask(asking(server), "hello"))

        async def kept(service: CallService) -> Any:
            return service.cache.look_up([bytes.fromhex(answer.key)])[bytes.fromhex(answer.key)]

        form, wire = with_service(tmp_path, kept)

    assert form == "openai.chat"
    assert b'"usage"' in wire
    assert b'"id": "chatcmpl-' in wire


def test_from_the_cache_neither_key_nor_server_nor_function_is_needed(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(["a", "b"])))

    outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(["a", "b"])))

    assert [answer.text for answer in answers(outcomes)] == ["reply to a", "reply to b"]


def test_the_bill_of_a_step_is_its_own_and_the_session_has_them_all(tmp_path: Path) -> None:
    with MisbehavingServer() as server:

        async def work(service: CallService) -> tuple[Any, Any, Any]:
            one, two = service.scope("one"), service.scope("two")
            await one.ask_many(asking(server), prompts(["a", "b", "b"]))
            await two.ask(asking(server), "a")
            bills = one.spent(), two.spent()
            await service.aclose()
            return *bills, service.ledger.total()

        first, second, whole = with_service(tmp_path, work, prices={"openai/teacher": Price(prompt=1e6, reply=2e6)})

    assert (first["total"]["calls"], first["total"]["cached"]) == (2, 1)
    assert first["total"]["prompt_tokens"] == 2
    assert first["total"]["cost_usd"] == 2 + 2 * len("reply to a") * 2
    assert (second["total"]["calls"], second["total"]["cached"], second["total"]["cost_usd"]) == (0, 1, 0)
    assert list(first["models"]) == ["openai/teacher"]
    assert (whole.calls, whole.cached) == (2, 2)


def test_a_model_without_a_price_has_calls_and_tokens_but_no_cost(tmp_path: Path) -> None:
    with MisbehavingServer() as server:

        async def work(service: CallService) -> tuple[Answer, Any]:
            return await service.ask(asking(server), "a"), service.ledger.total()

        answer, total = with_service(tmp_path, work)

    assert answer.cost_usd is None
    assert (total.calls, total.unpriced, total.cost_usd, total.reply_tokens) == (1, 1, 0.0, len("reply to a"))


def test_events_say_what_was_added_and_are_few(tmp_path: Path) -> None:
    script("teacher", latency=0.0005)
    events: list[Event] = []

    async def work(service: CallService) -> None:
        await service.scope("abc").ask_many(TEACHER, prompts(f"q{number}" for number in range(400)))

    started = time.monotonic()
    with_service(tmp_path, work, events, concurrency=4)
    seconds = time.monotonic() - started

    done = [event.data for event in events if event.kind == "call.done"]
    assert sum(data["calls"] for data in done) == 400
    assert {(data["key"], data["model"]) for data in done} == {("abc", "scripted:teacher")}
    assert len(done) <= 10 * seconds + 2


@pytest.mark.parametrize("latency", LATENCIES)
def test_a_budget_of_calls_stops_exactly_there_and_nothing_is_lost(tmp_path: Path, latency: float | None) -> None:
    teacher = script("teacher", latency=latency)
    asked = prompts(f"q{number}" for number in range(100))

    with pytest.raises(BudgetError, match="budget of 30 calls"):
        ask_all(tmp_path, asked, budget=Budget(calls=30))
    assert teacher.num_calls == 30
    found = answers(ask_all(tmp_path, asked, budget=Budget(calls=70)))

    assert teacher.num_calls == 100
    assert sum(answer.cached for answer in found) == 30


def test_a_budget_of_money_is_not_passed_and_used_to_the_last_call_that_fits(tmp_path: Path) -> None:
    price = Price(prompt=0, reply=1e6)  # a reply costs as many dollars as it has letters
    with MisbehavingServer(lambda messages, schema, sample: "x" * 10, latency=0.002) as server:
        asked = prompts(f"q{number}" for number in range(200))
        with pytest.raises(BudgetError, match="budget of \\$500"):
            with_service(
                tmp_path,
                lambda service: service.ask_many(asking(server, max_tokens=20), asked),
                prices={"openai/teacher": price},
                budget=500.0,
                concurrency=8,
            )

    assert 500 / 10 * 0.9 <= server.num_calls <= 500 / 10


def test_a_budget_of_money_needs_a_price(tmp_path: Path) -> None:
    with MisbehavingServer() as server, pytest.raises(BudgetError, match="price of `openai/teacher` is not known"):
        with_service(tmp_path, lambda service: service.ask(asking(server), "a"), budget=1.0)

    assert server.num_calls == 0


def test_walking_away_loses_no_reply_that_was_on_the_wire(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        asked = prompts(f"q{number}" for number in range(20))

        async def walk_away(service: CallService) -> None:
            server.hold()
            task = asyncio.ensure_future(service.ask_many(asking(server), asked))
            await asyncio.to_thread(server.wait_for, 4)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            server.let_go()

        with_service(tmp_path, walk_away, concurrency=4)
        assert server.num_calls == 4
        found = answers(with_service(tmp_path, lambda service: service.ask_many(asking(server), asked)))

    assert server.num_calls == 20
    assert sum(answer.cached for answer in found) == 4


def test_a_slot_that_was_walked_away_from_is_free_for_others(tmp_path: Path) -> None:
    with MisbehavingServer() as server:

        async def work(service: CallService) -> Answer:
            server.hold()
            tasks = [asyncio.ensure_future(service.ask(asking(server), f"q{number}")) for number in range(10)]
            await asyncio.to_thread(server.wait_for, 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.let_go()
            return await service.ask(asking(server), "last")

        assert with_service(tmp_path, work, concurrency=1).text == "reply to last"
        assert server.num_calls == 2


def test_a_fatal_failure_stops_all_that_waits(tmp_path: Path) -> None:
    teacher = script("teacher", latency=0.005, failures={7: ModelError("over", kind="quota")})

    with pytest.raises(ModelError, match="over"):
        ask_all(tmp_path, prompts(f"q{number}" for number in range(100)), concurrency=3)

    assert teacher.num_calls <= 10


def test_a_fatal_failure_in_this_process_keeps_what_was_answered(tmp_path: Path) -> None:
    teacher = script("teacher", failures={5: ModelError("over", kind="quota")})
    asked = prompts(f"q{number}" for number in range(10))

    with pytest.raises(ModelError, match="over"):
        ask_all(tmp_path, asked)
    before = teacher.num_calls
    again = script("teacher")
    ask_all(tmp_path, asked)

    assert before == 10
    assert again.num_calls == 1


def test_messages_and_a_system_prompt_reach_the_model(tmp_path: Path) -> None:
    teacher = script("teacher")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]

    with_service(tmp_path, lambda service: service.ask(TEACHER.replace(system="Be brief."), turns))

    assert teacher.requests[0].messages == [{"role": "system", "content": "Be brief."}, *turns]


def test_what_is_not_known_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing is scripted as `nobody`"):
        with_service(tmp_path, lambda service: service.ask(Ask(model="scripted:nobody"), "a"))
    with pytest.raises(RecipeError, match="no provider is called `acme`"):
        with_service(tmp_path, lambda service: service.ask(Ask(model="acme/large"), "a"))


@pytest.fixture(autouse=True)
def _no_scripts_left() -> Iterator[None]:
    yield
    assert isinstance(script("teacher"), Scripted)


def test_nothing_asked_is_nothing_answered(tmp_path: Path) -> None:
    assert ask_all(tmp_path, []) == []


def test_a_session_cannot_move_a_provider(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`openai` is a provider, and a session cannot move it"):
        ask_all(tmp_path, [], endpoints={"openai": "http://localhost:8000/v1"})


@pytest.mark.parametrize(
    "declared", [Endpoint("http://localhost:8000/v1", model="other"), Endpoint("http://localhost:8001/v1")]
)
def test_a_session_cannot_say_otherwise_than_the_recipe_who_answers_at_a_url(tmp_path: Path, declared: Any) -> None:
    with pytest.raises(RecipeError, match="kept replies would be taken for others"):
        ask_all(tmp_path, [], endpoints={"http://localhost:8000/v1": declared})


def test_list_prices_hold_where_the_provider_itself_is_asked() -> None:
    own, mine = Price(1, 2), Ask(model="openai/gpt-4o", deployment="mine")
    assert price_of(Ask(model="openai/gpt-4o"), {}, ()) == LIST_PRICES["openai/gpt-4o"]
    assert price_of(mine, {}, ()) == LIST_PRICES["openai/gpt-4o"]
    assert price_of(mine, {}, ("mine",)) is None
    assert price_of(mine, {"mine": own}, ("mine",)) == own
    assert price_of(Ask(model="openai/gpt-4o", endpoint="http://localhost:8000/v1"), {}, ()) is None


def test_what_steps_spent_is_known_at_once(tmp_path: Path) -> None:
    script("teacher")

    async def work(service: CallService) -> int:
        await service.scope("step").ask_many(TEACHER, prompts(["a", "b"]))
        found: int = service.spent()["total"]["calls"]
        return found

    assert with_service(tmp_path, work) == 2


def test_free_models_are_asked_when_the_money_is_gone(tmp_path: Path) -> None:
    script("teacher")

    (answer,) = answers(ask_all(tmp_path, prompts(["a"]), budget=Budget(usd=0)))

    assert answer.cost_usd == 0


@pytest.mark.parametrize("latency", [None, 0.0])
def test_half_a_character_in_a_prompt_costs_its_row(tmp_path: Path, latency: float | None) -> None:
    script("teacher", latency=latency)

    outcomes = ask_all(tmp_path, prompts(["fine", "half \ud83d", "good"]))

    assert [type(outcome) for outcome in outcomes] == [Answer, RowFault, Answer]
    assert isinstance(outcomes[1], RowFault)
    assert outcomes[1].kind == "rejected"

    async def alone(service: CallService) -> Answer:
        return await service.ask(Ask(model="scripted:teacher"), "half \ud83d")

    with pytest.raises(RowFault, match="cannot be sent"):
        with_service(tmp_path, alone)


def test_a_function_is_asked_for_as_much_as_the_money_allows(tmp_path: Path) -> None:
    """A thousand prompts might come to $20 by what is guessed before the first reply; they come to nearly nothing."""
    script("teacher")
    prices = {"scripted:teacher": Price(10.0, 10.0)}

    found = answers(ask_all(tmp_path, prompts(f"q{n}" for n in range(1000)), budget=Budget(usd=5.0), prices=prices))

    assert len(found) == 1000


def test_what_another_process_has_paid_for_meanwhile_is_not_paid_for_again(tmp_path: Path) -> None:
    """Two that ask the same from both ends; each looked for all of it before it began."""
    texts = [f"q{n}" for n in range(100)]

    async def both(service: CallService) -> None:
        other = CallService(tmp_path, bus=Bus(), credentials=Credentials(), concurrency=4)
        await asyncio.gather(
            service.ask_many(asking(server), prompts(texts)), other.ask_many(asking(server), prompts(texts[::-1]))
        )
        await other.aclose()

    with MisbehavingServer(latency=0.05) as server:
        with_service(tmp_path, both, concurrency=4)

    assert server.num_calls <= 130
