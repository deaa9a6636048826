from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.text.ngrams import ngrams, words
from stillhouse.text.normalise import NORMALISERS, Normalise, normalise

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("name", "left", "right", "same"),
    [
        ("exact", "a", "a ", False),
        ("strip", " a\n", "a", True),
        ("strip", "A", "a", False),
        ("casefold", "STRASSE", "straße ", True),
        ("whitespace", "a  b\n c", "A b c", True),
        ("json", '{"b": 1, "a": [1, 2]}', '{"a":[1,2],"b":1.0}', True),
        ("json", "[1, 2]", "[2, 1]", False),
        ("json", "true", "1", False),
        ("json", '"1"', "1", False),
        ("json", "not json ", "not json", True),
        ("json", "NaN", "nan", False),
        ("json", '"é"', '"\\u00e9"', True),
    ],
)
def test_what_counts_as_the_same(name: str, left: str, right: str, same: bool) -> None:
    assert (normalise(name, left) == normalise(name, right)) is same


@pytest.mark.parametrize("name", sorted(NORMALISERS))
@given(text=st.text(max_size=30))
def test_normalising_twice_changes_nothing(name: str, text: str) -> None:
    once = normalise(name, text)
    assert normalise(name, once) == once


@given(values)
def test_json_is_compared_by_value(value: object) -> None:
    spread = json.dumps(value, indent=3)
    assert normalise("json", spread) == normalise("json", json.dumps(value, sort_keys=True))


def test_an_unknown_name_lists_those_that_exist() -> None:
    with pytest.raises(ValueError, match="whitespace"):
        normalise("upper", "a")
    with pytest.raises(RecipeError, match="whitespace"):
        Normalise(name="upper")


def test_the_part_does_what_the_function_does() -> None:
    assert Normalise(name="casefold")(" A ") == "a"


def test_words_ignore_case_and_punctuation() -> None:
    assert words("Two lattes, TO-GO!") == ["two", "lattes", "to", "go"]


def test_ngrams_are_runs_of_words() -> None:
    assert ngrams("a b c d", 3) == {"a b c", "b c d"}
    assert ngrams("a b", 3) == {"a b"}
    assert ngrams("", 3) == set()
    with pytest.raises(ValueError, match="at least 1"):
        ngrams("a", 0)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 4))
def test_ngrams_agree_with_the_naive_count(letters: list[str], size: int) -> None:
    naive = {" ".join(letters[start : start + size]) for start in range(len(letters) - size + 1)}
    assert ngrams(" ".join(letters), size) == (naive or ({" ".join(letters)} if letters else set()))
