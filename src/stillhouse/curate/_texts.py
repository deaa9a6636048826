"""The text of a row that near-duplicate search and contamination checks look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson
import pyarrow as pa

from ..core.artifact import Rows
from ..core.errors import RecipeError

BATCH_ROWS = 2048  # numpy works on a batch in the processor's cache


class TextBatch(NamedTuple):
    """Rows `start` … of a table with the text of each."""

    start: int
    table: pa.Table
    texts: list[str]

    @property
    def ids(self) -> list[str]:
        return self.table.column("_id").to_pylist()  # type: ignore[no-any-return]


def text_batches(rows: Rows, columns: Sequence[str], step: str) -> Iterator[TextBatch]:
    """The table in batches, in constant memory; raises `RecipeError` naming `step` where a column is missing."""
    if len(rows) == 0:
        return  # a table without rows may lack columns too
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise RecipeError(
            f"{step}: there is no column `{missing[0]}` to compare",
            f"The columns are {', '.join(f'`{name}`' for name in rows.columns)}; name some of them in `columns`.",
        )
    start = 0
    for batch in rows.arrow_batches(BATCH_ROWS):
        table = pa.Table.from_batches([batch])
        yield TextBatch(start, table, texts_of(table, columns))
        start += table.num_rows


def texts_of(table: pa.Table, columns: Sequence[str]) -> list[str]:
    """One text a row: its columns joined by a line end; what is not text as JSON, a missing value as nothing."""
    parts = [[_text(value) for value in table.column(name).to_pylist()] for name in columns]
    return parts[0] if len(parts) == 1 else ["\n".join(values) for values in zip(*parts, strict=True)]


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str).decode()
