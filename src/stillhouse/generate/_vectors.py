"""Texts and vectors in the columns of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..core.artifact import Rows
from ..core.errors import RowFault
from ..core.outcome import Row
from ..rows.transform import missing_column


def check_columns(step: str, rows: Rows, columns: Sequence[str]) -> None:
    """Raise `RecipeError` where a column is not there."""
    known = rows.columns
    for column in columns:
        if column not in known:
            raise missing_column(step, column, known)


def is_vectors(rows: Rows, column: str) -> bool:
    """Whether the column's type is a list of numbers."""
    return is_vector_type(rows.schema.field(column).type)


def is_vector_type(kind: pa.DataType) -> bool:
    """Whether a type is a list of numbers."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def vector_of(row: Row, column: str) -> NDArray[np.float32]:
    """The vector in a column; raises `RowFault` where there is none."""
    value = row[column]
    if not value:
        raise RowFault("empty", f"there is no vector in `{column}`")
    try:
        found = np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise RowFault("invalid", f"`{column}` holds no vector: {error}") from None
    if not np.isfinite(found).all():
        raise RowFault("invalid", f"the vector in `{column}` holds what is no number")
    return found
