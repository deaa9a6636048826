"""A reply as data, and how it is read from what came over the wire.

The cache keeps the wire form, so a changed reader here reads again and never asks again.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

Finish: TypeAlias = Literal["stop", "length", "refused", "other"]
Form: TypeAlias = Literal["text", "reply", "openai.chat"]
"""`text`: the reply's text alone; `reply`: our own record; the others are a provider's response body."""


class Usage(NamedTuple):
    """Tokens as the provider counted them; `cached_tokens` are part of the prompt, `reasoning_tokens` of the reply."""

    prompt_tokens: int = 0
    reply_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


NO_USAGE = Usage()


class Reply(NamedTuple):
    """What a provider answered: text, why it ended, tokens, and the form and bytes that are kept."""

    text: str
    finish: Finish
    usage: Usage
    refusal: str | None
    form: Form
    wire: bytes


class Garbled(ValueError):
    """The wire form is not what the provider promises."""


def text_reply(text: str) -> Reply:
    """The reply of a function: a text and nothing else."""
    return Reply(text, "stop", NO_USAGE, None, "text", text.encode("utf-8", "surrogatepass"))


def own_reply(text: str, finish: Finish = "stop", usage: Usage = NO_USAGE, refusal: str | None = None) -> Reply:
    """A reply of a provider without a wire: it is kept as a record of our own."""
    wire = orjson.dumps({"text": text, "finish": finish, "usage": list(usage), "refusal": refusal})
    return Reply(text, finish, usage, refusal, "reply", wire)


def read_reply(form: str, wire: bytes) -> Reply:
    """The reply that a kept wire form holds; raises `Garbled` when it cannot be read."""
    if form == "text":
        return Reply(wire.decode("utf-8", "surrogatepass"), "stop", NO_USAGE, None, "text", wire)
    if form == "openai.chat":
        return _openai_chat(wire)
    if form == "reply":
        value = _parsed(wire)
        return Reply(value["text"], value["finish"], Usage(*value["usage"]), value["refusal"], "reply", wire)
    raise Garbled(f"nothing here reads replies of the form `{form}`")


def _parsed(wire: bytes) -> dict[str, Any]:  # JSON of any shape
    try:
        value = orjson.loads(wire)
    except orjson.JSONDecodeError as error:
        try:
            value = json.loads(wire)  # also takes escapes of half a character, as some servers cut emoji
        except (ValueError, RecursionError):
            raise Garbled(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Garbled(f"expected a JSON object, found {type(value).__name__}")
    return value


_FINISH: dict[str | None, Finish] = {
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    None: "stop",  # some servers leave it out
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refused",
    "refusal": "refused",
}


def _openai_chat(wire: bytes) -> Reply:
    value = _parsed(wire)
    try:
        choice = value["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish = choice.get("finish_reason")
        refusal = message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled(f"no `choices[0].message` in the response ({type(error).__name__}: {error})") from None
    text = (content if isinstance(content, str) else _joined(content)).encode("utf-8", "replace").decode()
    ending = _FINISH.get(finish, "other") if finish is None or isinstance(finish, str) else "other"
    return Reply(text, ending, _openai_usage(value.get("usage")), refusal or None, "openai.chat", wire)


def _joined(content: object) -> str:
    """Content as a list of parts, which some servers send, as one text; nothing as the empty text."""
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _openai_usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return NO_USAGE
    prompt, reply = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage(
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        _count(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0,
        _count(reply.get("reasoning_tokens")) if isinstance(reply, dict) else 0,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
