"""JSON Schemas rewritten to what each provider takes. What is lost on the way is checked in the reply by us anyway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stillhouse.text.schema import Schema

from ..repair import WRAPPED

Form = dict[str, Any]
"""A JSON Schema."""


class Takes(NamedTuple):
    """What an API's schemas may hold."""

    name: str
    keywords: frozenset[str]
    closed: bool
    """Whether every object must name all its fields and allow no others."""
    recursive: bool
    min_items: int | None = None
    """The largest `minItems` there may be; None is any."""


_COMMON = frozenset({"type", "enum", "const", "properties", "required", "items", "anyOf", "$defs", "$ref", "title"})
_COMMON |= frozenset({"description", "additionalProperties"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})

OPENAI = Takes(
    "openai", _COMMON | _NUMBERS | {"pattern", "format", "minItems", "maxItems"}, closed=True, recursive=True
)
ANTHROPIC = Takes("anthropic", _COMMON | {"format", "minItems"}, closed=True, recursive=False, min_items=1)
GEMINI = Takes(
    "gemini",
    (_COMMON - {"const"}) | {"format", "minItems", "maxItems", "prefixItems", "minimum", "maximum"},
    closed=False,
    recursive=True,
)
COHERE = Takes("cohere", _COMMON - {"const"} | {"format"}, closed=False, recursive=False)
_ANTHROPIC_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def as_object(form: Form) -> Form:
    """The schema itself, or an object with it as the only field, where it is no schema of an object."""
    if form.get("type") == "object" or ("properties" in form and "type" not in form):
        return form
    inner = dict(form)
    wrapped: Form = {"type": "object", "properties": {WRAPPED: inner}, "required": [WRAPPED]}
    for name in ("$defs", "definitions"):
        if name in inner:
            wrapped[name] = inner.pop(name)
    if "title" in form:
        wrapped = {"title": form["title"], **wrapped}
    wrapped["additionalProperties"] = False
    return wrapped


def strict_form(schema: Schema) -> Form | None:
    """The schema for OpenAI's strict mode, or None where it cannot be put so."""

    def make() -> Form | None:
        plain: Form | None = schema.strict_form
        if plain is not None and plain.get("type") == "object" and not _needs_rewriting(plain, OPENAI):
            return plain
        return rewritten(schema, OPENAI)

    found: Form | None = schema.derived("strict for openai", make)
    return found


def rewritten(schema: Schema, takes: Takes) -> Form | None:
    """The schema as an API takes it, an object at its top; None where that would ask for something else.

    Where all fields must be there, those of a pydantic model that have defaults are asked for too; a plain JSON Schema
    with optional fields cannot be put so.
    """

    def make() -> Form | None:
        try:
            form = as_object(_referred(schema.form))
            if not takes.recursive and _is_recursive(form):
                return None
            found: Form = _rewritten(form, form, takes, fill=schema.drop_extra)
            return found
        except _NotPossible:
            return None

    found: Form | None = schema.derived(f"rewritten {takes.name}", make)
    return found


class _NotPossible(Exception):
    """The schema says something that the API has no words for."""


_APPLIED = ("allOf", "not", "if", "then", "else", "patternProperties", "dependentSchemas", "propertyNames", "contains")
_ANNOTATED = ("default", "examples", "discriminator", "$schema", "$id", "$comment", "deprecated", "readOnly")


def _referred(form: Form) -> Form:
    """A schema whose top is a reference, as pydantic writes recursive models, with what it refers to at the top."""
    if "$ref" not in form:
        return form
    return {**_target(form, str(form["$ref"])), **{name: value for name, value in form.items() if name != "$ref"}}


def _target(root: Form, reference: str) -> Form:
    found: Any = root
    for name in reference.removeprefix("#/").split("/"):
        if not isinstance(found, Mapping) or name not in found:
            raise _NotPossible
        found = found[name]
    return dict(found)


