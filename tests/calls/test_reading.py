"""Reading what servers send: whatever they send, it is a reply, or no reply; never an error of our own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.providers.place import Place
from stillhouse.calls.reply import Garbled, Reply, TokenChance, ToolCall, Usage, own_reply, read_reply
from stillhouse.core.errors import ModelError, RowFault
from tests.calls.voices import VOICES, Said

FORMS = {
    "openai": "openai.chat",
    "responses": "openai.responses",
    "anthropic": "anthropic.messages",
    "gemini": "gemini",
    "bedrock": "bedrock.converse",
    "cohere": "cohere.chat",
}
FULL = Said(
    "Bon voyage",
    reasoning="hm",
    tool_calls=(("call_1", "weather", {"place": "Bern"}),),
    logprobs=(("B", -0.1),),
    prompt_tokens=10,
    reply_tokens=5,
    cached=2,
    reasoning_tokens=1,
)
PLACE = Place("teacher", Endpoint("http://localhost/v1"), Credentials())

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all parts of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for name, item in inner for path in places(item, (*here, name)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another part at `path`."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("api", list(FORMS))
@settings(max_examples=300)
@given(data=st.data())
def test_a_response_with_any_part_changed_is_a_reply_or_none(api: str, data: st.DataObject) -> None:
    body = VOICES[api].answer(FULL)
    for _ in range(data.draw(st.integers(1, 3))):
        body = changed(body, data.draw(st.sampled_from(places(body))), data.draw(values))

    try:
        reply = read_reply(FORMS[api], json.dumps(body).encode())
    except Garbled:
        return
    assert isinstance(reply, Reply)
    assert isinstance(reply.text, str)
    reply.text.encode()
    assert all(type(number) is int for number in reply.usage)
    assert min(reply.usage) >= 0


@given(
    status=st.integers(300, 599),
    body=values | st.dictionaries(st.sampled_from(["error", "message", "detail", "details", "choices"]), values),
)
def test_an_error_of_any_form_is_understood_somehow(status: int, body: Any) -> None:
    found = PLACE.failure(status, {}, json.dumps(body).encode())

    assert isinstance(found, ModelError | RowFault)
    assert isinstance(PLACE.unreadable(json.dumps(body).encode(), {}, Garbled("x")), ModelError | RowFault)


@given(body=st.binary(max_size=50))
def test_bytes_of_any_kind_are_read_or_not(body: bytes) -> None:
    assert isinstance(PLACE.failure(500, {}, body), ModelError)
    for form in FORMS.values():
        with pytest.raises(Garbled):
            read_reply(form, body)


@given(
    text=st.text(st.characters(exclude_categories=["Cs"])),
    calls=st.lists(
        st.builds(ToolCall, st.text("ab"), st.text("ab"), st.dictionaries(st.text("ab"), st.integers(0, 9)))
    ),
    chances=st.none() | st.lists(st.builds(TokenChance, st.text("ab"), st.floats(-9, 0), st.just((("a", -0.5),)))),
)
def test_a_reply_of_our_own_is_read_as_it_was_kept(text: str, calls: list[ToolCall], chances: Any) -> None:
    made = own_reply(text, "stop", Usage(1, 2, 3, 4), tool_calls=calls, logprobs=chances)

    assert read_reply("reply", made.wire) == made


def test_replies_that_were_kept_before_there_were_tools_are_read() -> None:
    wire = b'{"text":"fine","finish":"stop","usage":[1,2,0,0],"refusal":null}'

    assert read_reply("reply", wire) == own_reply("fine", usage=Usage(1, 2))
    assert own_reply("fine", usage=Usage(1, 2)).wire == wire


def test_a_form_that_nobody_reads_is_said() -> None:
    with pytest.raises(Garbled, match="nothing here reads replies of the form `morse`"):
        read_reply("morse", b"...")
