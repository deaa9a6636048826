"""The work behind `packing`: plans, which say what stands in each row of a source.

A plan is a pure function of document lengths, row length, method, and (where each epoch is packed anew) a key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._best_fit import best_fit_arriving, best_fit_decreasing
from ._permutation import key_of, permuted, unpermuted
from .packing import Packing

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.int32]
Arrays = Mapping[str, npt.NDArray[Any]]


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

    def tokens_before(self, row: int) -> int:
        """Tokens in the rows before `row`."""
        ...

    def arrays(self) -> Arrays:
        """All that is worth keeping of the plan, for `plan_of_arrays`."""
        ...


class RowName(Protocol):
    def __call__(self, document: int) -> str: ...


def make_plan(
    packing: Packing,
    lengths: Lengths,
    seq_len: int,
    key: int = 0,
    row_id: RowName | None = None,
    *,
    shuffle: bool = True,
) -> Plan:
    """The plan of one source; `key` chooses the shuffling of `windows` and `stream`, which alone read it.

    Without `shuffle` the documents of `stream` come in the order of the store. Raises `RecipeError` where documents are
    longer than a row and `packing` refuses that; `row_id` names one then.
    """
    if packing.method == "concat":
        return ConcatPlan.of(lengths, seq_len)
    if packing.too_long == "refuse":
        _refuse_long(lengths, seq_len, row_id)
    if packing.method == "stream":
        return StreamPlan.of(packing, lengths, seq_len, key, shuffle)
    pieces = _pieces(packing, lengths, seq_len)
    if packing.method == "one":
        order: Int64s = np.arange(len(pieces.documents))
        pointers: Int64s = np.arange(len(pieces.documents) + 1)
    else:
        window = packing.documents_together if packing.method == "windows" else None
        order, pointers = _packed(pieces.lengths, seq_len, window, key)
    return PackedPlan.of(pieces, order, pointers, lengths, seq_len)


def plan_of_arrays(
    packing: Packing, lengths: Lengths, seq_len: int, key: int, shuffle: bool, arrays: Arrays, report: PackingReport
) -> Plan:
    """The plan that `make_plan` made of the same, of which these arrays and this report were kept."""
    if packing.method == "concat":
        return ConcatPlan(arrays, report, seq_len)
    if packing.method == "stream":
        return StreamPlan(packing, lengths, seq_len, key if shuffle else None, arrays, report)
    return PackedPlan(arrays, report)


class _Pieces(NamedTuple):
    """Documents, or parts of them, in order."""

    documents: Int32s
    starts: Int32s
    lengths: Int32s


class PackedPlan:
    """Rows as lists of pieces, in compressed sparse form: 16 bytes a piece and 8 a row."""

    def __init__(self, arrays: Arrays, report: PackingReport) -> None:
        self._pointers = arrays["pointers"]
        self._documents = arrays["documents"]
        self._starts = arrays["starts"]
        self._lengths = arrays["lengths"]
        self._places = arrays["places"]
        """Where in the rows' list each piece stands, pieces in the order of documents."""
        self.num_rows = report.num_rows
        self.report = report

    @classmethod
    def of(cls, pieces: _Pieces, order: Int64s, pointers: Int64s, lengths: Lengths, seq_len: int) -> PackedPlan:
        places = np.empty(len(order), np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        columns = {name: getattr(pieces, name)[order] for name in _Pieces._fields}
        report = _report(lengths, len(pointers) - 1, _counted(pieces, len(lengths)), seq_len)
        return cls({"pointers": pointers, **columns, "places": places}, report)

    def arrays(self) -> Arrays:
        return {
            "pointers": self._pointers,
            "documents": self._documents,
            "starts": self._starts,
            "lengths": self._lengths,
            "places": self._places,
        }

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
        pieces = range(len(self._places))
        first = bisect_left(pieces, document, key=lambda piece: self._documents[self._places[piece]])
        stop = bisect_left(pieces, document + 1, lo=first, key=lambda piece: self._documents[self._places[piece]])
        found = np.searchsorted(self._pointers, self._places[first:stop], side="right") - 1
        return sorted({int(row) for row in found})

    def tokens_before(self, row: int) -> int:
        return int(self._lengths[: int(self._pointers[row])].sum(dtype=np.int64))


class ConcatPlan:
    """All documents one after another, cut every `seq_len` tokens; the last row may be short. Arithmetic only."""

    def __init__(self, arrays: Arrays, report: PackingReport, seq_len: int) -> None:
        self._ends = arrays["ends"]
        self._total = report.num_tokens
        self._seq_len = seq_len
        self.num_rows = report.num_rows
        self.report = report

    @classmethod
    def of(cls, lengths: Lengths, seq_len: int) -> ConcatPlan:
        ends: Int64s = np.cumsum(lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        num_split = int(np.count_nonzero((ends - lengths) // seq_len != (ends - 1) // seq_len))
        return cls(
            {"ends": ends}, _report(lengths, -(-total // seq_len), _Counted(total, num_split, 0), seq_len), seq_len
        )

    def arrays(self) -> Arrays:
        return {"ends": self._ends}

    def spans(self, rows: Int64s) -> Spans:
        begin = rows * self._seq_len
        end = np.minimum(begin + self._seq_len, self._total)
        first = np.searchsorted(self._ends, begin, side="right")
        counts = np.searchsorted(self._ends, end - 1, side="right") - first + 1
        ends = np.cumsum(counts)
        documents = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
        document_begin = np.where(documents > 0, self._ends[documents - 1], 0)
        start = np.maximum(document_begin, np.repeat(begin, counts))
        stop = np.minimum(self._ends[documents], np.repeat(end, counts))
        return Spans(counts, documents, start - document_begin, stop - start)

    def rows_of(self, document: int) -> list[int]:
        begin = int(self._ends[document - 1]) if document else 0
        return list(range(begin // self._seq_len, (int(self._ends[document]) - 1) // self._seq_len + 1))

    def tokens_before(self, row: int) -> int:
        return min(row * self._seq_len, self._total)


class StreamPlan:
    """Rows that are filled as documents come, window by window; of each window only the counts are kept.

    What stands in a row is found by packing its window again from the window's first document, with no row open. So a
    plan takes 16 bytes a window, and the few windows that were asked for last.
    """

    _REMEMBERED = 4

    def __init__(
        self, packing: Packing, lengths: Lengths, seq_len: int, key: int | None, arrays: Arrays, report: PackingReport
    ) -> None:
        self._packing = packing
        self._lengths = lengths
        self._seq_len = seq_len
        self._key = None if key is None else key_of("stream", key)
        self._bounds = arrays["bounds"]
        """[windows + 1] the first row of each window, then the number of all rows."""
        self._tokens = arrays["tokens"]
        """[windows + 1] tokens in the windows before each."""
        self._windows: dict[int, PackedPlan] = {}
        self.num_rows = report.num_rows
        self.report = report

    @classmethod
    def of(cls, packing: Packing, lengths: Lengths, seq_len: int, key: int, shuffle: bool) -> StreamPlan:
        """The plan; all windows are packed once, one after another, to count their rows."""
        nothing = {name: np.zeros(1, np.int64) for name in ("bounds", "tokens")}
        empty = _report(lengths, 0, _Counted(0, 0, 0), seq_len)
        plan = cls(packing, lengths, seq_len, key if shuffle else None, nothing, empty)
        step = packing.documents_together
        reports = [plan._pack(number).report for number in range(-(-len(lengths) // step))]
        counted = _Counted(
            sum(report.num_tokens for report in reports),
            sum(report.num_split for report in reports),
            sum(report.num_left_out for report in reports),
        )
        arrays = {
            "bounds": np.cumsum([0, *(report.num_rows for report in reports)], dtype=np.int64),
            "tokens": np.cumsum([0, *(report.num_tokens for report in reports)], dtype=np.int64),
        }
        report = _report(lengths, int(arrays["bounds"][-1]), counted, seq_len)
        return cls(packing, lengths, seq_len, key if shuffle else None, arrays, report)

    def arrays(self) -> Arrays:
        return {"bounds": self._bounds, "tokens": self._tokens}

    def spans(self, rows: Int64s) -> Spans:
        windows = np.searchsorted(self._bounds, rows, side="right") - 1
        # Windows one by one, then back into the order that was asked for.
        order = np.argsort(windows, kind="stable")
        parts = []
        for window in np.unique(windows).tolist():
            chosen = order[windows[order] == window]
            parts.append(self._window(window).spans(rows[chosen] - int(self._bounds[window])))
        if not parts:
            return Spans(*(np.empty(0, np.int64),) * 4)
        counts, documents, starts, lengths = (np.concatenate(column) for column in zip(*parts, strict=True))
        ends = np.cumsum(counts)
        back = np.argsort(order, kind="stable")
        counts_back = counts[back]
        first = (ends - counts)[back]
        ends_back = np.cumsum(counts_back)
        pick = np.arange(len(documents)) + np.repeat(first - (ends_back - counts_back), counts_back)
        return Spans(counts_back, documents[pick], starts[pick], lengths[pick])

    def rows_of(self, document: int) -> list[int]:
        place = document
        if self._key is not None:
            place = int(unpermuted(np.array([document]), len(self._lengths), self._key)[0])
        window = place // self._packing.documents_together
        first = int(self._bounds[window])
        return [first + row for row in self._window(window).rows_of(document)]

    def tokens_before(self, row: int) -> int:
        window = int(np.searchsorted(self._bounds, row, side="right")) - 1
        rest = row - int(self._bounds[window])
        return int(self._tokens[window]) + (self._window(window).tokens_before(rest) if rest else 0)

    def _window(self, number: int) -> PackedPlan:
        found = self._windows.pop(number, None) or self._pack(number)
        while len(self._windows) >= self._REMEMBERED:
            del self._windows[next(iter(self._windows))]
        self._windows[number] = found
        return found

    def _pack(self, number: int) -> PackedPlan:
        first = number * self._packing.documents_together
        places = np.arange(first, min(first + self._packing.documents_together, len(self._lengths)))
        documents = places if self._key is None else permuted(places, len(self._lengths), self._key)
        lengths = self._lengths[documents]
        pieces = _pieces(self._packing, lengths, self._seq_len)
        row_of, num_rows = best_fit_arriving(pieces.lengths, self._seq_len, self._packing.open_rows)
        order, pointers = _listed(row_of, num_rows)
        plan = PackedPlan.of(pieces, order, pointers, lengths, self._seq_len)
        # From numbers within the window to those of the store. `places` must list pieces in the order of these.
        named = documents.astype(np.int32)
        arrays = dict(plan.arrays())
        arrays["places"] = arrays["places"][np.argsort(named[pieces.documents], kind="stable")]
        arrays["documents"] = named[arrays["documents"]]
        return PackedPlan(arrays, plan.report)


class _Counted(NamedTuple):
    num_tokens: int
    num_split: int
    num_left_out: int


def _counted(pieces: _Pieces, num_documents: int) -> _Counted:
    further = pieces.documents[pieces.starts > 0]
    num_split = int(np.count_nonzero(np.diff(further))) + bool(len(further))
    whole = len(pieces.documents) - len(further)
    return _Counted(int(pieces.lengths.sum(dtype=np.int64)), num_split, num_documents - whole)


def _report(lengths: Lengths, num_rows: int, counted: _Counted, seq_len: int) -> PackingReport:
    return PackingReport(
        num_documents=len(lengths),
        num_rows=num_rows,
        num_tokens=counted.num_tokens,
        utilisation=counted.num_tokens / max(1, num_rows * seq_len),
        num_split=counted.num_split,
        num_left_out=counted.num_left_out,
        tokens_left_out=int(lengths.sum(dtype=np.int64)) - counted.num_tokens,
    )


def _refuse_long(lengths: Lengths, seq_len: int, row_id: RowName | None) -> None:
    long = np.flatnonzero(lengths > seq_len)
    if not len(long):
        return
    longest = int(long[np.argmax(lengths[long])])
    name = f" (row {row_id(longest)})" if row_id is not None else ""
    raise RecipeError(
        f"{len(long)} of {len(lengths)} documents are longer than a row of {seq_len} tokens; "
        f"the longest has {int(lengths[longest])}{name}",
        "Raise `seq_len`, or say what becomes of them: `too_long='split'` or `too_long='leave_out'`.",
    )


def _pieces(packing: Packing, lengths: Lengths, seq_len: int) -> _Pieces:
    documents = np.arange(len(lengths), dtype=np.int32)
    if int(lengths.max(initial=0)) <= seq_len:
        return _Pieces(documents, np.zeros(len(lengths), np.int32), lengths.astype(np.int32, copy=False))
    if packing.too_long == "leave_out":
        kept = np.flatnonzero(lengths <= seq_len).astype(np.int32)
        return _Pieces(kept, np.zeros(len(kept), np.int32), lengths[kept].astype(np.int32))
    # Few documents are long: whole ones are copied, and only the rest of the long is worked out.
    long = np.flatnonzero(lengths > seq_len)
    extra = (lengths[long].astype(np.int64) - 1) // seq_len
    counts = np.ones(len(lengths), np.int64)
    counts[long] += extra
    documents = np.repeat(documents, counts)
    rest = np.repeat(lengths.astype(np.int32, copy=False), counts)
    starts = np.zeros(len(documents), np.int32)
    first = long + np.cumsum(extra) - extra
    inside = np.repeat(first, extra + 1) + _counting(extra + 1)
    starts[inside] = _counting(extra + 1) * seq_len
    rest[inside] = np.minimum(rest[inside] - starts[inside], seq_len)
    return _Pieces(documents, starts, rest)


def _counting(counts: Int64s) -> Int64s:
    """0, 1, … for each of the counts, one after another."""
    ends = np.cumsum(counts)
    return np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)


def _packed(lengths: Int32s, seq_len: int, window: int | None, key: int) -> tuple[Int64s, Int64s]:
    """The order of the pieces and the row pointers."""
    if window is None:
        return _listed(*best_fit_decreasing(lengths, seq_len))
    order: Int64s = permuted(np.arange(len(lengths)), len(lengths), key_of("windows", key))
    row_of = np.empty(len(lengths), np.int32)
    num_rows = 0
    for first in range(0, len(lengths), window):
        rows, used = best_fit_decreasing(lengths[order[first : first + window]], seq_len)
        row_of[first : first + window] = rows + num_rows
        num_rows += used
    by_row, pointers = _listed(row_of, num_rows)
    return order[by_row], pointers


def _listed(row_of: Int32s, num_rows: int) -> tuple[Int64s, Int64s]:
    """Pieces by row, in a row the earlier first, and the row pointers."""
    low = np.argsort(row_of.astype(np.uint16), kind="stable")  # numpy sorts 16 bits by radix, and only those
    high = (row_of >> 16).astype(np.uint16)
    order = low[np.argsort(high[low], kind="stable")] if num_rows > 1 << 16 else low
    counts = np.bincount(row_of, minlength=num_rows)
    return order, np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
