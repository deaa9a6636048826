"""A request as data, and the key by which its reply is found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import orjson

from stillhouse.core.errors import RecipeError

from .images import counted, has_parts, settled
from .reply import REPLY_TOOL

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema

Message: TypeAlias = Mapping[str, Any]
"""`{"role": "system" | "user" | "assistant" | "tool", "content": …}` and what else the provider takes, of JSON values.
"""


class Sampling(NamedTuple):
    """How the next token is chosen; what is None is left to the provider."""

    temperature: float | None = 0.0
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def form(self) -> dict[str, Any]:
        """The settings that are made, as JSON values."""
        return {name: value for name, value in self._asdict().items() if value is not None and value != ()}


Tool: TypeAlias = Mapping[str, Any]
"""`{"name": …, "description": …, "parameters": JSON Schema}`, as `tools_of` returns it."""


class Extras(NamedTuple):
    """What else is asked for or asked with. Most requests have none of it, and then it is in no key."""

    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    logprobs: int | None = None
    effort: str | None = None
    thinking: int | None = None
    structured: str | None = None
    extra: Mapping[str, Any] | None = None

    def form(self) -> dict[str, Any]:
        """What is asked for, as JSON values."""
        return {name: value for name, value in self._asdict().items() if value is not None and value != ()}

    def canonical(self) -> bytes:
        """The same as JSON with sorted keys, but those within a tool, whose order is sent; empty for nothing."""
        more = self.form()
        tools = more.pop("tools", None)  # last in the alphabet
        shape = b"" if tools is None else b'"tools":' + orjson.dumps(tools, default=_plain)
        rest = _json(more)[1:-1] if more else b""
        return b"{" + b",".join(filter(None, (rest, shape))) + b"}" if rest or shape else b""


NO_EXTRAS = Extras()


class Prompt(NamedTuple):
    """One question: a text (one message of the user) or messages, the schema of the reply and the sample index.

    `tools` are offered besides those of the `Ask`.
    """

    messages: str | Sequence[Message]
    schema: Schema | None = None
    sample: int = 0
    tools: tuple[Tool, ...] = ()


def prompts_of(given: Sequence[Prompt | str]) -> list[Prompt]:
    """Prompts, of which a text is one of one message; raises `RecipeError` for a text in place of the list."""
    if isinstance(given, str):
        raise RecipeError(
            "`ask_many` takes a list of prompts, and this is one text", "Write `[…]` around it, or use `ask`."
        )
    return [Prompt(each) if isinstance(each, str) else each for each in given]


class Request(NamedTuple):
    """What a provider is asked. Two requests with one `key` are the same request.

    `canonical` is the JSON that the key digests; `again` counts the resamples of an empty or looping reply.
    """

    key: bytes
    canonical: bytes
    model: str
    messages: list[Message]
    sampling: Sampling
    schema: Schema | None = None
    sample: int = 0
    again: int = 0
    extras: Extras = NO_EXTRAS


class Judging(NamedTuple):
    """What becomes of replies that are not well: of no call's key, as it changes nothing in what is asked first."""

    when_cut: Literal["fail", "keep", "extend"] = "fail"
    when_looping: Literal["fail", "keep"] = "fail"