def _rewritten(part: Any, root: Form, takes: Takes, *, fill: bool) -> Any:
    if not isinstance(part, Mapping):
        return part
    part = dict(part)
    if len(part.get("allOf", ())) == 1:
        part = {**part.pop("allOf")[0], **part}
    if "oneOf" in part and "anyOf" not in part:
        part["anyOf"] = part.pop("oneOf")
    if "$ref" in part and len(part) > 1:
        beside = {name: value for name, value in part.items() if name not in ("$ref", "$defs", *_ANNOTATED)}
        part = {"$ref": part["$ref"], **({"$defs": part["$defs"]} if "$defs" in part else {})}
        if beside.keys() - {"title", "description"}:
            raise _NotPossible
    if "const" in part and "const" not in takes.keywords:
        part["enum"] = [part.pop("const")]
    if any(name in part for name in _APPLIED):
        raise _NotPossible
    return _kept_keywords(part, root, takes, fill=fill)


def _kept_keywords(part: Form, root: Form, takes: Takes, *, fill: bool) -> Form:
    kept: Form = {}
    told: list[str] = []
    for name, value in part.items():
        if name in _ANNOTATED:
            continue
        if name in ("properties", "$defs", "definitions"):
            kept[name] = {key: _rewritten(item, root, takes, fill=fill) for key, item in value.items()}
        elif name in ("anyOf", "prefixItems") and name in takes.keywords:
            kept[name] = [_rewritten(item, root, takes, fill=fill) for item in value]
        elif name in ("items", "additionalProperties"):
            kept[name] = _rewritten(value, root, takes, fill=fill)
        elif name == "prefixItems":
            raise _NotPossible
        elif name in takes.keywords and _allowed(name, value, takes):
            kept[name] = value
        else:
            told.append(f"{name}: {value}")
    if told:  # the model may follow what the grammar cannot enforce
        kept["description"] = " ".join(filter(None, [str(kept.get("description", "")), f"({', '.join(told)})"]))
    if kept.get("type") == "object" or "properties" in kept:
        _close(kept, takes, fill=fill)
    return kept


def _allowed(name: str, value: object, takes: Takes) -> bool:
    if name == "minItems":
        return takes.min_items is None or (isinstance(value, int) and value <= takes.min_items)
    return name != "format" or takes is not ANTHROPIC or value in _ANTHROPIC_FORMATS


def _close(form: Form, takes: Takes, *, fill: bool) -> None:
    if not takes.closed:
        return
    named = form.get("properties")
    required = set(form.get("required", ()))
    if not named or form.get("additionalProperties", False) or (not fill and set(named) != required):
        raise _NotPossible
    form["required"] = list(named)
    form["additionalProperties"] = False


def _needs_rewriting(part: Any, takes: Takes) -> bool:
    if isinstance(part, list):
        return any(_needs_rewriting(item, takes) for item in part)
    if not isinstance(part, dict):
        return False
    if ("$ref" in part and len(part) > 1) or any(name not in takes.keywords for name in part):
        return True
    for name, value in part.items():
        inner = list(value.values()) if name in ("properties", "$defs") else value
        if name not in ("enum", "const", "required") and _needs_rewriting(inner, takes):
            return True
    return False


def _is_recursive(form: Form) -> bool:
    """Whether a definition leads to itself."""
    definitions: Form = form.get("$defs") or form.get("definitions") or {}
    leads = {name: {*_references(part)} for name, part in definitions.items()}
    if "#" in {*_references(form)}:
        return True

    def reached(name: str, seen: frozenset[str]) -> bool:
        return any(
            (other in seen) or reached(other, seen | {other})
            for other in (reference.rpartition("/")[2] for reference in leads.get(name, ()))
        )

    return any(reached(name, frozenset({name})) for name in leads)


def _references(part: Any) -> list[str]:
    if isinstance(part, list | tuple):
        return [found for item in part for found in _references(item)]
    if not isinstance(part, Mapping):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [found for item in part.values() for found in _references(item)]
