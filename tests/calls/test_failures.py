"""Each class of failure, over real HTTP: what becomes of the request, the row, the run and the bill."""

from __future__ import annotations

import asyncio
import email.utils
import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.archive import Archive
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.ledger import Totals
from stillhouse.calls.prices import Price
from stillhouse.calls.request import Prompt
from stillhouse.calls.retry import Patience
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.text.schema import Schema
from tests.calls.helpers import QUICK, asking, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer

PRICES = {"openai/teacher": Price(prompt=1e6, reply=1e6)}  # a dollar a token, so that the bill is easy to read
WORDS = Schema({"title": "Words", "type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]})


def once(act: Act, text: str = "bad") -> Callable[[Call], Act | None]:
    """Misbehave the first time that `text` is asked."""
    return lambda call: act if call.text == text and call.before == 0 else None


def always(act: Act, text: str = "bad") -> Callable[[Call], Act | None]:
    return lambda call: act if call.text == text else None


class Result:
    """What one run came to."""

    def __init__(self, server: MisbehavingServer, outcomes: list[Outcome], totals: Totals) -> None:
        self.server, self.outcomes, self.totals = server, outcomes, totals

    def times_asked(self, text: str = "bad") -> int:
        return self.server.texts()[text]

    def answer(self) -> Answer:
        first = self.outcomes[0]
        assert isinstance(first, Answer), first
        return first

    def fault(self) -> RowFault:
        """The fault of the first row, while its neighbours have their answers."""
        first, *others = self.outcomes
        assert isinstance(first, RowFault), first
        assert [other.text for other in others if isinstance(other, Answer)] == ["reply to good", "reply to fine"]
        return first


def run(
    folder: Path,
    behave: Callable[[Call], Act | None],
    schema: Schema | None = None,
    patience: Patience = QUICK,
    **settings: Any,
) -> Result:
    """Ask `bad`, `good` and `fine` of a server that behaves like that."""
    asked = [Prompt("bad", schema), *prompts(["good", "fine"])]
    with MisbehavingServer(behave=behave) as server:

        async def work(service: CallService) -> tuple[list[Outcome], Totals]:
            return await service.ask_many(asking(server, **settings), asked), service.ledger.total()

        outcomes, totals = with_service(folder, work, prices=PRICES, patience=patience)
    return Result(server, outcomes, totals)


def error(folder: Path, behave: Callable[[Call], Act | None], **settings: Any) -> tuple[ModelError, MisbehavingServer]:
    """The error that stops the run."""
    with MisbehavingServer(behave=behave) as server, pytest.raises(ModelError) as caught:
        with_service(folder, lambda service: service.ask_many(asking(server), prompts(["bad", "good"])), **settings)
    return caught.value, server


@pytest.mark.parametrize("spelling", ["seconds", "milliseconds", "date"])
def test_429_with_retry_after_waits_as_long_as_it_says_and_spends_no_attempt(tmp_path: Path, spelling: str) -> None:
    header = {
        "seconds": {"retry_after": "1"},
        "milliseconds": {"retry_after_ms": "300", "retry_after": "30"},
        "date": {"retry_after": email.utils.formatdate(time.time() + 2, usegmt=True)},
    }[spelling]
    times: list[float] = []

    def behave(call: Call) -> Act | None:
        if call.text == "bad":
            times.append(time.monotonic())
        return Act.error_of(429, "slow down", **header) if call.text == "bad" and call.before < 1 else None

    result = run(tmp_path, behave, patience=Patience(attempts=1, first_wait=0.01, longest_wait=0.05))

    assert result.answer().text == "reply to bad"
    assert times[1] - times[0] >= {"seconds": 1.0, "milliseconds": 0.3, "date": 0.5}[spelling]
    assert (result.times_asked(), result.totals.retries, result.totals.calls) == (2, 1, 3)


def test_429_without_a_header_backs_off_and_spends_no_attempt(tmp_path: Path) -> None:
    result = run(tmp_path, lambda call: Act.error_of(429) if call.text == "bad" and call.before < 6 else None)

    assert result.answer().text == "reply to bad"
    assert result.times_asked() == 7 > QUICK.attempts
    assert result.totals.calls == 3


def test_429_without_end_stops_the_run_and_says_for_how_long_it_waited(tmp_path: Path) -> None:
    found, server = error(
        tmp_path, always(Act.error_of(429, retry_after="0.1")), patience=Patience(first_wait=0.01, throttled=0.35)
    )

    assert (found.kind, found.retryable) == ("throttled", True)
    assert "`openai/teacher`" in str(found)
    assert server.texts()["bad"] >= 3


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408])
def test_a_server_error_is_tried_again(tmp_path: Path, status: int) -> None:
    result = run(tmp_path, once(Act.error_of(status, "boom")))

    assert result.answer().text == "reply to bad"
    assert (result.times_asked(), result.totals.calls, result.totals.retries) == (2, 3, 1)


