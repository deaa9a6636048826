"""From rows of plans to arrays: where every span stands, then copies out of the memory maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ._epochs import SourceRows
from .batch import Batch, Float32s, Int32s, Int64s

Arrays = npt.NDArray[Any]


class Rows(NamedTuple):
    """Rows to be laid out, in the order in which they are handed out; source -1 is a row of padding."""

    sources: Int64s
    epochs: Int64s
    rows: Int64s
    """Rows of the epoch's plan."""


Run: TypeAlias = list[int]
"""Tokens that stand together in a file and in a row: file, from, to there. Runs tile their rows in order.

File -1 is padding. A line of an array as a list, since there is one for every few hundred tokens and a record would
take longer to make than they to be copied.
"""


class Layout:
    """What stands in a block of rows. Making it costs a few array operations a block; a batch is then only copies."""

    def __init__(self, sources: Sequence[SourceRows], rows: Rows, seq_len: int, *, crop: bool) -> None:
        self._sources = sources
        self._names = tuple(source.name for source in sources)
        self._seq_len = seq_len
        self._crop = crop
        self._pad = sources[0].store.layout.pad_id
        self._dtype = sources[0].store.layout.dtype  # one tokenizer, so the same for all
        padding = np.full(seq_len, self._pad, self._dtype)
        self._places = [(source.store, number) for source in sources for number in range(len(source.store.segments))]
        """Store and number of each segment, one source after another."""
        self._views: dict[int, memoryview] = {-1: padding.data}
        """Tokens of segments by their places here, and what padding is copied from."""
        self._first_file = np.cumsum([0, *(len(source.store.segments) for source in sources)])
        self._weighted = any(source.store.layout.weighting != "none" for source in sources)
        self._weights_at: dict[int, Arrays | None] = {-1: None}
        """Loss weights of segments by their places; None where all tokens count 1."""
        self._extras = {extra.name: extra for source in sources for extra in source.store.layout.extras}
        self._extras_at: dict[int, dict[str, Arrays]] = {-1: {}}
        """Extra arrays of segments by their places and names."""
        self._examples = any(source.store.example_weights is not None for source in sources)
        self._lay_out(rows)

    def _lay_out(self, rows: Rows) -> None:
        """Fill the arrays of spans, in order of row and position, and the runs to copy."""
        num_rows = len(rows.sources)
        parts = [self._part(rows, source, epoch) for source, epoch in _pairs(rows)]
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        row, source, document, offset, file, start, length = columns
        narrow = row.astype(np.uint16) if num_rows <= 1 << 16 else row  # short keys are sorted by radix
        order = np.argsort(narrow, kind="stable")
        self._source, self._document, self._offset = source[order], document[order], offset[order]
        self._bounds = _starts(row, num_rows)
        length = length[order]
        # Rows are full, padding included: a span begins in the block where those before it end.
        begin = np.cumsum(length) - length
        self._begin = begin.astype(np.int32) if num_rows * self._seq_len < 1 << 31 else begin
        row = np.repeat(np.arange(num_rows), np.diff(self._bounds))
        self._find_runs(file[order], start[order], length, row, num_rows)

    def _part(self, rows: Rows, source: int, epoch: int) -> tuple[Arrays, ...]:
        """Spans of the rows of one source and epoch, with padding.

        Columns: row, source, document, offset in the document, file, position in the file, length.
        """
        here = np.flatnonzero((rows.sources == source) & (rows.epochs == epoch))
        if source < 0:
            nothing = np.full(len(here), -1, np.int32)
            begin = np.zeros_like(here)
            return here, nothing, nothing, begin, nothing, begin, np.full(len(here), self._seq_len)
        here = here[np.argsort(rows.rows[here])]  # neighbours in the plan are looked up faster together
        store = self._sources[source].store
        spans = self._sources[source].plan(epoch).spans(rows.rows[here])
        file = (store.segment_of(spans.documents) + self._first_file[source]).astype(np.int32)
        start = store.starts[spans.documents] + spans.starts
        row = np.repeat(here, spans.counts)
        found: tuple[Arrays, ...] = (
            row,
            np.full(len(row), source, np.int32),
            spans.documents,
            spans.starts,
            file,
            start,
            spans.lengths,
        )
        ends = np.concatenate(([0], np.cumsum(spans.lengths)))[np.cumsum(spans.counts)]
        used = np.diff(ends, prepend=0)
        short = np.flatnonzero(used < self._seq_len)
        if not len(short):
            return found
        nothing, begin = np.full(len(short), -1, np.int32), np.zeros_like(short)
        padding: tuple[Arrays, ...] = (
            here[short],
            nothing,
            nothing,
            begin,
            nothing,
            begin,
            self._seq_len - used[short],
        )
        return tuple(np.concatenate(pair) for pair in zip(found, padding, strict=True))

    def _find_runs(self, file: Arrays, start: Arrays, length: Arrays, row: Arrays, num_rows: int) -> None:
        """Join spans that follow one another in the file as they do in the row, so that each is one copy."""
        together = (
            (row[1:] == row[:-1]) & (file[1:] == file[:-1]) & (start[1:] == start[:-1] + length[:-1]) & (file[1:] >= 0)
        )
        first = np.flatnonzero(np.concatenate(([True], ~together)))
        joined = np.add.reduceat(length, first)
        self._runs = np.stack((file[first], start[first], start[first] + joined), axis=1)
        self._run_bounds = _starts(row[first], num_rows)
        self._closed = set((np.flatnonzero(np.bincount(file + 1)) - 1).tolist()) - {-1}
        """Files of the block that no batch has needed yet."""

    def batch(self, first: int, stop: int, *, step: int, first_row: int) -> Batch:
        """The batch that the block's rows `first` … `stop` - 1 make."""
        spans = slice(self._bounds[first], self._bounds[stop])
        runs: list[Run] = self._runs[self._run_bounds[first] : self._run_bounds[stop]].tolist()
        shape = (stop - first, self._seq_len)
        base = first * self._seq_len
        views = self._views
        if self._closed:
            self._open(runs)
        # Joining views costs a third of copying slices of arrays, and widening all at once less than in pieces.
        stored = b"".join([views[file][start:end] for file, start, end in runs])
        ids = np.frombuffer(stored, self._dtype).astype(np.int64)
        starts = np.empty(spans.stop - spans.start + 1, np.int32)
        np.subtract(self._begin[spans], base, out=starts[:-1], casting="same_kind")
        starts[-1] = len(ids)
        weights = self._weights(runs, starts, spans) if self._weighted or self._examples else None
        batch = _made(
            ids=ids.reshape(shape),
            cu_seqlens=starts,
            source_ids=self._source[spans],
            documents=self._document[spans],
            offsets=self._offset[spans],
            token_weights=None if weights is None else weights.reshape(shape),
            source_names=self._names,
            step=step,
            first_row=first_row,
            lookup=self._row_ids,
            extras=self._extra_arrays(runs, shape) if self._extras else {},
        )
        return _cropped(batch) if self._crop else batch

    def _open(self, runs: Sequence[Run]) -> None:
        """Have the segments at hand that the runs are in; those of a remote store are fetched now, if not before."""
        for file in self._closed.intersection({run[0] for run in runs}):
            store, number = self._places[file]
            self._views[file] = store.tokens[number].data
            self._weights_at[file] = None if store.weights is None else store.weights[number]
            self._extras_at[file] = {name: arrays[number] for name, arrays in store.extras.items()}
            self._closed.remove(file)

    def _weights(self, runs: Sequence[Run], starts: Int32s, spans: slice) -> Float32s:
        """Loss weights as stored, times those of the examples; 0 on padding."""
        values = np.zeros(int(starts[-1]), np.float32)
        at = 0
        for file, start, end in runs:
            if file >= 0:
                stored = self._weights_at[file]
                values[at : at + end - start] = 1.0 if stored is None else stored[start:end]
            at += end - start
        if self._examples:
            examples = np.ones(len(starts) - 1, np.float32)
            sources, documents = self._source[spans], self._document[spans]
            for number, source in enumerate(self._sources):
                weights = source.store.example_weights
                if weights is not None:
                    here = sources == number
                    examples[here] = weights[documents[here]]
            values *= np.repeat(examples, np.diff(starts))
        return values

    def _extra_arrays(self, runs: Sequence[Run], shape: tuple[int, int]) -> dict[str, Arrays]:
        """[B, T, width] of each extra array; 0 on padding and where a source has none."""
        found = {}
        for name, extra in self._extras.items():
            values = np.zeros((shape[0] * shape[1], extra.width), extra.dtype)
            at = 0
            for file, start, end in runs:
                if (stored := self._extras_at[file].get(name)) is not None:
                    values[at : at + end - start] = stored[start:end]
                at += end - start
            found[name] = values.reshape(*shape, extra.width)
        return found

    def _row_ids(self, source: int, documents: Sequence[int]) -> list[str]:
        return self._sources[source].store.row_ids(documents)


