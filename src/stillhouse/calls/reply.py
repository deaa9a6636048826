"""A reply as data, and how it is read from what came over the wire.

The cache keeps the wire form, so a changed reader here reads again and never asks again. Each provider's file holds the
reader of its own form.
"""

from __future__ import annotations

import functools
import json
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

import orjson

Finish: TypeAlias = Literal["stop", "length", "refused", "tools", "other"]
"""Why a reply ended; `tools`: the model waits for what its tool calls give."""
Form: TypeAlias = str
"""`text`: the reply's text alone; `reply`: our own record; the others are a provider's response body."""


class Usage(NamedTuple):
    """Tokens as the provider counted them.

    `cached_tokens` (read from the provider's prompt cache) and `written_tokens` (written to it) are part of the prompt,
    `reasoning_tokens` of the reply. `estimated_tokens` is how many of them are our guess, as the provider said nothing.
    """

    prompt_tokens: int = 0
    reply_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    written_tokens: int = 0
    estimated_tokens: int = 0


NO_USAGE = Usage()


class ToolCall(NamedTuple):
    """A tool that the model wants called. `arguments` are the parsed JSON, or the text of what is none."""

    id: str
    name: str
    arguments: Any  # JSON of any shape


class TokenChance(NamedTuple):
    """A token of a reply with the natural logarithm of its probability, and those of the likeliest in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(NamedTuple):
    """What a provider answered: text, why it ended, tokens, and the form and bytes that are kept.

    `reasoning` is the model's thinking where the provider shows it, `model` the name that the answer bears.
    """

    text: str
    finish: Finish
    usage: Usage
    refusal: str | None
    form: Form
    wire: bytes
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenChance, ...] | None = None
    reasoning: str | None = None
    model: str | None = None


REPLY_TOOL = "give_reply"
"""The tool that a model is made to call where JSON is asked for by tool call: its arguments are the text."""


class Garbled(ValueError):
    """The wire form is not what the provider promises."""


def text_reply(text: str) -> Reply:
    """The reply of a function: a text and nothing else."""
    return Reply(text, "stop", NO_USAGE, None, "text", text.encode("utf-8", "surrogatepass"))


def own_reply(
    text: str,
    finish: Finish = "stop",
    usage: Usage = NO_USAGE,
    refusal: str | None = None,
    tool_calls: Sequence[ToolCall] = (),
    logprobs: Sequence[TokenChance] | None = None,
) -> Reply:
    """A reply of a provider without a wire: it is kept as a record of our own."""
    record: dict[str, Any] = {"text": text, "finish": finish, "usage": list(usage[:4]), "refusal": refusal}
    if tool_calls:
        record["tool_calls"] = [list(call) for call in tool_calls]
    if logprobs is not None:
        record["logprobs"] = [
            [chance.token, chance.logprob, [list(pair) for pair in chance.top]] for chance in logprobs
        ]
    return _own(record, orjson.dumps(record))


def read_reply(form: str, wire: bytes) -> Reply:
    """The reply that a kept wire form holds; raises `Garbled` when it cannot be read."""
    if form == "text":
        return Reply(wire.decode("utf-8", "surrogatepass"), "stop", NO_USAGE, None, "text", wire)
    if form == "reply":
        return _own(parsed(wire), wire)
    if form.startswith("vector."):
        return _vector(form, wire)
    read = _readers.get(form)
    if read is None:
        read = _readers[form] = _reader(form)
    return read(wire)


def _vector(form: str, wire: bytes) -> Reply:
    """A vector in words, for those who look through what is kept; who works with it reads the bytes themselves."""
    numbers = array("f")
    try:
        numbers.frombytes(wire)
    except ValueError as error:
        raise Garbled(f"not a vector: {error}") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    shown = ", ".join(f"{number:.3g}" for number in numbers[:4]) + (", …" if len(numbers) > 4 else "")
    return Reply(f"{len(numbers)} numbers: {shown}", "stop", NO_USAGE, None, form, wire)


_FILES: Mapping[str, str] = {
    "openai.chat": "openai",
    "openai.responses": "responses",
    "openai.completion": "completions",
    "anthropic.messages": "anthropic",
    "gemini": "gemini",
    "bedrock.converse": "bedrock",
    "cohere.chat": "cohere",
}
_readers: dict[str, Callable[[bytes], Reply]] = {}


def _reader(form: str) -> Callable[[bytes], Reply]:
    """The function `read` in the file of the provider whose form it is."""
    if form not in _FILES:
        raise Garbled(f"nothing here reads replies of the form `{form}`")
    found: Callable[[bytes], Reply] = import_module(f".providers.{_FILES[form]}", __package__).read
    return found


def _own(record: Mapping[str, Any], wire: bytes) -> Reply:
    calls, chances = record.get("tool_calls", ()), record.get("logprobs")
    logprobs = None if chances is None else tuple(_chance(*chance) for chance in chances)
    return Reply(
        record["text"],
        record["finish"],
        Usage(*record["usage"]),
        record["refusal"],
        "reply",
        wire,
        tuple(ToolCall(*call) for call in calls),
        logprobs,
    )


def _chance(token: str, logprob: float, top: Sequence[Sequence[Any]]) -> TokenChance:
    return TokenChance(token, logprob, tuple((other, chance) for other, chance in top))


# What the readers of the providers share.


def reader(read: Callable[[bytes], Reply]) -> Callable[[bytes], Reply]:
    """A reader of a provider's form: what it stumbles over, in a body that is other than promised, is `Garbled`."""

    @functools.wraps(read)
    def checked(wire: bytes) -> Reply:
        try:
            return read(wire)
        except Garbled:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
            raise Garbled(f"another form than promised ({type(error).__name__}: {error})") from None

    return checked


def parsed(wire: bytes) -> dict[str, Any]:  # JSON of any shape
    """The JSON object of a response body; raises `Garbled`."""
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


def whole_text(text: str) -> str:
    """Text that can be encoded: half a character becomes a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def count(value: object) -> int:
    """A number of tokens; 0 for what is none. Some providers write whole numbers as floats."""
    if value is None or type(value) is int:  # nearly always
        return value if value and 0 < value < 1e15 else 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        return 0
    return int(value)


def tool_call(identifier: object, name: object, arguments: object) -> ToolCall:
    """A tool call whose arguments are JSON, as a text or as a value."""
    if isinstance(arguments, str):
        text = arguments
        try:
            arguments = orjson.loads(text) if text.strip() else {}
        except orjson.JSONDecodeError:
            arguments = whole_text(text)
    return ToolCall(str(identifier or ""), str(name or ""), {} if arguments is None else arguments)


def with_reply_tool(text: str, calls: Sequence[ToolCall]) -> tuple[str, tuple[ToolCall, ...]]:
    """The text and the other calls, where the reply was asked for as the arguments of `REPLY_TOOL`."""
    for call in calls:
        if call.name == REPLY_TOOL:
            arguments = call.arguments
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
            return text, tuple(other for other in calls if other.name != REPLY_TOOL)
    return text, tuple(calls)
