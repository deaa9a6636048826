"""The contract of the dialects: every API, over HTTP, against a server that speaks and misbehaves as that provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, RootModel

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.ledger import Totals
from stillhouse.calls.prices import Price
from stillhouse.calls.providers.connect import dialect_of
from stillhouse.calls.reply import REPLY_TOOL, ToolCall, read_reply
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.text.schema import Schema
from tests.calls import teachers
from tests.calls.helpers import prompts, with_service
from tests.calls.server import Act, MisbehavingServer, trouble
from tests.calls.voices import VOICES, Said, Voice

SECRET = "sk-very-secret"


class Mood(Enum):
    FINE = "fine"
    SOUR = "sour"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    name: str = Field(min_length=1)
    mood: Mood
    pet: Cat | Dog = Field(discriminator="kind")
    friend: Owner | None = None


class Pet(RootModel[Cat | Dog]):
    """A union at the top."""


class Ways:
    """One API and a server that speaks it."""

    def __init__(self, folder: Path, voice: Voice, server: MisbehavingServer) -> None:
        self.folder, self.voice, self.server = folder, voice, server

    def ask(self, **settings: Any) -> Ask:
        return Ask(model=self.voice.model, endpoint=self.server.url, **settings)

    def settings(self, **more: Any) -> dict[str, Any]:
        key = "TEACHER_KEY" if "TEACHER_KEY" in self.voice.secrets else None
        endpoint = Endpoint(self.server.url, api_key=key, **more)
        return {"endpoints": {self.server.url: endpoint}, "credentials": Credentials(self.voice.secrets)}

    def many(self, ask: Ask, asked: list[Prompt], **more: Any) -> list[Outcome]:
        return with_service(self.folder, lambda service: service.ask_many(ask, asked), **{**self.settings(), **more})

    def one(self, ask: Ask, prompt: Prompt | str = "hello", **more: Any) -> Answer:
        (outcome,) = self.many(ask, [prompt if isinstance(prompt, Prompt) else Prompt(prompt)], **more)
        assert isinstance(outcome, Answer), outcome
        return outcome

    def fault(self, ask: Ask, prompt: str = "hello", **more: Any) -> RowFault:
        (outcome,) = self.many(ask, [Prompt(prompt)], **more)
        assert isinstance(outcome, RowFault), outcome
        return outcome

    def says(self, said: Said) -> None:
        self.server.behave = lambda call: Act(said=said)

    def error(self, ask: Ask, **more: Any) -> ModelError:
        with pytest.raises(ModelError) as caught:
            self.many(ask, prompts(["a", "b"]), **more)
        return caught.value


@pytest.fixture(params=list(VOICES))
def ways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ways]:
    with MisbehavingServer(teachers.orders, key=SECRET) as server:
        yield Ways(tmp_path, VOICES[request.param], server)


def test_each_prompt_has_its_own_reply(ways: Ways) -> None:
    words = [f"word {number} äöü 漢字 \u2028 \"'" for number in range(40)]

    found = ways.many(ways.ask(), prompts(words))

    assert [outcome.text for outcome in found if isinstance(outcome, Answer)] == [
        f"{word} (u, sample 0)" for word in words
    ]


def test_turns_system_prompt_and_settings_arrive(ways: Ways) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    settings: dict[str, Any] = {"system": "Be brief.", "temperature": 0.5, "top_p": 0.9, "max_tokens": 77}
    settings |= {"stop": ("END",)} if ways.voice.stops else {}
    settings |= {"seed": 7} if ways.voice.seeds else {}

    found = ways.many(ways.ask(**settings), [Prompt(turns), Prompt(turns, sample=2)])

    assert [outcome.text for outcome in found if isinstance(outcome, Answer)] == [
        "c (s u a u, sample 0)",
        "c (s u a u, sample 2)",
    ]
    (call, other) = ways.server.calls
    values = set(map(str, _leaves(call.body)))
    assert {"0.5", "0.9", "77", "Be brief."} <= values
    assert not ways.voice.stops or "END" in values
    assert not ways.voice.seeds or {"7", "9"} <= values | set(map(str, _leaves(other.body)))
    assert call.heard.model == "teacher"
    assert call.headers[ways.voice.key[0]] == ways.voice.key[1] + SECRET


def test_a_seed_that_the_api_has_no_field_for_is_an_error_and_not_lost(ways: Ways) -> None:
    if not ways.voice.seeds:
        assert "has no seed" in str(ways.error(ways.ask(seed=7)))
        assert ways.server.num_calls == 0


def test_a_whole_reply_is_read_and_read_again_from_what_is_kept(ways: Ways) -> None:
    voice = ways.voice
    counts = {"cached": 40, "written": 20, "reasoning_tokens": 7}
    told: dict[str, Any] = {name: value if name in voice.counts else 0 for name, value in counts.items()}
    ways.says(
        Said(
            "Bon voyage! 漢",
            reasoning="It is a farewell.",
            model="teacher-2026",
            prompt_tokens=100,
            reply_tokens=30,
            **told,
        )
    )

    first = ways.one(ways.ask())
    again = ways.one(ways.ask())

    assert ways.server.num_calls == 1
    assert again == first._replace(cached=True)
    assert (first.text, first.finish, first.tool_calls) == ("Bon voyage! 漢", "stop", ())
    assert first.usage == (100, 30, told["cached"], told["reasoning_tokens"], told["written"], 0)
    assert first.reasoning == "It is a farewell."
    assert first.model == ("teacher-2026" if voice.names_model else None)


@pytest.mark.parametrize("mode", ["native", "tool", "object", "prompt"])
def test_structured_replies_come_in_each_way_that_the_api_knows(ways: Ways, mode: str) -> None:
    schema = Schema(Owner)
    value = {"name": "Ann", "mood": "sour", "pet": {"kind": "dog", "tricks": ["sit"]}, "friend": None}
    ways.server.behave = lambda call: Act(text=json.dumps(value))
    if mode not in ways.voice.modes:
        with pytest.raises(ModelError, match=f"cannot be asked for JSON by `{mode}`"):
            ways.one(ways.ask(structured=mode), Prompt("hello", schema))
        assert ways.server.num_calls == 0
        return

    answer = ways.one(ways.ask(), Prompt("hello", schema), **ways.settings(structured=mode))

    (call,) = ways.server.calls
    assert (answer.value, answer.repaired, answer.tool_calls) == (value, "no", ())
    told = "".join(str(message["content"]) for message in call.heard.messages if message["role"] == "system")
    assert ("tricks" in told) == (mode in ("object", "prompt"))
    assert (call.heard.schema is not None) == (mode in ("native", "tool"))
    assert mode != "tool" or call.heard.tools == (REPLY_TOOL,)


@pytest.mark.parametrize("mode", ["native", "tool"])
def test_a_union_at_the_top_is_wrapped_for_the_api_and_unwrapped_for_us(ways: Ways, mode: str) -> None:
    ways.server.behave = lambda call: Act(text='{"reply": {"kind": "cat", "lives": 3}}')

    answer = ways.one(ways.ask(structured=mode), Prompt("hello", Schema(Pet)))

    (call,) = ways.server.calls
    assert answer.value == {"kind": "cat", "lives": 3}
    assert call.schema is not None
    assert (call.schema["type"], list(call.schema["properties"])) == ("object", ["reply"])


def test_the_way_of_asking_counts_where_the_recipe_says_it_and_not_where_the_session_does(ways: Ways) -> None:
    ways.server.behave = lambda call: Act(text='{"kind": "cat", "lives": 3}')
    asked = Prompt("hello", Schema(Cat))

    first = ways.one(ways.ask(), asked)
    again = ways.one(ways.ask(), asked, **ways.settings(structured="prompt"))
    other = ways.one(ways.ask(structured="prompt"), asked)

    assert (first.key == again.key, again.cached) == (True, True)
    assert (other.key == first.key, other.cached) == (False, False)


TOLD = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place":"Bern"}'}}
TOOLS = (
    {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "object", "properties": {}}},
    {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}},
)


def test_tools_are_offered_and_a_wish_to_call_one_is_an_answer(ways: Ways) -> None:
    ways.says(
        Said(None, "tools", tool_calls=(("call_1", "weather", {"place": "Bern"}),), reply_tokens=5, prompt_tokens=9)
    )

    answer = ways.one(ways.ask(tools=TOOLS, tool_choice="required"))

    (call,) = ways.server.calls
    assert call.heard.tools == ("weather", "clock")
    assert (answer.text, answer.finish) == ("", "tools")
    assert answer.tool_calls == (ToolCall("call_1", "weather", {"place": "Bern"}),)
    assert ways.one(ways.ask(tools=TOOLS, tool_choice="required")).cached
    assert not ways.one(ways.ask(tools=TOOLS[:1])).cached


def test_tools_of_a_prompt_are_offered_for_it_alone(ways: Ways) -> None:
    ways.many(ways.ask(), [Prompt("a", tools=TOOLS), Prompt("a")])

    assert sorted(call.heard.tools for call in ways.server.calls) == [(), ("weather", "clock")]


@pytest.mark.parametrize(
    "called",
    [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"place": "Bern"}'}},
        {"id": "call_1", "name": "weather", "arguments": {"place": "Bern"}},
    ],
    ids=["as OpenAI", "flat"],
)
def test_what_tools_gave_is_told_in_the_apis_own_form(ways: Ways, called: dict[str, Any]) -> None:
    turns: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": '{"sky": "clear"}', "tool_call_id": "call_1"},
    ]

    ways.one(ways.ask(tools=TOOLS), Prompt(turns))

    (call,) = ways.server.calls
    roles = [message["role"] for message in call.heard.messages]
    assert roles == ["system", "user", "assistant", "tool"]
    assert call.heard.messages[3]["content"] == '{"sky": "clear"}'
    assert call.heard.messages[3]["tool_call_id"] in ("call_1", "weather")
    wished = call.heard.messages[2]["tool_calls"]
    assert wished in (["weather"], [TOLD]), wished


def test_images_are_sent_and_count_by_their_content(ways: Ways) -> None:
    picture = ways.folder / "cat.png"
    picture.write_bytes(b"\x89PNG a cat")
    moved = ways.folder / "moved.png"
    moved.write_bytes(b"\x89PNG a cat")

    def asked(image: str) -> Prompt:
        return Prompt(
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "What is it?"}]}]
        )

    first = ways.one(ways.ask(), asked(str(picture)))
    same = ways.one(ways.ask(), asked(str(moved)))
    picture.write_bytes(b"\x89PNG a dog")
    other = ways.one(ways.ask(), asked(str(picture)))

    data = base64.b64encode(b"\x89PNG a cat").decode()
    assert ways.server.calls[0].heard.images == (f"data:image/png;base64,{data}",)
    assert (same.key, same.cached) == (first.key, True)
    assert (other.key == first.key, other.cached) == (False, False)


def test_an_image_that_is_not_there_costs_its_row(ways: Ways) -> None:
    turns = [{"role": "user", "content": [{"type": "image", "image": "no/such.png"}, {"type": "text", "text": "?"}]}]

    lost, fine = ways.many(ways.ask(), [Prompt(turns), Prompt("hello")])

    assert isinstance(lost, RowFault)
    assert "the image `no/such.png` cannot be read: No such file" in lost.message
    assert isinstance(fine, Answer)


def test_images_by_url_are_left_to_the_provider(ways: Ways) -> None:
    url = "https://example.org/cat.png"
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "?"}]
    asked = Prompt([{"role": "user", "content": parts}])

    (outcome,) = ways.many(ways.ask(), [asked])

    if ways.voice.api == "bedrock":
        assert isinstance(outcome, RowFault)
        assert "give a file" in outcome.message
        return
    assert isinstance(outcome, Answer)
    assert ways.server.calls[0].heard.images == (url,)


def test_log_probabilities_are_kept_when_asked_for(ways: Ways) -> None:
    ways.says(Said("Bon", logprobs=(("B", -0.1), ("on", -0.2)) if ways.voice.logprobs else (), reply_tokens=2))
    if not ways.voice.logprobs:
        assert "has no log-probabilities" in str(ways.error(ways.ask(logprobs=1)))
        return
    wanted = 0 if ways.voice.api == "cohere" else 1

    answer = ways.one(ways.ask(logprobs=wanted))

    assert answer.logprobs is not None
    assert [(chance.token, chance.logprob) for chance in answer.logprobs] == [("B", -0.1), ("on", -0.2)]
    assert [len(chance.top) for chance in answer.logprobs] == [wanted, wanted]
    assert ways.one(ways.ask(logprobs=wanted)).logprobs == answer.logprobs


EFFORT = {
    "openai": ("reasoning_effort",),
    "azure": ("reasoning_effort",),
    "responses": ("reasoning", "effort"),
    "anthropic": ("output_config", "effort"),
    "gemini": ("generationConfig", "thinkingConfig", "thinkingLevel"),
    "vertex": ("generationConfig", "thinkingConfig", "thinkingLevel"),
    "bedrock": ("outputConfig", "effort"),
}
THINKING = {
    "anthropic": ("thinking", "budget_tokens"),
    "gemini": ("generationConfig", "thinkingConfig", "thinkingBudget"),
    "vertex": ("generationConfig", "thinkingConfig", "thinkingBudget"),
    "bedrock": ("additionalModelRequestFields", "thinking", "budget_tokens"),
    "cohere": ("thinking", "token_budget"),
}


@pytest.mark.parametrize(("setting", "value", "places"), [("effort", "low", EFFORT), ("thinking", 2048, THINKING)])
def test_how_hard_a_model_thinks_is_told_where_the_api_takes_it(
    ways: Ways, setting: str, value: Any, places: dict[str, tuple[str, ...]]
) -> None:
    ask = ways.ask(**{setting: value})
    if ways.voice.api not in places:
        assert "has no" in str(ways.error(ask))
        return

    ways.one(ask)

    found: Any = ways.server.calls[0].body
    for name in places[ways.voice.api]:
        found = found[name]
    assert str(found).lower() == str(value)


def test_extra_fields_are_laid_over_the_body_and_count(ways: Ways) -> None:
    plain = ways.one(ways.ask())

    answer = ways.one(ways.ask(extra={"safety": {"level": 3}, "service_tier": "flex"}))

    body = ways.server.calls[-1].body
    assert (body["safety"], body["service_tier"]) == ({"level": 3}, "flex")
    assert answer.key != plain.key


def test_a_reply_that_is_cut_is_told_from_one_that_ends(ways: Ways) -> None:
    ways.says(Said("it was a dark and", "length", reply_tokens=9))

    fault = ways.fault(ways.ask())

    assert (fault.kind, fault.raw) == ("cut", "it was a dark and")


@pytest.mark.parametrize(
    "said", [Said("half", "content_filter"), Said(None, "content_filter"), Said(None, refusal="No.")]
)
def test_what_a_filter_stops_is_refused(ways: Ways, said: Said) -> None:
    ways.says(said)

    fault = ways.fault(ways.ask())

    assert fault.kind == "refused"
    assert ways.server.num_calls == 1


def test_a_reply_of_nothing_is_sampled_once_more(ways: Ways) -> None:
    ways.server.behave = lambda call: Act(said=Said("", prompt_tokens=3)) if call.number == 0 else None

    assert len(ways.one(ways.ask()).keys) == 2


STOPS = {
    "wrong key": "credentials",
    "no quota": "quota",
    "unknown model": "unknown_model",
    "unsupported": "rejected",
    "schema": "rejected",
}
ROWS = {"too long": "too_long", "filtered prompt": "refused", "rejected": "rejected"}
PASSES = ("rate limit", "overloaded", "error behind 200")


@pytest.mark.parametrize("kind", list(STOPS))
def test_what_no_row_can_mend_stops_the_run(ways: Ways, kind: str) -> None:
    ways.server.behave = lambda call: trouble(call, kind, SECRET)

    error = ways.error(ways.ask(), concurrency=1)

    assert (error.kind, error.retryable) == (STOPS[kind], False)
    assert error.hint
    assert SECRET not in str(error)
    assert ways.server.num_calls <= 2  # a refusal may be confirmed once


@pytest.mark.parametrize("kind", list(ROWS))
def test_what_is_wrong_with_one_row_costs_that_row(ways: Ways, kind: str) -> None:
    ways.server.behave = lambda call: trouble(call, kind) if call.text == "bad" else None

    bad, good = ways.many(ways.ask(), prompts(["bad", "good"]))

    assert isinstance(bad, RowFault)
    assert (bad.kind, isinstance(good, Answer)) == (ROWS[kind], True)
    assert ways.server.texts()["bad"] == 1


@pytest.mark.parametrize("kind", PASSES)
def test_what_passes_is_asked_again(ways: Ways, kind: str) -> None:
    ways.server.behave = lambda call: trouble(call, kind) if call.before == 0 else None

    answer = ways.one(ways.ask())

    assert answer.text == "hello (u, sample 0)"
    assert ways.server.num_calls == 2


@pytest.mark.parametrize(
    "act",
    [
        Act(text="half of this is lost", wire="cut"),
        Act(text="half of this is lost", wire="reset"),
        Act(raw=b"{}"),
        Act(raw=b"[]"),
        Act(raw=b"null"),
        Act(raw=b'"fine"'),
        Act(raw=b"<html>Bad gateway</html>"),
        Act(raw=b'{"choices": [], "output": {}, "content": null, "candidates": [3], "message": "no"}'),
        Act(raw=b""),
    ],
    ids=lambda act: act.wire if act.raw is None else act.raw.decode()[:12],
)
def test_what_cannot_be_read_is_asked_again_and_never_kept(ways: Ways, act: Act) -> None:
    ways.server.behave = lambda call: act if call.before == 0 else None

    answer = ways.one(ways.ask())

    assert answer.text == "hello (u, sample 0)"
    assert ways.server.num_calls == 2
    assert ways.one(ways.ask()).cached


def test_a_redirect_is_not_followed_with_our_key(ways: Ways) -> None:
    ways.server.behave = lambda call: Act(status=307, raw=b"", headers={"Location": ways.server.url + "/elsewhere"})

    assert ways.fault(ways.ask()).kind == "rejected"
    assert ways.server.num_calls == 1


def test_a_key_that_is_wrong_is_named_by_its_variable_and_never_shown(ways: Ways) -> None:
    wrong = {name: value.replace(SECRET, "sk-wrong") for name, value in ways.voice.secrets.items()}

    error = ways.error(ways.ask(), credentials=Credentials(wrong))

    assert error.kind == "credentials"
    assert "sk-wrong" not in str(error)
    assert "`.env`" in str(error)


def test_a_key_that_is_missing_is_said_before_any_call(ways: Ways) -> None:
    error = ways.error(ways.ask(), credentials=Credentials({}))

    assert (error.kind, ways.server.num_calls) == ("credentials", 0)


def test_keys_are_nowhere_in_the_folder(ways: Ways) -> None:
    ways.server.behave = lambda call: trouble(call, "rejected", SECRET) if call.text == "bad" else None
    ways.many(ways.ask(), prompts(["hello", "bad"]))

    held = b"".join(path.read_bytes() for path in ways.folder.rglob("*") if path.is_file())
    assert len(held) > 1000
    assert SECRET.encode() not in held


def test_the_bill_is_made_of_the_tokens_that_the_provider_counts(ways: Ways) -> None:
    ways.says(Said("fine", prompt_tokens=100, reply_tokens=10))

    async def work(service: CallService) -> Totals:
        await service.ask_many(ways.ask(), prompts(["a", "b"]))
        return service.ledger.total()

    totals = with_service(ways.folder, work, prices={ways.voice.model: Price(1e6, 1e6)}, **ways.settings())

    assert (totals.calls, totals.prompt_tokens, totals.reply_tokens, totals.cost_usd) == (2, 200, 20, 220.0)


def test_a_dialect_reads_what_batches_bring_home(ways: Ways) -> None:
    """Batch files hold bodies and responses of the same forms, and no transport."""
    key = ways.settings()["endpoints"][ways.server.url].api_key
    endpoint = Endpoint(ways.server.url, api_key=key, api=ways.voice.api)  # type: ignore[arg-type]
    dialect = dialect_of("teacher", endpoint, Credentials(ways.voice.secrets))
    form = ways.ask().form({"model": "m"}, "teacher", None)
    body = dialect.body(form.request("hello"))

    reply = dialect.read(json.dumps(ways.voice.answer(Said("fine", model="teacher"))).encode())
    failure = dialect.failure(529, {}, b'{"error": {"message": "Overloaded"}}')

    assert b"hello" in body
    assert reply == read_reply(reply.form, reply.wire)
    assert isinstance(failure, ModelError)
    assert failure.retryable


def test_equal_requests_have_equal_bodies_whoever_renders_them(ways: Ways) -> None:
    """Providers' own prompt caches work by prefix."""
    ways.many(ways.ask(system="Be brief."), prompts(["a", "b"]), concurrency=1)

    bodies = [str(call.body).replace("'a'", "'b'") for call in ways.server.calls]
    assert bodies[0] == bodies[1]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def test_one_deployment_gives_equal_rows_by_whichever_api_it_is_reached(tmp_path: Path) -> None:
    asked = [Prompt("hello", Schema(Cat)), *prompts(["a", "b"])]
    found = {}
    with MisbehavingServer(
        behave=lambda call: Act(text='{"kind": "cat", "lives": 3}') if call.schema else None
    ) as server:
        for name, voice in VOICES.items():
            endpoint = Endpoint(server.url, api=voice.api)  # type: ignore[arg-type]
            outcomes = with_service(
                tmp_path / name,
                lambda service: service.ask_many(Ask(model="org/teacher", deployment="teacher"), asked),
                endpoints={"teacher": endpoint},
                credentials=Credentials(voice.secrets),
            )
            found[name] = [
                (outcome.text, outcome.value, outcome.keys) for outcome in outcomes if isinstance(outcome, Answer)
            ]

    assert all(rows == found["openai"] for rows in found.values())
    assert len(found["openai"]) == 3
