"""Anthropic's messages. The system prompt stands apart, a limit of tokens must be named, and there are no seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stillhouse.core.errors import ModelError, RowFault

from ..images import Image
from ..reply import (
    NO_USAGE,
    REPLY_TOOL,
    Finish,
    Garbled,
    Reply,
    ToolCall,
    Usage,
    count,
    parsed,
    reader,
    tool_call,
    whole_text,
    with_reply_tool,
)
from ..request import NO_EXTRAS, Message, Request
from .openai import model_name, sampled
from .place import Place
from .schemas import ANTHROPIC, as_object, rewritten
from .writing import Body, Part, Turn, merged_turns, messages_of, mode_of, not_taken, split_turns, without_seed, written

_MODES = ("native", "tool", "prompt")
_MAX_TOKENS = 8192  # where the recipe names no limit: all models since 2024 but the smallest have as much room


class AnthropicMessages:
    """`POST …/messages`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        key = {} if place.secret is None else {"x-api-key": place.secret}
        self._headers = place.headers({"anthropic-version": "2023-06-01", **key})

    def url(self, request: Request) -> str:
        return self._place.base + "/messages"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        place, sampling = self._place, request.sampling
        mode = mode_of(request, place, _MODES)
        system, messages = _messages(messages_of(request, mode))
        body: Body = {
            "model": place.endpoint.model or request.model,
            "max_tokens": sampling.max_tokens or _MAX_TOKENS + (request.extras.thinking or 0),
            "messages": messages,
        }
        if system:
            body["system"] = system
        chosen = {"temperature": sampling.temperature, "top_p": sampling.top_p}
        body |= {name: value for name, value in chosen.items() if value is not None}
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        without_seed(request, place)
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
    form = rewritten(schema, ANTHROPIC) if mode == "native" else None
    if form is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": form}}
    elif (
        mode != "prompt"
    ):  # by tool call, also where objects are open or recursive, for which the other way has no words
        about = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}."}
        body["tools"] = [{**about, "input_schema": as_object(schema.form)}]
        body["tool_choice"] = {"type": "tool", "name": REPLY_TOOL}


_CHOICES: Mapping[str, Body] = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras = request.extras
    if extras.tools:
        own = [{"name": tool["name"], "description": tool["description"]} for tool in extras.tools]
        own = [{**about, "input_schema": tool["parameters"]} for about, tool in zip(own, extras.tools, strict=True)]
        body["tools"] = [*body.get("tools", ()), *own]
        choice = extras.tool_choice
        if choice is not None and "tool_choice" not in body:
            body["tool_choice"] = _CHOICES.get(choice, {"type": "tool", "name": choice})
    if extras.logprobs is not None:
        raise not_taken(place, "log-probabilities", "Leave `logprobs` out.")
    if extras.effort is not None:
        body.setdefault("output_config", {})["effort"] = extras.effort
    if extras.thinking is not None:
        switched = {"type": "enabled", "budget_tokens": extras.thinking} if extras.thinking else {"type": "disabled"}
        body["thinking"] = switched


def _messages(messages: Sequence[Message]) -> tuple[str, list[Body]]:
    system, turns = split_turns(messages)
    merged = merged_turns(turns, {"tool": "user"})
    if all(len(parts) == 1 and isinstance(parts[0][1], str) and parts[0][0].role != "tool" for _, parts in merged):
        return system, [{"role": role, "content": parts[0][1]} for role, parts in merged]
    return system, [{"role": role, "content": [_block(turn, part) for turn, part in parts]} for role, parts in merged]


def _block(turn: Turn, part: Part) -> Any:
    if turn.role == "tool":
        content = part if isinstance(part, str) else [_block(turn._replace(role="user"), part)]
        return {"type": "tool_result", "tool_use_id": turn.tool_call_id, "content": content}
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, ToolCall):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": part.arguments}
    if isinstance(part, Image):
        if part.url is not None:
            return {"type": "image", "source": {"type": "url", "url": part.url}}
        return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}
    return part


# Reading

_FINISH: Mapping[object, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tools",
    "refusal": "refused",
}


@reader
def read(wire: bytes) -> Reply:
    """The reply of a message; raises `Garbled`."""
    value = parsed(wire)
    content = value.get("content")
    if not isinstance(content, list) or value.get("type") == "error":
        raise Garbled("no `content` in the response")
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            texts.append(str(block.get("text") or ""))
        elif kind == "tool_use":
            calls.append(tool_call(block.get("id"), block.get("name"), block.get("input")))
        elif kind == "thinking":
            thoughts.append(str(block.get("thinking") or ""))
    text, wanted = with_reply_tool(whole_text("".join(texts)), calls)
    finish = _FINISH.get(value.get("stop_reason"), "other")
    if finish == "tools" and not wanted:
        finish = "stop"
    return Reply(
        text,
        finish,
        _usage(value.get("usage")),
        _refusal(value),
        "anthropic.messages",
        wire,
        wanted,
        None,
        whole_text("".join(thoughts)) or None,
        model_name(value.get("model")),
    )


def _refusal(value: Mapping[str, Any]) -> str | None:
    """Why the model refuses, where it says so."""
    if value.get("stop_reason") != "refusal":
        return None
    about = value.get("stop_details")
    found = about.get("explanation") if isinstance(about, dict) else None
    return found if isinstance(found, str) and found else None


def _usage(usage: object) -> Usage:
    """Anthropic counts what it read from its cache, and wrote to it, beside the prompt; here they are part of it."""
    if not isinstance(usage, dict):
        return NO_USAGE
    cached, written = count(usage.get("cache_read_input_tokens")), count(usage.get("cache_creation_input_tokens"))
    about = usage.get("output_tokens_details")
    reasoning = 0
    if isinstance(about, dict):
        reasoning = count(about.get("reasoning_tokens")) or count(about.get("thinking_tokens"))
    prompt = count(usage.get("input_tokens")) + cached + written
    return Usage(prompt, count(usage.get("output_tokens")), cached, reasoning, written)