def test_server_errors_without_end_cost_the_row_and_nothing_else(tmp_path: Path) -> None:
    result = run(tmp_path, always(Act.error_of(500, "boom")))

    assert result.fault().kind == "exhausted"
    assert "boom" in result.fault().message
    assert result.times_asked() == QUICK.attempts
    assert (result.totals.calls, result.totals.failed) == (2, 1)


@pytest.mark.parametrize("wire", ["reset", "cut"])
def test_a_reply_that_breaks_off_is_asked_again_and_never_kept(tmp_path: Path, wire: Any) -> None:
    result = run(tmp_path, once(Act(text="half of this is lost", wire=wire)))

    assert result.answer().text == "reply to bad"
    assert (result.times_asked(), result.totals.calls) == (2, 3)


def test_a_server_that_falls_silent_is_given_up_and_asked_again(tmp_path: Path) -> None:
    with MisbehavingServer(behave=once(Act(text="never", wire="silence"))) as server:
        endpoint = Endpoint(server.url, read_timeout=1.0)
        (outcome,) = with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(["bad"])),
            endpoints={server.url: endpoint},
        )

    assert isinstance(outcome, Answer)
    assert server.texts()["bad"] == 2


def test_a_slow_trickle_is_given_up_after_the_total_time(tmp_path: Path) -> None:
    with MisbehavingServer(behave=once(Act(text="x" * 2000, wire="trickle"))) as server:
        endpoint = Endpoint(server.url, read_timeout=5.0, total_timeout=1.0)
        (outcome,) = with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(["bad"])),
            endpoints={server.url: endpoint},
        )

    assert isinstance(outcome, Answer)
    assert outcome.text == "reply to bad"
    assert server.texts()["bad"] == 2


def test_a_reply_cut_at_the_token_limit_is_not_data(tmp_path: Path) -> None:
    result = run(tmp_path, always(Act(text="it was a dark and", finish="length")))

    assert (result.fault().kind, result.fault().raw) == ("cut", "it was a dark and")
    assert "max_tokens" in result.fault().message
    assert (result.times_asked(), result.totals.calls) == (1, 3)  # it was paid for, once


@pytest.mark.parametrize(
    "act", [Act(text=None, finish="content_filter"), Act(text=None, refusal="I will not."), Act(text="", refusal="No.")]
)
def test_a_refusal_is_final_and_never_asked_again(tmp_path: Path, act: Act) -> None:
    result = run(tmp_path, always(act))

    assert result.fault().kind == "refused"
    assert result.fault().message == (act.refusal or "the provider's content filter stopped the reply")
    assert (result.times_asked(), result.totals.calls, result.totals.failed) == (1, 3, 1)


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
def test_a_prompt_that_a_filter_stops_is_refused(tmp_path: Path, code: str) -> None:
    result = run(tmp_path, always(Act.error_of(400, "The prompt was filtered.", code)))

    assert result.fault().kind == "refused"
    assert (result.times_asked(), result.totals.calls) == (1, 2)


def test_an_empty_reply_is_sampled_once_more(tmp_path: Path) -> None:
    result = run(tmp_path, once(Act(text="  \n")))

    answer = result.answer()
    assert (answer.text, len(set(answer.keys))) == ("reply to bad", 2)
    assert (result.times_asked(), result.totals.calls) == (2, 4)
    assert answer.cost_usd == len("bad") * 2 + len("  \n") + len("reply to bad")


def test_two_empty_replies_cost_the_row(tmp_path: Path) -> None:
    result = run(tmp_path, always(Act(text=None)))

    assert result.fault().kind == "empty"
    assert (result.times_asked(), result.totals.calls) == (2, 4)


