"""A request as data, and the key by which its reply is found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import orjson

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


class Prompt(NamedTuple):
    """One question: a text (one message of the user) or messages, the schema of the reply and the sample index."""

    messages: str | Sequence[Message]
    schema: Schema | None = None
    sample: int = 0


class Request(NamedTuple):
    """What a provider is asked. Two requests with one `key` are the same request.

    `canonical` is the JSON that the key digests; `again` counts the resamples of an empty reply.
    """

    key: bytes
    canonical: bytes
    model: str
    messages: list[Message]
    sampling: Sampling
    schema: Schema | None = None
    sample: int = 0
    again: int = 0


class RequestForm:
    """What many requests share, rendered once: who is asked, how, for which schema.

    The canonical form of a request is JSON with sorted keys: `again` (when not 0), `by`, `messages`, `sample`,
    `sampling`, `schema`, whose own order stays. The two halves around the messages are constants here, so that a key
    costs one digest and no tree walk.
    """

    __slots__ = ("_after", "_before", "_end_of_text", "_start_of_text", "_system", "model", "sampling", "schema")

    def __init__(
        self, by: Mapping[str, Any], model: str, sampling: Sampling, schema: Schema | None, system: str | None
    ) -> None:
        self.model = model
        self.sampling = sampling
        self.schema = schema
        self._system: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._before = b'"by":' + _json(by) + b',"messages":'
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
        return [*self._system, *prompt]

    def canonical(self, prompt: str | Sequence[Message], sample: int = 0, again: int = 0) -> bytes:
        """The JSON that is digested; `prompt` as given by the caller, without the system prompt."""
        if sample == 0 and again == 0 and type(prompt) is str:  # most requests; a third of the work
            return self._start_of_text + orjson.dumps(prompt) + self._end_of_text
        start = b"{" if again == 0 else b'{"again":%d,' % again
        return start + self._before + _json(self.messages(prompt)) + b',"sample":%d' % sample + self._after

    def request(self, prompt: str | Sequence[Message], sample: int = 0, again: int = 0) -> Request:
        canonical = self.canonical(prompt, sample, again)
        return self.request_of(key_of(canonical), canonical, prompt, sample, again)

    def request_of(
        self, key: bytes, canonical: bytes, prompt: str | Sequence[Message], sample: int, again: int = 0
    ) -> Request:
        """The request whose canonical form and key are known already."""
        return Request(key, canonical, self.model, self.messages(prompt), self.sampling, self.schema, sample, again)

    def follow_up(self, request: Request, *, more: Sequence[Message] = (), again: int = 0) -> Request:
        """The same request with messages added to its end, or asked once more."""
        messages = [*request.messages, *more][len(self._system) :]
        return self.request(messages, request.sample, again)


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