class RequestForm:
    """What many requests share, rendered once: who is asked, how, for which schema.

    The canonical form of a request is JSON with sorted keys: `again` (when not 0), `by`, `extras` (when there are any),
    `messages`, `sample`, `sampling`, `schema`, whose own order stays. The two halves around the messages are constants
    here, so that a key costs one digest and no tree walk.
    """

    __slots__ = (
        "_after",
        "_before",
        "_by",
        "_end_of_text",
        "_start_of_text",
        "_system",
        "extras",
        "judging",
        "model",
        "sampling",
        "schema",
    )

    def __init__(
        self,
        by: Mapping[str, Any],
        model: str,
        sampling: Sampling,
        schema: Schema | None,
        system: str | None,
        extras: Extras = NO_EXTRAS,
        judging: Judging = Judging(),  # noqa: B008 - immutable
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.schema = schema
        self.extras = extras
        self.judging = judging
        self._by = by
        self._system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        more = extras.canonical()
        self._before = b'"by":' + _json(by) + (b',"extras":' + more if more else b"") + b',"messages":'
        # Unsorted, as it is sent: the order of its fields says whether a model reasons before it answers.
        shape = orjson.dumps(None if schema is None else schema.form)
        self._after = b',"sampling":' + _json(sampling.form()) + b',"schema":' + shape + b"}"
        leading = b"".join(_json(message) + b"," for message in self._system)
        self._start_of_text = b"{" + self._before + b"[" + leading + b'{"content":'
        self._end_of_text = b',"role":"user"}],"sample":0' + self._after

    def messages(self, prompt: str | Sequence[Message]) -> list[Message]:
        """The messages that are sent: the system prompt of the `Ask`, then those of the prompt."""
        if isinstance(prompt, str):
            return [*self._system, {"role": "user", "content": prompt}]
        return [*self._system, *(settled(prompt) if has_parts(prompt) else prompt)]

    def canonical(self, prompt: str | Sequence[Message], sample: int = 0, again: int = 0) -> bytes:
        """The JSON that is digested; `prompt` as given by the caller, without the system prompt."""
        if sample == 0 and again == 0 and type(prompt) is str:  # most requests; a third of the work
            return self._start_of_text + orjson.dumps(prompt) + self._end_of_text
        start = b"{" if again == 0 else b'{"again":%d,' % again
        messages = self.messages(prompt)
        if not isinstance(prompt, str) and has_parts(prompt):
            messages = counted(messages)
        return start + self._before + _json(messages) + b',"sample":%d' % sample + self._after

    def request(self, prompt: str | Sequence[Message], sample: int = 0, again: int = 0) -> Request:
        canonical = self.canonical(prompt, sample, again)
        return self.request_of(key_of(canonical), canonical, prompt, sample, again)

    def request_of(
        self, key: bytes, canonical: bytes, prompt: str | Sequence[Message], sample: int, again: int = 0
    ) -> Request:
        """The request whose canonical form and key are known already."""
        messages = self.messages(prompt)
        return Request(key, canonical, self.model, messages, self.sampling, self.schema, sample, again, self.extras)

    def follow_up(self, request: Request, *, more: Sequence[Message] = (), again: int = 0) -> Request:
        """The same request with messages added to its end, or asked once more."""
        messages = [*request.messages, *more][len(self._system) :]
        return self.request(messages, request.sample, again)

    def with_room(self, max_tokens: int) -> RequestForm:
        """The same with room for another length of reply."""
        system = self._system[0]["content"] if self._system else None
        sampling = self.sampling._replace(max_tokens=max_tokens)
        return RequestForm(self._by, self.model, sampling, self.schema, system, self.extras, self.judging)


def tools_of(tools: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Tools in the one form that counts; also takes OpenAI's (`{"type": "function", "function": …}`) and Anthropic's
    (`input_schema`). Raises `ValueError` for what is none."""
    found: list[Tool] = []
    for tool in tools:
        inner = tool.get("function", tool)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if not isinstance(name, str) or not name:
            raise ValueError('a tool has no name; write {"name": …, "description": …, "parameters": {JSON Schema}}')
        if name == REPLY_TOOL:
            raise ValueError(f"a tool cannot be called `{name}`: structured replies are asked for under that name")
        parameters = inner.get("parameters", inner.get("input_schema")) or {"type": "object", "properties": {}}
        found.append({"name": name, "description": str(inner.get("description") or ""), "parameters": parameters})
    names = [tool["name"] for tool in found]
    if len({*names}) < len(names):
        raise ValueError(f"two tools have the name `{max(names, key=names.count)}`")
    return tuple(found)


def key_of(canonical: bytes) -> bytes:
    """blake2b of 128 bits."""
    return blake2b(canonical, digest_size=16).digest()


def _json(value: object) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a message holds a {type(value).__name__}, which JSON has no form for")