def test_a_wrong_schema_gets_one_round_in_which_the_model_sees_its_error(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        if call.schema is None:
            return None
        return Act(text='{"word": 3}') if call.text == "bad" else Act(text='{"word": "three"}')

    result = run(tmp_path, behave, WORDS)

    answer = result.answer()
    assert (answer.value, answer.repaired, len(answer.keys)) == ({"word": "three"}, "asked", 2)
    told = result.server.calls[-1].body["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "user"]
    assert told[1]["content"] == '{"word": 3}'
    assert "$.word breaks the rule `type`" in told[2]["content"]
    assert (result.totals.calls, result.totals.repaired) == (4, 1)


def test_a_wrong_schema_twice_costs_the_row_and_keeps_the_text(tmp_path: Path) -> None:
    result = run(tmp_path, lambda call: Act(text="no json") if call.schema else None, WORDS)

    assert (result.fault().kind, result.fault().raw) == ("invalid", "no json")
    assert result.totals.calls == 4


@pytest.mark.parametrize(
    "act",
    [
        Act.error_of(400, "This model's maximum context length is 10 tokens.", "context_length_exceeded"),
        Act.error_of(400, "max_tokens must be at least 1, got -28.", "BadRequestError"),
    ],
)
def test_a_context_too_long_costs_the_row_at_once(tmp_path: Path, act: Act) -> None:
    result = run(tmp_path, always(act))

    assert result.fault().kind == "too_long"
    assert (result.times_asked(), result.totals.calls) == (1, 2)


@pytest.mark.parametrize("status", [400, 422])
def test_a_request_that_is_not_taken_costs_the_row_at_once(tmp_path: Path, status: int) -> None:
    result = run(tmp_path, always(Act.error_of(status, "what is this?")))

    assert result.fault().kind == "rejected"
    assert "what is this?" in result.fault().message
    assert result.times_asked() == 1


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Unsupported value: 'temperature' does not support 0.0 with this model.", "unsupported_value"),
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", None),
        ("Unrecognized request argument supplied: seed", None),
        ("Unknown parameter: 'top_k'.", "unknown_parameter"),
    ],
)
def test_a_setting_that_is_not_taken_stops_the_run_at_once(tmp_path: Path, message: str, code: str | None) -> None:
    found, server = error(tmp_path, lambda call: Act.error_of(400, message, code), concurrency=1)

    assert (found.kind, server.num_calls) == ("rejected", 1)
    assert message in str(found)
    assert "Change that field of the `Ask`" in str(found)


@pytest.mark.parametrize(
    "act",
    [
        Act.error_of(403, "flagged", "content_policy_violation"),
        Act(status=403, error={"message": "Your input was flagged", "code": 403}),
    ],
)
def test_a_judged_request_costs_its_row_and_is_no_wrong_key(tmp_path: Path, act: Act) -> None:
    assert run(tmp_path, always(act)).fault().kind == "refused"


def test_half_a_character_in_a_reply_is_read_as_a_question_mark(tmp_path: Path) -> None:
    act = Act(raw=b'{"choices": [{"message": {"content": "hi \\ud83d"}, "finish_reason": "stop"}]}')
    result = run(tmp_path, always(act))

    assert (result.answer().text, result.times_asked()) == ("hi ?", 1)


def test_an_error_behind_status_200_is_what_it_says(tmp_path: Path) -> None:
    result = run(tmp_path, once(Act(raw=b'{"error": {"message": "overloaded", "code": 503}}')))

    assert result.answer().text == "reply to bad"
    assert (result.times_asked(), result.totals.retries) == (2, 1)


def test_a_body_without_a_message_is_asked_again(tmp_path: Path) -> None:
    result = run(tmp_path, once(Act(raw=b'{"choices": []}')))

    assert (result.answer().text, result.times_asked()) == ("reply to bad", 2)


def test_a_wrong_key_stops_the_run_and_names_the_variable_and_not_the_key(tmp_path: Path) -> None:
    with MisbehavingServer(key="right") as server, pytest.raises(ModelError) as caught:
        with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(f"q{number}" for number in range(50))),
            endpoints={server.url: Endpoint(server.url, api_key="TEACHER_KEY")},
            credentials=Credentials({"TEACHER_KEY": "sk-very-secret"}),
            concurrency=4,
        )

    assert caught.value.kind == "credentials"
    assert "TEACHER_KEY" in str(caught.value)
    assert "sk-very-secret" not in str(caught.value)
    assert server.num_calls <= 4  # those that were under way; the other 46 were not sent


def test_a_header_names_its_secret_and_what_is_in_headers_is_repeated_by_nobody(tmp_path: Path) -> None:
    def behave(call: Call) -> Act:
        gate = {name: value for name, value in call.headers.items() if name.startswith("X-")}
        return Act.error_of(400, f"your headers are {gate}")

    headers = {"X-Gate": "Basic ${GATE_KEY}", "X-Plain": "plain-secret"}
    with MisbehavingServer(behave=behave) as server:
        (fault,) = with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(["a"])),
            endpoints={server.url: Endpoint(server.url, headers=headers)},
            credentials=Credentials({"GATE_KEY": "gate-secret"}),
        )
        with pytest.raises(ModelError, match="`GATE_KEY` is not set"):
            with_service(
                tmp_path,
                lambda service: service.ask_many(asking(server), prompts(["b"])),
                endpoints={server.url: Endpoint(server.url, headers=headers)},
            )

    assert isinstance(fault, RowFault)
    assert server.calls[0].headers["X-Gate"] == "Basic gate-secret"
    assert "X-Gate" in fault.message
    assert "secret" not in fault.message
    assert not any(b"-secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_is_not_shown_where_words_are_cut(tmp_path: Path) -> None:
    def behave(call: Call) -> Act:
        return Act(
            status=400, raw=b"x" * 285 + b" key " + call.headers["Authorization"].removeprefix("Bearer ").encode()
        )

    with MisbehavingServer(behave=behave) as server:
        (fault,) = with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(["a"])),
            endpoints={server.url: Endpoint(server.url, api_key="K")},
            credentials=Credentials({"K": "sk-abcdefghijklmnopqrstuvwxyz"}),
        )

    assert isinstance(fault, RowFault)
    assert "sk-" not in fault.message


