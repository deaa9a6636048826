"""Near-duplicate search: MinHash bands propose, exact Jaccard of the shingles decides.

`N` rows, `P` hash functions, `D` bands. Three passes, none of which holds the rows: band hashes go to files (8 bytes a
band and row), each band is sorted by itself to find the values that several rows share, and only those rows are looked
at again. On text without near-duplicates that is next to none.
"""

from __future__ import annotations

import math
import os
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ._shingles import Hashes, Shingles, Unit, mixed, shingles, units_of

MOST_FUNCTIONS = 128
WIDEST = 5  # of six, each text costs a third more, and candidates are cheap to refuse
RECALL_AT_THRESHOLD = 0.995
WAITING_ROWS = 4096
PIECE_ROWS = 65_536
_BUCKET_SEED = np.uint64(0x5851F42D4C957F2D)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (mixed(np.arange(1, MOST_FUNCTIONS + 1, dtype=np.uint64) * _MIX) | np.uint64(1)).astype(np.uint32)


class Bands(NamedTuple):
    """`num` bands of `width` hash functions each: a pair of Jaccard s meets in one with 1 − (1 − s^width)^num."""

    num: int
    width: int

    @classmethod
    def finding(cls, threshold: float) -> Bands:
        """Bands that find a pair at `threshold` with 0.995 or more, and pairs above it more surely.

        The wider the bands, the fewer pairs below the threshold meet, and the more hash functions it takes.
        """
        best = cls(MOST_FUNCTIONS, 1)
        for width in range(1, WIDEST + 1):
            meets = threshold**width
            sure = meets >= RECALL_AT_THRESHOLD
            num = 1 if sure else math.ceil(math.log(1 - RECALL_AT_THRESHOLD) / math.log1p(-meets))
            if num * width > MOST_FUNCTIONS:
                break
            best = cls(num, width)
        return best


class Sketcher(Protocol):
    """Turns texts into sets of hashes and those into the values under which rows may meet."""

    threshold: float
    num_bands: int

    def sets(self, texts: Sequence[str]) -> Shingles: ...

    def bands(self, sets: Shingles) -> Hashes: ...


class NearSketcher:
    """Texts are alike when the Jaccard index of their n-grams reaches `threshold`."""

    def __init__(self, threshold: float, size: int, unit: Unit) -> None:
        self.threshold = threshold
        self._size, self._unit = size, unit
        self._shape = Bands.finding(threshold)
        self.num_bands = self._shape.num

    def sets(self, texts: Sequence[str]) -> Shingles:
        return shingles(units_of(texts, self._unit), self._size)

    def bands(self, sets: Shingles) -> Hashes:
        """The band hashes, N × D.

        A hash function is multiplication by an odd number modulo 2^32: a permutation of what is mixed already. A pair
        agrees on the smallest value with a probability of its Jaccard index (Broder 1997).
        """
        hashes_S = (sets.hashes_S >> np.uint64(32)).astype(np.uint32)
        values_ND = np.empty((len(sets.offsets) - 1, self.num_bands), dtype=np.uint64)
        permuted_S = np.empty_like(hashes_S)
        function = 0
        for band in range(self.num_bands):
            values = np.full(len(values_ND), _BUCKET_SEED)
            for _ in range(self._shape.width):
                np.multiply(hashes_S, _MULTIPLIERS[function], out=permuted_S)
                values = values * _MIX + np.minimum.reduceat(permuted_S, sets.offsets[:-1])
                function += 1
            values_ND[:, band] = mixed(values)
        return values_ND


class ExactSketcher:
    """Texts are alike when they are equal, character for character."""

    threshold = 1.0
    num_bands = 1

    def sets(self, texts: Sequence[str]) -> Shingles:
        digests = b"".join(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest() for text in texts)
        return Shingles(np.frombuffer(digests, dtype=np.uint64), np.arange(len(texts) + 1))

    def bands(self, sets: Shingles) -> Hashes:
        return sets.hashes_S.reshape(-1, 1)


class Meetings(NamedTuple):
    """Which rows share a band value with another row. Groups are numbered through all bands; −1 is none."""

    path: Path
    num_bands: int
    num_groups: int
    flagged: npt.NDArray[np.bool_]

    def groups(self, start: int, stop: int) -> npt.NDArray[np.int32]:
        """Of rows `start` … `stop` the group in each band, D × rows; read each time, so that none stays in memory."""
        num_rows = len(self.flagged)
        parts = [
            np.fromfile(self.path, dtype=np.int32, count=stop - start, offset=4 * (band * num_rows + start))
            for band in range(self.num_bands)
        ]
        return np.stack(parts)


