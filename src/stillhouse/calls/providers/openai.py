"""The chat completions of OpenAI, which vLLM, SGLang, llama.cpp, Ollama and many hosts speak too; and Azure's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson

from stillhouse.core.errors import ModelError, RowFault

from ..images import has_parts, image_of, is_image
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
from ..request import NO_EXTRAS, Message, Request, Tool
from .place import Place
from .schemas import as_object, strict_form
from .writing import Body, identifier, messages_of, mode_of, not_taken, seed_of, tool_call_of, written

_MODES = ("native", "tool", "object", "prompt")


class OpenAIChat:
    """`POST …/chat/completions`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._url = place.base + "/chat/completions"
        self._headers = place.headers(place.bearer)

    def url(self, request: Request) -> str:
        return self._url

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        return written(chat_body(request, self._place), request.extras.extra)

    def read(self, body: bytes) -> Reply:
        return self._place.reply(read, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


class AzureChat:
    """OpenAI's chat on Azure: a URL for each deployment of a model, the version of the API, a header of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._headers = place.headers({"api-key": place.secret} if place.secret is not None else {})
        self._query = f"?api-version={place.endpoint.api_version}"

    def url(self, request: Request) -> str:
        model = quote(self._place.endpoint.model or request.model, safe="")
        return f"{self._place.base}/openai/deployments/{model}/chat/completions{self._query}"

    def headers(self, request: Request, body: bytes) -> Mapping[str, str]:
        return sampled(self._headers, request)

    def body(self, request: Request) -> bytes:
        return written(chat_body(request, self._place), request.extras.extra)

    def read(self, body: bytes) -> Reply:
        return self._place.reply(read, body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ModelError | RowFault:
        return self._place.failure(status, headers, body)


def sampled(headers: Mapping[str, str], request: Request) -> Mapping[str, str]:
    """The headers, with the sample index where there is one, which a server may use to tell samples apart."""
    return {**headers, "X-Stillhouse-Sample": str(request.sample)} if request.sample else headers


def chat_body(request: Request, place: Place) -> Body:
    """A chat request without the provider's extra fields."""
    endpoint, sampling = place.endpoint, request.sampling
    mode = mode_of(request, place, _MODES)
    body: Body = {
        "model": endpoint.model or request.model,
        "messages": openai_messages(messages_of(request, mode)),
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.max_tokens is not None:
        body[endpoint.max_tokens_field] = sampling.max_tokens
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    seed = seed_of(request)
    if seed is not None:
        body["seed"] = seed
    if mode is not None:
        _ask_for_json(body, request, mode)
    if request.extras is not NO_EXTRAS:
        _add_extras(body, request, place)
    return body


def _ask_for_json(body: Body, request: Request, mode: str) -> None:
    schema = request.schema
    assert schema is not None
    strict = strict_form(schema) if mode in ("native", "tool") else None
    form = as_object(schema.form) if strict is None else strict
    if mode == "native":
        shape = {"name": identifier(schema.title), "schema": form, "strict": strict is not None}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    elif mode == "object":
        body["response_format"] = {"type": "json_object"}
    elif mode == "tool":
        function = {"name": REPLY_TOOL, "description": f"Gives the reply: {schema.title}.", "parameters": form}
        body["tools"] = [{"type": "function", "function": {**function, "strict": strict is not None}}]
        body["tool_choice"] = {"type": "function", "function": {"name": REPLY_TOOL}}


def _add_extras(body: Body, request: Request, place: Place) -> None:
    extras = request.extras
    if extras.tools:
        body["tools"] = [*body.get("tools", ()), *(_tool(tool) for tool in extras.tools)]
        choice = extras.tool_choice
        if choice is not None and "tool_choice" not in body:
            named = choice not in ("auto", "none", "required")
            body["tool_choice"] = {"type": "function", "function": {"name": choice}} if named else choice
    if extras.logprobs is not None:
        body["logprobs"] = True
        if extras.logprobs:
            body["top_logprobs"] = extras.logprobs
    if extras.effort is not None:
        body["reasoning_effort"] = extras.effort
    if extras.thinking is not None:
        hint = "Say `effort=…`, or give the field that this server knows by `extra={…}`."
        raise not_taken(place, "budget of tokens for `thinking`", hint)


def _tool(tool: Tool) -> Body:
    return {"type": "function", "function": tool}


def openai_messages(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages in OpenAI's form: images, and tool calls that are written flat or with arguments as they are."""
    if not has_parts(messages) and not any(message.get("tool_calls") for message in messages):
        return messages
    return [_message(message) for message in messages]


def _message(message: Message) -> Message:
    changed: Body = {}
    if isinstance(message.get("content"), list | tuple):
        changed["content"] = [_part(part) for part in message["content"]]
    if message.get("tool_calls"):
        changed["tool_calls"] = [_written_call(tool_call_of(call)) for call in message["tool_calls"]]
    return {**message, **changed} if changed else message


def _written_call(call: ToolCall) -> Body:
    function = {"name": call.name, "arguments": json_text(call.arguments)}
    return {"id": call.id, "type": "function", "function": function}


def json_text(arguments: object) -> str:
    """Arguments of a tool call as the text that OpenAI's forms hold."""
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments, default=dict).decode()


def _part(part: Any) -> Any:
    """A part in OpenAI's form; what is none of ours stays as it is."""
    if not is_image(part):
        return part
    about = part.get("image_url")
    more = dict(about) if isinstance(about, Mapping) else {}
    return {"type": "image_url", "image_url": {**more, "url": image_of(part).any_url}}


# Reading

_FINISH: Mapping[str | None, Finish] = {
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    None: "stop",  # some servers leave it out
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "refused",
    "refusal": "refused",
    "tool_calls": "tools",
    "function_call": "tools",
}


@reader
def read(wire: bytes) -> Reply:
    """The reply of a chat completion; raises `Garbled`."""
    value = parsed(wire)
    try:
        choice = value["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish = choice.get("finish_reason")
        refusal = message.get("refusal")
        wanted = message.get("tool_calls")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise Garbled(f"no `choices[0].message` in the response ({type(error).__name__}: {error})") from None
    text = whole_text(content if isinstance(content, str) else _joined(content))
    ending = finish_of(finish)
    calls: tuple[ToolCall, ...] = ()
    if wanted:
        text, calls = with_reply_tool(text, _calls(wanted))
        if not calls and ending == "tools":
            ending = "stop"
    chances = choice.get("logprobs")
    return Reply(
        text,
        ending,
        usage_of(value.get("usage")),
        refusal or None,
        "openai.chat",
        wire,
        calls,
        None if chances is None else read_logprobs(chances.get("content") if isinstance(chances, dict) else None),
        _reasoning(message, content),
        model_name(value.get("model")),
    )


def finish_of(finish: object) -> Finish:
    """Why a reply ended, by the word for it in OpenAI's APIs."""
    return _FINISH.get(finish, "other") if finish is None or isinstance(finish, str) else "other"


def model_name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def read_logprobs(tokens: object) -> tuple[TokenChance, ...] | None:
    """Log-probabilities in OpenAI's form, which others have taken over."""
    if not isinstance(tokens, list):
        return None
    found: list[TokenChance] = []
    for entry in tokens:
        if isinstance(entry, dict) and isinstance(entry.get("logprob"), int | float):
            top = tuple(
                (whole_text(str(other["token"])), float(other["logprob"]))
                for other in entry.get("top_logprobs") or ()
                if isinstance(other, dict) and isinstance(other.get("logprob"), int | float) and "token" in other
            )
            found.append(TokenChance(whole_text(str(entry.get("token", ""))), float(entry["logprob"]), top))
    return tuple(found)


def _calls(wanted: object) -> list[ToolCall]:
    found: list[ToolCall] = []
    for call in wanted if isinstance(wanted, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found.append(tool_call(call.get("id"), function.get("name"), function.get("arguments")))
    return found


def _joined(content: object) -> str:
    """Content as a list of parts, which some servers send, as one text; nothing as the empty text."""
    if not isinstance(content, list):
        return ""
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _reasoning(message: Mapping[str, Any], content: object) -> str | None:
    """What the model thought, under the names that servers give it."""
    for name in ("reasoning_content", "reasoning"):
        found = message.get(name)
        if isinstance(found, str) and found:
            return whole_text(found)
    if isinstance(content, list):
        thoughts = [part for part in content if isinstance(part, dict) and part.get("type") == "thinking"]
        text = "".join(_joined(part.get("thinking")) or str(part.get("thinking") or "") for part in thoughts)
        return whole_text(text) or None
    return None


def usage_of(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return NO_USAGE
    prompt, reply = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    about_prompt, about_reply = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = written = reasoning = 0
    if isinstance(about_prompt, dict):
        cached, written = count(about_prompt.get("cached_tokens")), count(about_prompt.get("cache_write_tokens"))
    cached = cached or count(usage.get("prompt_cache_hit_tokens"))
    if isinstance(about_reply, dict):
        reasoning = count(about_reply.get("reasoning_tokens"))
        if reasoning and prompt + reply + reasoning == count(usage.get("total_tokens")):
            reply += reasoning  # some count them beside the reply, and bill them alike
    return Usage(prompt, reply, cached, reasoning, written)
