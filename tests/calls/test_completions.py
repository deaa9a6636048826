"""Raw text completions over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer, Outcome
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.request import Prompt
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.text.schema import Schema
from tests.calls.helpers import with_service
from tests.calls.server import Act, MisbehavingServer
from tests.calls.voices import Said


def go_on(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
    return f"{messages[-1]['content']} … {sample}"


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer(go_on, key="sk-very-secret") as running:
        yield running


def asked(folder: Path, server: MisbehavingServer, prompts: list[Prompt], **settings: Any) -> list[Outcome]:
    ask = Ask(model="completions/teacher", endpoint=server.url, **settings)
    endpoints = {server.url: Endpoint(server.url, api_key="TEACHER_KEY")}
    credentials = Credentials({"TEACHER_KEY": "sk-very-secret"})
    return with_service(
        folder, lambda service: service.ask_many(ask, prompts), endpoints=endpoints, credentials=credentials
    )


def test_the_texts_are_sent_as_they_are_with_the_settings(tmp_path: Path, server: MisbehavingServer) -> None:
    prefix = [{"role": "prefix", "content": "<|user|>\n"}]
    found = asked(
        tmp_path,
        server,
        [Prompt(prefix), Prompt(prefix, sample=2), Prompt("once")],
        temperature=0.9,
        top_p=0.8,
        max_tokens=7,
        stop=("<|end|>",),
        seed=5,
    )
    assert [outcome.text for outcome in found if isinstance(outcome, Answer)] == [
        "<|user|>\n … 0",
        "<|user|>\n … 2",
        "once … 0",
    ]
    bodies = [call.body for call in server.calls]
    assert {call.path for call in server.calls} == {"/v1/completions"}
    settings = {"model": "teacher", "temperature": 0.9, "top_p": 0.8, "max_tokens": 7, "stop": ["<|end|>"]}
    assert sorted(bodies, key=lambda body: (body["prompt"], body["seed"])) == [
        {**settings, "prompt": "<|user|>\n", "seed": 5},
        {**settings, "prompt": "<|user|>\n", "seed": 7},
        {**settings, "prompt": "once", "seed": 5},
    ]


def test_only_settings_that_are_made_are_sent(tmp_path: Path, server: MisbehavingServer) -> None:
    asked(tmp_path, server, [Prompt("once")], temperature=None)
    assert server.calls[0].body == {"model": "teacher", "prompt": "once"}


def test_a_reply_is_read_whole_and_again_from_what_is_kept(tmp_path: Path, server: MisbehavingServer) -> None:
    said = Said("upon a time", prompt_tokens=3, reply_tokens=4, logprobs=(("upon", -0.5), (" a", -0.25)))
    server.behave = lambda call: Act(said=said)
    first, again = (asked(tmp_path, server, [Prompt("once")], logprobs=2)[0] for _ in range(2))
    assert isinstance(first, Answer)
    assert isinstance(again, Answer)
    assert (first.text, first.usage[:2], first.model) == ("upon a time", (3, 4), "teacher")
    assert first.logprobs is not None
    assert [(chance.token, chance.logprob) for chance in first.logprobs] == [("upon", -0.5), (" a", -0.25)]
    assert first._replace(cached=True) == again
    assert server.num_calls == 1


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (Act(text="half", finish="length"), "cut"),
        (Act(text=""), "empty"),
        (Act.error_of(400, "maximum context length is 10 tokens", "context_length_exceeded"), "too_long"),
        (Act(finish="content_filter", text="x"), "refused"),
        (Act(wire="cut"), "exhausted"),
        (Act(wire="reset"), "exhausted"),
    ],
)
def test_what_goes_wrong_is_what_it_is_in_a_chat(
    tmp_path: Path, server: MisbehavingServer, act: Act, kind: str
) -> None:
    server.behave = lambda call: act
    (found,) = asked(tmp_path, server, [Prompt("once")])
    assert isinstance(found, RowFault)
    assert found.kind == kind


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        (Prompt("once", Schema({"type": "object"})), {}, "has no way to ask for JSON"),
        (Prompt("once"), {"tools": ({"name": "a"},)}, "has no tools"),
        (Prompt("once"), {"effort": "low"}, "no setting for thinking"),
    ],
)
def test_what_a_completion_cannot_do_is_refused_before_it_is_sent(
    tmp_path: Path, server: MisbehavingServer, prompt: Prompt, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        asked(tmp_path, server, [prompt], **settings)
    assert server.num_calls == 0


def test_images_are_refused(tmp_path: Path, server: MisbehavingServer) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}]
    (found,) = asked(tmp_path, server, [Prompt([{"role": "user", "content": parts}])])
    assert isinstance(found, RowFault)
    assert "goes on from text alone" in found.message