def test_a_missing_key_is_named_before_any_call(tmp_path: Path) -> None:
    with MisbehavingServer(key="right") as server, pytest.raises(ModelError) as caught:
        with_service(
            tmp_path,
            lambda service: service.ask(asking(server), "hello"),
            endpoints={server.url: Endpoint(server.url, api_key="TEACHER_KEY")},
        )

    assert (caught.value.kind, server.num_calls) == ("credentials", 0)
    assert "`TEACHER_KEY` is not set" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details."),
        (429, None, "You exceeded your current quota, please check your plan and billing details."),
        (402, None, "Payment required"),
        (403, "billing_hard_limit_reached", "Billing hard limit has been reached"),
    ],
)
def test_an_exhausted_quota_stops_the_run_at_once(tmp_path: Path, status: int, code: str | None, message: str) -> None:
    found, server = error(tmp_path, lambda call: Act.error_of(status, message, code), concurrency=1)

    assert (found.kind, found.retryable, server.num_calls) == ("quota", False, 1)


@pytest.mark.parametrize(
    "act", [Act.error_of(404, "The model `x` does not exist", "model_not_found"), Act(status=404, raw=b"")]
)
def test_an_unknown_model_stops_the_run_at_once(tmp_path: Path, act: Act) -> None:
    found, server = error(tmp_path, lambda call: act, concurrency=1)

    assert (found.kind, server.num_calls) == ("unknown_model", 1)


def test_a_teacher_that_is_down_stops_the_run_and_names_the_endpoint(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    server = MisbehavingServer()
    server.url = url

    with pytest.raises(ModelError) as caught:
        with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(["a", "b"])))

    assert (caught.value.kind, caught.value.retryable) == ("unreachable", True)
    assert url in str(caught.value)


def test_a_teacher_that_comes_back_in_time_is_asked_on(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        server.stop()

        async def work(service: CallService) -> Answer:
            asking_now = asyncio.ensure_future(service.ask(asking(server), "hello"))
            await asyncio.sleep(0.1)
            assert not asking_now.done()
            await asyncio.to_thread(server.restart)
            return await asking_now

        answer = with_service(tmp_path, work, patience=Patience(first_wait=0.02, unreachable=20))

    assert answer.text == "reply to hello"


def test_what_was_answered_before_a_fatal_failure_is_kept(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        return Act.error_of(401, "expired") if call.number >= 5 else None

    texts = [f"question {number}" for number in range(20)]
    with MisbehavingServer(behave=behave) as server:
        with pytest.raises(ModelError):
            with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(texts)), concurrency=2)
        asked_before = server.num_calls
        server.behave = None
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(texts)))

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.num_calls - asked_before == 20 - 5


# refusals that no request changes: after one, or one more that confirms it, nobody is asked any more


REFUSALS = [
    ("credentials", Act.error_of(401, "Incorrect API key provided.", "invalid_api_key")),
    ("credentials", Act.error_of(403, "This key may not use this model.")),
    ("unknown_model", Act.error_of(404, "The model `x` does not exist", "model_not_found")),
    ("quota", Act.error_of(429, "You exceeded your current quota", "insufficient_quota")),
    ("quota", Act.error_of(402, "Payment required")),
    ("rejected", Act.error_of(400, "Unsupported parameter: 'seed' is not supported with this model.")),
]
TO_ITSELF = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, alone=60.0)
"""The first call has the endpoint to itself for longer than any test takes."""


@pytest.mark.parametrize(("kind", "act"), REFUSALS)
def test_a_refusal_of_the_first_request_costs_one_request_however_many_wait(
    tmp_path: Path, kind: str, act: Act
) -> None:
    async def work(service: CallService) -> None:
        steps = [service.scope(name) for name in "abcd"]
        asked = [step.ask_many(asking(server), prompts(f"{n}" for n in range(50))) for step in steps]
        await asyncio.gather(*asked)

    with MisbehavingServer(behave=lambda call: act) as server, pytest.raises(ModelError) as caught:
        with_service(tmp_path, work, concurrency=64, patience=TO_ITSELF)

    assert (caught.value.kind, server.num_calls) == (kind, 1)


