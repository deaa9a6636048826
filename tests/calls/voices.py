"""How each API hears and speaks: the server's side of the dialects, written from the providers' own reference.

A voice says where its API listens, makes the one form of a conversation out of a request, and writes replies and errors
as the provider does. A new provider gets all tests of `test_dialects.py` by a voice here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

Json = Any
"""A JSON value."""


class Heard(NamedTuple):
    """A request in the one form: messages as OpenAI's chat has them, content as text."""

    model: str
    messages: list[dict[str, Any]]
    schema: dict[str, Any] | None = None
    tools: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """What the model says, before a voice writes it down."""

    text: str | None = None
    finish: str = "stop"
    refusal: str | None = None
    tool_calls: tuple[tuple[str, str, Mapping[str, Any]], ...] = ()
    reasoning: str | None = None
    model: str = "teacher"
    logprobs: tuple[tuple[str, float], ...] = ()
    prompt_tokens: int = 0
    """All of the prompt, those read from and written to a cache among them."""
    reply_tokens: int = 0
    """All of the reply, those of its reasoning among them."""
    cached: int = 0
    written: int = 0
    reasoning_tokens: int = 0
    number: int = 1
    """Of the call, where the API gives replies an id."""


class Trouble(NamedTuple):
    """An error as a provider words it."""

    status: int
    body: Json
    headers: Mapping[str, str] = {}


@dataclass(frozen=True)
class Voice:
    """One API. `key` is the header that holds the key, `modes` are the ways in which it can be asked for JSON."""

    api: str
    model: str
    route: str
    heard: Callable[[Json, Mapping[str, str]], Heard]
    answer: Callable[[Said], Json]
    troubles: Mapping[str, Trouble]
    key: tuple[str, str] = ("Authorization", "Bearer ")
    secrets: Mapping[str, str] = field(default_factory=lambda: {"TEACHER_KEY": "sk-very-secret"})
    modes: tuple[str, ...] = ("native", "tool", "object", "prompt")
    counts: tuple[str, ...] = ("cached", "written", "reasoning_tokens")
    """Which tokens it tells apart."""
    seeds: bool = True
    stops: bool = True
    logprobs: bool = True
    names_model: bool = True
    shows_reasoning: bool = True


REPLY_TOOL = "give_reply"