def _made(**fields: Any) -> Batch:
    """`Batch(**fields)`, without the thirty microseconds that setting ten fields of a frozen record takes."""
    batch = object.__new__(Batch)
    batch.__dict__.update(fields)
    return batch


def _cropped(batch: Batch) -> Batch:
    """The batch without the columns in which no row has a token: for one document a row, padding stands at the end."""
    shape = batch.ids.shape
    lengths = np.diff(batch.cu_seqlens)
    real = batch.source_ids >= 0
    width = int(lengths[real].max(initial=1))
    row, position = np.divmod(batch.cu_seqlens[:-1], shape[1])
    kept = position < width
    starts = np.append((row * width + position)[kept], shape[0] * width).astype(np.int32)
    return replace(
        batch,
        ids=np.ascontiguousarray(batch.ids[:, :width]),
        cu_seqlens=starts,
        source_ids=batch.source_ids[kept],
        documents=batch.documents[kept],
        offsets=batch.offsets[kept],
        token_weights=None if batch.token_weights is None else np.ascontiguousarray(batch.token_weights[:, :width]),
        extras={name: np.ascontiguousarray(values[:, :width]) for name, values in batch.extras.items()},
    )


def _starts(row: Int64s, num_rows: int) -> list[int]:
    """Where each row's entries begin, and where the last one's end, in an array sorted by row."""
    return [0, *np.cumsum(np.bincount(row, minlength=num_rows)).tolist()]


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    """The different pairs of source and epoch."""
    found: list[tuple[int, int]] = []
    for source in (np.flatnonzero(np.bincount(rows.sources + 1)) - 1).tolist():
        epochs = rows.epochs[rows.sources == source]  # neighbours: a block spans few
        found += [(source, epoch) for epoch in range(int(epochs.min()), int(epochs.max()) + 1)]
    return found
