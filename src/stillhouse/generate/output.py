"""Structured answers as rows hold them: one text for one value."""

from __future__ import annotations

import json
from typing import Any

import orjson

from ..core.errors import RowFault
from ..text.normalise import normalise
from ..text.schema import Misfit, Schema

TITLE = "ReasonedAnswer"


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
