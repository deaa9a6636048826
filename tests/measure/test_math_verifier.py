"""Formulas by computer algebra; and the numbers of `NumberVerifier` held against it."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.measure.limits import Limits
from stillhouse.measure.math_verifier import MathVerifier
from stillhouse.measure.number_verifier import NumberVerifier

pytest.importorskip("math_verify")
VERIFY = MathVerifier(limits=Limits(seconds=120, cpu_seconds=60))


@pytest.mark.parametrize(
    ("expected", "reply", "right"),
    [
        ("x+1", r"So it is \boxed{1+x}.", True),
        (r"\frac{\sqrt{2}}{2}", r"The answer is $\frac{1}{\sqrt{2}}$", True),
        ("{1,2}", r"$\{2,1\}$", True),
        ("$(x+1)^2$", "$x^2 + 2x + 1$", True),
        ("1/2", "0.5", True),
        (r"2\pi", "6.283185307", True),
        ("x^2", "$x^3$", False),
        ("[1, 2)", "$[1, 2]$", False),
        ("7", "It is eight.", False),
    ],
)
def test_formulas_that_say_the_same_are_accepted(expected: str, reply: str, right: bool) -> None:
    assert VERIFY({"output": expected}, reply).accepted == right


def test_a_wrong_formula_says_both() -> None:
    assert VERIFY({"output": "x^2"}, "$x^3$").reason == "it comes to x^3, not x^2"
    assert VERIFY({"output": "x^2"}, "nothing").reason == "it comes to no formula"
    assert VERIFY({"output": ""}, "$x$").reason == "the expected answer '' cannot be read"


def test_a_formula_that_takes_for_ever_is_ended() -> None:
    hasty = MathVerifier(limits=Limits(seconds=120, cpu_seconds=1))
    tower = "$" + "9^{" * 8 + "9" + "}" * 8 + "$"
    verdicts = hasty.many([({"output": "1"}, tower), ({"output": "1"}, "1")])
    assert [verdict.accepted for verdict in verdicts] == [False, True]


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"pip install 'stillhouse\[math\]'"):
        VERIFY({"output": "1"}, "1")


FORMS: dict[str, Any] = {
    "latex": lambda top, bottom: f"\\boxed{{{'-' if top < 0 else ''}\\frac{{{abs(top)}}}{{{bottom}}}}}",
    "slash": lambda top, bottom: f"${top}/{bottom}$",
    "decimal": lambda top, bottom: f"The answer is {top / bottom:.9f}",
    "whole": lambda top, bottom: f"It is ${top}$",
}


@settings(max_examples=25)
@given(
    top=st.integers(-99, 99),
    bottom=st.integers(1, 40),
    other=st.integers(-99, 99),
    one_form=st.sampled_from(sorted(FORMS)),
    other_form=st.sampled_from(sorted(FORMS)),
)
def test_numbers_are_judged_as_computer_algebra_does(
    top: int, bottom: int, other: int, one_form: str, other_form: str
) -> None:
    for value in (top, other):
        expected, reply = FORMS[one_form](top, bottom), FORMS[other_form](value, bottom)
        ours = NumberVerifier(relative=1e-6, absolute=1e-6)({"output": expected}, reply).accepted
        theirs = VERIFY({"output": expected}, reply).accepted
        assert ours == theirs, (expected, reply, Fraction(top, bottom))
