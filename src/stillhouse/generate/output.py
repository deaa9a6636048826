"""Structured answers as rows hold them: one text for one value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from ..core.errors import RecipeError, RowFault
from ..text.normalise import normalise
from ..text.schema import Misfit, Schema

if TYPE_CHECKING:
    from ..calls.answer import Answer

TITLE = "ReasonedAnswer"


class Reading:
    """How an answer stands in its row: its text, or the JSON text of its value, in one column.

    With `unpack` each field that the schema names is a column of its own, None where the reply leaves it out. What else
    is to be kept of the answer stands in columns that begin with the column's name.
    """

    def __init__(self, column: str, schema: Schema | None, *, unpack: bool = False, keep: Sequence[Kept] = ()) -> None:
        self._schema = schema
        self._unpack = unpack
        self._read: tuple[str, ...] = named_fields(schema) if unpack else (column,)
        self._keeps_calls = "tool_calls" in keep
        self._kept = [(f"{column}_{name}", _KEPT[name]) for name in dict.fromkeys(keep)]
        self.columns: tuple[str, ...] = (*self._read, *(name for name, _ in self._kept))

    def columns_of(self, answer: Answer) -> dict[str, Any]:
        """The new columns. Raises `RowFault` (`invalid`) where the value does not follow the schema."""
        made = self._values(answer)
        for name, kept in self._kept:
            made[name] = kept(answer)
        return made

    def _values(self, answer: Answer) -> dict[str, Any]:
        if self._schema is None:
            return {self._read[0]: answer.text}
        if self._keeps_calls and answer.tool_calls and answer.value is None:  # it wants a tool called before it replies
            return dict.fromkeys(self._read)
        if not self._unpack:
            return {self._read[0]: output_text(answer.value, self._schema)}
        return {name: answer.value.get(name) for name in self._read}


Kept: TypeAlias = Literal["finish", "model", "reasoning", "tool_calls", "logprobs"]
"""What an answer holds besides its text."""


def _tool_calls(answer: Answer) -> list[dict[str, Any]]:
    return [{"id": call.id, "name": call.name, "arguments": _json(call.arguments)} for call in answer.tool_calls]


def _logprobs(answer: Answer) -> list[dict[str, Any]] | None:
    if answer.logprobs is None:
        return None
    return [
        {"token": one.token, "logprob": one.logprob, "top": [{"token": t, "logprob": chance} for t, chance in one.top]}
        for one in answer.logprobs
    ]


_KEPT: Mapping[Kept, Callable[[Answer], Any]] = {
    "finish": lambda answer: answer.finish,
    "model": lambda answer: answer.model,
    "reasoning": lambda answer: answer.reasoning,
    "tool_calls": _tool_calls,
    "logprobs": _logprobs,
}


def named_fields(schema: Schema | None) -> tuple[str, ...]:
    """The fields of an object's schema. Raises `RecipeError` where there are none, or one that no column can have."""
    fields = tuple(schema.form.get("properties", ())) if schema is not None else ()
    if not fields:
        raise RecipeError("`unpack` needs a `response` schema of an object with fields, each of which becomes a column")
    hidden = [name for name in fields if name.startswith("_")]
    if hidden:
        raise RecipeError(
            f"the field `{hidden[0]}` cannot be a column: those with `_` first hold lineage", "Rename it."
        )
    return fields


def output_text(value: Any, schema: Schema | None) -> str:
    """The checked value as JSON text, fields in the order in which the schema declares them; text stays as it is.

    Raises `RowFault` (`invalid`) when the value does not follow the schema.
    """
    if schema is None:
        return value if isinstance(value, str) else _json(value)
    try:
        return _json(schema.check(value))
    except Misfit as problem:
        raise RowFault("invalid", f"the output does not follow the schema: {problem}", _json(value)) from None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def settled_text(text: str, schema: Schema | None) -> str:
    """An output that is text already, as `output_text` would write its value. Raises `RowFault` (`invalid`)."""
    if schema is None:
        return text
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RowFault("invalid", f"the output is not JSON: {error}", text) from None
    return output_text(value, schema)


def same_output(left: str, right: str) -> bool:
    """Whether two answers say the same: equal as JSON values, or as texts without space at the ends."""
    return normalise("json", left) == normalise("json", right)


def layout(schema: Schema | None) -> str | None:
    """The schema with its fields in their order, for identities: keys do not see the order, outputs do."""
    return None if schema is None else orjson.dumps(schema.form).decode()


def with_layout(values: Mapping[str, Any], response: Schema | None) -> Mapping[str, Any]:
    """What identifies a step of these fields: where it has a schema, the order of the schema's fields as well."""
    return {**values, "layout": layout(response)} if response else values


def reasoned(response: Schema | None) -> Schema:
    """The schema of a reply that reasons first: `{"thinking": text, "output": …}`, the output by `response` or text."""
    output: dict[str, Any] = {"type": "string"} if response is None else dict(response.form)
    schema: dict[str, Any] = {
        "title": TITLE,
        "type": "object",
        "properties": {"thinking": {"type": "string"}, "output": output},
        "required": ["thinking", "output"],
        "additionalProperties": False,
    }
    for name in ("$defs", "definitions"):  # references inside them start at the root
        if name in output:
            schema[name] = output.pop(name)
    return Schema(schema)
