"""OpenAI's responses, the API in which its newer and its reasoning models can do all they can."""

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
from ..request import NO_EXTRAS, Message, Request
from .openai import json_text, model_name, read_logprobs, sampled
from .place import Place
from .schemas import as_object, strict_form
from .writing import Body, Part, identifier, messages_of, mode_of, not_taken, split_turns, without_seed, written

_MODES = ("native", "tool", "object", "prompt")


class OpenAIResponses:
    """`POST …/responses`. Nothing is stored there: what is kept is kept here."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._headers = place.headers(place.bearer)

    def url(self, request: Request) -> str:
        return self._place.base + "/responses"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        place, sampling = self._place, request.sampling
        mode = mode_of(request, place, _MODES)
        system, items = _items(messages_of(request, mode))
        body: Body = {"model": place.endpoint.model or request.model, "input": items, "store": False}
        if system:
            body["instructions"] = system
        chosen = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_output_tokens": sampling.max_tokens,
        }
        body |= {name: value for name, value in chosen.items() if value is not None}
        if sampling.stop:
            raise not_taken(place, "stop sequences", "Leave `stop` out, or ask the model as `openai/NAME`.")
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
    strict = strict_form(schema) if mode in ("native", "tool") else None
    form = as_object(schema.form) if strict is None else strict
    if mode == "native":
        shape = {"name": identifier(schema.title), "schema": form, "strict": strict is not None}
        body["text"] = {"format": {"type": "json_schema", **shape}}
    elif mode == "object":
        body["text"] = {"format": {"type": "json_object"}}
    elif mode == "tool":
        about = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}."}
        body["tools"] = [{"type": "function", **about, "parameters": form, "strict": strict is not None}]
        body["tool_choice"] = {"type": "function", "name": REPLY_TOOL}


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras = request.extras
    if extras.tools:
        own = [{"type": "function", "strict": False, **tool} for tool in extras.tools]
        body["tools"] = [*body.get("tools", ()), *own]
        choice = extras.tool_choice
        if choice is not None and "tool_choice" not in body:
            named = choice not in ("auto", "none", "required")
            body["tool_choice"] = {"type": "function", "name": choice} if named else choice
    if extras.logprobs is not None:
        body["include"] = ["message.output_text.logprobs"]
        body["top_logprobs"] = extras.logprobs
    if extras.effort is not None:
        body["reasoning"] = {"effort": extras.effort}
    if extras.thinking is not None:
        raise not_taken(place, "budget of tokens for `thinking`", "Say `effort=…`.")


def _items(messages: Sequence[Message]) -> tuple[str, list[Body]]:
    system, turns = split_turns(messages)
    items: list[Body] = []
    for turn in turns:
        if turn.role == "tool":
            items.append({"type": "function_call_output", "call_id": turn.tool_call_id, "output": turn.text})
            continue
        said = [part for part in turn.parts if not isinstance(part, ToolCall)]
        if all(isinstance(part, str) for part in said):
            if said:
                items.append({"role": turn.role, "content": turn.text})
        else:
            items.append({"role": turn.role, "content": [_part(part) for part in said]})
        items += [_call(part) for part in turn.parts if isinstance(part, ToolCall)]
    return system, items


def _part(part: Part) -> Any:
    if isinstance(part, Image):
        return {"type": "input_image", "image_url": part.any_url, "detail": "auto"}
    return {"type": "input_text", "text": part} if isinstance(part, str) else part


def _call(call: ToolCall) -> Body:
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json_text(call.arguments)}


# Reading

_CUT: Mapping[object, Finish] = {"max_output_tokens": "length", "content_filter": "refused"}


@reader
def read(wire: bytes) -> Reply:
    """The reply of a response; raises `Garbled`."""
    value = parsed(wire)
    output = value.get("output")
    if not isinstance(output, list) or value.get("status") not in ("completed", "incomplete", None):
        raise Garbled(f"no finished `output` in the response (status {value.get('status')})")
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    chances: list[TokenChance] = []
    for item in output:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "message":
            _read_message(item, texts, refusals, chances)
        elif kind == "function_call":
            calls.append(tool_call(item.get("call_id"), item.get("name"), item.get("arguments")))
        elif kind == "reasoning":
            thoughts += [_text(part) for part in (*_list(item.get("summary")), *_list(item.get("content")))]
    text, wanted = with_reply_tool(whole_text("".join(texts)), calls)
    finish: Finish = "tools" if wanted else "stop"
    if value.get("status") == "incomplete":
        about = value.get("incomplete_details")
        finish = _CUT.get(about.get("reason") if isinstance(about, dict) else None, "other")
    return Reply(
        text,
        finish,
        _usage(value.get("usage")),
        whole_text("".join(refusals)) or None,
        "openai.responses",
        wire,
        wanted,
        tuple(chances) or None,
        whole_text("\n\n".join(filter(None, thoughts))) or None,
        model_name(value.get("model")),
    )


def _read_message(item: Mapping[str, Any], texts: list[str], refusals: list[str], chances: list[TokenChance]) -> None:
    for part in _list(item.get("content")):
        if not isinstance(part, dict):
            continue
        if part.get("type") == "refusal":
            refusals.append(str(part.get("refusal") or "the model refuses"))
        else:
            texts.append(_text(part))
            chances += read_logprobs(part.get("logprobs")) or ()


def _text(part: object) -> str:
    found = part.get("text") if isinstance(part, dict) else None
    return found if isinstance(found, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return NO_USAGE
    about_prompt, about_reply = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    cached = written = reasoning = 0
    if isinstance(about_prompt, dict):
        cached, written = count(about_prompt.get("cached_tokens")), count(about_prompt.get("cache_write_tokens"))
    if isinstance(about_reply, dict):
        reasoning = count(about_reply.get("reasoning_tokens"))
    return Usage(count(usage.get("input_tokens")), count(usage.get("output_tokens")), cached, reasoning, written)
