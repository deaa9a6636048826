"""Several replies about one row, and the scores of many rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..calls.answer import Answer
from ..core.artifact import Rows
from ..core.errors import EXHAUSTED, RowFault
from ._asking import most_passing


def usable(answers: Sequence[Answer | RowFault]) -> list[Answer]:
    """Those that are answers.

    Raises a `RowFault` where there is none, or where one got no answer and may get one another time: what the row is
    worth must not depend on the weather.
    """
    faults = [answer for answer in answers if isinstance(answer, RowFault)]
    good = [answer for answer in answers if not isinstance(answer, RowFault)]
    if faults and (not good or any(fault.kind == EXHAUSTED for fault in faults)):
        raise most_passing(faults)
    return good


def spread_of(made: Rows, columns: Sequence[str]) -> dict[str, Any]:
    """Mean, standard deviation, least and greatest of each column, for the record; in one pass (Welford 1962)."""
    spreads = {column: Spread() for column in columns}
    for row in made:
        for column, spread in spreads.items():
            spread.add(row[column])
    return {column: spread.facts() for column, spread in spreads.items() if spread.number}


class Spread:
    """Mean, deviation, least and greatest of numbers that are told one by one (Welford 1962)."""

    def __init__(self) -> None:
        self.number = 0
        self._mean = self._squares = 0.0
        self._least, self._greatest = math.inf, -math.inf

    def add(self, value: float) -> None:
        self.number += 1
        before = value - self._mean
        self._mean += before / self.number
        self._squares += before * (value - self._mean)
        self._least, self._greatest = min(self._least, value), max(self._greatest, value)

    def facts(self) -> dict[str, float]:
        deviation = math.sqrt(self._squares / self.number)
        return {"mean": self._mean, "deviation": deviation, "least": self._least, "greatest": self._greatest}