@pytest.mark.parametrize(("kind", "act"), REFUSALS)
def test_a_refusal_in_mid_run_is_confirmed_by_three_and_then_stops(tmp_path: Path, kind: str, act: Act) -> None:
    def behave(call: Call) -> Act | None:
        return act if call.number >= 40 else None

    with MisbehavingServer(behave=behave, latency=0.005) as server:
        with pytest.raises(ModelError) as caught:
            with_service(
                tmp_path,
                lambda service: service.ask_many(asking(server), prompts(f"q{n}" for n in range(300))),
                concurrency=8,
            )
        assert caught.value.kind == kind
        assert 41 <= server.num_calls <= 40 + 8 + 3  # those on the wire, and those that confirm it
        server.behave = None
        before = server.num_calls
        with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(f"q{n}" for n in range(300))))

    assert server.num_calls - before == 300 - 40  # nothing that was answered is asked again


def test_a_refusal_that_does_not_stand_stops_nothing(tmp_path: Path) -> None:
    """A gateway that says 401 once in a night, to eight requests at the same time."""

    def behave(call: Call) -> Act | None:
        return Act.error_of(401, "who are you?") if 40 <= call.number < 48 and call.before == 0 else None

    with MisbehavingServer(behave=behave, latency=0.005) as server:
        outcomes = with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(f"q{n}" for n in range(100))),
            concurrency=8,
        )

    assert [outcome.text for outcome in outcomes if isinstance(outcome, Answer)] == [
        f"reply to q{n}" for n in range(100)
    ]


BLOCKED = Act(status=403, raw=b"<html>blocked by a firewall</html>")
POISON = [
    BLOCKED,
    Act.error_of(400, "Unsupported value: 'temperature' does not support 7 with this prompt."),
    Act.error_of(401, "not for you", "invalid_api_key"),
]


@pytest.mark.parametrize("act", POISON)
@pytest.mark.parametrize("where", [20, 60, 99])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_refusal_meant_for_one_request_costs_its_row_alone(
    tmp_path: Path, act: Act, where: int, concurrency: int
) -> None:
    texts = [f"q{n}" for n in range(100)]
    texts[where] = "poison"
    with MisbehavingServer(behave=always(act, "poison"), latency=0.002) as server:
        outcomes = with_service(
            tmp_path, lambda service: service.ask_many(asking(server), prompts(texts)), concurrency=concurrency
        )

    fault = outcomes.pop(where)
    assert isinstance(fault, RowFault)
    assert (fault.kind, "other requests were answered" in fault.message) == ("rejected", True)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.num_calls <= 102


def test_a_key_that_is_taken_back_stops_also_those_who_ask_one_by_one(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        return Act.error_of(401, "expired", "invalid_api_key") if call.number >= 5 else None

    async def work(service: CallService) -> int:
        rejected = 0
        for number in range(20):
            try:
                await service.ask(asking(server), f"q{number}")
            except RowFault:
                rejected += 1
            except ModelError as error:
                return rejected if error.kind == "credentials" else -1
        raise AssertionError("it was never stopped")

    with MisbehavingServer(behave=behave) as server:
        assert with_service(tmp_path, work) == 1


def test_a_step_that_is_stopped_while_a_refusal_is_found_out_stops_no_other(tmp_path: Path) -> None:
    refusing = threading.Event()

    def behave(call: Call) -> Act | None:
        return Act.error_of(401, "expired", "invalid_api_key") if refusing.is_set() else None

    async def work(service: CallService) -> list[Outcome]:
        first, second = (
            asyncio.ensure_future(
                service.scope(name).ask_many(asking(server), prompts(f"{name}{n}" for n in range(200)))
            )
            for name in "ab"
        )
        await asyncio.to_thread(server.wait_for, 60)
        refusing.set()
        await asyncio.sleep(0.8)  # all on the wire are refused by now, and one will ask again in two seconds
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        refusing.clear()
        return await first

    patience = Patience(first_wait=4.0, longest_wait=4.0)
    with MisbehavingServer(behave=behave, latency=0.05) as server:
        outcomes = with_service(tmp_path, work, patience=patience, concurrency=16)

    assert all(isinstance(outcome, Answer) for outcome in outcomes)


def test_what_was_wrong_may_be_mended_while_the_session_lives(tmp_path: Path) -> None:
    with MisbehavingServer(behave=lambda call: Act.error_of(402, "Payment required")) as server:

        async def work(service: CallService) -> tuple[Outcome, ...]:
            with pytest.raises(ModelError, match="quota"):
                await service.ask_many(asking(server), prompts(["a", "b"]))
            server.behave = None
            await asyncio.sleep(1.1)  # until then a call counts to the run that failed
            return tuple(await service.ask_many(asking(server), prompts(["a", "b"])))

        outcomes = with_service(tmp_path, work, patience=TO_ITSELF)

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.num_calls == 1 + 2


# nobody there


def test_an_outage_burns_no_attempts_and_is_probed_by_one_request_at_a_time(tmp_path: Path) -> None:
    """Calls on the wire are torn, the next find nobody; when somebody is back all rows have their answer."""
    with MisbehavingServer(latency=0.01) as server:

        async def work(service: CallService) -> list[Outcome]:
            asked = prompts(f"q{n}" for n in range(200))
            task = asyncio.ensure_future(service.ask_many(asking(server), asked))
            await asyncio.to_thread(server.wait_for, 30)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.5)
            assert not task.done()
            await asyncio.to_thread(server.restart)
            return await task

        patience = Patience(attempts=2, first_wait=0.05, unreachable=60.0)
        outcomes = with_service(tmp_path, work, concurrency=8, patience=patience)

    assert [outcome.text for outcome in outcomes if isinstance(outcome, Answer)] == [
        f"reply to q{n}" for n in range(200)
    ]
    assert set(server.answered) == {f"q{n}" for n in range(200)}


