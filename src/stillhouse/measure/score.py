"""What a metric says about one reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

from ..core.errors import RecipeError


class Score(NamedTuple):
    """`value` lies in 0..1; None means that the metric is undefined for this item, for want of an expected answer.

    An undefined score is left out of every mean: it is neither right nor wrong. `detail` is a reason for a reader.
    """

    value: float | None
    detail: str | None = None


@runtime_checkable
class Metric(Protocol):
    """A part that scores one reply against its item: a row with the expected answer in it."""

    @property
    def name(self) -> str:
        """The name that stands in reports; two metrics of one comparison need different ones."""

    def __call__(self, item: Mapping[str, Any], reply: str) -> Score: ...


def expected_value(item: Mapping[str, Any], column: str) -> Any:
    """The expected answer in `column`, of any JSON type. Raises `RecipeError` with the columns that exist."""
    try:
        return item[column]
    except KeyError:
        known = ", ".join(sorted(f"`{name}`" for name in item if not name.startswith("_")))
        raise RecipeError(
            f"the item has no column `{column}`", f"Name the column with the expected answer; there are {known}."
        ) from None


def expected_text(item: Mapping[str, Any], column: str) -> str | None:
    """The expected answer as text: JSON values are written as JSON, None stays None."""
    value = expected_value(item, column)
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
