"""Best fit over small integer lengths: decreasing, and in the order of arrival.

Documents of one length are interchangeable, and so are rows with the same space left. So the algorithm moves groups:
all documents of a length at a time, into all rows of a space at a time. A Python integer serves as the set of spaces
that some row has left, its lowest set bit above a length being the best fit. The number of rows equals that of the
textbook algorithm, which places one document at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]


def best_fit_decreasing(lengths: npt.NDArray[np.integer], capacity: int) -> tuple[Int32s, int]:
    """The row of each document and the number of rows. Every length must lie in 1 … `capacity`.

    Longest first; each goes where it leaves the least space. Deterministic: among equals, the earlier document first.
    """
    if len(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) > capacity):
        raise ValueError(f"lengths must lie in 1 … {capacity}")
    order = _longest_first(lengths, capacity)
    groups = np.bincount(lengths, minlength=capacity + 1)
    placed = np.empty(len(lengths), np.int32)
    rows = _Rows(capacity)
    position = 0
    for length in np.flatnonzero(groups)[::-1].tolist():
        count = int(groups[length])
        rows.place(length, placed[position : position + count])
        position += count
    row_of = np.empty(len(lengths), np.int32)
    row_of[order] = placed
    return row_of, rows.count


def best_fit_arriving(lengths: npt.NDArray[np.integer], capacity: int, open_rows: int) -> tuple[Int32s, int]:
    """The row of each document and the number of rows, documents taken as they come. Lengths lie in 1 … `capacity`.

    Each goes to the fullest of at most `open_rows` open rows in which it fits; where there is none, a row is opened, in
    place of the fullest if there are that many. A document as long as a row has one of its own. Rows are numbered as
    they are opened; of rows that are equally full the one that became so last is taken. The free spaces of the open
    rows are kept as bits of an integer, whose lowest set bit above a length is the best fit.
    """
    if len(lengths) and (int(lengths.min()) < 1 or int(lengths.max()) > capacity):
        raise ValueError(f"lengths must lie in 1 … {capacity}")
    with_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    spaces = count = num_open = 0
    row_of: list[int] = []
    for length in lengths.tolist():
        if length == capacity:
            row_of.append(count)
            count += 1
            continue
        fitting = spaces >> length
        if fitting:
            space = length + (fitting & -fitting).bit_length() - 1
            rows = with_space[space]
            row = rows.pop()
            if not rows:
                spaces ^= 1 << space
        else:
            if num_open == open_rows:
                fullest = (spaces & -spaces).bit_length() - 1
                with_space[fullest].pop()
                if not with_space[fullest]:
                    spaces ^= 1 << fullest
            else:
                num_open += 1
            space, row = capacity, count
            count += 1
        row_of.append(row)
        rest = space - length
        if rest:
            rows = with_space[rest]
            if not rows:
                spaces |= 1 << rest
            rows.append(row)
        else:
            num_open -= 1
    return np.array(row_of, dtype=np.int32), count


def _longest_first(lengths: npt.NDArray[np.integer], capacity: int) -> Int64s:
    """A stable order by decreasing length; 16-bit keys let numpy sort by radix."""
    narrow = np.uint16 if capacity < 1 << 16 else np.int64
    return np.argsort((capacity - lengths).astype(narrow), kind="stable")


class _Rows:
    """Open rows by the space that they have left, in groups."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._groups: list[list[Int32s]] = [[] for _ in range(capacity + 1)]
        self._spaces = 0  # bit i: some row has space i left

    def place(self, length: int, target: Int32s) -> None:
        """Write the rows of `len(target)` documents of one length into `target`."""
        done = 0
        while done < len(target):
            fitting = self._spaces >> length
            if not fitting:
                done += self._open(length, target[done:])
                continue
            space = length + (fitting & -fitting).bit_length() - 1
            done += self._fill(self._take(space), space, length, target[done:])

    def _fill(self, rows: Int32s, space: int, length: int, target: Int32s) -> int:
        """Put documents into `rows`, as many as fit into each; returns how many were placed."""
        each = space // length
        full, rest = divmod(len(target), each)
        if full >= len(rows):
            placed = len(rows) * each
            target[:placed] = rows if each == 1 else np.repeat(rows, each)
            self._give(rows, space - each * length)
            return placed
        placed = full * each
        target[:placed] = rows[:full] if each == 1 else np.repeat(rows[:full], each)
        target[placed:] = rows[full]
        self._give(rows[full + bool(rest) :], space)
        self._give(rows[:full], space - each * length)
        if rest:
            self._give(rows[full : full + 1], space - rest * length)
        return len(target)

    def _open(self, length: int, target: Int32s) -> int:
        num_rows = -(-len(target) // (self.capacity // length))
        rows = np.arange(self.count, self.count + num_rows, dtype=np.int32)
        self.count += num_rows
        return self._fill(rows, self.capacity, length, target)

    def _take(self, space: int) -> Int32s:
        groups = self._groups[space]
        rows = groups.pop()
        if not groups:
            self._spaces &= ~(1 << space)
        return rows

    def _give(self, rows: Int32s, space: int) -> None:
        if len(rows) and space:
            self._groups[space].append(rows)
            self._spaces |= 1 << space