# the circuit breaker


@pytest.mark.parametrize("act", [Act.error_of(500, "boom"), Act.error_of(400, "not like this"), Act(raw=b"<html>")])
def test_a_provider_that_fails_most_requests_stops_the_run(tmp_path: Path, act: Act) -> None:
    def behave(call: Call) -> Act | None:
        return act if call.text >= "q0100" else None

    asked = prompts(f"q{n:04d}" for n in range(1000))
    with MisbehavingServer(behave=behave) as server:
        with pytest.raises(ModelError) as caught:
            with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=8)
        asked_before = server.num_calls
        server.behave = None
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=8)

    assert (caught.value.kind, caught.value.retryable) == ("failing", True)
    assert "of the last 50 requests" in str(caught.value)
    assert asked_before <= 100 + 3 * (50 + 8)
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.num_calls - asked_before <= 1000 - 90  # what was answered was kept


def test_trouble_that_passes_trips_no_breaker(tmp_path: Path) -> None:
    """Each request fails at first: half of all attempts, and not one row."""
    with MisbehavingServer(behave=lambda call: Act.error_of(503) if call.before == 0 else None) as server:
        asked = prompts(f"q{n}" for n in range(120))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=64)

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.num_calls == 240


def test_how_many_failures_are_too_many_is_the_users_to_say(tmp_path: Path) -> None:
    patience = Patience(first_wait=0.01, max_failed=1.0)
    with MisbehavingServer(behave=lambda call: Act.error_of(400, "never")) as server:
        asked = prompts(f"q{n}" for n in range(120))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), patience=patience)

    assert [outcome.kind for outcome in outcomes if isinstance(outcome, RowFault)] == ["rejected"] * 120


# equal prompts


@pytest.mark.parametrize("status", [400, 500])
def test_equal_prompts_that_all_fail_are_one_request(tmp_path: Path, status: int) -> None:
    with MisbehavingServer(behave=lambda call: Act.error_of(status, "never"), latency=0.01) as server:

        async def work(service: CallService) -> list[list[Outcome]]:
            steps = [service.scope(name) for name in "abc"]
            return list(await asyncio.gather(*(step.ask_many(asking(server), prompts(["bad"] * 30)) for step in steps)))

        outcomes = with_service(tmp_path, work)

    kinds = {outcome.kind for each in outcomes for outcome in each if isinstance(outcome, RowFault)}
    assert kinds == {"rejected" if status == 400 else "exhausted"}
    assert server.num_calls == (1 if status == 400 else QUICK.attempts)


def test_a_prompt_that_was_refused_is_not_asked_again_by_the_step_but_by_the_next_run(tmp_path: Path) -> None:
    with MisbehavingServer(behave=always(Act.error_of(400, "never"))) as server:

        async def work(service: CallService) -> None:
            for _ in range(3):  # chunks of one step
                await service.scope("step").ask_many(asking(server), prompts(["bad"] * 5))
            assert server.num_calls == 1
            await asyncio.to_thread(service.bill, "step")
            await service.scope("step").ask_many(asking(server), prompts(["bad"]))

        with_service(tmp_path, work)

    assert server.num_calls == 2


