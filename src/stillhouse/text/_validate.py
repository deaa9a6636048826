"""Validation against JSON Schema, with extra fields filtered and defaults filled in."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from urllib.parse import unquote

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import SchemaError, best_match

from .schema import Json, Misfit

# Our own short list: jsonschema checks more formats the more libraries happen to be installed, and what a row is must
# not depend on that.
_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date", raises=ValueError)(
    lambda value: not isinstance(value, str) or bool(dt.date.fromisoformat(value))
)
_FORMATS.checks("time", raises=ValueError)(
    lambda value: not isinstance(value, str) or dt.time.fromisoformat(value) is not None
)
_FORMATS.checks("date-time", raises=ValueError)(
    lambda value: not isinstance(value, str) or bool(dt.datetime.fromisoformat(value))
)
_FORMATS.checks("uuid", raises=ValueError)(lambda value: not isinstance(value, str) or bool(uuid.UUID(value)))


def schema_error(schema: Json) -> str | None:
    """What is wrong with a schema itself, or None."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"{error.json_path}: {error.message}"
    except RecursionError:
        return "it is nested too deeply"
    return _reference_error(schema)


_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_BELOW = (
    "items",
    "prefixItems",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
)


def _reference_error(schema: Json) -> str | None:
    """A reference that leads nowhere, or round in circles without going down into the value; None for none."""
    sound: set[int] = set()

    def visit(part: Json, place: str, above: frozenset[int]) -> Iterator[str]:
        if not isinstance(part, dict) or id(part) in sound:
            return
        if id(part) in above:
            yield f"{place}: the reference leads back to itself"
            return
        for name in _IN_PLACE:
            for each in _listed(part.get(name)):
                yield from visit(each, f"{place}.{name}", above | {id(part)})
        if "$ref" in part:
            try:
                yield from visit(resolved(schema, part["$ref"]), f"{place}.$ref", above | {id(part)})
            except LookupError:
                yield f"{place}: `{part['$ref']}` is nowhere in the schema"
        sound.add(id(part))
        for name in _BELOW:
            for each in _listed(part.get(name)):
                yield from visit(each, f"{place}.{name}", frozenset())
        for name in _NAMED:
            for key, each in part.get(name, {}).items():
                yield from visit(each, f"{place}.{name}.{key}", frozenset())

    return next(visit(schema, "$", frozenset()), None)


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


def resolved(schema: Json, reference: str) -> Json:
    """What `#/$defs/name` means in `schema`; raises `LookupError` where it means nothing there."""
    if reference != "#" and not reference.startswith("#/"):
        raise LookupError(reference)
    found = schema
    for name in unquote(reference).split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal():
            found = found[int(key)]
        elif isinstance(found, dict):
            found = found[key]
        else:
            raise LookupError(reference)
    return found


class Checker:
    """Checks values against one schema; built once, used for each reply."""

    def __init__(self, schema: dict[str, Json], *, drop_extra: bool) -> None:
        self._schema = schema
        self._drop_extra = drop_extra
        self._validator = Draft202012Validator(schema, format_checker=_FORMATS)

    def __call__(self, value: Json) -> Json:
        """The value as the schema wants it; raises `Misfit` with the place of the most telling error."""
        error = best_match(self._validator.iter_errors(value))
        if error is not None:
            rule = orjson.dumps(error.validator_value).decode()
            told = f"{error.json_path} breaks the rule `{error.validator}`: {rule}"
            raise Misfit(f"{error.json_path}: {error.message}", told)
        return self._shaped(self._schema, value)

    def _shaped(self, schema: Json, value: Json) -> Json:
        """`value`, known to follow `schema`, without fields it does not name and with its defaults."""
        if not isinstance(schema, dict):
            return value
        for part in self._alternatives(schema, value):
            value = self._shaped(part, value)
        if isinstance(value, dict):
            return self._object(schema, value)
        if isinstance(value, list):
            return self._array(schema, value)
        return value

    def _alternatives(self, schema: dict[str, Json], value: Json) -> Iterator[Json]:
        """The subschemas that speak about `value`: what is referred to, all of `allOf`, the first fitting choice."""
        if "$ref" in schema:
            yield resolved(self._schema, schema["$ref"])
        yield from schema.get("allOf", ())
        for choices in (schema.get("anyOf"), schema.get("oneOf")):
            fitting = (choice for choice in choices or () if self._validator.evolve(schema=choice).is_valid(value))
            chosen = next(fitting, None)
            if chosen is not None:
                yield chosen

    def _object(self, schema: dict[str, Json], value: dict[str, Json]) -> dict[str, Json]:
        named = schema.get("properties")
        if named is None:
            other = schema.get("additionalProperties")
            return {key: self._shaped(other, item) for key, item in value.items()}
        other = schema.get("additionalProperties", not self._drop_extra)
        shaped = {key: self._shaped(rule, value[key]) for key, rule in named.items() if key in value}
        shaped.update({key: rule["default"] for key, rule in named.items() if key not in value and "default" in rule})
        ordered = {key: shaped[key] for key in named if key in shaped}
        if other is not False:
            ordered.update({key: self._shaped(other, item) for key, item in value.items() if key not in named})
        return ordered

    def _array(self, schema: dict[str, Json], value: list[Json]) -> list[Json]:
        first = schema.get("prefixItems", ())
        heads = [self._shaped(rule, item) for rule, item in zip(first, value, strict=False)]
        return heads + [self._shaped(schema.get("items"), item) for item in value[len(heads) :]]
