"""JSON Schemas as each provider takes them: what is rewritten, what is told in words, and what cannot be put so."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.providers.schemas import (
    ANTHROPIC,
    COHERE,
    GEMINI,
    OPENAI,
    Takes,
    as_object,
    rewritten,
    strict_form,
)
from stillhouse.calls.repair import parse
from stillhouse.calls.request import Prompt
from stillhouse.text.schema import Misfit, Schema
from tests.calls.helpers import asking, with_service
from tests.calls.server import Act, MisbehavingServer

ALL = pytest.mark.parametrize("takes", [OPENAI, ANTHROPIC, GEMINI, COHERE], ids=lambda takes: takes.name)


class Mood(Enum):
    FINE = "fine"
    SOUR = "sour"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1, le=9, description="How many are left.")


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = Field(min_length=2)


class Owner(BaseModel):
    """Whoever feeds it."""

    name: str = Field(min_length=1, pattern="^[A-Z]")
    mood: Mood = Mood.FINE
    pet: Cat | Dog = Field(discriminator="kind")


class Tree(BaseModel):
    name: str
    branches: list[Tree] = []


class Book(BaseModel):
    pages: dict[str, int]


def parts(form: Any) -> list[dict[str, Any]]:
    """All schemas inside of a schema, itself among them."""
    if isinstance(form, list):
        return [part for item in form for part in parts(item)]
    if not isinstance(form, dict):
        return []
    found = [form]
    for name, value in form.items():
        if name in ("properties", "$defs"):
            found += [part for item in value.values() for part in parts(item)]
        elif name not in ("enum", "const", "required"):
            found += parts(value)
    return found


@ALL
def test_unions_enums_and_references_go_through(takes: Takes) -> None:
    form = rewritten(Schema(Owner), takes)

    assert form is not None
    assert form["type"] == "object"
    everywhere = parts(form)
    assert all(name in takes.keywords for part in everywhere for name in part)
    assert any("anyOf" in part for part in everywhere)
    assert {"fine", "sour"} in [set(part["enum"]) for part in everywhere if "enum" in part]
    kinds = {part.get("const") or (part.get("enum") or [None])[0] for part in everywhere}
    assert {"cat", "dog"} <= kinds
    assert all(len(part) == 1 for part in everywhere if "$ref" in part)


@pytest.mark.parametrize("takes", [OPENAI, ANTHROPIC], ids=lambda takes: takes.name)
def test_all_objects_are_closed_where_they_must_be(takes: Takes) -> None:
    form = rewritten(Schema(Owner), takes)

    for part in parts(form):
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])


@ALL
def test_what_a_grammar_cannot_hold_is_told_in_words(takes: Takes) -> None:
    form = rewritten(Schema(Owner), takes)
    assert form is not None

    assert "minLength: 1" in form["properties"]["name"]["description"]
    lives = form["$defs"]["Cat"]["properties"]["lives"]
    assert lives["description"].startswith("How many are left.")
    assert ("minimum" in lives) == ("minimum" in takes.keywords)
    assert ("minimum: 1" in lives["description"]) != ("minimum" in takes.keywords)


def test_recursion_and_open_objects_are_left_to_who_can() -> None:
    assert rewritten(Schema(Tree), OPENAI) is not None
    assert rewritten(Schema(Tree), GEMINI) is not None
    assert rewritten(Schema(Tree), ANTHROPIC) is None
    assert rewritten(Schema(Tree), COHERE) is None
    assert rewritten(Schema(Book), OPENAI) is None
    assert rewritten(Schema(Book), ANTHROPIC) is None
    assert rewritten(Schema(Book), GEMINI) is not None


@ALL
@pytest.mark.parametrize(
    "form",
    [
        {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"if": {"type": "string"}}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"allOf": [{"minimum": 1}, {"maximum": 3}]}}, "required": ["a"]},
    ],
)
def test_what_no_provider_has_words_for_is_not_put_otherwise(takes: Takes, form: dict[str, Any]) -> None:
    assert rewritten(Schema(form), takes) is None


def test_a_plain_schema_with_optional_fields_is_not_made_strict() -> None:
    """The model would have to make up what it may leave out; the fields of a pydantic model have defaults."""
    optional = {"type": "object", "properties": {"a": {"type": "string"}}}

    assert strict_form(Schema(optional)) is None
    assert strict_form(Schema(Cat)) is not None


def test_a_strict_schema_is_sent_as_it_is() -> None:
    form = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}

    assert strict_form(Schema(form)) == {**form, "additionalProperties": False}


def test_a_schema_is_rewritten_once() -> None:
    schema = Schema(Owner)

    assert rewritten(schema, ANTHROPIC) is rewritten(schema, ANTHROPIC)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["reply", "a"]), inner, max_size=2),
        max_leaves=5,
    )
)
def test_what_was_wrapped_is_unwrapped_and_nothing_else(value: Any) -> None:
    anything = Schema({"anyOf": [{"type": "array"}, {"type": "integer"}]})
    fits = isinstance(value, list | int) and not isinstance(value, bool)

    wrapped = as_object(anything.form)
    assert wrapped["properties"] == {"reply": anything.form}
    text = json.dumps({"reply": value})
    if fits:
        assert parse(text, anything) == (value, False)
    else:
        with pytest.raises(Misfit):
            parse(text, anything)


def test_an_object_with_a_field_called_reply_stays_whole() -> None:
    schema = Schema({"type": "object", "properties": {"reply": {"type": "string"}}, "required": ["reply"]})

    assert parse('{"reply": "fine"}', schema) == ({"reply": "fine"}, False)


def test_definitions_stay_at_the_top_of_what_is_wrapped() -> None:
    form = {
        "$defs": {"A": {"type": "string"}},
        "anyOf": [{"$ref": "#/$defs/A"}, {"type": "integer"}],
        "title": "Either",
    }

    wrapped = as_object(form)

    assert list(wrapped["$defs"]) == ["A"]
    assert "$defs" not in wrapped["properties"]["reply"]
    assert wrapped["title"] == "Either"


@pytest.mark.parametrize(
    "model",
    ["anthropic/teacher", "bedrock/teacher", "cohere/teacher"],
)
def test_what_the_native_way_has_no_words_for_is_asked_by_tool_call(tmp_path: Path, model: str) -> None:
    schema = Schema(Tree)
    with MisbehavingServer(behave=lambda call: Act(text='{"name": "oak", "branches": []}')) as server:
        answer = with_service(
            tmp_path,
            lambda service: service.ask_many(Ask(model=model, endpoint=server.url), [Prompt("hello", schema)]),
            credentials=Credentials({"AWS_BEARER_TOKEN_BEDROCK": "k"}),
        )[0]

    assert isinstance(answer, Answer)
    assert answer.value == {"name": "oak", "branches": []}
    assert server.calls[0].heard.tools == ("give_reply",)


def test_a_pydantic_model_with_defaults_is_sent_strictly_to_openai(tmp_path: Path) -> None:
    with MisbehavingServer(behave=lambda call: Act(text='{"kind": "cat", "lives": 7}')) as server:
        (answer,) = with_service(
            tmp_path, lambda service: service.ask_many(asking(server), [Prompt("hello", Schema(Cat))])
        )

    shape = server.calls[0].body["response_format"]["json_schema"]
    assert (shape["strict"], shape["schema"]["required"]) == (True, ["kind", "lives"])
    assert isinstance(answer, Answer)
    assert answer.value == {"kind": "cat", "lives": 7}