# hedging


def test_a_late_reply_is_asked_for_a_second_time_and_the_first_to_come_counts(tmp_path: Path) -> None:
    def latency(call: Call) -> float:
        return 30.0 if call.text == "late" and call.before == 0 else 0.01

    patience = Patience(hedge=0.9)
    with MisbehavingServer(latency=latency) as server:
        asked = prompts([*(f"q{n}" for n in range(80)), "late"])

        async def work(service: CallService) -> tuple[list[Outcome], Totals]:
            return await service.ask_many(asking(server), asked), service.ledger.total()

        outcomes, totals = with_service(tmp_path, work, patience=patience, concurrency=4)

    assert isinstance(outcomes[-1], Answer)
    assert outcomes[-1].text == "reply to late"
    assert server.texts()["late"] == 2
    assert totals.calls >= 81


def test_a_second_server_that_cannot_be_asked_costs_the_first_call_nothing(tmp_path: Path) -> None:
    """It was not asked so far, so that nobody knows yet that its key is missing."""
    late = threading.Event()
    ask = Ask(model="openai/teacher", deployment="teacher")

    async def work(service: CallService) -> list[Outcome]:
        first, second = service._deployments.of(ask).gate.sources
        second.pace.shut = True
        await service.ask_many(ask, prompts(f"q{n}" for n in range(60)))
        first.pace.shut, second.pace.shut = False, False
        late.set()
        second.pace.latency = 1e9  # by which the first call goes to the other one
        outcomes = await service.ask_many(ask, prompts(["late"]))
        assert first.closed_by is None
        return outcomes

    with MisbehavingServer(latency=lambda call: 1.5 if late.is_set() else 0.01) as server:
        pool = [Endpoint(server.url), Endpoint("http://127.0.0.1:9/v1", api_key="MISSING_KEY")]
        (outcome,) = with_service(
            tmp_path, work, endpoints={"teacher": pool}, patience=Patience(hedge=0.9, alone=0.1, first_wait=0.01)
        )

    assert isinstance(outcome, Answer)
    assert server.texts()["late"] == 1


def test_nothing_is_asked_twice_unless_one_says_so(tmp_path: Path) -> None:
    with MisbehavingServer(latency=lambda call: 0.5 if call.number == 70 else 0.002) as server:
        asked = prompts(f"q{n}" for n in range(100))
        with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=4)

    assert server.num_calls == 100


# this machine


_FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import StoreError
from stillhouse.core.events import Bus

async def main():
    service = CallService(Path(sys.argv[1]), bus=Bus(), credentials=Credentials(), concurrency=4)
    by = Ask(model="openai/teacher", endpoint=sys.argv[2], deployment="teacher")
    await service.ask_many(by, [Prompt(f"before {n}") for n in range(20)])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # as if the disk were full from there on
    try:
        await service.ask_many(by, [Prompt(f"after {n} " + "x" * 5000 + str(n) * 999) for n in range(2000)])
    except StoreError as error:
        print(f"StoreError: {error}")

asyncio.run(main())
"""


def test_a_full_disk_stops_the_run_and_what_was_kept_stays(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        return random.Random(messages[-1]["content"]).randbytes(4000).hex()

    with MisbehavingServer(teacher) as server:
        done = subprocess.run(
            [sys.executable, "-c", _FULL, str(tmp_path), server.url], capture_output=True, text=True, timeout=120
        )
        asked = server.num_calls
        by = asking(server, deployment="teacher")
        again = prompts(f"before {n}" for n in range(20))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(by, again))

    assert "StoreError: " in done.stdout, done.stderr
    assert asked < 1000
    assert all(isinstance(outcome, Answer) and outcome.cached for outcome in outcomes)
    assert server.num_calls == asked


_INTERRUPTED = """
import sys
from stillhouse.calls.ask import Ask
from stillhouse.core.errors import Interrupted
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import

folder, url, rows = sys.argv[1:]
step = Prompt(rows=Import(path=rows, require=()), by=Ask(model="openai/teacher", deployment="t"), template="{{ text }}")
try:
    with Session(folder, endpoints={"t": url}, concurrency=8, progress=False, track=False) as session:
        session.run(step)
except Interrupted:
    sys.exit(130)
"""


def test_ctrl_c_stops_asking_and_keeps_what_is_on_the_wire(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "q{n}"}}\n' for n in range(400)))
    words = [sys.executable, "-c", _INTERRUPTED, str(tmp_path / "out"), "", str(rows)]
    with MisbehavingServer(latency=0.1) as server:
        words[4] = server.url
        process = subprocess.Popen(words)
        server.wait_for(60)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        asked = server.num_calls
        assert 60 <= asked < 400
        assert sum(server.answered.values()) == asked  # each reply was waited for
        assert subprocess.run(words, check=False, timeout=120).returncode == 0

    assert server.num_calls == 400  # none is asked again


_ASKED_AT_ONCE = """
import sys
from stillhouse.calls.ask import Ask
from stillhouse.calls.request import Prompt
from stillhouse.core.session import Session

