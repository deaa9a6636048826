"""Hand-worked cases of the metrics, and what they refuse to judge."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.json_fields import JsonFields, leaves, parse_json
from stillhouse.measure.score import Metric
from stillhouse.measure.token_f1 import TokenF1, answer_words
from stillhouse.text.normalise import canonical_json

SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0]) | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("normaliser", "expected", "reply", "value"),
    [
        ("exact", "yes", "yes ", 0),
        ("strip", "yes", " yes\n", 1),
        ("strip", "yes", "Yes", 0),
        ("casefold", "Straße", "STRASSE ", 1),
        ("json", '{"a": 1, "b": [2, 3]}', '{"b":[2,3],"a":1.0}', 1),
        ("json", '{"b": [2, 3]}', '{"b": [3, 2]}', 0),
        ("json", '{"a": true}', '{"a": 1}', 0),
    ],
)
def test_exact_match_compares_after_its_normaliser(normaliser: str, expected: str, reply: str, value: int) -> None:
    assert ExactMatch(normaliser=normaliser)({"output": expected}, reply).value == value


def test_exact_match_without_an_expected_answer_is_undefined_and_a_missing_column_is_an_error() -> None:
    assert ExactMatch()({"output": None}, "x").value is None
    with pytest.raises(RecipeError, match=r"no column `output`\n.* there are `input`"):
        ExactMatch()({"_id": "1", "input": "x"}, "x")


def test_an_expected_answer_may_be_a_json_value() -> None:
    metric = ExactMatch(normaliser="json", column="answer")
    assert metric({"answer": {"a": [1]}}, '{"a":[1]}').value == 1


def test_an_unknown_normaliser_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="casefold"):
        ExactMatch(normaliser="lower")


def test_every_metric_keeps_the_protocol() -> None:
    for metric in (ExactMatch(), TokenF1(), JsonFields()):
        assert isinstance(metric, Metric)
        assert metric.name


@pytest.mark.parametrize(
    ("expected", "reply", "value"),
    [
        ("The cat sat.", "a cat sat", 1),
        ("cat sat", "cat", 2 / 3),
        ("cat cat dog", "cat dog dog", 2 / 3),
        ("Beyoncé and Bruno Mars", "Beyoncé", 0.4),
        ("yes", "", 0),
        ("быстрая лиса", "Быстрая, лиса!", 1),
        ("今天天气很好", "今天天气不错", 4 / 6),
        ("naïve", "naive", 0),
    ],
)
def test_token_f1_of_hand_worked_cases(expected: str, reply: str, value: float) -> None:
    assert TokenF1()({"output": expected}, reply).value == pytest.approx(value)


def test_token_f1_is_undefined_where_the_expected_answer_holds_no_word() -> None:
    assert TokenF1()({"output": " ... "}, "anything").value is None
    assert TokenF1()({"output": None}, "anything").value is None


def squad_f1(expected: str, reply: str) -> float:
    """The published SQuAD 1.1 evaluation, told naively: for ASCII text both must agree."""
    import re
    import string

    def tokens(text: str) -> list[str]:
        bare = "".join(character for character in text.lower() if character not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", bare).split()

    wanted, given_ = tokens(expected), tokens(reply)
    rest = list(wanted)
    shared = 0
    for token in given_:
        if token in rest:
            rest.remove(token)
            shared += 1
    return 0.0 if shared == 0 else 2 * shared / (len(wanted) + len(given_))


ASCII = st.lists(st.sampled_from(["the", "a", "cat", "Cat's", "$5", "x-y", "dog,", "An", "1.5"]), max_size=6).map(
    " ".join
)


@given(ASCII, ASCII)
def test_token_f1_equals_squads_on_ascii_text(expected: str, reply: str) -> None:
    score = TokenF1()({"output": expected}, reply)
    if not answer_words(expected, ("a", "an", "the")):
        assert score.value is None
    else:
        assert score.value == pytest.approx(squad_f1(expected, reply))


@pytest.mark.parametrize(
    ("expected", "reply", "value", "detail"),
    [
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', 1, None),
        ('{"a": 1, "b": 2}', '{"a": 1}', 1 / 2, "missing $.b"),
        ('{"a": 1}', '{"a": 1, "c": 3}', 1 / 2, "extra $.c"),
        ('{"a": 1}', '{"a": "1"}', 0, "wrong $.a"),
        ('{"a": true}', '{"a": 1}', 0, "wrong $.a"),
        ('{"a": 1}', '{"a": 1.0}', 1, None),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', 0, "wrong $.a[0], $.a[1]"),
        ('{"a": [1, 2]}', '{"a": [1, 2, 3]}', 2 / 3, "extra $.a[2]"),
        ('{"a": []}', '{"a": [1]}', 0, "extra $.a[0]"),
        ('{"b": 1, "a": []}', '{"b": 1, "a": ["x"]}', 1 / 2, "extra $.a[0]"),
        ('{"b": 1, "a": [1, 2]}', '{"b": 1, "a": []}', 1 / 3, "missing $.a[0], $.a[1]"),
        ('{"b": 1, "a": []}', '{"b": 1}', 1 / 2, "missing $.a"),
        ('{"a": []}', '{"a": 1}', 0, "wrong $.a"),
        ('{"a": null}', "{}", 0, "missing $.a"),
        ("[]", '{"a": [{}]}', 0, "extra $.a[0]"),
        ('{"a": {}}', '{"a": {}}', 1, None),
        ("3", "3", 1, None),
    ],
)
def test_json_fields_of_hand_worked_cases(expected: str, reply: str, value: float, detail: str | None) -> None:
    score = JsonFields()({"output": expected}, reply)
    assert score.value == pytest.approx(value)
    assert score.detail == detail


def test_a_reply_that_is_not_json_scores_0_and_says_so() -> None:
    for reply in ("", "sure: {}", '{"a": NaN}', "[" * 100_000):
        score = JsonFields()({"output": "{}"}, reply)
        assert score.value == 0
        assert score.detail is not None
        assert "not JSON" in score.detail


def test_an_expected_answer_that_is_not_json_makes_the_score_undefined() -> None:
    assert JsonFields()({"output": "hello"}, "{}").value is None
    assert JsonFields()({"output": None}, "{}").value is None


def test_unordered_lists_pair_equal_elements_first_and_the_rest_in_order() -> None:
    expected = json.dumps({"items": [{"n": 1, "what": "tea"}, {"n": 2, "what": "cake"}]})
    swapped = json.dumps({"items": [{"n": 2, "what": "cake"}, {"n": 1, "what": "tea"}]})
    nearly = json.dumps({"items": [{"n": 2, "what": "cake"}, {"n": 9, "what": "tea"}]})
    metric = JsonFields(lists="unordered")
    assert metric({"output": expected}, swapped).value == 1
    assert metric({"output": expected}, nearly).value == pytest.approx(3 / 4)
    assert JsonFields()({"output": expected}, swapped).value == 0


@given(VALUES)
def test_every_json_value_matches_itself_in_all_its_fields(value: Any) -> None:
    text = json.dumps(value)
    for lists in ("ordered", "unordered"):
        assert JsonFields(lists=lists)({"output": text}, text).value == 1


@given(VALUES, VALUES)
def test_field_scores_are_symmetric_and_1_for_equal_values_alone(left: Any, right: Any) -> None:
    forth = JsonFields()({"output": json.dumps(left)}, json.dumps(right)).value
    back = JsonFields()({"output": json.dumps(right)}, json.dumps(left)).value
    assert forth == back
    assert (forth == 1) == (canonical_json(left) == canonical_json(right))


def test_paths_tell_odd_keys_apart() -> None:
    assert set(leaves({"a.b": 1, "a": {"b": 2}, "": 3}).found) == {'$["a.b"]', "$.a.b", '$[""]'}


def test_parse_json_refuses_what_is_not_json() -> None:
    with pytest.raises(ValueError, match="`Infinity` is not JSON"):
        parse_json("[Infinity]")
