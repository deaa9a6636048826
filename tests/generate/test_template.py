"""Templates: what is filled in, what is refused, and that the fast way equals Jinja's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.generate.template import Template, columns_read

values = st.one_of(
    st.text(max_size=20),
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


@given(
    one=values,
    two=values,
    text=st.text(alphabet="ab {}%\n'\"", max_size=20).filter(lambda t: "{%" not in t and "{{" not in t),
)
def test_the_fast_way_equals_jinja(one: Any, two: Any, text: str) -> None:
    row = {"_id": "r", "one": one, "two": two}
    text = text.replace("{", "(").rstrip("\n")
    plain = Template(text + "{{ one }}-{{ two }}" + text)
    slow = Template(text + "{% if true %}{{ one }}{% endif %}-{{ two }}" + text)
    assert plain(row) == slow(row)


def test_values_are_shown_as_people_would_write_them() -> None:
    row = {"_id": "r", "text": "é", "none": None, "list": ["ü", 1], "number": 1.5}
    assert Template("{{ text }}|{{ none }}|{{ list }}|{{ number }}")(row) == 'é||["ü", 1]|1.5'


def test_a_template_may_loop_and_choose() -> None:
    template = Template("{% for item in items if item %}{{ loop.index }}. {{ item|upper }}\n{% endfor %}")
    assert template({"_id": "r", "items": ["a", "", "b"]}) == "1. A\n2. B\n"


@pytest.mark.parametrize("source", ["{{ quesion }}", "{% if quesion %}yes{% endif %}", "{{ quesion|upper }}"])
def test_a_missing_column_names_the_row_and_the_columns_there_are(source: str) -> None:
    with pytest.raises(
        RecipeError,
        match=r"row ab12 has no column `quesion`\n  Did you mean `question`\? The columns are `question`, `x`",
    ):
        Template(source)({"_id": "ab12", "question": "?", "x": 1})


def test_a_column_may_be_asked_for_with_care() -> None:
    assert Template("{{ note|default('none') }}{% if note is defined %}!{% endif %}")({"_id": "r", "x": 1}) == "none"


@pytest.mark.parametrize("name", ["range", "dict", "cycler", "joiner", "namespace"])
def test_a_column_that_is_called_as_something_of_jinja_is_read_as_a_column(name: str) -> None:
    source = f"{{{{ {name} }}}} of {{{{ x }}}}"
    assert Template(source)({"_id": "r", name: "EUR 3", "x": 1}) == "EUR 3 of 1"
    assert set(columns_read(source)) == {name, "x"}


def test_names_that_a_template_makes_itself_are_no_columns() -> None:
    assert columns_read("{% for i in items %}{% set n = i %}{{ n }}{{ loop.index }}{% endfor %}", None) == ("items",)


def test_a_field_missing_inside_a_column_is_the_rows_fault() -> None:
    with pytest.raises(RowFault, match=r"row r: there is no field `size`.*columns: `order`"):
        Template("{{ order.size }}")({"_id": "r", "order": {"item": "tea"}})


@pytest.mark.parametrize(
    "source",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ text.format.__globals__ }}",
        "{{ items.append(1) }}",
        "{% for i in range(10000000) %}x{% endfor %}",
    ],
)
def test_a_template_stays_in_its_sandbox(source: str) -> None:
    with pytest.raises(RowFault):
        Template(source)({"_id": "r", "text": "a", "items": [1]})


@pytest.mark.parametrize("source", ["{{ [1, 2]|random }}", "{{ lipsum() }}"])
def test_nothing_in_a_template_is_left_to_chance(source: str) -> None:
    with pytest.raises(RecipeError):
        Template(source)({"_id": "r"})


def test_ids_and_lineage_cannot_be_shown() -> None:
    with pytest.raises(RecipeError, match="has no column `_id`"):
        Template("{{ _id }}")({"_id": "r", "x": 1})


def test_a_template_that_cannot_be_read_says_where() -> None:
    with pytest.raises(RecipeError, match=r"line 2"):
        Template("fine\n{{ broken ")