folder, url = sys.argv[1:]
asked = [Prompt(f"q{n}") for n in range(2000)]

def told(event):
    if event.kind == "warning":
        print(event.data["message"], flush=True)

try:
    with Session(folder, concurrency=8, progress=False, track=False, on_event=told) as session:
        session.wait_for(session.calls.ask_many(Ask(model="openai/teacher", endpoint=url), asked))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_in_a_script_begins_no_more_calls_and_tears_none(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with MisbehavingServer(latency=0.2) as server:
        process = subprocess.Popen([sys.executable, "-c", _ASKED_AT_ONCE, str(folder), server.url])
        server.wait_for(40)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        asked = server.num_calls
        assert sum(server.answered.values()) == asked < 2000
        with Archive(folder / "calls-v1") as archive:
            assert len(archive) == asked


def test_ctrl_c_a_second_time_waits_for_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _ASKED_AT_ONCE, str(tmp_path / "out")]
    with MisbehavingServer(latency=0.1) as server:
        process = subprocess.Popen([*words, server.url], stdout=subprocess.PIPE, text=True)
        server.wait_for(40)
        server.hold()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "calls are on the wire, and their replies are waited for, 900 s at most" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


def test_a_call_that_takes_longer_than_half_a_minute_is_waited_for_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillhouse.calls.service._DRAIN_SECONDS", 0.05)  # the half minute

    async def walk_away(service: CallService) -> None:
        asked = asyncio.ensure_future(service.ask_many(asking(server), prompts(["a", "b"])))
        await asyncio.to_thread(server.wait_for, 2)
        asked.cancel()

    with MisbehavingServer(latency=2.0) as server:
        with_service(tmp_path, walk_away, patience=Patience(alone=0.1))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(["a", "b"])))

    assert all(isinstance(outcome, Answer) and outcome.cached for outcome in outcomes)
    assert server.num_calls == 2


# where an error hides, and where there is no server at all


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "Incorrect API key provided", "code": 401}, "credentials"),
        ({"message": "You exceeded your current quota", "code": "insufficient_quota"}, "quota"),
        ({"message": "no such model", "code": "model_not_found"}, "unknown_model"),
    ],
)
def test_a_refusal_behind_status_200_stops_the_run(tmp_path: Path, error: dict[str, Any], kind: str) -> None:
    act = Act(raw=json.dumps({"error": error}).encode())
    with MisbehavingServer(behave=lambda call: act) as server, pytest.raises(ModelError) as caught:
        with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(f"q{n}" for n in range(20))),
            patience=TO_ITSELF,
        )

    assert (caught.value.kind, server.num_calls) == (kind, 1)


@pytest.mark.parametrize("body", [b"", b"<html>502 Bad Gateway</html>", b"[]", b'{"id": 1}', b"\x00\xff"])
def test_a_body_that_is_no_reply_is_asked_again_within_bounds_and_never_kept(tmp_path: Path, body: bytes) -> None:
    result = run(tmp_path, always(Act(raw=body)), deployment="teacher")

    assert result.fault().kind == "exhausted"
    assert result.times_asked() == QUICK.attempts
    assert (result.totals.calls, result.totals.retries, result.totals.failed) == (2, QUICK.attempts - 1, 1)
    again = run(tmp_path, lambda call: None, deployment="teacher")
    assert again.answer().text == "reply to bad"
    assert again.totals.cached == 2


def test_a_server_that_speaks_no_tls_is_nobody(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        server_at = server.url
        server.url = server.url.replace("http://", "https://")
        with pytest.raises(ModelError) as caught:
            with_service(tmp_path, lambda service: service.ask_many(asking(server), prompts(["a", "b"])))
        server.url = server_at

    assert (caught.value.kind, server.num_calls) == ("unreachable", 0)


def test_a_503_with_retry_after_holds_everybody_up_and_costs_an_attempt(tmp_path: Path) -> None:
    times: list[float] = []

    def behave(call: Call) -> Act | None:
        times.append(time.monotonic())
        return Act.error_of(503, "overloaded", retry_after="1") if call.number == 10 else None

    with MisbehavingServer(behave=behave, latency=0.005) as server:
        asked = prompts(f"q{n}" for n in range(60))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=2)

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.9
    assert server.num_calls == 61
