"""The work behind `packing`: plans, which say what stands in each row of a source.

A plan is a pure function of document lengths, row length, method, and (for `windows`) seed and epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._best_fit import best_fit_decreasing
from ._permutation import key_of, permuted
from .packing import Packing

Int64s = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


class Spans(NamedTuple):
    """What stands in some rows: `counts[i]` spans in the i-th of them, listed one after another."""

    counts: Int64s
    documents: Int64s
    starts: Int64s
    """Position of the span's first token in its document."""
    lengths: Int64s


@dataclass(frozen=True)
class PackingReport:
    """What a plan does to the documents; nothing happens to them that is not counted here."""

    num_documents: int
    num_rows: int
    num_tokens: int
    """Tokens in rows."""
    utilisation: float
    """Share of the rows' positions that hold a token."""
    num_split: int
    """Documents cut into pieces."""
    num_left_out: int
    tokens_left_out: int


class Plan(Protocol):
    """Rows of one source, for one epoch."""

    num_rows: int
    report: PackingReport

    def spans(self, rows: Int64s) -> Spans:
        """What stands in these rows."""
        ...

    def rows_of(self, document: int) -> list[int]:
        """The rows that hold a piece of the document."""
        ...


def make_plan(packing: Packing, lengths: Lengths, seq_len: int, key: int = 0, row_id: RowName | None = None) -> Plan:
    """The plan of one source; `key` chooses the shuffling of `windows` and is not read by other methods.

    Raises `RecipeError` where documents are longer than a row and `packing` refuses that; `row_id` names one then.
    """
    if packing.method == "concat":
        return ConcatPlan(lengths, seq_len)
    pieces = _pieces(packing, lengths, seq_len, row_id)
    if packing.method == "one":
        order: Int64s = np.arange(len(pieces.documents))
        pointers: Int64s = np.arange(len(pieces.documents) + 1)
    else:
        window = packing.window if packing.method == "windows" else None
        order, pointers = _packed(pieces.lengths, seq_len, window, key)
    return PackedPlan(pieces, order, pointers, lengths, seq_len)


class RowName(Protocol):
    def __call__(self, document: int) -> str: ...


class _Pieces(NamedTuple):
    documents: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]


class PackedPlan:
    """Rows as lists of pieces, in compressed sparse form: 12 bytes a piece and 8 a row."""

    def __init__(self, pieces: _Pieces, order: Int64s, pointers: Int64s, lengths: Lengths, seq_len: int) -> None:
        self._pointers = pointers
        self._documents = pieces.documents[order]
        self._starts = pieces.starts[order]
        self._lengths = pieces.lengths[order]
        self.num_rows = len(pointers) - 1
        placed = int(pieces.lengths.sum(dtype=np.int64))
        left_out = int(lengths.sum(dtype=np.int64)) - placed
        num_whole = int(np.count_nonzero(pieces.starts == 0))
        self.report = PackingReport(
            num_documents=len(lengths),
            num_rows=self.num_rows,
            num_tokens=placed,
            utilisation=placed / max(1, self.num_rows * seq_len),
            num_split=len(np.unique(pieces.documents[pieces.starts > 0])),
            num_left_out=len(lengths) - num_whole,
            tokens_left_out=left_out,
        )

    def spans(self, rows: Int64s) -> Spans:
        first = self._pointers[rows]
        counts = self._pointers[rows + 1] - first
        ends = np.cumsum(counts)
        pick = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
        wide = np.int64
        return Spans(
            counts,
            self._documents[pick].astype(wide),
            self._starts[pick].astype(wide),
            self._lengths[pick].astype(wide),
        )

    def rows_of(self, document: int) -> list[int]:
        found = np.searchsorted(self._pointers, np.flatnonzero(self._documents == document), side="right") - 1
        return [int(row) for row in np.unique(found)]


