"""Several replies about one row, and the scores of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
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
    """Mean, standard deviation, least and greatest of each column, for the record."""
    values: dict[str, list[float]] = {column: [] for column in columns}
    for row in made:
        for column in columns:
            values[column].append(row[column])
    return {
        column: {"mean": fmean(found), "deviation": pstdev(found), "least": min(found), "greatest": max(found)}
        for column, found in values.items()
        if found
    }
