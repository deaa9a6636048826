"""Tools over real HTTP, as several APIs speak of them: what was called and what it gave goes back with the same id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.core.session import Session
from stillhouse.generate.tool_traces import ToolTraces
from stillhouse.rows.import_ import Import
from tests.calls.server import Act, Call, MisbehavingServer
from tests.calls.voices import VOICES, Said
from tests.generate import shop

TASKS = Import(data=({"instruction": "What are two teas?"},), require=())


def leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [found for inner in value.values() for found in leaves(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in leaves(inner)]
    return [str(value)]


@pytest.mark.parametrize("api", ["openai", "responses", "anthropic", "gemini", "bedrock", "cohere"])
def test_a_trace_is_the_same_whatever_api_is_spoken(tmp_path: Path, api: str) -> None:
    voice = VOICES[api]

    def behave(call: Call) -> Act:
        if len([one for one in server.calls if one.path == call.path]) == 1:
            wanted = (("odd id", "price", {"item": "tea", "number": 2}),)
            return Act(said=Said(text="Let me see.", finish="tools", tool_calls=wanted))
        return Act(said=Said(text="Five."))

    with MisbehavingServer(behave=behave, key=voice.secrets.get("TEACHER_KEY")) as server:
        key = "TEACHER_KEY" if "TEACHER_KEY" in voice.secrets else None
        with Session(
            tmp_path,
            endpoints={server.url: Endpoint(server.url, api_key=key)},
            credentials=Credentials(voice.secrets),
            track=False,
            progress=False,
        ) as session:
            by = Ask(model=voice.model, endpoint=server.url)
            made = session.run(ToolTraces(rows=TASKS, by=by, tools=(shop.price,)))
        bodies = [call.body for call in server.calls]
    (row,) = made
    told = [{key: field for key, field in message.items() if field is not None} for message in row["messages"]]
    assert [(message["role"], message["content"]) for message in told] == [
        ("user", "What are two teas?"),
        ("assistant", "Let me see."),
        ("tool", '{"item": "tea", "total": 5.0}'),
        ("assistant", "Five."),
    ]
    assert told[1]["tool_calls"][0]["function"] == {"name": "price", "arguments": '{"item": "tea", "number": 2}'}
    assert json.loads(row["tools"])[0]["name"] == "price"
    assert len(bodies) == 2
    assert {"price", "What some items cost together.\n\nFails for an item that is not sold."} <= set(leaves(bodies[0]))
    assert "Let me see." in leaves(bodies[1])
    assert any('"total": 5.0' in found or found == "5.0" for found in leaves(bodies[1]))
    if api != "gemini":  # it goes by order, and has no ids
        assert leaves(bodies[1]).count("call_1") == 2
