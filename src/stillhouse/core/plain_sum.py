"""Adding numbers up in one way on every Python."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any


def plain_sum(values: Iterable[Any]) -> Any:
    """The sum of floats or fractions from left to right, rounded after each: where it decides what a result is.

    `sum` carries the rounding of floats along from Python 3.12 on, and not before.
    """
    return reduce(add, values, 0)
