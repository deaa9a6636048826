"""Schemas of replies: where they come from, what they let pass, and how they travel."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

import orjson
import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from stillhouse.core.errors import RecipeError
from stillhouse.core.part import Part
from stillhouse.text.schema import Misfit, Schema


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError("too small")


class Inside(BaseModel):
    one: Positive


class Item(BaseModel):
    count: int = Field(1, ge=1)
    name: str
    size: Size | None = None


class Order(BaseModel):
    items: list[Item]
    to_go: bool = False


class Card(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    model_config = ConfigDict(extra="allow")
    kind: Literal["cash"]


class Payment(BaseModel):
    by: Card | Cash
    day: dt.date | None = None


class Checked(BaseModel):
    word: str

    @field_validator("word")
    @classmethod
    def _lower(cls, word: str) -> str:
        if word == "NO":
            raise ValueError("not this word")
        return word.lower()


def _no_shouting(word: str) -> str:
    if word.isupper():
        raise ValueError("no shouting")
    return word


Calm = Annotated[str, AfterValidator(_no_shouting)]


class Whispered(BaseModel):
    word: Calm


class Listed(BaseModel):
    words: list[Calm]


class Nested(BaseModel):
    inner: dict[str, Listed | None]


class Looked(BaseModel):
    """Its validator meets what it was not written for."""

    word: str

    @field_validator("word")
    @classmethod
    def _known(cls, word: str) -> str:
        return {"tea": "drink"}[word]


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class Shaped(Part, tag="test.shaped/1"):
    response: Schema | None = None


def test_unnamed_fields_are_dropped_and_defaults_filled_as_the_model_says() -> None:
    value = Schema(Order).check({"items": [{"name": "tea", "sugar": 2}], "note": "soon"})

    assert value == {"items": [{"count": 1, "name": "tea", "size": None}], "to_go": False}
    assert list(value["items"][0]) == ["count", "name", "size"]
    assert Order.model_validate(value).model_dump(mode="json") == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"items": [{"name": "tea", "count": 0}]}, "$.items[0].count: 0 is less than the minimum of 1"),
        ({"items": [{"count": 2}]}, "$.items[0]: 'name' is a required property"),
        ({"items": [{"name": "tea", "count": "2"}]}, "$.items[0].count: '2' is not of type 'integer'"),
        ({"items": "tea"}, "$.items: 'tea' is not of type 'array'"),
        ([], "$: [] is not of type 'object'"),
    ],
)
def test_a_misfit_names_its_place(value: Any, message: str) -> None:
    with pytest.raises(Misfit) as caught:
        Schema(Order).check(value)

    assert str(caught.value) == message


def test_forbidden_and_allowed_fields_are_each_as_their_own_model_says() -> None:
    schema = Schema(Payment)

    assert schema.check({"by": {"kind": "cash", "tip": 1}, "x": 1}) == {"by": {"kind": "cash", "tip": 1}, "day": None}
    with pytest.raises(Misfit, match="by"):
        schema.check({"by": {"kind": "card", "number": "1", "tip": 1}})


def test_a_json_schema_keeps_unnamed_fields_unless_it_forbids_them() -> None:
    open_ = {"type": "object", "properties": {"a": {"type": "integer"}}}

    assert Schema(open_).check({"a": 1, "b": 2}) == {"a": 1, "b": 2}
    with pytest.raises(Misfit, match="'b' was unexpected"):
        Schema({**open_, "additionalProperties": False}).check({"a": 1, "b": 2})


def test_recursive_models_are_shaped_all_the_way_down() -> None:
    value = {"name": "a", "x": 1, "children": [{"name": "b", "children": [{"name": "c", "y": 2}]}]}

    assert Schema(Tree).check(value) == {
        "name": "a",
        "children": [{"name": "b", "children": [{"name": "c", "children": []}]}],
    }


@pytest.mark.parametrize(("day", "fits"), [("2024-02-29", True), ("2023-02-29", False), ("soon", False)])
def test_dates_are_checked(day: str, fits: bool) -> None:
    value = {"by": {"kind": "cash"}, "day": day}
    if fits:
        assert Schema(Payment).check(value) == value
    else:
        with pytest.raises(Misfit):
            Schema(Payment).check(value)


def test_validators_of_a_model_run_too() -> None:
    schema = Schema(Checked)

    assert schema.check({"word": "YES", "x": 1}) == {"word": "yes"}
    with pytest.raises(Misfit, match=r"\$\.word: Value error, not this word"):
        schema.check({"word": "NO"})


@pytest.mark.parametrize(
    ("model", "value"),
    [
        (Whispered, {"word": "TEA"}),
        (Listed, {"words": ["tea", "TEA"]}),
        (Nested, {"inner": {"a": {"words": ["TEA"]}}}),
    ],
)
def test_validators_in_annotations_run_at_any_depth(model: type[BaseModel], value: Any) -> None:
    with pytest.raises(Misfit, match="no shouting") as caught:
        Schema(model).check(value)
    assert caught.value.told.endswith(": no shouting")


def test_whatever_a_validator_raises_is_a_misfit() -> None:
    assert Schema(Looked).check({"word": "tea"}) == {"word": "drink"}
    with pytest.raises(Misfit, match="KeyError in a validator: 'bun'"):
        Schema(Looked).check({"word": "bun"})


def test_a_value_that_is_nested_too_deeply_is_a_misfit() -> None:
    value: dict[str, Any] = {"name": "a"}
    for _ in range(2000):
        value = {"name": "a", "children": [value]}
    with pytest.raises(Misfit, match="nested too deeply"):
        Schema(Tree).check(value)


def test_a_model_with_validators_must_be_found_again_by_its_name() -> None:
    class Local(Checked):
        pass

    with pytest.raises(RecipeError, match="top of a module"):
        Schema(Local)


def test_a_field_takes_a_model_a_dict_or_a_schema() -> None:
    from_model = Shaped(response=Order)
    assert from_model == Shaped(response=Schema(Order))
    assert from_model.response == Schema(Order)
    assert Shaped(response=Order.model_json_schema()).response == Schema(Order.model_json_schema())


@pytest.mark.parametrize(
    ("given", "fits", "misfit"),
    [
        (Item | Order, {"items": [{"name": "tea"}]}, {"items": "tea"}),
        (list[Item], [{"name": "tea", "mood": "fine"}], {"name": "tea"}),
        (Size, "small", "huge"),
        (Literal["yes", "no"], "yes", "perhaps"),
        (dict[str, int], {"tea": 2}, {"tea": "two"}),
    ],
)
def test_unions_lists_and_enums_are_schemas_too(given: Any, fits: Any, misfit: Any) -> None:
    schema = Schema(given)

    assert Shaped(response=given).response == schema == Schema(**orjson.loads(orjson.dumps(schema.values())))
    assert "mood" not in str(schema.check(fits))
    with pytest.raises(Misfit):
        schema.check(misfit)


@pytest.mark.parametrize("model", [Order, Payment, Checked, Tree])
def test_a_schema_reads_back_equal(model: type[BaseModel]) -> None:
    schema = Schema(model)
    travelled = orjson.loads(orjson.dumps(schema.values()))

    again = Schema(**travelled)

    assert again == schema
    assert again.structure == schema.structure


def test_schemas_differ_by_what_they_let_pass() -> None:
    keys = {Schema(Order).structure, Schema(Order.model_json_schema()).structure, Schema(Item).structure}

    assert len(keys) == 3


def test_the_check_of_a_dataclass_inside_a_model_runs() -> None:
    assert Schema(Inside).check({"one": {"number": 1}}) == {"one": {"number": 1}}
    with pytest.raises(Misfit, match="too small"):
        Schema(Inside).check({"one": {"number": 0}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "objekt"}, "no JSON Schema"),
        (str, "Replies are text"),
        (object, "is no schema"),
        (5, "is no schema"),
        (lambda: "a reply", "is no schema"),
        (list[Checked], "no name by which they are found again"),
        (Positive, "no name by which they are found again"),
        (Positive(1), "is no schema"),
        ({"type": "object", "required": "a"}, "no JSON Schema"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "leads back to itself"),
        ({"properties": {"a": {"$ref": "#/$defs/a"}}}, r"`#/\$defs/a` is nowhere in the schema"),
        ({"items": {"$ref": "http://elsewhere/schema.json"}}, "is nowhere in the schema"),
    ],
)
def test_what_is_no_schema_is_refused(given: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Schema(given)


def test_the_strict_form_closes_every_object() -> None:
    class Line(BaseModel):
        name: str
        size: Size | None

    class Lines(BaseModel):
        lines: list[Line]

    strict = Schema(Lines).strict_form

    assert strict is not None
    assert strict["additionalProperties"] is False
    assert strict["$defs"]["Line"]["additionalProperties"] is False
    assert strict["$defs"]["Line"]["required"] == ["name", "size"]


@pytest.mark.parametrize("schema", [Schema(Order), Schema(Cash), Schema({"type": "object"})])
def test_there_is_no_strict_form_where_fields_may_be_missing_or_added(schema: Schema) -> None:
    assert schema.strict_form is None
