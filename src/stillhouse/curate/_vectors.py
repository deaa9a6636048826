"""A column of vectors, or texts made into vectors, as one matrix of rows of length 1.

`N` rows, `H` width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..rows.transform import missing_column
from ._shingles import Unit, shingles, units_of
from ._texts import text_batches

Vectors = npt.NDArray[np.float32]
IN_MEMORY = 256 << 20  # bytes; a larger matrix is a file under `scratch`, of which the system keeps what it can
TEXT_WIDTH = 1024


def vectors_of(rows: Rows, column: str, context: Context) -> Vectors:
    """The vectors of `column` as float32, N × H, each of length 1; a missing one or one of zeros is all zeros.

    Raises `RecipeError` where the column is missing, holds something else, or vectors of several widths.
    """
    step = type(context.step).__name__
    if len(rows) == 0:
        return np.zeros((0, 0), dtype=np.float32)
    if column not in rows.columns:
        raise missing_column(step, column, rows.columns)
    found: Vectors | None = None
    start = 0
    for batch in rows.arrow_batches():
        part = _matrix(batch.column(column), column, step, start)
        if found is None or (found.shape[1] == 0 and part.shape[1]):
            found = empty_matrix(context.scratch / f"{column}.f32", len(rows), part.shape[1])
        if part.shape[1] not in (0, found.shape[1]):
            raise _widths(step, column, found.shape[1], part.shape[1], start)
        if part.shape[1]:
            found[start : start + batch.num_rows] = part
        start += batch.num_rows
        context.check_stop()
    assert found is not None
    return found


def matrix_of(table: pa.Table, column: str, step: str) -> Vectors:
    """The vectors of a small table, N × H, each of length 1; errors as in `vectors_of`."""
    found = [_matrix(chunk, column, step, 0) for chunk in table.column(column).chunks]
    widths = sorted({part.shape[1] for part in found} - {0})
    if len(widths) > 1:
        raise _widths(step, column, widths[0], widths[1], 0)
    width = widths[0] if widths else 0
    parts = [part if part.shape[1] else np.zeros((len(part), width), dtype=np.float32) for part in found]
    return np.concatenate(parts) if parts else np.zeros((0, width), dtype=np.float32)


def text_vectors(rows: Rows, columns: Sequence[str], ngram: int, unit: Unit, context: Context) -> Vectors:
    """Each text as its distinct n-grams, hashed with a sign into `TEXT_WIDTH` places (Weinberger et al. 2009).

    The cosine of two of them is, but for chance collisions, the share of n-grams that the texts have in common.
    """
    found = empty_matrix(context.scratch / "texts.f32", len(rows), TEXT_WIDTH)
    for batch in text_batches(rows, columns, type(context.step).__name__):
        sets = shingles(units_of(batch.texts, unit), ngram)
        part = np.zeros((len(batch.texts), TEXT_WIDTH), dtype=np.float32)
        for place in range(len(batch.texts)):
            hashes = sets.of(place)
            signs = np.where(hashes >> np.uint64(63), np.float32(1), np.float32(-1))
            np.add.at(part[place], (hashes % np.uint64(TEXT_WIDTH)).astype(np.int64), signs)
        found[batch.start : batch.start + len(part)] = normalised(part)
        context.check_stop()
    return found


def empty_matrix(path: Path, num: int, width: int) -> Vectors:
    """Zeros, N × H: in memory, or as a file where they are many."""
    if num * width * 4 <= IN_MEMORY:
        return np.zeros((num, width), dtype=np.float32)
    return np.memmap(path, dtype=np.float32, mode="w+", shape=(num, width))


def normalised(vectors: Vectors) -> Vectors:
    """Rows of length 1; those of zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found


def blocks(num: int, size: int) -> Iterator[slice]:
    """0 … `num` in pieces."""
    for start in range(0, num, size):
        yield slice(start, min(start + size, num))


def _matrix(values: pa.Array, column: str, step: str, start: int) -> Vectors:
    kind = values.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if pa.types.is_null(kind):
        return np.zeros((len(values), 0), dtype=np.float32)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise RecipeError(
            f"{step}: the column `{column}` holds {kind}, not vectors (lists of numbers)",
            "Make vectors first, with `Embed`, or name another column.",
        )
    widths = pc.list_value_length(values)
    distinct = [width for width in pc.unique(widths).to_pylist() if width]
    if len(distinct) > 1:
        raise _widths(step, column, distinct[0], distinct[1], start)
    if not distinct:
        return np.zeros((len(values), 0), dtype=np.float32)
    has_one = np.asarray(pc.fill_null(pc.equal(widths, distinct[0]), False))
    flat = np.asarray(pc.list_flatten(values).cast(pa.float32(), safe=False).fill_null(float("nan")))
    found = np.zeros((len(values), distinct[0]), dtype=np.float32)
    found[has_one] = flat.reshape(-1, distinct[0])
    if not np.isfinite(found).all():
        row = start + int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise RecipeError(f"{step}: the vector in `{column}` of row {row} holds what is no finite number")
    return normalised(found)


def _widths(step: str, column: str, one: int, other: int, start: int) -> RecipeError:
    return RecipeError(
        f"{step}: the vectors in `{column}` have {one} and {other} numbers (rows {start} and on)",
        "They must come from one embedder; embed all rows anew.",
    )
