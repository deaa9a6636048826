"""Replies that are not well, over HTTP: what happens to the request, the row, the run and the bill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.ledger import Totals
from stillhouse.calls.looping import loops
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.http import is_same_model
from stillhouse.calls.providers.place import Place
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.events import Event
from stillhouse.text.schema import Schema
from tests.calls.helpers import QUICK, asking, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer
from tests.calls.voices import Said

Behave = Callable[[Call], Act | None]
DOLLARS = {"openai/teacher": Price(prompt=1e6, reply=1e6)}  # a dollar a token
WORD = Schema({"title": "Word", "type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]})
SONG = "It was a dark and stormy night. " + "The rain fell. " * 40


def run(
    folder: Path, behave: Behave, schema: Schema | None = None, events: list[Event] | None = None, **settings: Any
) -> tuple[list[Outcome], Totals, MisbehavingServer]:
    """Ask `bad` and `good`: what comes of both, the bill, and what the server saw."""
    with MisbehavingServer(behave=behave) as server:

        async def work(service: CallService) -> tuple[list[Outcome], Totals]:
            asked = [Prompt("bad", schema), Prompt("good")]
            return await service.ask_many(asking(server, **settings), asked), service.ledger.total()

        outcomes, totals = with_service(folder, work, events, prices=DOLLARS)
    return outcomes, totals, server


def cut(call: Call) -> Act | None:
    """Replies need 100 tokens, and are cut where they get fewer."""
    room = call.body.get("max_tokens", 1000)
    if call.text != "bad":
        return Act(said=Said("fine", reply_tokens=1))
    if room < 100:
        return Act(said=Said("it was a dark and", "length", reply_tokens=room))
    return Act(said=Said("it was a dark and stormy night", reply_tokens=100))


def test_a_cut_reply_fails_its_row_and_is_paid_for_once(tmp_path: Path) -> None:
    (bad, good), totals, server = run(tmp_path, cut, max_tokens=30)

    assert isinstance(bad, RowFault)
    assert (bad.kind, bad.raw, isinstance(good, Answer)) == ("cut", "it was a dark and", True)
    assert (server.texts()["bad"], totals.cost_usd, totals.failed) == (1, 31, 1)


def test_a_cut_reply_is_kept_and_marked_where_that_is_wanted(tmp_path: Path) -> None:
    (bad, _), totals, server = run(tmp_path, cut, max_tokens=30, when_cut="keep")

    assert isinstance(bad, Answer)
    assert (bad.text, bad.finish) == ("it was a dark and", "length")
    assert (server.texts()["bad"], totals.failed) == (1, 0)


def test_a_cut_reply_of_json_is_never_kept(tmp_path: Path) -> None:
    behave = lambda call: Act(said=Said('{"word": "bar', "length", reply_tokens=3))  # noqa: E731
    (bad, _), _, _ = run(tmp_path, behave, WORD, max_tokens=3, when_cut="keep")

    assert isinstance(bad, RowFault)
    assert bad.kind == "cut"


def test_a_cut_reply_is_asked_for_once_more_with_more_room(tmp_path: Path) -> None:
    (bad, _), totals, server = run(tmp_path, cut, max_tokens=30, when_cut="extend")

    assert isinstance(bad, Answer)
    assert (bad.text, bad.finish, len(bad.keys)) == ("it was a dark and stormy night", "stop", 2)
    assert [call.body["max_tokens"] for call in server.calls if call.text == "bad"] == [30, 120]
    assert bad.cost_usd == totals.cost_usd - 1 == 130  # both are on the bill


def test_a_reply_that_is_cut_again_fails_and_is_asked_no_third_time(tmp_path: Path) -> None:
    (bad, _), totals, server = run(tmp_path, cut, max_tokens=10, when_cut="extend")

    assert isinstance(bad, RowFault)
    assert (bad.kind, server.texts()["bad"], totals.cost_usd) == ("cut", 2, 10 + 40 + 1)
    assert "although it had four times the room" in bad.message


def test_a_longer_reply_comes_from_the_cache_like_any_other(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        return cut(call)

    with MisbehavingServer(behave=behave) as server:
        ask = asking(server, max_tokens=30, when_cut="extend")
        first, again = (
            with_service(tmp_path, lambda service: service.ask_many(ask, prompts(["bad"]))) for _ in range(2)
        )

    assert server.num_calls == 2
    assert isinstance(first[0], Answer)
    assert again[0] == first[0]._replace(cached=True)


def test_what_becomes_of_a_cut_reply_is_in_no_calls_key(tmp_path: Path) -> None:
    """Whoever changes his mind pays nothing again."""
    with MisbehavingServer(behave=cut) as server:
        for policy in ("fail", "keep", "extend"):
            ask = asking(server, max_tokens=30, when_cut=policy)
            with_service(tmp_path, lambda service, ask=ask: service.ask_many(ask, prompts(["bad"])))  # type: ignore[misc]

    assert server.num_calls == 2


def test_room_that_nobody_named_cannot_be_extended() -> None:
    with pytest.raises(RecipeError, match="can only extend `max_tokens` that are given"):
        Ask(model="openai/x", when_cut="extend")


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_reply_in_a_loop_is_sampled_once_more(tmp_path: Path, finish: str) -> None:
    behave = lambda call: Act(said=Said(SONG, finish)) if call.text == "bad" and call.before == 0 else None  # noqa: E731
    (bad, _), totals, server = run(tmp_path, behave)

    assert isinstance(bad, Answer)
    assert (bad.text, len(bad.keys)) == ("reply to bad", 2)
    assert (server.texts()["bad"], totals.calls) == (2, 3)


def test_a_model_that_loops_twice_costs_the_row(tmp_path: Path) -> None:
    (bad, good), totals, server = run(tmp_path, lambda call: Act(text=SONG) if call.text == "bad" else None)

    assert isinstance(bad, RowFault)
    assert (bad.kind, bad.raw, isinstance(good, Answer)) == ("degenerate", SONG, True)
    assert (server.texts()["bad"], totals.calls, totals.failed) == (2, 3, 1)


def test_a_song_is_kept_where_it_is_wanted(tmp_path: Path) -> None:
    (bad, _), _, server = run(tmp_path, lambda call: Act(text=SONG), when_looping="keep")

    assert isinstance(bad, Answer)
    assert (bad.text, server.texts()["bad"]) == (SONG, 1)


@given(
    before=st.text(max_size=200),
    unit=st.text(st.characters(categories=["Ll", "Lu", "Zs"]), min_size=1, max_size=100).filter(
        lambda text: text.strip()
    ),
    times=st.integers(0, 40),
)
def test_what_repeats_often_enough_to_the_end_is_a_loop(before: str, unit: str, times: int) -> None:
    unit = f"{unit.strip()}."
    looping = before + unit * times
    if len(unit) * times >= 300 and times >= 8:
        assert loops(looping)
    assert not loops(looping + " And that was the last word of it, thank you.")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "word " * 20,
        "-" * 5000,
        "| --- | --- |\n" * 100,
        "[" + "0, " * 500 + "0]",
        "\n".join(f"{number}. An item of a list of things to do" for number in range(200)),
        " ".join(str(number) for number in range(2000)),
        "The quick brown fox jumps over the lazy dog. " * 5,
    ],
    ids=["nothing", "short", "rule", "table", "numbers", "list", "counting", "five times"],
)
def test_what_only_looks_like_a_loop_is_none(text: str) -> None:
    assert not loops(text)


def test_tokens_that_the_provider_does_not_tell_are_estimated_and_flagged(tmp_path: Path) -> None:
    raw = b'{"choices": [{"message": {"content": "four score and seven years"}, "finish_reason": "stop"}]}'
    (bad, _), totals, _ = run(tmp_path, lambda call: Act(raw=raw))

    assert isinstance(bad, Answer)
    assert bad.usage.reply_tokens == round(len("four score and seven years") / 4)
    assert bad.usage.estimated_tokens == bad.usage.prompt_tokens + bad.usage.reply_tokens > 0
    assert totals.cost_usd == pytest.approx(2 * (bad.cost_usd or 0), rel=0.1)
    (again, _), *_ = run(tmp_path, lambda call: None)
    assert isinstance(again, Answer)


def test_another_model_than_asked_for_is_recorded_and_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    names = {"bad": "teacher-mini", "good": "teacher-mini"}
    outcomes, _, _ = run(tmp_path, lambda call: Act(said=Said("fine", model=names[call.text])), events=events)

    assert [outcome.model for outcome in outcomes if isinstance(outcome, Answer)] == ["teacher-mini", "teacher-mini"]
    (warning,) = [event for event in events if event.kind == "warning"]
    assert "asked for the model `teacher`, and `teacher-mini` answers" in str(warning.data["message"])


def test_a_model_that_changes_behind_its_name_is_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    outcomes, _, _ = run(
        tmp_path, lambda call: Act(said=Said("fine", model=f"teacher-2026-0{1 + call.number}-01")), events=events
    )

    assert len({outcome.model for outcome in outcomes if isinstance(outcome, Answer)}) == 2
    (warning,) = [event for event in events if event.kind == "warning"]
    assert "may have changed" in str(warning.data["message"])


@pytest.mark.parametrize("moves", [False, True])
def test_another_model_stops_the_run_where_that_is_wanted(tmp_path: Path, moves: bool) -> None:
    def named(call: Call) -> Act:
        return Act(said=Said("fine", model="teacher" if moves and call.number < 3 else "teacher-mini"))

    async def work(service: CallService) -> None:
        for n in range(9):
            answer = await service.ask(asking(server), f"question {n}")
            assert answer.model == "teacher"

    with MisbehavingServer(behave=named) as server:
        patience = replace(QUICK, other_model="stop")
        with pytest.raises(ModelError, match="`teacher-mini`") as caught:
            with_service(tmp_path, work, prices=DOLLARS, patience=patience)
    assert caught.value.kind == "other_model"
    assert server.num_calls == (4 if moves else 1)


def test_replies_of_another_model_that_are_not_taken_are_paid_for(tmp_path: Path) -> None:
    def named(call: Call) -> Act:
        return Act(said=Said("fine", model="teacher" if call.number < 3 else "teacher-mini", reply_tokens=10))

    async def work(service: CallService) -> CallService:
        with pytest.raises(ModelError, match="`teacher-mini`"):
            await service.ask_many(asking(server), prompts(f"question {n}" for n in range(40)))
        return service

    async def kept(service: CallService) -> float:
        today = int(time.time() // 86_400)
        return sum(service.cache.spent_usd(day=day) for day in (today - 1, today))

    with MisbehavingServer(behave=named) as server:
        patience = replace(QUICK, other_model="stop")
        service = with_service(tmp_path, work, prices=DOLLARS, patience=patience, concurrency=8)
    total = service.ledger.total()  # of a service that is closed: all that was on the wire has come home
    assert total.calls == server.num_calls > 4
    assert total.cost_usd == pytest.approx(service.purse.spent_usd) == pytest.approx(with_service(tmp_path, kept))


@pytest.mark.parametrize(
    ("asked", "answering", "same"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022", True),
        ("Qwen/Qwen3-32B", "qwen3-32b", True),
        ("gemini-2.5-flash", "models/gemini-2.5-flash", True),
        ("llama3.2", "llama3.2:latest", True),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gemini-2.5-flash", "gemini-2.5-flash-lite", False),
        ("gpt-5", "gpt-4o", False),
    ],
)
def test_a_date_that_was_left_open_is_no_other_model(asked: str, answering: str, same: bool) -> None:
    assert is_same_model(asked, answering) == same


PLACE = Place("teacher", Endpoint("http://localhost/v1"), Credentials())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (402, {"message": "This request requires more credits, or fewer max_tokens."}),
        (402, "You have exceeded your monthly included credits for Inference Providers."),
        (402, {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}),
        (403, "Your team has either used all available credits or reached its limit."),
        (400, {"message": "You have reached your specified API usage limits. You will regain access soon."}),
        (403, {"message": "This API method requires billing to be enabled.", "status": "PERMISSION_DENIED"}),
    ],
)
def test_other_hosts_words_for_an_empty_purse_are_understood(status: int, error: Any) -> None:
    assert PLACE.failure(status, {}, json.dumps({"error": error}).encode()).kind == "quota"


QUOTED = {
    "type": "error",
    "request_id": "req_p2msrdcxdgpww2tqhgwewtvomrkhc2l2pe5xdananom42vw6tqja",
    "error": {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."},
}
TOO_LARGE = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000."
TOO_MANY = "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"
NO_ROOM = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"
NO_ACCESS = "Project `p` does not have access to model `x`"
CAPACITY = "Service tier capacity exceeded for this model."
MISSING = [{"loc": ["body", "messages"], "msg": "field required", "type": "value_error.missing"}]
VLLM = "This model's maximum context length is 4096 tokens."
LLAMA_CPP = {"code": 400, "message": "the request is over what is available", "type": "exceed_context_size_error"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"object": "error", "message": VLLM, "type": "BadRequestError", "code": 400}, "too_long"),
        (400, {"error": LLAMA_CPP}, "too_long"),
        (422, {"error": NO_ROOM, "error_type": "validation"}, "too_long"),
        (400, {"object": "error", "message": TOO_MANY}, "too_long"),
        (429, {"error": {"message": TOO_LARGE, "code": "rate_limit_exceeded"}}, "too_long"),
        (404, {"error": "model 'x' not found"}, "unknown_model"),
        (400, {"error": {"message": "x is not a valid model ID", "code": 400}}, "unknown_model"),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}}, "unknown_model"),
        (400, {"object": "error", "message": "Invalid model: x", "code": "1500"}, "unknown_model"),
        (403, {"error": {"message": NO_ACCESS, "code": "model_not_found"}}, "unknown_model"),
        (401, {"message": "Unauthorized", "request_id": "1"}, "credentials"),
        (401, {"detail": "Unauthorized"}, "credentials"),
        (429, {"message": CAPACITY, "type": "service_tier_capacity_exceeded"}, "throttled"),
        (503, {"error": "Model is overloaded", "error_type": "overloaded"}, "server"),
        (424, {"error": "Request failed during generation"}, "server"),
        (422, {"detail": MISSING}, "rejected"),
        (400, {"error": {"message": "temperature: Extra inputs are not permitted"}}, "rejected"),
        (400, {"error": {"message": "`temperature` may only be set to 1 when thinking is enabled."}}, "rejected"),
        (400, {"message": f"The model returned the following errors: {json.dumps(QUOTED)}"}, "rejected"),
        (400, {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps(QUOTED)}}}, "rejected"),
        (400, {"error": {"message": "The compiled grammar is too large, simplify your tool schemas."}}, "rejected"),
        (400, {"error": {"message": "Thinking may not be enabled when tool_choice forces tool use."}}, "rejected"),
        (400, {"error": {"message": "max_tokens: 8192 > 4096, which is the maximum allowed number"}}, "rejected"),
        (403, {"code": "refused", "error": "Content violates usage guidelines."}, "refused"),
        (500, None, "server"),
        (418, "teapot", "rejected"),
    ],
)
def test_errors_of_other_hosts_and_servers_are_understood(status: int, body: Any, kind: str) -> None:
    found = PLACE.failure(status, {}, json.dumps(body).encode())

    assert found.kind == kind
    assert isinstance(found, RowFault) == (kind in ("too_long", "refused") or body in ({"detail": MISSING}, "teapot"))


def test_what_a_gateway_quotes_is_read_as_said() -> None:
    body = json.dumps({"message": f"The model returned the following errors: {json.dumps(QUOTED)}"}).encode()

    found = PLACE.failure(400, {}, body)

    assert isinstance(found, ModelError)
    assert "The model returned the following errors: `temperature` is deprecated for this model." in str(found)
    assert "temperature=None" in str(found)


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("This model does not support response format `json_schema`. See supported models.", "structured"),
        ("This response_format type is unavailable now", "structured"),
        ("This model doesn't support the outputConfig.textFormat field.", "structured"),
        ("Invalid schema for response_format 'A': schema must have a 'type' key.", "structured"),
        ("The compiled grammar is too large, which would cause performance issues.", "structured"),
        ("registry.ollama.ai/library/x does not support tools", "that field of the `Ask`"),
        ("Unsupported parameter: 'max_tokens' is not supported with this model.", "that field of the `Ask`"),
        ("`temperature` is deprecated for this model.", "temperature=None"),
        ("max_tokens is too large: 100000. This model supports at most 16384 completion tokens", "that field"),
    ],
)
def test_what_a_model_does_not_take_stops_the_run_with_what_to_change(message: str, hint: str) -> None:
    found = PLACE.failure(400, {}, json.dumps({"error": {"message": message}}).encode())

    assert isinstance(found, ModelError)
    assert (found.kind, hint in str(found.hint)) == ("rejected", True), found


@pytest.mark.parametrize(("said", "again"), [("true", True), ("false", False)])
def test_a_server_that_says_whether_to_try_again_is_believed(said: str, again: bool) -> None:
    assert getattr(PLACE.failure(500, {"x-should-retry": said}, b""), "retryable", False) == again
