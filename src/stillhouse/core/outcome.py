"""What becomes of a row: it is kept, dropped with a reason, failed with an error, or replaced by new rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""A user's columns plus `_id`. A leading underscore marks lineage, not content; values are any that Arrow holds."""


class Keep(Enum):
    """The row passes unchanged and keeps its id."""

    KEEP = "keep"


KEEP = Keep.KEEP


@dataclass(frozen=True, slots=True)
class Drop:
    """The row was judged and not wanted: `reason` is a short sentence, `detail` any longer evidence."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """The row could not be made: `kind` as in `RowFault`, `raw` the text that could not be used."""

    kind: str
    message: str
    raw: str | None = None


@dataclass(slots=True)  # not frozen: one is made for each row, and freezing doubles what that costs
class Emit:
    """New rows made from the row; `calls` are the keys of the model calls that made them.

    `parents` are row ids; None means the mapped row alone.
    """

    rows: Sequence[Mapping[str, Any]]
    calls: Sequence[str] = ()
    parents: Sequence[str] | None = None


Made: TypeAlias = Drop | Fail | Emit
Outcome: TypeAlias = Keep | Made | Sequence[Made]
"""What became of a row. Where several things did (of four replies one was unusable), a list of them: each `Emit` with
its own calls, each `Drop` and `Fail` in its table."""


def content_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The user's columns of a row."""
    names = tuple(row)
    ours = _lineage_names.get(names)
    if ours is None:
        ours = _lineage_names[names] = tuple(name for name in names if name[:1] == "_")
        if len(_lineage_names) > 1000:  # rows of many shapes: a memory of all would not end
            _lineage_names.clear()
    content = dict(row)
    for name in ours:
        del content[name]
    return content


_lineage_names: dict[tuple[str, ...], tuple[str, ...]] = {}
