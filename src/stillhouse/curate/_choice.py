"""Writing what was chosen, and why the rest was not."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core.artifact import Rows
from ..core.context import Context
from ..rows.transform import missing_column

Places = npt.NDArray[np.int64]


class Why(NamedTuple):
    """Why a row was not chosen."""

    reason: str
    detail: str | None = None


def write_chosen(source: Rows, context: Context, keep: npt.NDArray[np.bool_], why: Callable[[int], Why]) -> None:
    """The rows of `keep`, unchanged and in their order; the others with what `why` says of a row's number."""
    with context.rows() as writer:
        writer.counts["in"] = len(source)
        writer.write_table(source.schema.empty_table())
        start = 0
        for batch in source.arrow_batches():
            mask = keep[start : start + batch.num_rows]
            table = pa.Table.from_batches([batch])
            writer.write_table(table.filter(pa.array(mask)))
            places = (start + np.flatnonzero(~mask)).tolist()
            for place, row in zip(places, table.filter(pa.array(~mask)).to_pylist(), strict=True):
                writer.drop(row, *why(place))
            start += batch.num_rows
            context.progress(start, len(source))
            context.check_stop()


def ids_of(rows: Rows) -> npt.NDArray[np.bytes_]:
    """All row ids, 24 bytes each."""
    parts = [np.array(batch.column("_id").to_pylist(), dtype="S24") for batch in rows.arrow_batches(65_536)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype="S24")


def numbers_of(rows: Rows, column: str, context: Context) -> npt.NDArray[np.float64]:
    """A column of numbers; NaN where one is missing. Raises `RecipeError` for another column."""
    from ..core.errors import RecipeError

    step = type(context.step).__name__
    if len(rows) and column not in rows.columns:
        raise missing_column(step, column, rows.columns)
    parts = [np.zeros(0)]
    for batch in rows.arrow_batches(65_536):
        values = batch.column(column)
        kind = values.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            raise RecipeError(f"{step}: the column `{column}` holds {kind}, not numbers")
        parts.append(np.asarray(values.cast(pa.float64()).fill_null(float("nan"))))
    return np.concatenate(parts)
