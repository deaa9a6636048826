"""Amazon Bedrock, by its Converse API, which is one for all models there. Requests are signed here or bear an API key.

No boto3: it brings a client of its own, in threads, with retries beneath ours, and what is needed of it is a signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

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
from .openai import sampled
from .place import Place
from .schemas import ANTHROPIC, as_object, rewritten
from .sigv4 import AwsKey, signed_headers
from .writing import (
    Body,
    Part,
    Turn,
    identifier,
    merged_turns,
    messages_of,
    mode_of,
    not_taken,
    split_turns,
    without_seed,
    written,
)

_MODES = ("native", "tool", "prompt")


class BedrockConverse:
    """`POST /model/NAME/converse`.

    Keys: `AWS_BEARER_TOKEN_BEDROCK`, or `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; the
    region is `AWS_REGION` or `AWS_DEFAULT_REGION`.
    """

    def __init__(self, place: Place, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._place = place
        self._clock = clock
        credentials = place.credentials
        self._headers = place.headers({})
        self._region = credentials.get("AWS_REGION") or credentials.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._base = place.base.replace(
            "//bedrock-runtime.amazonaws.com", f"//bedrock-runtime.{self._region}.amazonaws.com"
        )
        self._key: AwsKey | None = None
        token = place.secret or credentials.get("AWS_BEARER_TOKEN_BEDROCK")
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
            place.hide(token)
        else:
            access = credentials.require("AWS_ACCESS_KEY_ID", place.name)
            secret = credentials.require("AWS_SECRET_ACCESS_KEY", place.name)
            session = credentials.get("AWS_SESSION_TOKEN")
            self._key = AwsKey(access, secret, session)
            place.hide(access, secret, *filter(None, [session]))

    def url(self, request: Request) -> str:
        return f"{self._base}/model/{quote(self._place.endpoint.model or request.model, safe='')}/converse"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        headers = sampled(self._headers, request)
        if self._key is None:
            return headers
        url, now = self.url(request), self._clock()
        return signed_headers(
            "POST", url, headers, body, key=self._key, region=self._region, service="bedrock", now=now
        )

    def body(self, request: Request) -> bytes:
        place, sampling = self._place, request.sampling
        mode = mode_of(request, place, _MODES)
        system, messages = _messages(messages_of(request, mode))
        body: Body = {"messages": messages}
        if system:
            body["system"] = [{"text": system}]
        chosen = {
            "maxTokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "topP": sampling.top_p,
            "stopSequences": list(sampling.stop) or None,
        }
        config = {name: value for name, value in chosen.items() if value is not None}
        if config:
            body["inferenceConfig"] = config
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
        shape = {"name": identifier(schema.title), "schema": orjson.dumps(form).decode()}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": shape}}}
    elif mode != "prompt":
        about = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}."}
        tool = {"toolSpec": {**about, "inputSchema": {"json": as_object(schema.form)}}}
        body["toolConfig"] = {"tools": [tool], "toolChoice": {"tool": {"name": REPLY_TOOL}}}


_CHOICES: Mapping[str, Body] = {"auto": {"auto": {}}, "required": {"any": {}}}


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras = request.extras
    if extras.tools and extras.tool_choice != "none":  # Converse has no word for "none": no tools are shown then
        config = body.setdefault("toolConfig", {"tools": []})
        for tool in extras.tools:
            about = {"name": tool["name"], **({"description": tool["description"]} if tool["description"] else {})}
            config["tools"].append({"toolSpec": {**about, "inputSchema": {"json": tool["parameters"]}}})
        choice = extras.tool_choice
        if choice is not None and "toolChoice" not in config:
            config["toolChoice"] = _CHOICES.get(choice, {"tool": {"name": choice}})
    if extras.logprobs is not None:
        raise not_taken(place, "log-probabilities", "Leave `logprobs` out.")
    if extras.effort is not None:
        body.setdefault("outputConfig", {})["effort"] = extras.effort
    if extras.thinking is not None:
        switched = {"type": "enabled", "budget_tokens": extras.thinking} if extras.thinking else {"type": "disabled"}
        body["additionalModelRequestFields"] = {"thinking": switched}


def _messages(messages: Sequence[Message]) -> tuple[str, list[Body]]:
    system, turns = split_turns(messages)
    merged = merged_turns(turns, {"tool": "user"})
    return system, [{"role": role, "content": [_block(turn, part) for turn, part in parts]} for role, parts in merged]


def _block(turn: Turn, part: Part) -> Any:
    if turn.role == "tool":
        inner = _block(turn._replace(role="user"), part)
        return {"toolResult": {"toolUseId": turn.tool_call_id, "content": [inner]}}
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, ToolCall):
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": part.arguments}}
    if isinstance(part, Image):
        if part.data is None:
            raise RowFault("rejected", f"Bedrock takes images as data, not by URL ({part.url}): give a file")
        kind = part.media_type.removeprefix("image/")
        return {"image": {"format": "jpeg" if kind == "jpg" else kind, "source": {"bytes": part.data}}}
    return part


# Reading

_FINISH: Mapping[object, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tools",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "refused",
    "content_filtered": "refused",
    "refusal": "refused",
}


@reader
def read(wire: bytes) -> Reply:
    """The reply of Converse; raises `Garbled`."""
    value = parsed(wire)
    try:
        content = value["output"]["message"]["content"]
    except (KeyError, TypeError):
        raise Garbled("no `output.message.content` in the response") from None
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, dict):
            continue
        used, thought = block.get("toolUse"), block.get("reasoningContent")
        if isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif isinstance(used, dict):
            calls.append(tool_call(used.get("toolUseId"), used.get("name"), used.get("input")))
        elif isinstance(thought, dict) and isinstance(thought.get("reasoningText"), dict):
            thoughts.append(str(thought["reasoningText"].get("text") or ""))
    text, wanted = with_reply_tool(whole_text("".join(texts)), calls)
    reason = value.get("stopReason")
    finish = _FINISH.get(reason, "other")
    if finish == "tools" and not wanted:
        finish = "stop"
    refusal = text or "a guardrail stopped the reply" if reason == "guardrail_intervened" else None
    return Reply(
        text,
        finish,
        _usage(value.get("usage")),
        refusal,
        "bedrock.converse",
        wire,
        wanted,
        None,
        whole_text("".join(thoughts)) or None,
    )


def _usage(usage: object) -> Usage:
    """Converse counts what it read from its cache, and wrote to it, beside the prompt; here they are part of it."""
    if not isinstance(usage, dict):
        return NO_USAGE
    cached, written = count(usage.get("cacheReadInputTokens")), count(usage.get("cacheWriteInputTokens"))
    prompt = count(usage.get("inputTokens")) + cached + written
    return Usage(prompt, count(usage.get("outputTokens")), cached, 0, written)
