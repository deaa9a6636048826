"""Finding rows that overlap with test sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ..core.artifact import Rows
from ..core.context import Context
from ._shingles import Hashes, Shingles, folded, shingles, units_of
from ._texts import text_batches

if TYPE_CHECKING:
    from .decontaminate import Decontaminate

NEAR_WORDS = 3
Places = npt.NDArray[np.int64]


class Item(NamedTuple):
    """A test item: the name of its set and its row id."""

    test_set: str
    row: str


class Overlap(NamedTuple):
    """What a row shares with a test item."""

    item: Item
    reason: str
    shared: str | None
    score: float | None


def write_clean(step: Decontaminate, context: Context) -> None:
    """The work of `Decontaminate`."""
    source = context.get(step.rows)
    tests = {name: context.get(rows) for name, rows in step.against.items()}
    known = TestItems(tests, step.test_columns or step.columns, step.span, step.threshold)
    with context.rows() as writer:
        writer.counts["in"] = len(source)
        writer.write_table(source.schema.empty_table())
        for batch in text_batches(source, step.columns, "Decontaminate"):
            overlaps = known.overlaps(batch.texts)
            keep = np.ones(batch.table.num_rows, dtype=bool)
            keep[list(overlaps)] = False
            writer.write_table(batch.table.filter(pa.array(keep)))
            for place, row in zip(sorted(overlaps), batch.table.filter(pa.array(~keep)).to_pylist(), strict=True):
                found = overlaps[place]
                evidence = {
                    "test_set": found.item.test_set,
                    "test_row": found.item.row,
                    "shared": found.shared,
                    "jaccard": found.score,
                }
                writer.drop(row, found.reason, orjson.dumps(evidence).decode())
            context.progress(batch.start + batch.table.num_rows, len(source))
            context.check_stop()
    context.note(test_items=known.num_items)


class TestItems:
    """All test items, ready to be looked up by the n-grams they hold."""

    __test__ = False  # not a test, whatever its name makes pytest think

    def __init__(self, tests: Mapping[str, Rows], columns: Sequence[str], span: int, threshold: float) -> None:
        self._span, self._threshold = span, threshold
        self._items: list[Item] = []
        near, far = [], []
        for name, rows in tests.items():
            for batch in text_batches(rows, columns, f"Decontaminate ({name})"):
                units = units_of(batch.texts, "words")
                near.append((len(self._items), shingles(units, NEAR_WORDS)))
                far.append((len(self._items), shingles(units, span)))
                self._items += [Item(name, row) for row in batch.ids]
        self._near, self._far = Postings.of(near), Postings.of(far)
        self._sizes = np.bincount(self._near.items, minlength=len(self._items))

    @property
    def num_items(self) -> int:
        return len(self._items)

    def overlaps(self, texts: Sequence[str]) -> dict[int, Overlap]:
        """The rows of a batch that overlap, by place; a near-duplicate is told before a shared span."""
        units = units_of(texts, "words")
        found = self._spans(texts, shingles(units, self._span))
        found.update(self._near_duplicates(shingles(units, NEAR_WORDS)))
        return found

    def _near_duplicates(self, sets: Shingles) -> dict[int, Overlap]:
        hits = self._near.known(sets.hashes_S)
        row_of_S = np.repeat(np.arange(len(sets.offsets) - 1), np.diff(sets.offsets))
        found = {}
        for place in np.unique(row_of_S[hits]).tolist():
            hashes = sets.of(place)
            # An index of t with any item needs a share of t of the row's own n-grams to be known: few rows get further.
            if np.count_nonzero(self._near.known(hashes)) < self._threshold * len(hashes):
                continue
            numbers, shared = np.unique(self._near.items_with(hashes), return_counts=True)
            scores = shared / (len(hashes) + self._sizes[numbers] - shared)
            best = int(np.argmax(scores))
            if scores[best] >= self._threshold:
                item = self._items[int(numbers[best])]
                score = round(float(scores[best]), 4)
                kind = "is in" if score == 1 else "nearly stands in"
                found[place] = Overlap(item, f"{kind} the test set `{item.test_set}`", None, score)
        return found

    def _spans(self, texts: Sequence[str], sets: Shingles) -> dict[int, Overlap]:
        hits = self._far.known(sets.hashes_S)
        row_of_S = np.repeat(np.arange(len(texts)), np.diff(sets.offsets))
        found = {}
        for place in np.unique(row_of_S[hits]).tolist():
            start, end = int(sets.offsets[place]), int(sets.offsets[place + 1])
            first, length = _longest_run(hits[start:end])
            words = folded([texts[place]])[0].as_py().split(" ")[first : first + length + self._span - 1]
            item = self._items[int(self._far.items_with(sets.hashes_S[start + first : start + first + 1])[0])]
            reason = f"shares a run of words with the test set `{item.test_set}`"
            found[place] = Overlap(item, reason, " ".join(words), None)
        return found


class Postings(NamedTuple):
    """Hashes in rising order, each with an item that holds it."""

    hashes: Hashes
    items: Places

    @classmethod
    def of(cls, parts: Sequence[tuple[int, Shingles]]) -> Postings:
        """From parts of (number of the first item, shingles); an item counts a hash once."""
        hashes = [np.zeros(0, dtype=np.uint64)]
        items = [np.zeros(0, dtype=np.int64)]
        for first, sets in parts:
            for place in range(len(sets.offsets) - 1):
                own = sets.of(place)
                hashes.append(own)
                items.append(np.full(len(own), first + place))
        joined, numbers = np.concatenate(hashes), np.concatenate(items)
        order = np.argsort(joined, kind="stable")
        return cls(joined[order], numbers[order])

    def known(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """Which of the hashes some item holds."""
        if len(self.hashes) == 0:
            return np.zeros(len(hashes), dtype=bool)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.equal(self.hashes[places], hashes)

    def items_with(self, hashes: Hashes) -> Places:
        """The items of all hashes, one after the other."""
        starts = np.searchsorted(self.hashes, hashes, side="left")
        ends = np.searchsorted(self.hashes, hashes, side="right")
        parts = [self.items[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        return np.concatenate(parts) if parts else self.items[:0]


def _longest_run(hits: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hits, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    best = int(np.argmax(lengths))
    return int(starts[best]), int(lengths[best])
