"""From a reply to an answer: refusals and cut replies, empty ones, structured ones that need mending.

`judge` is the one place that says what follows a reply. It is a pure function of the case so far, so a run from the
cache takes the same turns as the run that paid, whatever became better in the reading since.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from stillhouse.core.errors import RowFault
from stillhouse.text.schema import Misfit

from .answer import Answer, Outcome, Repaired
from .looping import loops
from .prices import Price
from .reply import Reply, Usage
from .request import Request, RequestForm

if TYPE_CHECKING:
    from stillhouse.text.schema import Schema

_LONGER = 4  # times the room for a reply that was cut, where it is to be extended

WRAPPED = "reply"
"""The one field of the object around a reply that is none, where an API takes objects alone."""

_MEND = (
    "Your reply cannot be used: {problem}\n"
    "Reply again, with corrected JSON alone: no explanation, no code fence. It must follow this JSON Schema:\n{schema}"
)


def plain_answer(form: RequestForm, key: bytes, reply: Reply, price: Price | None, cached: bool) -> Answer | None:
    """What a `Case` would say of a first reply, for most replies and at a fifth of its price; None to ask a `Case`."""
    text, usage = reply.text, reply.usage
    if (
        reply.finish != "stop"
        or form.schema is not None
        or reply.refusal is not None
        or reply.tool_calls
        or not usage.prompt_tokens
        or not text
        or text.isspace()
        or (form.judging.when_looping == "fail" and loops(text))
    ):
        return None
    cost = None if price is None else price.cost(usage)
    chances, thoughts = reply.logprobs, reply.reasoning
    return Answer(text, None, key.hex(), "stop", usage, cached, cost, "no", (), (), chances, thoughts, reply.model)


class Case:
    """One prompt on its way to an answer: the requests made for it and what they used."""

    __slots__ = ("_extended", "_form", "_price", "cached", "keys", "repair", "request", "usage")

    def __init__(self, form: RequestForm, request: Request, price: Price | None) -> None:
        self._form = form
        self._price = price
        self._extended = False
        self.request = request
        self.keys: tuple[str, ...] = ()
        self.usage = Usage()
        self.cached = True
        self.repair = False

    def judge(self, reply: Reply, *, cached: bool) -> Outcome | Request:
        """The outcome, or the request that is to be made next."""
        self.cached = self.cached and cached
        self.keys = (*self.keys, self.request.key.hex())
        usage = with_usage(self.request, reply).usage
        self.usage = usage if len(self.keys) == 1 else _sum(self.usage, usage)
        if reply.refusal is not None:
            return RowFault("refused", reply.refusal, reply.text or None)
        if reply.finish == "refused":
            return RowFault("refused", "the provider's content filter stopped the reply", reply.text or None)
        if reply.tool_calls and reply.finish != "length":
            return self._answer(reply, None, "no")
        if reply.form not in _OWN_FORMS and self._form.judging.when_looping == "fail" and loops(reply.text):
            return self._after_loop(reply)
        if reply.finish == "length":
            return self._after_cut(reply)
        if not reply.text.strip():
            return self._after_nothing()
        return self._read(reply)

    def _read(self, reply: Reply) -> Outcome | Request:
        schema = self.request.schema
        if schema is None:
            return self._answer(reply, None, "no")
        try:
            value, mended = parse(reply.text, schema)
        except Misfit as problem:
            return self._after_misfit(reply, schema, problem)
        return self._answer(reply, value, "asked" if self.repair else "text" if mended else "no")

    def _answer(self, reply: Reply, value: Any, repaired: Repaired) -> Answer:
        cost = None if self._price is None else self._price.cost(self.usage)
        *earlier, key = self.keys
        return Answer(
            reply.text,
            value,
            key,
            reply.finish,
            self.usage,
            self.cached,
            cost,
            repaired,
            tuple(earlier),
            reply.tool_calls,
            reply.logprobs,
            reply.reasoning,
            reply.model,
        )

    def _after_cut(self, reply: Reply) -> Outcome | Request:
        policy, cap = self._form.judging.when_cut, self.request.sampling.max_tokens
        if policy == "extend" and cap is not None and not self._extended:
            self._extended = True
            self._form = self._form.with_room(_LONGER * cap)
            self.request = self._form.follow_up(self.request, again=self.request.again)
            return self.request
        if policy == "keep" and reply.text.strip() and self.request.schema is None:
            return self._answer(reply, None, "no")
        tokens = f" at {reply.usage.reply_tokens} tokens" if reply.usage.reply_tokens else ""
        room = " although it had four times the room" if self._extended else ""
        return RowFault("cut", f"the reply was cut{tokens}{room}, raise `max_tokens`", reply.text or None)

    def _after_nothing(self) -> Outcome | Request:
        if self.request.again:
            return RowFault("empty", "the model replied with nothing, twice")
        return self._again()

    def _after_loop(self, reply: Reply) -> Outcome | Request:
        if self.request.again:
            return RowFault("degenerate", "the reply says the same again and again to its end, twice", reply.text)
        return self._again()

    def _again(self) -> Request:
        self.request = self._form.follow_up(self.request, again=1)
        return self.request

    def _after_misfit(self, reply: Reply, schema: Schema, problem: Misfit) -> Outcome | Request:
        if self.repair:
            return RowFault(
                "invalid", f"the reply does not follow the schema, nor does its correction: {problem}", reply.text
            )
        try:
            reply.text.encode()
        except UnicodeEncodeError:
            raw = reply.text.encode("utf-8", "replace").decode()
            return RowFault("invalid", "the reply holds half a character, which no request can quote", raw)
        self.repair = True
        shape = orjson.dumps(schema.form).decode()
        more = [
            {"role": "assistant", "content": reply.text},
            {"role": "user", "content": _MEND.format(problem=problem.told, schema=shape)},
        ]
        self.request = self._form.follow_up(self.request, more=more)
        return self.request


_CHARACTERS_PER_TOKEN = 4.0
_OWN_FORMS = ("text", "reply")  # functions and students: what they say is what they say, and costs nothing


def with_usage(request: Request, reply: Reply) -> Reply:
    """The reply with tokens estimated from its characters and the request's, where a provider said nothing of them."""
    if reply.usage.prompt_tokens or reply.usage.reply_tokens or reply.form in _OWN_FORMS:
        return reply
    prompt = round(len(request.canonical) / _CHARACTERS_PER_TOKEN)
    text = round((len(reply.text) + len(reply.reasoning or "")) / _CHARACTERS_PER_TOKEN)
    return reply._replace(usage=Usage(prompt, text, estimated_tokens=prompt + text))


