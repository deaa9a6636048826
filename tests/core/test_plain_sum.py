from __future__ import annotations

from fractions import Fraction

from stillhouse.core.plain_sum import plain_sum


def test_floats_are_rounded_after_each_as_before_python_3_12() -> None:
    assert plain_sum([0.6, 0.3, 0.1]) == 0.8999999999999999 + 0.1
    assert plain_sum([0.6, 0.3, 0.1]) != 1.0
    assert plain_sum([1e100, 1.0, -1e100]) == 0.0


def test_fractions_stay_exact_and_nothing_is_zero() -> None:
    assert plain_sum([Fraction(1, 3)] * 3) == Fraction(1)
    assert plain_sum([]) == 0
