"""Numbering the rows of a table that ask the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ._tables import Occurrences, _plain, arrow_batches, dict_rows
from .artifact import Rows
from .occurrence import COLUMN
from .step import MapStep

_ROWS = 8192

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]


class Numbering(NamedTuple):
    """The rows that ask what an earlier one asks: their places in the table (ascending) and their numbers, from 1."""

    places: Numbers
    numbers: Numbers

    def of(self, start: int, num_rows: int) -> list[int] | None:
        """The numbers of rows from place `start` on; None where all are the first that ask so."""
        low, high = np.searchsorted(self.places, (start, start + num_rows))
        if low == high:
            return None
        found = np.zeros(num_rows, np.int64)
        found[self.places[low:high] - start] = self.numbers[low:high]
        return found.tolist()

    def at(self, places: Sequence[int]) -> list[int] | None:
        """The numbers of rows at these places."""
        known = dict(zip(self.places.tolist(), self.numbers.tolist(), strict=True))
        found = [known.get(place, 0) for place in places]
        return found if any(found) else None


def numbering(hashes: Hashes) -> Numbering:
    """Number equal rows in their order. Beside the hashes a sorted copy is held, the rest only of rows that repeat."""
    ordered = np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    places: list[Numbers] = [np.empty(0, np.int64)]
    for start in range(0, len(hashes) if len(repeated) else 0, 1 << 20):
        found = np.isin(hashes[start : start + (1 << 20)], repeated)
        places.append(np.flatnonzero(found) + start)
    at = np.concatenate(places)
    order = np.argsort(hashes[at], kind="stable")
    values = hashes[at][order]
    begins = np.flatnonzero(np.r_[True, values[1:] != values[:-1]]) if len(values) else np.empty(0, np.int64)
    numbers = np.empty(len(at), np.int64)
    numbers[order] = np.arange(len(at)) - np.repeat(begins, np.diff(np.r_[begins, len(at)]))
    later = numbers > 0
    return Numbering(at[later], numbers[later])


def hashes_of(step: MapStep, rows: Rows) -> Hashes:
    """What each row of a table is asked as, eight bytes each."""
    found = np.empty(len(rows), np.uint64)
    names = _columns(step, rows.schema)
    start = 0
    for batch in arrow_batches(rows.paths, _ROWS, names or ["_id"]):
        found[start : start + batch.num_rows] = np.frombuffer(b"".join(_hashed(step, batch, names)), np.uint64)
        start += batch.num_rows
    return found


def numbering_of(step: MapStep, rows: Rows) -> Numbering:
    """The numbers of a table's rows in a step."""
    return numbering(hashes_of(step, rows))


class Arrivals:
    """Numbers rows as they come, where the table is not there yet.

    In the end there are as many of each kind as in the table, so that nothing is asked that is not needed; where a row
    came out of its turn, what became of it is looked up again in the order of the table.
    """

    def __init__(self, step: MapStep) -> None:
        self._step = step
        self._seen = Occurrences()

    def of(self, table: pa.Table) -> list[int] | None:
        """The numbers of the next rows."""
        names = _columns(self._step, table.schema)
        found = [self._seen.count(value) for value in _hashed(self._step, table, names)]
        return found if any(found) else None


def with_numbers(table: pa.Table, numbers: Sequence[int] | None) -> pa.Table:
    """The rows with their numbers in a column of their own, where there are any."""
    return table if numbers is None else table.append_column(COLUMN, pa.array(numbers, pa.int64()))


def without_numbers(table: pa.Table) -> tuple[pa.Table, list[int] | None]:
    """The rows as they stand in their table, and their numbers."""
    if COLUMN not in table.column_names:
        return table, None
    return table.drop_columns([COLUMN]), table.column(COLUMN).to_pylist()


def _columns(step: MapStep, schema: pa.Schema) -> list[str]:
    names = step.asks_about()
    if names is None:
        return [name for name in schema.names if name[:1] != "_"]
    return [name for name in dict.fromkeys(names) if name in schema.names]


def _hashed(step: MapStep, batch: pa.Table | pa.RecordBatch, names: Sequence[str]) -> Iterator[bytes]:
    """Eight bytes for each row."""
    values: Any
    if not names:  # all ask the same
        values = [()] * batch.num_rows
    elif type(step).asks_as is not MapStep.asks_as:
        values = [step.asks_as(row) for row in dict_rows(batch.select(names))]
    else:
        values = zip(*(batch.column(name).to_pylist() for name in names), strict=True)
    for value in values:
        yield blake2b(_bytes(value), digest_size=8).digest()


def _bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, orjson.JSONEncodeError):
        return repr(value).encode("utf-8", "surrogatepass")
