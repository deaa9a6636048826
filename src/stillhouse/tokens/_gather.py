"""From rows of plans to arrays: where every span stands, then copies out of the memory maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

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


class _Run(NamedTuple):
    """Tokens that stand together in a segment and in a row; `source` -1 is padding."""

    source: int
    segment: int
    start: int
    length: int
    row: int
    position: int


class Layout:
    """What stands in a block of rows. Making it costs a few array operations a block; a batch is then only copies."""

    def __init__(self, sources: Sequence[SourceRows], rows: Rows, seq_len: int, *, crop: bool) -> None:
        self._sources = sources
        self._names = tuple(source.name for source in sources)
        self._seq_len = seq_len
        self._crop = crop
        self._pads = [source.store.layout.pad_id for source in sources]
        self._weighted = any(source.store.weights is not None for source in sources) or any(
            source.store.example_weights is not None for source in sources
        )
        self._lay_out(rows)

    def _lay_out(self, rows: Rows) -> None:
        """Fill the arrays of spans, in order of row and position, and the runs to copy."""
        parts = [self._part(rows, source, epoch) for source, epoch in _pairs(rows)]
        row = np.concatenate([part[0] for part in parts])
        order = np.argsort(row, kind="stable")
        columns = [np.concatenate([part[column] for part in parts])[order] for column in range(7)]
        self._row, self._source, self._document, self._offset, segment, start, self._length = columns
        begins = np.searchsorted(self._row, np.arange(len(rows.sources) + 1))
        ends = np.cumsum(self._length)
        before = np.concatenate(([0], ends))[begins[:-1]]
        self._position = ends - self._length - before[self._row]
        self._spans: list[int] = begins.tolist()
        self._find_runs(segment, start, len(rows.sources))

    def _part(self, rows: Rows, source: int, epoch: int) -> tuple[Arrays, ...]:
        """Spans of the rows of one source and epoch, with padding.

        Columns: row, source, document, offset in the document, segment, position in the segment, length.
        """
        here = np.flatnonzero((rows.sources == source) & (rows.epochs == epoch))
        if source < 0:
            nothing = np.full(len(here), -1)
            return here, nothing, nothing, np.zeros_like(here), nothing, nothing, np.full(len(here), self._seq_len)
        store = self._sources[source].store
        spans = self._sources[source].plan(epoch).spans(rows.rows[here])
        segment = store.segment_of(spans.documents)
        start = store.starts[spans.documents] + spans.starts
        row = np.repeat(here, spans.counts)
        used = np.bincount(row, weights=spans.lengths, minlength=len(rows.sources))[here].astype(np.int64)
        short = np.flatnonzero(used < self._seq_len)
        nothing = np.full(len(short), -1)
        padding = (here[short], nothing, nothing, np.zeros_like(short), nothing, nothing, self._seq_len - used[short])
        found = (row, np.full(len(row), source), spans.documents, spans.starts, segment, start, spans.lengths)
        return tuple(np.concatenate(pair) for pair in zip(found, padding, strict=True))

    def _find_runs(self, segment: Arrays, start: Arrays, num_rows: int) -> None:
        """Join spans that follow one another in the file as they do in the row, so that each is one copy."""
        together = (
            (self._row[1:] == self._row[:-1])
            & (self._source[1:] == self._source[:-1])
            & (segment[1:] == segment[:-1])
            & (start[1:] == start[:-1] + self._length[:-1])
            & (self._source[1:] >= 0)
        )
        first = np.flatnonzero(np.concatenate(([True], ~together)))
        length = np.add.reduceat(self._length, first)
        columns = (self._source[first], segment[first], start[first], length, self._row[first], self._position[first])
        self._runs = [_Run(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
        self._run_bounds: list[int] = np.searchsorted(self._row[first], np.arange(num_rows + 1)).tolist()

    def batch(self, first: int, stop: int, *, step: int, first_row: int) -> Batch:
        """The batch that the block's rows `first` … `stop` - 1 make."""
        spans = slice(self._spans[first], self._spans[stop])
        runs = self._runs[self._run_bounds[first] : self._run_bounds[stop]]
        width = self._width(spans) if self._crop else self._seq_len
        ids = np.empty((stop - first) * width, np.int64)
        pad = self._pads[0]
        for run in runs:
            at = (run.row - first) * width + run.position
            if run.source >= 0:
                tokens = self._sources[run.source].store.tokens[run.segment]
                ids[at : at + run.length] = tokens[run.start : run.start + run.length]
            else:
                ids[at : at + min(run.length, width - run.position)] = pad
        begins = (self._row[spans] - first) * width + self._position[spans]
        sources, documents, offsets = self._source[spans], self._document[spans], self._offset[spans]
        if self._crop:  # the longest row has no padding left
            kept = (sources >= 0) | (self._position[spans] < width)
            begins, sources, documents, offsets = begins[kept], sources[kept], documents[kept], offsets[kept]
        starts: Int32s = np.empty(len(begins) + 1, np.int32)
        starts[:-1], starts[-1] = begins, len(ids)
        weights = self._weights(runs, first, width, len(ids), starts, sources, documents) if self._weighted else None
        shape = (stop - first, width)
        return Batch(
            ids=ids.reshape(shape),
            cu_seqlens=starts,
            source_ids=sources.astype(np.int32),
            documents=documents,
            offsets=offsets,
            token_weights=None if weights is None else weights.reshape(shape),
            source_names=self._names,
            step=step,
            first_row=first_row,
            lookup=self._row_ids,
        )

    def _width(self, spans: slice) -> int:
        """The longest row of real tokens, so that short rows need less padding."""
        real = self._source[spans] >= 0
        return int((self._position[spans] + self._length[spans])[real].max(initial=1))

    def _weights(
        self,
        runs: Sequence[_Run],
        first: int,
        width: int,
        size: int,
        starts: Int32s,
        sources: Int64s,
        documents: Int64s,
    ) -> Float32s:
        values = np.zeros(size, np.float32)
        for run in runs:
            if run.source < 0:
                continue
            at = (run.row - first) * width + run.position
            stored = self._sources[run.source].store.weights
            values[at : at + run.length] = (
                1.0 if stored is None else stored[run.segment][run.start : run.start + run.length]
            )
        examples = np.ones(len(sources), np.float32)
        for number, source in enumerate(self._sources):
            weights = source.store.example_weights
            if weights is not None:
                here = sources == number
                examples[here] = weights[documents[here]]
        if not bool((examples == 1.0).all()):
            values *= np.repeat(examples, np.diff(starts))
        return values

    def _row_ids(self, source: int, documents: Sequence[int]) -> list[str]:
        return self._sources[source].store.row_ids(documents)


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    """The different pairs of source and epoch."""
    found = np.unique(np.stack([rows.sources, rows.epochs]), axis=1)
    return [(int(source), int(epoch)) for source, epoch in found.T]
