"""The JSON Schema of recipe files, made from the models that check them; editors complete and check with it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..calls.ask import Ask
from ..calls.embedder import Embedder
from ..core.catalogue import catalogue, find_class
from ..core.node import Node
from ..core.step import Step
from .settings import SessionSettings

MENTION = {"type": "string", "pattern": r"^\$[^$]", "description": "a node of this file, as `$name`"}
REFERENCE = {"type": "string", "pattern": r"^[\w.]+:[\w.]+$", "description": "`module:function`"}


INLINE = {"$comment": "a part, with its `uses`"}  # becomes a reference; pydantic would look for its target


def file_schema() -> dict[str, Any]:
    """The schema of a whole recipe file, draft 2020-12."""
    kinds = {name: find_class(name) for name in catalogue()}
    uses = [{"if": _uses(name), "then": {"$ref": f"#/$defs/{name}"}} for name in kinds]
    names = {"enum": list(kinds)}
    numbered = {"type": "string", "pattern": r"^[a-z0-9_.]+/[1-9][0-9]*$"}
    anything = {"anyOf": [names, numbered, REFERENCE]}
    node = {"type": "object", "required": ["uses"], "properties": {"uses": anything}, "allOf": uses}
    defs = {name: _node_schema(name, kind) for name, kind in kinds.items() if kind is not None}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stillhouse recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string", "description": "what the result is called; default: the file's name"},
            "output": {"type": "string", "description": "the session's folder; relative to this file"},
            "session": _session_schema(),
            "nodes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}},
            "result": MENTION,
            "recipe": {**REFERENCE, "description": "a function `module:function` that returns a step"},
            "with": {"type": "object", "description": "the arguments of the recipe function"},
        },
        "oneOf": [{"required": ["nodes", "result"]}, {"required": ["recipe"]}],
        "$defs": {"node": node, **defs},
    }


def mix_schema() -> dict[str, Any]:
    """The schema of a mix file, for editors as the one of recipe files."""
    from ..tokens.source import Source
    from .mix import Mix, MixSource, Probe

    whole = file_schema()
    shape = _shape(Mix)
    flat = {**_shape(Source)["properties"], **_shape(MixSource)["properties"]}
    step = {"anyOf": [{"$ref": "#/$defs/node"}, MENTION]}
    names = {"type": "array", "items": {"type": "string"}}
    for name in ("text", "compare"):
        flat[name] = {"anyOf": [{"type": "string"}, names, {"type": "null"}]}
    source = {
        "type": "object",
        "properties": {name: entry for name, entry in flat.items() if name != "read"} | {"rows": step, "tokens": step},
        "additionalProperties": False,
    }
    probe = _shape(Probe)
    probe["properties"]["sources"] = {"anyOf": [{"type": "string"}, names]}
    properties = shape["properties"] | {
        "sources": {"type": "object", "additionalProperties": source, "minProperties": 1},
        "probes": {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "string"}, names, {"type": "object", **probe}]},
        },
        "packing": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/node"}]},
        "policy": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "nodes": {"type": "object", "additionalProperties": {"$ref": "#/$defs/node"}},
    }
    return {
        "$schema": whole["$schema"],
        "title": "stillhouse mix",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": ["sources"],
        "$defs": whole["$defs"],
    }


def _uses(name: str) -> dict[str, Any]:
    pattern = rf"^{name.replace('.', chr(92) + '.')}(/[1-9][0-9]*)?$"
    return {"properties": {"uses": {"type": "string", "pattern": pattern}}, "required": ["uses"]}


def _node_schema(name: str, kind: type[Node]) -> dict[str, Any]:
    shape = _shape(kind)
    uses = {"uses": {"description": catalogue()[name].help}}
    return {**shape, "properties": uses | shape["properties"], "required": ["uses", *shape["required"]]}


def _shape(kind: type[Node]) -> dict[str, Any]:
    """The fields of a step or part."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field_name, field in kind.model_fields.items():
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        shape = TypeAdapter(annotation).json_schema(schema_generator=_Generator)
        shape = _referring(shape)
        entry: dict[str, Any] = {"anyOf": [shape, MENTION]} if shape else {}
        if field.description:
            entry["description"] = field.description
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if isinstance(default, bool | int | float | str):
            entry["default"] = default
        properties[field_name] = entry
        if field.is_required():
            required.append(field_name)
    return {
        "description": inspect.getdoc(kind) or "",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _referring(shape: Any) -> Any:
    if isinstance(shape, list):
        return [_referring(item) for item in shape]
    if not isinstance(shape, dict):
        return shape
    if shape == INLINE:
        return {"$ref": "#/$defs/node"}
    if "$ref" in shape:  # to a model of pydantic's own naming: one of ours, or a record that is left open
        name = str(shape["$ref"]).rpartition("/")[2]
        return {"$ref": "#/$defs/node"} if name in _node_names(Node) else {}
    return {name: _referring(value) for name, value in shape.items() if name != "$defs"}


def _node_names(kind: type[Node]) -> set[str]:
    return {kind.__name__}.union(*(_node_names(each) for each in kind.__subclasses__()))


class _Generator(GenerateJsonSchema):
    """Fields that hold nodes are mentions or inline parts; what JSON Schema cannot say is left open."""

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        kind = schema.get("cls")
        if isinstance(kind, type) and issubclass(kind, Node):
            if issubclass(kind, Step):
                return dict(MENTION)
            named = [{"type": "string", "description": "the name of a model"}] if kind in (Ask, Embedder) else []
            return {"anyOf": [dict(INLINE), dict(MENTION), *named]}
        return super().generate_inner(schema)

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        owner = getattr(schema["function"]["function"], "__self__", None)
        return dict(MENTION) if isinstance(owner, type) and issubclass(owner, Step) else {"type": "string"}

    def callable_schema(self, schema: core_schema.CallableSchema) -> JsonSchemaValue:
        del schema
        return dict(REFERENCE)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        del schema, error_info
        return {}


def _session_schema() -> dict[str, Any]:
    try:
        schema = TypeAdapter(SessionSettings).json_schema(ref_template="#/properties/session/$defs/{model}")
    except PydanticInvalidForJsonSchema:  # a setting that JSON Schema cannot say
        return {"type": "object", "properties": {f.name: {} for f in dataclasses.fields(SessionSettings)}}
    return {**schema, "additionalProperties": False, "description": "where and how; changes no result"}
