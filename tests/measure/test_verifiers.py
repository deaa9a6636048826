"""Verifiers: what they accept, what they reject and why."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, field_validator

from stillhouse.core.errors import RecipeError
from stillhouse.measure.agreement import Agreement, majority
from stillhouse.measure.function_verifier import FunctionVerifier
from stillhouse.measure.schema_verifier import SchemaVerifier
from stillhouse.measure.verdict import Verifier


def longer_than_the_input(row: dict[str, Any], reply: str) -> bool | str:
    if json.loads(reply) == "secret":
        return "it tells a secret"
    return len(reply) > len(row["input"])


def forgets_to_answer(row: dict[str, Any], reply: str) -> None:
    del row, reply


class Order(BaseModel):
    item: str
    count: int


class Even(BaseModel):
    count: int

    @field_validator("count")
    @classmethod
    def _even(cls, count: int) -> int:
        if count % 2:
            raise ValueError("not even")
        return count


def test_a_function_accepts_rejects_and_gives_its_reason() -> None:
    verify = FunctionVerifier(function=longer_than_the_input)
    assert isinstance(verify, Verifier)
    assert verify({"input": "a"}, '"long"') == (True, None)
    assert verify({"input": "a much longer text"}, '"x"') == (False, "the verifier said no")
    assert verify({"input": "a"}, '"secret"') == (False, "it tells a secret")


def says_as_numpy_does(row: dict[str, Any], reply: str) -> Any:
    return np.array([len(reply)]) > len(row["input"])


def compares_as_numpy_does(row: dict[str, Any], reply: str) -> Any:
    return np.int64(len(reply)) > len(row["input"])


def test_a_truth_of_numpy_is_a_truth() -> None:
    assert FunctionVerifier(function=compares_as_numpy_does)({"input": "a"}, "long") == (True, None)
    assert not FunctionVerifier(function=compares_as_numpy_does)({"input": "long"}, "a").accepted
    with pytest.raises(RecipeError, match="ndarray"):
        FunctionVerifier(function=says_as_numpy_does)({"input": "a"}, "long")


@pytest.mark.parametrize("function", [lambda row: True, lambda: True, lambda row, reply, more: True])
def test_a_function_that_takes_other_arguments_is_refused_when_it_is_given(function: Any) -> None:
    with pytest.raises(RecipeError, match=r"does not take a row and its reply: write it as `def verify\(row, reply\)`"):
        FunctionVerifier(function=function)


def test_an_exception_in_the_function_rejects_with_it_as_the_reason() -> None:
    verdict = FunctionVerifier(function=longer_than_the_input)({"input": "a"}, "no json")
    assert not verdict.accepted
    assert verdict.reason is not None
    assert verdict.reason.startswith("JSONDecodeError: Expecting value")


def test_a_function_that_returns_nothing_is_a_mistake_and_not_a_rejection() -> None:
    with pytest.raises(RecipeError, match="`forgets_to_answer` returned None"):
        FunctionVerifier(function=forgets_to_answer)({"input": "a"}, "x")


def test_a_function_may_be_named_as_in_a_recipe_file() -> None:
    named = FunctionVerifier(function="operator:contains")
    assert named({"input": 1}, "input").accepted
    with pytest.raises(RecipeError, match="no module"):
        FunctionVerifier(function="not_there:check")


def test_a_schema_verifier_names_the_place_that_is_wrong() -> None:
    verify = SchemaVerifier(response=Order)
    assert verify({}, '{"item": "tea", "count": 2}').accepted
    assert verify({}, '{"item": "tea", "count": "2"}').reason == "$.count: '2' is not of type 'integer'"
    assert verify({}, '{"item": "tea"}').reason == "$: 'count' is a required property"
    assert (verify({}, "tea").reason or "").startswith("the reply is not JSON")


def test_a_schema_verifier_holds_replies_to_formats_and_to_a_models_own_validators() -> None:
    dated = SchemaVerifier(response={"type": "object", "properties": {"day": {"type": "string", "format": "date"}}})
    assert not dated({}, '{"day": "soon"}').accepted
    assert dated({}, '{"day": "2024-02-29"}').accepted
    even = SchemaVerifier(response=Even)
    assert even({}, '{"count": 2}').accepted
    assert "not even" in (even({}, '{"count": 3}').reason or "")


def test_what_is_no_schema_is_refused_before_the_first_row() -> None:
    with pytest.raises(RecipeError, match="no JSON Schema"):
        SchemaVerifier(response={"type": "objekt"})


def test_the_majority_is_the_largest_group_in_the_words_of_its_first_reply() -> None:
    found = majority(['{"a": 1}', "2", '{"a":1.0}', "2", ' {"a": 1}'], "json")
    assert found == ('{"a": 1}', 3 / 5, 3)
    assert majority(["b", "a", "a", "b"]).winner == "b"


def test_agreement_below_its_share_is_none() -> None:
    assert Agreement(least=0.6)(["a", "a", "b", "b", "c"]) is None
    agreed = Agreement(least=0.6, normaliser="casefold")(["a", "A", "b"])
    assert agreed is not None
    assert agreed.winner == "a"


def test_a_majority_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one reply"):
        majority([])
