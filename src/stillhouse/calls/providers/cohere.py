"""Cohere's chat, version 2. Messages are near OpenAI's; names, the way to ask for JSON and the counting are its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.core.errors import ModelError, RowFault

from ..reply import (
    NO_USAGE,
    REPLY_TOOL,
    Finish,
    Garbled,
    Reply,
    TokenChance,
    ToolCall,
    Usage,
    count,
    parsed,
    reader,
    tool_call,
    whole_text,
    with_reply_tool,
)
from ..request import NO_EXTRAS, Request
from .openai import openai_messages, sampled
from .place import Place
from .schemas import COHERE, as_object, rewritten
from .writing import Body, messages_of, mode_of, not_taken, seed_of, written

_MODES = ("native", "tool", "object", "prompt")


class CohereChat:
    """`POST …/chat`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._headers = place.headers(place.bearer)

    def url(self, request: Request) -> str:
        return self._place.base + "/chat"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        place, sampling = self._place, request.sampling
        mode = mode_of(request, place, _MODES)
        body: Body = {
            "model": place.endpoint.model or request.model,
            "messages": openai_messages(messages_of(request, mode)),
        }
        chosen = {
            "temperature": sampling.temperature,
            "p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "stop_sequences": list(sampling.stop) or None,
            "seed": seed_of(request),
        }
        body |= {name: value for name, value in chosen.items() if value is not None}
        if mode is not None:
            _ask_for_json(body, request, mode)
        if request.extras is not NO_EXTRAS:
            _add_extras(body, request, place)
        return written(body, request.extras.extra)

    def read(self, body: bytes) -> Reply:
        return self._place.reply(read, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


def _ask_for_json(body: Body, request: Request, mode: str) -> None:
    schema = request.schema
    assert schema is not None
    form = rewritten(schema, COHERE) if mode == "native" else None
    if form is not None:
        body["response_format"] = {"type": "json_object", "json_schema": form}
    elif mode == "object":
        body["response_format"] = {"type": "json_object"}
    elif mode != "prompt":
        about = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}."}
        body["tools"] = [{"type": "function", "function": {**about, "parameters": as_object(schema.form)}}]
        body["tool_choice"] = "REQUIRED"


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras = request.extras
    if extras.tools:
        if "tools" in body:
            raise not_taken(place, "way to offer tools where one must be called", "Ask for JSON without tools.")
        body["tools"] = [{"type": "function", "function": tool} for tool in extras.tools]
        choice = extras.tool_choice
        if choice in ("none", "required"):
            body["tool_choice"] = choice.upper()
        elif choice not in (None, "auto"):
            raise not_taken(place, "way to name the tool that must be called", "Say `tool_choice='required'`.")
    if extras.logprobs is not None:
        if extras.logprobs:
            raise not_taken(place, "log-probabilities of other tokens", "Say `logprobs=0`.")
        body["logprobs"] = True
    if extras.effort not in (None, "none"):
        raise not_taken(place, "effort but `none`", "Say `thinking=TOKENS`.")
    if extras.effort == "none" or extras.thinking == 0:
        body["thinking"] = {"type": "disabled"}
    elif extras.thinking is not None:
        body["thinking"] = {"type": "enabled", "token_budget": extras.thinking}


# Reading

_FINISH: Mapping[object, Finish] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tools",
    "ERROR_TOXIC": "refused",
}


@reader
def read(wire: bytes) -> Reply:
    """The reply of a chat; raises `Garbled`, also where the generation broke off in Cohere."""
    value = parsed(wire)
    message, reason = value.get("message"), value.get("finish_reason")
    if not isinstance(message, dict):
        raise Garbled("no `message` in the response")
    if reason in ("ERROR", "TIMEOUT"):
        raise Garbled(f"the generation broke off (`{reason}`)")
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [content] if isinstance(content, str) else [part["text"] for part in parts if _is(part, "text")]
    thoughts = [part["thinking"] for part in parts if _is(part, "thinking")]
    plan = message.get("tool_plan")
    if isinstance(plan, str):
        thoughts.append(plan)
    calls = [found for call in message.get("tool_calls") or () if (found := _call(call)) is not None]
    text, wanted = with_reply_tool(whole_text("".join(texts)), calls)
    finish = _FINISH.get(reason, "other")
    if finish == "tools" and not wanted:
        finish = "stop"
    return Reply(
        text,
        finish,
        _usage(value.get("usage")),
        None,
        "cohere.chat",
        wire,
        wanted,
        _logprobs(value.get("logprobs")),
        whole_text("".join(thoughts)) or None,
    )


def _is(part: Mapping[str, Any], kind: str) -> bool:
    return isinstance(part.get(kind), str)


def _call(call: object) -> ToolCall | None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        return None
    return tool_call(call.get("id"), function.get("name"), function.get("arguments"))


def _logprobs(found: object) -> tuple[TokenChance, ...] | None:
    """Cohere tells chunks of text with the log-probabilities of their tokens: the text stands by the first."""
    if not isinstance(found, list):
        return None
    chances: list[TokenChance] = []
    for chunk in found:
        chosen = chunk.get("logprobs") if isinstance(chunk, dict) else None
        for place, chance in enumerate(chosen if isinstance(chosen, list) else ()):
            text = str(chunk.get("text") or "") if place == 0 else ""
            chances.append(TokenChance(whole_text(text), float(chance)))
    return tuple(chances)


def _usage(usage: object) -> Usage:
    """The tokens that are billed, which are fewer than those of the model's own template."""
    if not isinstance(usage, dict):
        return NO_USAGE
    for name in ("billed_units", "tokens"):
        found = usage.get(name)
        if isinstance(found, dict) and (found.get("input_tokens") or found.get("output_tokens")):
            cached = min(count(usage.get("cached_tokens")), count(found.get("input_tokens")))
            return Usage(count(found.get("input_tokens")), count(found.get("output_tokens")), cached)
    return NO_USAGE
