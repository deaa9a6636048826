"""Tokens and learnt tokens in the first draws of a source, exact and by arithmetic over its plan."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._epochs import SourceRows

Int64s = npt.NDArray[np.int64]

_ROWS = 1 << 16
"""Rows that are counted together."""
_TOKENS = 1 << 22
"""Loss weights that are read together."""


class Total(NamedTuple):
    """What some rows hold."""

    tokens: int
    learnt: int
    """Tokens with a weight above 0, the first of each span aside."""

    def plus(self, other: Total, times: int = 1) -> Total:
        return Total(self.tokens + times * other.tokens, self.learnt + times * other.learnt)


class Totals:
    """What the first n draws of a source hold; counted on from the n that was asked for last, so going on is cheap."""

    def __init__(self, source: SourceRows) -> None:
        self._source = source
        self._epoch, self._place, self._total = 0, 0, Total(0, 0)

    def within(self, draws: int) -> Total:
        """What the first `draws` draws hold."""
        source = self._source
        epoch = source.epoch_of(draws)
        place = draws - source.epoch_start(epoch)
        if epoch != self._epoch or place < abs(place - self._place):
            self._place, self._total = 0, Total(0, 0)
        self._total = self._total.plus(
            self._between(epoch, min(place, self._place), max(place, self._place)), 1 if place > self._place else -1
        )
        self._epoch, self._place = epoch, place
        return self._total.plus(self._whole, epoch) if epoch else self._total

    @cached_property
    def _whole(self) -> Total:
        """What an epoch holds; the same in each, since the pieces of documents are."""
        return self._between(0, 0, self._source.rows_per_epoch)

    def _between(self, epoch: int, first: int, stop: int) -> Total:
        """What the places `first` … `stop` - 1 of an epoch hold."""
        found = Total(0, 0)
        for begin in range(first, stop, _ROWS):
            rows = self._source.rows(epoch, np.arange(begin, min(begin + _ROWS, stop)))
            found = found.plus(self._of_rows(epoch, rows))
        return found

    def _of_rows(self, epoch: int, rows: Int64s) -> Total:
        store, spans = self._source.store, self._source.plan(epoch).spans(rows)
        tokens = int(spans.lengths.sum())
        if store.weights is None:
            learnt = spans.lengths - 1
        else:
            whole = (spans.starts == 0) & (spans.lengths == store.lengths[spans.documents])
            learnt = np.where(whole, self._learnt[spans.documents], 0)
            pieces = np.flatnonzero(~whole)
            learnt[pieces] = [
                self._learnt_in(int(spans.documents[piece]), int(spans.starts[piece]), int(spans.lengths[piece]))
                for piece in pieces
            ]
        if store.example_weights is not None:
            learnt = np.where(store.example_weights[spans.documents] > 0, learnt, 0)
        return Total(tokens, int(learnt.sum()))

    @cached_property
    def _learnt(self) -> npt.NDArray[np.int32]:
        """[documents] learnt tokens of each whole document; its first token is not one. Reads all loss weights once."""
        store = self._source.store
        found = np.zeros(store.num_documents, np.int32)
        for segment, stored in enumerate(store.weights or ()):
            first, stop = (int(bound) for bound in store.document_bounds[segment : segment + 2])
            starts = np.asarray(store.starts[first:stop])
            ends = starts + store.lengths[first:stop]
            at = 0
            while at < len(starts):
                until = max(at + 1, int(np.searchsorted(ends, starts[at] + _TOKENS)))
                counted = _nonzero(stored, int(starts[at]), int(ends[until - 1]))
                inside = starts[at:until] - starts[at]
                counts = np.add.reduceat(counted, inside, dtype=np.int32) - counted[inside]
                found[first + at : first + until] = counts
                at = until
        return found

    def _learnt_in(self, document: int, start: int, length: int) -> int:
        store = self._source.store
        segment = int(store.segment_of(np.array([document]))[0])
        first = int(store.starts[document]) + start
        return int(np.count_nonzero((store.weights or [])[segment][first + 1 : first + length]))


def _nonzero(stored: npt.NDArray[Any], first: int, stop: int) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = (np.asarray(stored[first:stop]) != 0).view(np.uint8)
    return found