class BandFiles:
    """Band hashes on their way to `Meetings`: one file a band under `folder`."""

    def __init__(self, folder: Path, num_bands: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._files = [open(folder / f"band-{band:03d}.u64", "wb") for band in range(num_bands)]  # noqa: SIM115

    def add(self, values_ND: Hashes) -> None:
        for band, file in enumerate(self._files):
            file.write(np.ascontiguousarray(values_ND[:, band]).tobytes())

    def meetings(self) -> Meetings:
        """Sort each band by itself; the files are gone afterwards."""
        for file in self._files:
            file.close()
        flagged = np.zeros(os.path.getsize(self._files[0].name) // 8, dtype=bool)
        num_groups = 0
        path = self._folder / "groups.i32"
        with open(path, "wb") as target:
            for file in self._files:
                repeated = Repeated(np.fromfile(file.name, dtype=np.uint64))
                for start in range(0, len(flagged), PIECE_ROWS):
                    values = np.fromfile(file.name, dtype=np.uint64, count=PIECE_ROWS, offset=8 * start)
                    groups = repeated.numbers(values, num_groups)
                    groups.tofile(target)
                    flagged[start : start + len(groups)] |= groups >= 0
                num_groups += repeated.num
                os.unlink(file.name)
        return Meetings(path, len(self._files), num_groups, flagged)


class Repeated:
    """The values that occur more than once among those given (which are sorted in place: a copy would be as large).

    Most rows have none of them, and a table of leading bits, small enough for the processor's cache, says so at once.
    """

    def __init__(self, values: Hashes) -> None:
        values.sort()
        found = values[1:][values[1:] == values[:-1]]
        self._sorted = found[np.append(True, found[1:] != found[:-1])[: len(found)]]
        self.num = len(self._sorted)
        bits = min(self.num.bit_length() + 3, 24)
        self._shift = np.uint64(64 - bits)
        self._leads = np.zeros(1 << bits, dtype=bool)
        self._leads[self._sorted >> self._shift] = True

    def numbers(self, values: Hashes, first: int) -> npt.NDArray[np.int32]:
        """For each value its number in order of size, counted from `first`; −1 for one that occurs once."""
        numbers = np.full(len(values), -1, dtype=np.int32)
        rows = np.flatnonzero(self._leads[values >> self._shift])
        values = values[rows]
        places = np.searchsorted(self._sorted, values)
        places[places == self.num] = 0
        same = self._sorted[places] == values
        numbers[rows[same]] = first + places[same]
        return numbers


class FlaggedRow(NamedTuple):
    """A row that may be like another: its number in the table, its groups, its distinct hashes."""

    number: int
    groups: list[int]
    hashes: Hashes


class Likeness(NamedTuple):
    """An earlier row that is alike, and the Jaccard index."""

    row: int
    score: float


class Neighbours:
    """The rows seen so far that may meet later ones, with their hashes on disk under `folder`.

    Asked in order of row; only flagged rows need asking.
    """

    def __init__(self, folder: Path, meetings: Meetings, threshold: float) -> None:
        self._threshold = threshold
        # Linked lists of entries, one list for each group: 8 bytes an entry instead of a Python list's hundred.
        self._head = array("i", [-1]) * meetings.num_groups
        self._next, self._row = array("i"), array("i")
        # What was written, in order of row: the row, and where its hashes end.
        self._written, self._ends = array("i"), array("q", [0])
        self._waiting: dict[int, Hashes] = {}
        self._file = os.open(folder / "hashes.u64", os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def candidates(self, row: FlaggedRow) -> list[int]:
        """The added rows that share a band value with `row`, in their order."""
        found = set()
        for group in row.groups:
            entry = self._head[group]
            while entry >= 0:
                found.add(self._row[entry])
                entry = self._next[entry]
        return sorted(found)

    def first_alike(self, row: FlaggedRow) -> Likeness | None:
        """The earliest added row whose Jaccard index with `row` reaches the threshold."""
        for other in self.candidates(row):
            score = overlap(self._hashes(other), row.hashes)
            if score >= self._threshold:
                return Likeness(other, score)
        return None

    def are_alike(self, other: int, row: FlaggedRow) -> bool:
        """Whether the added row `other` and `row` reach the threshold."""
        return overlap(self._hashes(other), row.hashes) >= self._threshold

    def add(self, row: FlaggedRow) -> None:
        """Later rows will be compared with this one."""
        self._waiting[row.number] = row.hashes
        if len(self._waiting) >= WAITING_ROWS:
            self._write()
        for group in row.groups:
            self._next.append(self._head[group])
            self._row.append(row.number)
            self._head[group] = len(self._row) - 1

    def _write(self) -> None:
        for row, hashes in self._waiting.items():
            self._written.append(row)
            self._ends.append(self._ends[-1] + hashes.nbytes)
        data = b"".join(hashes.tobytes() for hashes in self._waiting.values())
        while data:
            data = data[os.write(self._file, data) :]
        self._waiting = {}

    def _hashes(self, row: int) -> Hashes:
        waiting = self._waiting.get(row)
        if waiting is not None:
            return waiting
        number = bisect_left(self._written, row)
        start, end = self._ends[number : number + 2]
        return np.frombuffer(os.pread(self._file, end - start, start), dtype=np.uint64)

    def __enter__(self) -> Neighbours:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)


def overlap(left: Hashes, right: Hashes) -> float:
    """Jaccard index of two sorted arrays of distinct hashes, neither empty."""
    if len(left) < len(right):
        left, right = right, left
    # What is above all of `left` is put at its end, where it is not found either.
    shared = int(np.count_nonzero(left.take(left.searchsorted(right), mode="clip") == right))
    return shared / (len(left) + len(right) - shared)
