"""Numbers in texts: worked by hand, and written and read again."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.text.normalise import normalise
from stillhouse.text.numbers import boxed, marked_answer, numbers_in, the_number


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,234.5", ["2469/2"]),
        ("1'234'567 and 1\u202f234", ["1234567", "1234"]),
        ("1 234", ["1", "234"]),  # a plain space parts
        ("-3, +4, −5, (-6)", ["-3", "4", "-5", "-6"]),
        ("12 - 7 and 10-5", ["12", "7", "10", "5"]),
        ("H2O, x_3, v1.2.3, 1/2/2024", []),
        ("12:30 (1,2)", ["12", "30", "1", "2"]),
        ("3/4 cup, 1 3/4, ½, 2½, -1/3", ["3/4", "7/4", "1/2", "5/2", "-1/3"]),
        ("1/0", []),
        ("1.5e3, 2E-2", ["1500", "1/50"]),
        ("1.5 × 10^3, 2 \\times 10^{-2}, 3·10**2", ["1500", "1/50", "300"]),
        ("1e99999999", []),
        ("\\frac{3}{4}, \\dfrac12, -\\frac{1}{3}, 2\\frac{1}{2}", ["3/4", "1/2", "-1/3", "5/2"]),
        ("1{,}000 \\text{ km}, 90^\\circ", ["1000", "90"]),
        ("$1,000.50, -$5, €7", ["2001/2", "-5", "7"]),
        ("50%, 12.5 \\%, 5 percent", ["50", "25/2", "5"]),
        ("７８", ["78"]),
        (".5 and 5.", ["1/2", "5"]),
        ("3rd of 10", ["3", "10"]),
        ("", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, values: list[str]) -> None:
    assert [str(number.value) for number in numbers_in(text)] == values


def test_percent_and_units_stand_with_their_number() -> None:
    found = numbers_in("50 %, 5 m², $3, 60 km/h, 7")
    assert [(number.percent, number.unit) for number in found] == [
        (True, None),
        (False, "m²"),
        (False, "$"),
        (False, "km/h"),
        (False, None),
    ]


def test_a_comma_may_be_the_decimal_sign() -> None:
    assert [str(number.value) for number in numbers_in("1.234,5 und 3,5", ",")] == ["2469/2", "7/2"]
    assert normalise("number", "so 1,000") == normalise("number", "1000.0")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("First 3, then 4.", "4"),
        ("So \\boxed{42}, as 40 and 2 are 42 and not 5.", "42"),
        ("\\boxed{1} or rather \\boxed{\\frac{22}{7}}", "22/7"),
        ("The final answer is $\\boxed{-\\frac{1}{2}}$.", "-1/2"),
        ("Natalia sold 48/2 = 24 clips.\n#### 72", "72"),
        ("#### 1,200 of 5", "1200"),
        ("The answer is 12 because 3 + 9.", "12"),
        ("The answer is 12. It is 3 + 9.", "12"),
        ("The answer is -12.", "-12"),
        ("Answer: **-$1.5**", "-3/2"),
        ("Answer: 3 + 4 = 7", "7"),
        ("**Answer:** **36**\nThat took 2 steps.", "36"),
        ("The answer is 1,000.5. Not 3.", "2001/2"),
        ("The answer is \\boxed{x} of 3", None),
        ("The answer is no number, unlike 3? The answer is x.", None),
        ("no number", None),
    ],
)
def test_the_marked_answer_counts_before_the_last_number(text: str, value: str | None) -> None:
    found = the_number(text)
    assert (None if found is None else str(found.value)) == value


def test_only_a_number_is_only_a_number() -> None:
    for text in ("42", " $1,000 ", "-3.5 km", "50 %", "\\frac{1}{2}", "7."):
        assert the_number(text, "only") is not None, text
    for text in ("it is 42", "42 or 43", "", "x = 3"):
        assert the_number(text, "only") is None, text


def test_braces_inside_a_box_are_counted() -> None:
    assert boxed("a \\boxed{x_{1} + {2}} b") == "x_{1} + {2}"
    assert boxed("\\boxed{never closed") is None
    assert boxed("\\boxed 3 {4}") is None
    assert marked_answer("nothing") is None


@given(value=st.integers(-(10**12), 10**12), places=st.integers(0, 6), noise=st.sampled_from(["", "about ", "= ", "("]))
def test_a_number_that_is_written_is_read(value: int, places: int, noise: str) -> None:
    exact = Fraction(value, 10**places)
    for written in (f"{value / 10**places:.{places}f}", f"{value / 10**places:,.{places}f}"):
        if Fraction(written.replace(",", "")) != exact:
            continue  # more digits than a float holds
        (found,) = numbers_in(f"{noise}{written} kg")
        assert found.value == exact
        assert found.unit == "kg"


@given(top=st.integers(-999, 999), bottom=st.integers(1, 999))
def test_a_fraction_is_the_same_in_every_form(top: int, bottom: int) -> None:
    sign = "-" if top < 0 else ""
    forms = (f"{top}/{bottom}", f"{sign}\\frac{{{abs(top)}}}{{{bottom}}}", f"\\boxed{{{top}/{bottom}}}")
    assert {the_number(form).value for form in forms} == {Fraction(top, bottom)}  # type: ignore[union-attr]


@given(text=st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    found: Any = the_number(text)
    assert found is None or isinstance(found.value, Fraction)