def parse(text: str, schema: Schema) -> tuple[Any, bool]:
    """(value, whether the text had to be mended); raises `Misfit` when nothing in the text follows the schema."""
    try:
        return checked(orjson.loads(text), schema), False
    except orjson.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        problem = Misfit(f"it is not JSON ({error})", f"it is not JSON from {place} on")
    for candidate in (_unfenced, _mended):
        try:
            found = candidate(text)
        except RecursionError:
            raise Misfit("it is nested too deeply") from None
        if found is not None:
            return checked(found, schema), True
    raise problem


def checked(value: Any, schema: Schema) -> Any:
    """The value by its schema; out of the object around it, where an API that takes objects alone was asked for it."""
    try:
        return schema.check(value)
    except Misfit:
        if not isinstance(value, dict) or value.keys() != {WRAPPED} or schema.form.get("type") == "object":
            raise
    return schema.check(value[WRAPPED])


def _unfenced(text: str) -> Any:
    """The JSON of a reply that wraps it into a code fence or says something before it."""
    start = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("]"))
    if start < 0 or end <= start:
        return None
    try:
        return orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        return None


def _mended(text: str) -> Any:
    """What json-repair makes of nearly JSON; None for text without an object or array, and for one that ends early."""
    starts = [place for place in (text.find("{"), text.find("[")) if place >= 0]
    if not starts or _ends_early(text[min(starts) :]):
        return None
    from json_repair import loads

    found = loads(text[min(starts) :])
    return found if isinstance(found, dict | list) and found else None


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(?<=[\[{,:])\s*\'(?:[^\'\\]|\\.)*\'|["{}\[\]]', re.DOTALL)


def _ends_early(text: str) -> bool:
    """Whether the text stops inside of its object or array: closing it would make up what was cut off."""
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark == '"':  # a string that nothing closes
            return True
        depth += (mark in "{[") - (mark in "}]")
        if depth == 0 and mark in "}]":
            return False
    return True


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(*(a + b for a, b in zip(one, other, strict=True)))


def asked_in_words(request: Request) -> list[dict[str, Any]]:
    """The messages with the schema spelt out in the system prompt, for models without a structured mode."""
    messages = [dict(message) for message in request.messages]
    if request.schema is None:
        return messages
    shape = orjson.dumps(request.schema.form).decode()
    text = f"Reply with JSON alone: no explanation, no code fence. It must follow this JSON Schema:\n{shape}"
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        messages[0]["content"] = f"{messages[0]['content']}\n\n{text}"
        return messages
    return [{"role": "system", "content": text}, *messages]
