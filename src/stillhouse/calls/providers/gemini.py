"""Google's Gemini: AI Studio with a key, Vertex with a project, a token or a service account. One form of request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
from .openai import model_name, sampled
from .place import Place
from .schemas import GEMINI, as_object, rewritten
from .service_account import ServiceAccount
from .writing import Body, Part, Turn, merged_turns, messages_of, mode_of, not_taken, seed_of, split_turns, written

_MODES = ("native", "tool", "object", "prompt")


class Gemini:
    """`POST …/models/NAME:generateContent` of AI Studio."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._headers = place.headers({} if place.secret is None else {"x-goog-api-key": place.secret})

    def url(self, request: Request) -> str:
        return f"{self._place.base}/models/{_quoted(request, self._place)}:generateContent"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        return written(_body(request, self._place), request.extras.extra)

    def read(self, body: bytes) -> Reply:
        return self._place.reply(read, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


class Vertex:
    """The same on Vertex: the project and its location stand in the URL, and keys are of several kinds.

    In order: `VERTEX_ACCESS_TOKEN` (what `gcloud auth print-access-token` prints, good for an hour),
    `GOOGLE_APPLICATION_CREDENTIALS` (the file of a service account), `VERTEX_API_KEY` (express mode, without project).
    """

    def __init__(self, place: Place, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._headers = place.headers({})
        credentials = place.credentials
        self._token = credentials.get("VERTEX_ACCESS_TOKEN") or place.secret
        file = credentials.get("GOOGLE_APPLICATION_CREDENTIALS")
        self._account = None if self._token or not file else ServiceAccount(Path(file), clock)
        self._key = None if self._token or self._account else credentials.get("VERTEX_API_KEY")
        if not (self._token or self._account or self._key):
            raise ModelError(
                f"`{place.name}` needs a key, and none is set",
                "Set `VERTEX_ACCESS_TOKEN`, `GOOGLE_APPLICATION_CREDENTIALS` (a service account's file) or "
                "`VERTEX_API_KEY` in the environment or in `.env`.",
                kind="credentials",
            )
        place.hide(*filter(None, (self._token, self._key)))
        self._models = self._models_url()

    def url(self, request: Request) -> str:
        return f"{self._models}/{_quoted(request, self._place)}:generateContent"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        if self._key is not None:
            return sampled({**self._headers, "x-goog-api-key": self._key}, request)
        token = self._token if self._account is None else self._account.token()
        return sampled({**self._headers, "Authorization": f"Bearer {token}"}, request)

    def body(self, request: Request) -> bytes:
        return written(_body(request, self._place), request.extras.extra)

    def read(self, body: bytes) -> Reply:
        return self._place.reply(read, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)

    def _models_url(self) -> str:
        base, credentials = self._place.base, self._place.credentials
        if self._key is not None:
            return f"{base}/publishers/google/models"
        project = credentials.get("GOOGLE_CLOUD_PROJECT") or (self._account.project if self._account else None)
        if project is None:
            raise ModelError(
                f"`{self._place.name}` is asked in a project, and `GOOGLE_CLOUD_PROJECT` is not set",
                "Set it to the project's id in the environment or in `.env`.",
                kind="credentials",
            )
        location = credentials.get("GOOGLE_CLOUD_LOCATION") or "global"
        if location != "global":
            base = base.replace("//aiplatform.googleapis.com", f"//{location}-aiplatform.googleapis.com")
        return f"{base}/projects/{project}/locations/{location}/publishers/google/models"


def _quoted(request: Request, place: Place) -> str:
    return quote(place.endpoint.model or request.model, safe="")


def _body(request: Request, place: Place) -> Body:
    sampling = request.sampling
    mode = mode_of(request, place, _MODES)
    model = place.endpoint.model or request.model
    system, contents = _contents(messages_of(request, mode), signed=not model.startswith(("gemini-1", "gemini-2")))
    body: Body = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    chosen = {
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "maxOutputTokens": sampling.max_tokens,
        "stopSequences": list(sampling.stop) or None,
        "seed": seed_of(request),
    }
    config: Body = {name: value for name, value in chosen.items() if value is not None}
    body["generationConfig"] = config
    if mode is not None:
        _ask_for_json(body, request, mode)
    if request.extras is not NO_EXTRAS:
        _add_extras(body, request, place)
    return body


def _ask_for_json(body: Body, request: Request, mode: str) -> None:
    schema = request.schema
    assert schema is not None
    form = rewritten(schema, GEMINI) if mode == "native" else None
    if mode == "object" or form is not None:
        body["generationConfig"]["responseMimeType"] = "application/json"
    if form is not None:
        body["generationConfig"]["responseJsonSchema"] = form
    elif mode in ("native", "tool"):
        about = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}."}
        body["tools"] = [{"functionDeclarations": [{**about, "parametersJsonSchema": as_object(schema.form)}]}]
        only = {"mode": "ANY", "allowedFunctionNames": [REPLY_TOOL]}
        body["toolConfig"] = {"functionCallingConfig": only}


_CHOICES: Mapping[str, Body] = {"auto": {"mode": "AUTO"}, "none": {"mode": "NONE"}, "required": {"mode": "ANY"}}


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras, config = request.extras, body["generationConfig"]
    if extras.tools:
        own = [
            {"name": tool["name"], "description": tool["description"], "parametersJsonSchema": tool["parameters"]}
            for tool in extras.tools
        ]
        body["tools"] = [*body.get("tools", ()), {"functionDeclarations": own}]
        choice = extras.tool_choice
        if choice is not None and "toolConfig" not in body:
            wanted = _CHOICES.get(choice, {"mode": "ANY", "allowedFunctionNames": [choice]})
            body["toolConfig"] = {"functionCallingConfig": wanted}
    if extras.logprobs is not None:
        config["responseLogprobs"] = True
        if extras.logprobs:
            config["logprobs"] = extras.logprobs
    if extras.thinking is not None:
        config["thinkingConfig"] = {"thinkingBudget": extras.thinking}
    if extras.effort in ("none", "max"):
        raise not_taken(place, f"effort `{extras.effort}`", "Say minimal, low, medium or high, or `thinking=TOKENS`.")
    if extras.effort is not None:
        config.setdefault("thinkingConfig", {})["thinkingLevel"] = extras.effort.upper()


def _contents(messages: Sequence[Message], *, signed: bool) -> tuple[str, list[Body]]:
    """(the system prompt, the turns). Newer models want a signature on calls that they made; where a conversation was
    not had with them, this word stands in for it."""
    system, turns = split_turns(messages)
    merged = merged_turns(turns, {"assistant": "model", "tool": "user"})
    more = {"thoughtSignature": "skip_thought_signature_validator"} if signed else {}
    return system, [
        {"role": role, "parts": [_part(turn, part, more) for turn, part in parts]} for role, parts in merged
    ]


def _part(turn: Turn, part: Part, more: Mapping[str, str]) -> Any:
    if turn.role == "tool" and isinstance(part, str):
        return {"functionResponse": {"name": turn.tool_name, "response": _as_object(part)}}
    if isinstance(part, str):
        return {"text": part}
    if isinstance(part, ToolCall):
        return {"functionCall": {"name": part.name, "args": part.arguments}, **more}
    if isinstance(part, Image):
        if part.url is not None:
            return {"fileData": {"mimeType": part.media_type, "fileUri": part.url}}
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    return part


def _as_object(text: str) -> Any:
    """What a tool gave: an object as it is, anything else as the field `result` of one."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"result": text}
    return value if isinstance(value, dict) else {"result": value}


# Reading

_FINISH: Mapping[object, Finish] = {
    "STOP": "stop",
    None: "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "refused",
    "RECITATION": "refused",
    "BLOCKLIST": "refused",
    "PROHIBITED_CONTENT": "refused",
    "SPII": "refused",
    "LANGUAGE": "refused",
    "IMAGE_SAFETY": "refused",
    "MODEL_ARMOR": "refused",
    "ESCALATION": "refused",
}


@reader
def read(wire: bytes) -> Reply:
    """The reply of `generateContent`, its first candidate; raises `Garbled`. A blocked prompt is a refusal."""
    value = parsed(wire)
    usage, model = _usage(value.get("usageMetadata")), model_name(value.get("modelVersion"))
    candidates = value.get("candidates")
    if not candidates:
        about = value.get("promptFeedback")
        reason = about.get("blockReason") if isinstance(about, dict) else None
        if reason is None:
            raise Garbled("no `candidates` in the response")
        refusal = f"the provider blocked the prompt ({reason})"
        return Reply("", "refused", usage, refusal, "gemini", wire, model=model)
    candidate = candidates[0] if isinstance(candidates, list) else None
    if not isinstance(candidate, dict):
        raise Garbled("`candidates[0]` is no object")
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, dict):
            continue
        called = part.get("functionCall")
        if isinstance(called, dict):
            calls.append(tool_call(called.get("id") or f"call_{len(calls)}", called.get("name"), called.get("args")))
        elif isinstance(part.get("text"), str):
            (thoughts if part.get("thought") else texts).append(part["text"])
    text, wanted = with_reply_tool(whole_text("".join(texts)), calls)
    finish = _FINISH.get(candidate.get("finishReason"), "other")
    if finish == "stop" and wanted:
        finish = "tools"
    return Reply(
        text,
        finish,
        usage,
        f"the provider stopped the reply ({candidate['finishReason']})" if finish == "refused" else None,
        "gemini",
        wire,
        wanted,
        _logprobs(candidate.get("logprobsResult")),
        whole_text("".join(thoughts)) or None,
        model,
    )


def _logprobs(found: object) -> tuple[TokenChance, ...] | None:
    if not isinstance(found, dict) or not isinstance(found.get("chosenCandidates"), list):
        return None
    tops = found.get("topCandidates")
    tops = tops if isinstance(tops, list) else []
    chances: list[TokenChance] = []
    for place, chosen in enumerate(found["chosenCandidates"]):
        others = tops[place].get("candidates") if place < len(tops) and isinstance(tops[place], dict) else None
        top = tuple(_chance(other) for other in others or () if isinstance(other, dict))
        if isinstance(chosen, dict):
            chances.append(TokenChance(*_chance(chosen), top))
    return tuple(chances)


def _chance(found: Mapping[str, Any]) -> tuple[str, float]:
    return whole_text(str(found.get("token", ""))), float(found.get("logProbability") or 0.0)


def _usage(usage: object) -> Usage:
    """Gemini counts thoughts beside the reply; here they are part of it, as they are billed."""
    if not isinstance(usage, dict):
        return NO_USAGE
    thoughts = count(usage.get("thoughtsTokenCount"))
    prompt = count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount"))
    reply = count(usage.get("candidatesTokenCount")) + thoughts
    return Usage(prompt, reply, count(usage.get("cachedContentTokenCount")), thoughts)
