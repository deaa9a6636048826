"""Finding rows that overlap with test sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """What a row shares with a test item: the Jaccard index of a near-duplicate, or words in a row.

    `covered` is the share of the item's words that stand in shared runs.
    """

    item: Item
    number: int
    reason: str
    shared: str | None = None
    score: float | None = None
    covered: float | None = None


class Tally:
    """What was found of one test set."""

    def __init__(self, num_items: int) -> None:
        self._num_items, self._rows = num_items, 0
        self._found: set[int] = set()

    def add(self, items: Iterable[int]) -> None:
        self._rows += 1
        self._found.update(items)

    def facts(self) -> dict[str, int]:
        return {"items": self._num_items, "items_found": len(self._found), "rows": self._rows}


def write_clean(step: Decontaminate, context: Context) -> None:
    """The work of `Decontaminate`."""
    source = context.get(step.rows)
    tests = {name: context.get(rows) for name, rows in step.against.items()}
    known = TestItems(tests, step.test_columns or step.columns, step.span, step.overlap, step.threshold)
    tallies = {name: Tally(len(rows)) for name, rows in tests.items()}
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
                sets = list(dict.fromkeys(one.item.test_set for one in found))
                for name in sets:
                    tallies[name].add(one.number for one in found if one.item.test_set == name)
                writer.drop(row, found[0].reason, _evidence(found[0], sets[1:]))
            context.progress(batch.start + batch.table.num_rows, len(source))
            context.check_stop()
    context.note(test_items=known.num_items, test_sets={name: tally.facts() for name, tally in tallies.items()})


def _evidence(found: Overlap, others: Sequence[str]) -> str:
    evidence = {
        "test_set": found.item.test_set,
        "test_row": found.item.row,
        "shared": found.shared,
        "jaccard": found.score,
        "covered": found.covered,
        **({"also_in": others} if others else {}),
    }
    return orjson.dumps(evidence).decode()


class TestItems:
    """All test items, ready to be looked up by the n-grams they hold."""

    __test__ = False  # not a test, whatever its name makes pytest think

    def __init__(
        self, tests: Mapping[str, Rows], columns: Sequence[str], span: int, overlap: float, threshold: float
    ) -> None:
        self._span, self._overlap, self._threshold = span, overlap, threshold
        self._items: list[Item] = []
        near, far = [], []
        for name, rows in tests.items():
            for batch in text_batches(rows, columns, f"Decontaminate ({name})"):
                units = units_of(batch.texts, "words")
                near.append((len(self._items), shingles(units, NEAR_WORDS)))
                far.append((len(self._items), shingles(units, span)))
                self._items += [Item(name, row) for row in batch.ids]
        # A text without a word says nothing of where it comes from: many data sets have items without an input.
        self._near = Postings.of(near).without(_blank(NEAR_WORDS))
        self._far = Postings.of(far).without(_blank(span))
        self._sizes = np.bincount(self._near.items, minlength=len(self._items))
        # The runs of each item in their order, to see how much of it a row covers.
        self._runs = np.concatenate([np.zeros(0, dtype=np.uint64), *(sets.hashes_S for _, sets in far)])
        lengths = [np.diff(sets.offsets) for _, sets in far]
        self._starts = np.append(0, np.cumsum(np.concatenate([np.zeros(0, dtype=np.int64), *lengths])))

    @property
    def num_items(self) -> int:
        return len(self._items)

    def overlaps(self, texts: Sequence[str]) -> dict[int, list[Overlap]]:
        """What the rows of a batch overlap with, by place: near-duplicates first, then shared runs, the most first."""
        units = units_of(texts, "words")
        found = self._near_duplicates(shingles(units, NEAR_WORDS))
        for place, runs in self._spans(texts, shingles(units, self._span)).items():
            known = {one.number for one in found.get(place, ())}
            found.setdefault(place, []).extend(one for one in runs if one.number not in known)
        return found

    def _near_duplicates(self, sets: Shingles) -> dict[int, list[Overlap]]:
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
            order = [at for at in np.argsort(-scores, kind="stable").tolist() if scores[at] >= self._threshold]
            if order:
                found[place] = [self._alike(int(numbers[at]), float(scores[at])) for at in order]
        return found

    def _alike(self, number: int, score: float) -> Overlap:
        item = self._items[number]
        kind = "is in" if score == 1 else "nearly stands in"
        return Overlap(item, number, f"{kind} the test set `{item.test_set}`", score=round(score, 4))

    def _spans(self, texts: Sequence[str], sets: Shingles) -> dict[int, list[Overlap]]:
        hits = self._far.known(sets.hashes_S)
        row_of_S = np.repeat(np.arange(len(texts)), np.diff(sets.offsets))
        found = {}
        for place in np.unique(row_of_S[hits]).tolist():
            own = sets.slice(place)
            mine = own[hits[sets.offsets[place] : sets.offsets[place + 1]]]
            shared = [
                self._shared(number, own, texts[place]) for number in np.unique(self._far.items_with(mine)).tolist()
            ]
            enough = [one for one in shared if one.covered is not None and one.covered >= self._overlap]
            if enough:
                found[place] = sorted(enough, key=lambda one: (-(one.covered or 0), one.number))
        return found

    def _shared(self, number: int, own: Hashes, text: str) -> Overlap:
        """The longest run of words that a row, whose n-grams in their order are `own`, shares with an item."""
        runs = self._runs[self._starts[number] : self._starts[number + 1]]
        first, length = _longest_run(np.isin(own, runs))
        words = folded([text])[0].as_py().split(" ")[first : first + length + self._span - 1]
        covered = _covered(np.isin(runs, own), self._span)
        item = self._items[number]
        reason = f"shares a run of words with the test set `{item.test_set}`"
        return Overlap(item, number, reason, shared=" ".join(words), covered=round(covered, 4))


def _blank(words: int) -> Hashes:
    """What a text without a word is hashed to."""
    return shingles(units_of([""], "words"), words).hashes_S


def _covered(hits: npt.NDArray[np.bool_], span: int) -> float:
    """The share of a text's words that stand in one of its n-grams marked as hits."""
    words = np.zeros(len(hits) + span - 1, dtype=bool)
    for step in range(span):
        words[step : step + len(hits)] |= hits
    return float(words.mean())


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

    def without(self, hashes: Hashes) -> Postings:
        """Less some hashes: no item is found by them."""
        left = ~np.isin(self.hashes, hashes)
        return Postings(self.hashes[left], self.items[left])

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