def _joined(content: Json, images: list[str]) -> str:
    """The text of content as OpenAI's chat and its like have it."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        if "image_url" in part:
            found = part["image_url"]
            images.append(found["url"] if isinstance(found, dict) else found)
        else:
            texts.append(part["text"])
    return "".join(texts)


# OpenAI's chat, and Azure's


def _hear_chat(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages = [{**message, "content": _joined(message["content"], images)} for message in body["messages"]]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    tools = {tool["function"]["name"]: tool["function"].get("parameters") for tool in body.get("tools", ())}
    schema = schema or body.get("response_format", {}).get("schema") or tools.get(REPLY_TOOL)
    return Heard(match.get("model") or body["model"], messages, schema, tuple(tools), tuple(images))


def _openai_calls(said: Said) -> list[Json]:
    return [
        {"id": identifier, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for identifier, name, arguments in said.tool_calls
    ]


def _openai_logprobs(said: Said) -> list[Json]:
    return [
        {
            "token": token,
            "logprob": chance,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": "or", "logprob": chance - 1, "bytes": [111, 114]}],
        }
        for token, chance in said.logprobs
    ]


def _say_chat(said: Said) -> Json:
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": said.refusal}
    if said.tool_calls:
        message["tool_calls"] = _openai_calls(said)
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    finish = {"tools": "tool_calls"}.get(said.finish, said.finish)
    return {
        "id": f"chatcmpl-{said.number}",
        "object": "chat.completion",
        "model": said.model,
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": message,
                "logprobs": {"content": _openai_logprobs(said)} if said.logprobs else None,
            }
        ],
        "usage": {
            "prompt_tokens": said.prompt_tokens,
            "completion_tokens": said.reply_tokens,
            "total_tokens": said.prompt_tokens + said.reply_tokens,
            "prompt_tokens_details": {"cached_tokens": said.cached, "cache_write_tokens": said.written},
            "completion_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
        },
    }


def _openai(message: str, kind: str, code: str | None = None) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_OPENAI_TROUBLES = {
    "wrong key": Trouble(
        401,
        _openai(
            "Incorrect API key provided: {key}. You can find your API key at https://platform.openai.com.",
            "invalid_request_error",
            "invalid_api_key",
        ),
    ),
    "no quota": Trouble(
        429,
        _openai(
            "You exceeded your current quota, please check your plan and billing details. For more information on this "
            "error, read the docs.",
            "insufficient_quota",
            "insufficient_quota",
        ),
    ),
    "rate limit": Trouble(
        429,
        _openai(
            "Rate limit reached for teacher in organization org-1 on requests per min (RPM): Limit 3, Used 3, "
            "Requested 1. Please try again in 20ms.",
            "requests",
            "rate_limit_exceeded",
        ),
        {
            "x-ratelimit-limit-requests": "3",
            "x-ratelimit-remaining-requests": "0",
            "x-ratelimit-reset-requests": "20ms",
        },
    ),
    "unknown model": Trouble(
        404,
        _openai(
            "The model `teacher` does not exist or you do not have access to it.",
            "invalid_request_error",
            "model_not_found",
        ),
    ),
    "too long": Trouble(
        400,
        _openai(
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens. "
            "Please reduce the length of the messages.",
            "invalid_request_error",
            "context_length_exceeded",
        ),
    ),
    "unsupported": Trouble(
        400,
        _openai(
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is "
            "supported.",
            "invalid_request_error",
            "unsupported_value",
        ),
    ),
    "schema": Trouble(
        400,
        _openai(
            "Invalid schema for response_format 'Said': In context=(), 'additionalProperties' is required to be "
            "supplied and to be false.",
            "invalid_request_error",
        ),
    ),
    "filtered prompt": Trouble(
        400,
        _openai(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy.",
            "invalid_request_error",
            "invalid_prompt",
        ),
    ),
    "rejected": Trouble(400, _openai("Invalid type for 'messages[0].content'.", "invalid_request_error", None)),
    "overloaded": Trouble(
        503, _openai("The server is currently overloaded, please try again later.", "server_error", None)
    ),
    "error behind 200": Trouble(200, _openai("The server had an error while processing.", "server_error", None)),
}

CHAT = Voice(
    "openai", "openai/teacher", "/v1/chat/completions", _hear_chat, _say_chat, _OPENAI_TROUBLES
)  # fmt: skip


def _azure(code: str, message: str, **inner: Json) -> Json:
    return {"error": {"code": code, "message": message, **inner}}


AZURE = Voice(
    "azure",
    "azure/teacher",
    "/v1/openai/deployments/{model}/chat/completions",
    _hear_chat,
    _say_chat,
    {
        **_OPENAI_TROUBLES,
        "wrong key": Trouble(
            401,
            _azure(
                "401",
                "Access denied due to invalid subscription key {key} or wrong API endpoint. Make sure to provide a "
                "valid key for an active subscription.",
            ),
        ),
        "rate limit": Trouble(
            429,
            _azure(
                "429", "Requests to the ChatCompletions_Create Operation have exceeded call rate limit. Please retry."
            ),
            {"retry-after-ms": "20", "retry-after": "1"},
        ),
        "unknown model": Trouble(
            404, _azure("DeploymentNotFound", "The API deployment for this resource does not exist.")
        ),
        "filtered prompt": Trouble(
            400,
            _azure(
                "content_filter",
                "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                innererror={"code": "ResponsibleAIPolicyViolation"},
            ),
        ),
    },
    key=("api-key", ""),
)


# OpenAI's responses


def _hear_responses(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages: list[dict[str, Any]] = []
    if "instructions" in body:
        messages.append({"role": "system", "content": body["instructions"]})
    for item in body["input"]:
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item["output"], "tool_call_id": item["call_id"]})
        elif item.get("type") == "function_call":
            messages.append({"role": "assistant", "content": "", "tool_calls": [item["name"]]})
        else:
            messages.append({"role": item["role"], "content": _joined(item["content"], images)})
    tools = {tool["name"]: tool["parameters"] for tool in body.get("tools", ())}
    schema = body.get("text", {}).get("format", {}).get("schema") or tools.get(REPLY_TOOL)
    assert body["store"] is False
    return Heard(body["model"], messages, schema, tuple(tools), tuple(images))


def _say_responses(said: Said) -> Json:
    output: list[Json] = []
    if said.reasoning or said.reasoning_tokens:
        summary = [{"type": "summary_text", "text": said.reasoning}] if said.reasoning else []
        output.append({"type": "reasoning", "id": "rs_1", "summary": summary})
    content: list[Json] = []
    if said.text is not None:
        content.append(
            {"type": "output_text", "text": said.text, "annotations": [], "logprobs": _openai_logprobs(said)}
        )
    if said.refusal is not None:
        content.append({"type": "refusal", "refusal": said.refusal})
    if content:
        output.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        )
    output += [
        {"type": "function_call", "call_id": identifier, "name": name, "arguments": json.dumps(arguments)}
        for identifier, name, arguments in said.tool_calls
    ]
    cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(said.finish)
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed" if cut is None else "incomplete",
        "incomplete_details": None if cut is None else {"reason": cut},
        "error": None,
        "model": said.model,
        "output": output,
        "usage": {
            "input_tokens": said.prompt_tokens,
            "output_tokens": said.reply_tokens,
            "total_tokens": said.prompt_tokens + said.reply_tokens,
            "input_tokens_details": {"cached_tokens": said.cached, "cache_write_tokens": said.written},
            "output_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
        },
    }


_FAILED = {"code": "server_error", "message": "The model failed to generate a response."}
RESPONSES = Voice(
    "responses",
    "responses/teacher",
    "/v1/responses",
    _hear_responses,
    _say_responses,
    {
        **_OPENAI_TROUBLES,
        "error behind 200": Trouble(
            200, {"id": "resp_1", "object": "response", "status": "failed", "error": _FAILED, "output": []}
        ),
    },
    seeds=False,
    stops=False,
)


# Anthropic


def _hear_anthropic(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages: list[dict[str, Any]] = []
    if "system" in body:
        messages.append({"role": "system", "content": body["system"]})
    for message in body["messages"]:
        content = message["content"]
        blocks: list[Json] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text":
                messages.append({"role": message["role"], "content": block["text"]})
            elif block["type"] == "tool_use":
                messages.append({"role": "assistant", "content": "", "tool_calls": [block["name"]]})
            elif block["type"] == "tool_result":
                messages.append({"role": "tool", "content": block["content"], "tool_call_id": block["tool_use_id"]})
            else:
                source = block["source"]
                images.append(source.get("url") or f"data:{source['media_type']};base64,{source['data']}")
    tools = {tool["name"]: tool["input_schema"] for tool in body.get("tools", ())}
    schema = body.get("output_config", {}).get("format", {}).get("schema") or tools.get(REPLY_TOOL)
    assert body["max_tokens"] > 0
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in pairwise(roles)), "roles alternate"
    return Heard(body["model"], messages, schema, tuple(tools), tuple(images))


def _say_anthropic(said: Said) -> Json:
    content: list[Json] = []
    if said.reasoning:
        content.append({"type": "thinking", "thinking": said.reasoning, "signature": "c2lnbmVk"})
    if said.text is not None:
        content.append({"type": "text", "text": said.text})
    content += [
        {"type": "tool_use", "id": identifier, "name": name, "input": arguments}
        for identifier, name, arguments in said.tool_calls
    ]
    reason = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tools": "tool_use"}[said.finish]
    about = None
    if said.refusal is not None:
        reason, about = "refusal", {"type": "refusal", "category": "cyber", "explanation": said.refusal}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": content,
        "stop_reason": reason,
        "stop_details": about,
        "stop_sequence": None,
        "usage": {
            "input_tokens": said.prompt_tokens - said.cached - said.written,
            "cache_read_input_tokens": said.cached,
            "cache_creation_input_tokens": said.written,
            "output_tokens": said.reply_tokens,
            "output_tokens_details": {"thinking_tokens": said.reasoning_tokens},
        },
    }


def _anthropic(kind: str, message: str) -> Json:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


ANTHROPIC = Voice(
    "anthropic",
    "anthropic/teacher",
    "/v1/messages",
    _hear_anthropic,
    _say_anthropic,
    {
        "wrong key": Trouble(401, _anthropic("authentication_error", "invalid x-api-key {key}")),
        "no quota": Trouble(
            400,
            _anthropic(
                "invalid_request_error",
                "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade "
                "or purchase credits.",
            ),
        ),
        "rate limit": Trouble(
            429,
            _anthropic("rate_limit_error", "This request would exceed your organization's rate limit."),
            {"retry-after": "0"},
        ),
        "unknown model": Trouble(404, _anthropic("not_found_error", "model: teacher")),
        "too long": Trouble(
            400, _anthropic("invalid_request_error", "prompt is too long: 214748 tokens > 200000 maximum")
        ),
        "unsupported": Trouble(400, _anthropic("invalid_request_error", "`temperature` is deprecated for this model.")),
        "schema": Trouble(
            400,
            _anthropic(
                "invalid_request_error",
                "output_config.format.schema: For 'object' type, property 'additionalProperties' must be set to false",
            ),
        ),
        "filtered prompt": Trouble(
            400, _anthropic("invalid_request_error", "Output blocked by content filtering policy")
        ),
        "rejected": Trouble(
            400, _anthropic("invalid_request_error", "messages.0.content.0.text: text content blocks must be non-empty")
        ),
        "overloaded": Trouble(529, _anthropic("overloaded_error", "Overloaded")),
        "error behind 200": Trouble(200, _anthropic("overloaded_error", "Overloaded")),
    },
    key=("x-api-key", ""),
    modes=("native", "tool", "prompt"),
    seeds=False,
    logprobs=False,
)


# Gemini, and Vertex


def _hear_gemini(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages: list[dict[str, Any]] = []
    if "systemInstruction" in body:
        messages.append({"role": "system", "content": body["systemInstruction"]["parts"][0]["text"]})
    for turn in body["contents"]:
        role = {"model": "assistant"}.get(turn["role"], turn["role"])
        for part in turn["parts"]:
            if "text" in part:
                messages.append({"role": role, "content": part["text"]})
            elif "functionCall" in part:
                messages.append({"role": "assistant", "content": "", "tool_calls": [part["functionCall"]["name"]]})
            elif "functionResponse" in part:
                found = part["functionResponse"]
                content = json.dumps(found["response"])
                messages.append({"role": "tool", "content": content, "tool_call_id": found["name"]})
            elif "inlineData" in part:
                images.append(f"data:{part['inlineData']['mimeType']};base64,{part['inlineData']['data']}")
            else:
                images.append(part["fileData"]["fileUri"])
    declared = [tool for group in body.get("tools", ()) for tool in group["functionDeclarations"]]
    tools = {tool["name"]: tool["parametersJsonSchema"] for tool in declared}
    schema = body["generationConfig"].get("responseJsonSchema") or tools.get(REPLY_TOOL)
    return Heard(match["model"], messages, schema, tuple(tools), tuple(images))


def _say_gemini(said: Said) -> Json:
    if said.refusal is not None:
        return {
            "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
            "usageMetadata": {"promptTokenCount": said.prompt_tokens, "totalTokenCount": said.prompt_tokens},
            "modelVersion": said.model,
        }
    parts: list[Json] = []
    if said.reasoning:
        parts.append({"text": said.reasoning, "thought": True})
    if said.text is not None:
        parts.append({"text": said.text})
    parts += [
        {"functionCall": {"id": identifier, "name": name, "args": arguments}}
        for identifier, name, arguments in said.tool_calls
    ]
    finish = {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}[said.finish]
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}
    if said.logprobs:
        chosen = [{"token": token, "logProbability": chance} for token, chance in said.logprobs]
        tops = [{"candidates": [{"token": "or", "logProbability": chance - 1}]} for _, chance in said.logprobs]
        candidate["logprobsResult"] = {"chosenCandidates": chosen, "topCandidates": tops}
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": said.prompt_tokens,
            "candidatesTokenCount": said.reply_tokens - said.reasoning_tokens,
            "thoughtsTokenCount": said.reasoning_tokens,
            "cachedContentTokenCount": said.cached,
            "totalTokenCount": said.prompt_tokens + said.reply_tokens,
        },
        "modelVersion": said.model,
    }


def _google(code: int, status: str, message: str, *details: Json) -> Json:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


_MINUTE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel", "quotaValue": "10"}],
}
_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "250"}],
}
_OVER = "You exceeded your current quota, please check your plan and billing details."
_GEMINI_TROUBLES = {
    "wrong key": Trouble(
        400,
        _google(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        ),
    ),
    "no quota": Trouble(429, _google(429, "RESOURCE_EXHAUSTED", _OVER, _DAY, {"retryDelay": "34s"})),
    "rate limit": Trouble(
        429,
        _google(429, "RESOURCE_EXHAUSTED", f"{_OVER} Please retry in 0.02s.", _MINUTE, {"retryDelay": "0.02s"}),
    ),
    "unknown model": Trouble(
        404, _google(404, "NOT_FOUND", "models/teacher is not found for API version v1beta, or is not supported.")
    ),
    "too long": Trouble(
        400,
        _google(
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
    ),
    "unsupported": Trouble(
        400,
        _google(
            400,
            "INVALID_ARGUMENT",
            "Invalid JSON payload received. Unknown name \"top_k\" at 'generation_config': Cannot find field.",
        ),
    ),
    "schema": Trouble(
        400,
        _google(
            400,
            "INVALID_ARGUMENT",
            "* GenerateContentRequest.generation_config.response_json_schema: the schema must be an object.",
        ),
    ),
    "filtered prompt": Trouble(400, _google(400, "INVALID_ARGUMENT", "The prompt was blocked by safety filters.")),
    "rejected": Trouble(400, _google(400, "INVALID_ARGUMENT", "Unable to process input image.")),
    "overloaded": Trouble(503, _google(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")),
    "error behind 200": Trouble(200, [_google(503, "UNAVAILABLE", "The model is overloaded.")]),
}

GEMINI = Voice(
    "gemini",
    "gemini/teacher",
    "/v1/models/{model}:generateContent",
    _hear_gemini,
    _say_gemini,
    _GEMINI_TROUBLES,
    key=("x-goog-api-key", ""),
    counts=("cached", "reasoning_tokens"),
)
VERTEX = Voice(
    "vertex",
    "vertex/teacher",
    "/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:generateContent",
    _hear_gemini,
    _say_gemini,
    {
        **_GEMINI_TROUBLES,
        "wrong key": Trouble(
            401,
            [_google(401, "UNAUTHENTICATED", "Request had invalid authentication credentials: {key}.")],
        ),
    },
    secrets={"VERTEX_ACCESS_TOKEN": "sk-very-secret", "GOOGLE_CLOUD_PROJECT": "barley"},
    counts=("cached", "reasoning_tokens"),
)


# Bedrock


def _hear_converse(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages: list[dict[str, Any]] = [{"role": "system", "content": part["text"]} for part in body.get("system", ())]
    for message in body["messages"]:
        for block in message["content"]:
            if "text" in block:
                messages.append({"role": message["role"], "content": block["text"]})
            elif "toolUse" in block:
                messages.append({"role": "assistant", "content": "", "tool_calls": [block["toolUse"]["name"]]})
            elif "toolResult" in block:
                found = block["toolResult"]
                text = found["content"][0]["text"]
                messages.append({"role": "tool", "content": text, "tool_call_id": found["toolUseId"]})
            else:
                image = block["image"]
                images.append(f"data:image/{image['format']};base64,{image['source']['bytes']}")
    declared = [tool["toolSpec"] for tool in body.get("toolConfig", {}).get("tools", ())]
    tools = {tool["name"]: tool["inputSchema"]["json"] for tool in declared}
    native = body.get("outputConfig", {}).get("textFormat")
    schema = json.loads(native["structure"]["jsonSchema"]["schema"]) if native else tools.get(REPLY_TOOL)
    return Heard(match["model"], messages, schema, tuple(tools), tuple(images))


def _say_converse(said: Said) -> Json:
    content: list[Json] = []
    if said.reasoning:
        content.append({"reasoningContent": {"reasoningText": {"text": said.reasoning, "signature": "c2ln"}}})
    text = said.refusal if said.refusal is not None else said.text
    if text is not None:
        content.append({"text": text})
    content += [
        {"toolUse": {"toolUseId": identifier, "name": name, "input": arguments}}
        for identifier, name, arguments in said.tool_calls
    ]
    finish = {"stop": "end_turn", "length": "max_tokens", "content_filter": "content_filtered", "tools": "tool_use"}
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "guardrail_intervened" if said.refusal is not None else finish[said.finish],
        "usage": {
            "inputTokens": said.prompt_tokens - said.cached - said.written,
            "cacheReadInputTokens": said.cached,
            "cacheWriteInputTokens": said.written,
            "outputTokens": said.reply_tokens,
            "totalTokens": said.prompt_tokens + said.reply_tokens,
        },
        "metrics": {"latencyMs": 1},
    }


def _aws(status: int, kind: str, message: str) -> Trouble:
    return Trouble(status, {"message": message}, {"x-amzn-ErrorType": f"{kind}:http://internal.amazon.com/"})


BEDROCK = Voice(
    "bedrock",
    "bedrock/teacher",
    "/v1/model/{model}/converse",
    _hear_converse,
    _say_converse,
    {
        "wrong key": _aws(
            403, "UnrecognizedClientException", "The security token {key} included in the request is invalid."
        ),
        "no quota": _aws(400, "ServiceQuotaExceededException", "Your account has reached its quota for this model."),
        "rate limit": _aws(429, "ThrottlingException", "Too many requests, please wait before trying again."),
        "unknown model": _aws(400, "ValidationException", "The provided model identifier is invalid."),
        "too long": _aws(400, "ValidationException", "Input is too long for requested model."),
        "unsupported": _aws(
            400, "ValidationException", "The model returned these errors: temperature: Extra inputs are not permitted"
        ),
        "schema": _aws(400, "ValidationException", "Invalid schema in outputConfig.textFormat."),
        "filtered prompt": _aws(400, "ValidationException", "The prompt was blocked by the content filter policy."),
        "rejected": _aws(400, "ValidationException", "The text field in the ContentBlock object is blank."),
        "overloaded": _aws(503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
        "error behind 200": Trouble(200, {"message": "Internal failure", "__type": "InternalServerException"}),
    },
    secrets={"AWS_BEARER_TOKEN_BEDROCK": "sk-very-secret"},
    modes=("native", "tool", "prompt"),
    counts=("cached", "written"),
    seeds=False,
    logprobs=False,
    names_model=False,
)  # fmt: skip


# Cohere


def _hear_cohere(body: Json, match: Mapping[str, str]) -> Heard:
    images: list[str] = []
    messages = [{**message, "content": _joined(message["content"], images)} for message in body["messages"]]
    tools = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", ())}
    schema = body.get("response_format", {}).get("json_schema") or tools.get(REPLY_TOOL)
    return Heard(body["model"], messages, schema, tuple(tools), tuple(images))


def _say_cohere(said: Said) -> Json:
    content: list[Json] = []
    if said.reasoning:
        content.append({"type": "thinking", "thinking": said.reasoning})
    if said.text is not None:
        content.append({"type": "text", "text": said.text})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if said.tool_calls:
        message["tool_calls"] = _openai_calls(said)
    finish = {"stop": "COMPLETE", "length": "MAX_TOKENS", "content_filter": "ERROR_TOXIC", "tools": "TOOL_CALL"}
    reply: dict[str, Any] = {
        "id": "1",
        "message": message,
        "finish_reason": "ERROR_TOXIC" if said.refusal is not None else finish[said.finish],
        "usage": {
            "billed_units": {"input_tokens": float(said.prompt_tokens), "output_tokens": float(said.reply_tokens)},
            "tokens": {"input_tokens": said.prompt_tokens + 60.0, "output_tokens": said.reply_tokens + 2.0},
            "cached_tokens": float(said.cached),
        },
    }
    if said.logprobs:
        reply["logprobs"] = [
            {"text": token, "token_ids": [place], "logprobs": [chance]}
            for place, (token, chance) in enumerate(said.logprobs)
        ]
    return reply


def _cohere(status: int, message: str) -> Trouble:
    return Trouble(status, {"id": "1", "message": message})


COHERE = Voice(
    "cohere",
    "cohere/teacher",
    "/v1/chat",
    _hear_cohere,
    _say_cohere,
    {
        "wrong key": _cohere(401, "invalid api token {key}"),
        "no quota": _cohere(429, "You are using a Trial key, which is limited to 1000 API calls / month."),
        "rate limit": _cohere(429, "You are using a Trial key, which is limited to 20 API calls / minute."),
        "unknown model": _cohere(404, "model 'teacher' not found, make sure the correct model ID was used."),
        "too long": _cohere(400, "too many tokens: total number of tokens in the prompt cannot exceed 128000"),
        "unsupported": _cohere(422, "unknown field: top_p"),
        "schema": _cohere(400, "invalid schema: at least one required field must be specified"),
        "filtered prompt": _cohere(400, "the prompt was flagged by our safety systems"),
        "rejected": _cohere(400, "invalid request: message must be at least 1 token long"),
        "overloaded": _cohere(503, "the service is overloaded, try again later"),
        "error behind 200": Trouble(
            200, {"id": "1", "finish_reason": "ERROR", "message": {"role": "assistant", "content": []}}
        ),
    },
    counts=("cached",),
    names_model=False,
)


def _hear_completion(body: Json, match: Mapping[str, str]) -> Heard:
    return Heard(body["model"], [{"role": "prefix", "content": body["prompt"]}])


def _say_completion(said: Said) -> Json:
    tokens = [token for token, _ in said.logprobs]
    values = [value for _, value in said.logprobs]
    chances = {"tokens": tokens, "token_logprobs": values, "top_logprobs": [dict(said.logprobs)] * len(tokens)}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "model": said.model,
        "choices": [
            {
                "index": 0,
                "text": said.text or "",
                "finish_reason": said.finish,
                "logprobs": chances if said.logprobs else None,
            }
        ],
        "usage": {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.reply_tokens},
    }


COMPLETION = Voice(
    "completions", "completions/teacher", "/v1/completions", _hear_completion, _say_completion, _OPENAI_TROUBLES
)
"""Raw text: it knows neither roles nor JSON, so the contract of those that chat is not for it."""

VOICES: Mapping[str, Voice] = {
    voice.api: voice for voice in (CHAT, AZURE, RESPONSES, ANTHROPIC, GEMINI, VERTEX, BEDROCK, COHERE)
}