class ConcatPlan:
    """All documents one after another, cut every `seq_len` tokens; the last row may be short. Arithmetic only."""

    def __init__(self, lengths: Lengths, seq_len: int) -> None:
        self._ends: Int64s = np.cumsum(lengths, dtype=np.int64)
        self._total = int(self._ends[-1]) if len(self._ends) else 0
        self._seq_len = seq_len
        self.num_rows = -(-self._total // seq_len)
        begins = np.arange(self.num_rows) * seq_len
        self._first = np.searchsorted(self._ends, begins, side="right")
        self._last = np.searchsorted(self._ends, np.minimum(begins + seq_len, self._total) - 1, side="right")
        cuts = np.arange(seq_len, self._total, seq_len)
        inside = np.searchsorted(self._ends, cuts, side="right")
        self.report = PackingReport(
            num_documents=len(lengths),
            num_rows=self.num_rows,
            num_tokens=self._total,
            utilisation=self._total / max(1, self.num_rows * seq_len),
            num_split=len(np.unique(inside[self._ends[inside] - lengths[inside] < cuts])),
            num_left_out=0,
            tokens_left_out=0,
        )

    def spans(self, rows: Int64s) -> Spans:
        begin = rows * self._seq_len
        end = np.minimum(begin + self._seq_len, self._total)
        first = self._first[rows]
        counts = self._last[rows] - first + 1
        ends = np.cumsum(counts)
        documents = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
        document_begin = np.where(documents > 0, self._ends[documents - 1], 0)
        start = np.maximum(document_begin, np.repeat(begin, counts))
        stop = np.minimum(self._ends[documents], np.repeat(end, counts))
        return Spans(counts, documents, start - document_begin, stop - start)

    def rows_of(self, document: int) -> list[int]:
        begin = int(self._ends[document - 1]) if document else 0
        return list(range(begin // self._seq_len, (int(self._ends[document]) - 1) // self._seq_len + 1))


def _pieces(packing: Packing, lengths: Lengths, seq_len: int, row_id: RowName | None) -> _Pieces:
    long = np.flatnonzero(lengths > seq_len)
    documents = np.arange(len(lengths), dtype=np.int32)
    if not len(long):
        return _Pieces(documents, np.zeros(len(lengths), np.int32), lengths.astype(np.int32, copy=False))
    if packing.too_long == "refuse":
        longest = int(long[np.argmax(lengths[long])])
        name = f" (row {row_id(longest)})" if row_id is not None else ""
        raise RecipeError(
            f"{len(long)} of {len(lengths)} documents are longer than a row of {seq_len} tokens; "
            f"the longest has {int(lengths[longest])}{name}",
            "Raise `seq_len`, or say what becomes of them: `too_long='split'` or `too_long='leave_out'`.",
        )
    if packing.too_long == "leave_out":
        kept = np.flatnonzero(lengths <= seq_len).astype(np.int32)
        return _Pieces(kept, np.zeros(len(kept), np.int32), lengths[kept].astype(np.int32))
    counts = -(-lengths.astype(np.int64) // seq_len)
    documents = np.repeat(documents, counts)
    number = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = number * seq_len
    rest = np.minimum(lengths[documents] - starts, seq_len)
    return _Pieces(documents, starts.astype(np.int32), rest.astype(np.int32))


def _packed(lengths: Lengths, seq_len: int, window: int | None, key: int) -> tuple[Int64s, Int64s]:
    """The order of the pieces and the row pointers."""
    order: Int64s = np.arange(len(lengths))
    if window is not None:
        order = permuted(order, len(lengths), key_of("windows", key))
    row_of = np.empty(len(lengths), np.int64)
    num_rows = 0
    step = window or max(1, len(lengths))
    for first in range(0, len(lengths), step):
        chosen = order[first : first + step]
        rows, used = best_fit_decreasing(lengths[chosen], seq_len)
        row_of[first : first + step] = rows + num_rows
        num_rows += used
    by_row = np.argsort(row_of, kind="stable")
    counts = np.bincount(row_of, minlength=num_rows)
    return order[by_row], np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
