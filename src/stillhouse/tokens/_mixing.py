"""Which source each row of a run comes from, by arithmetic.

For constant integer weights a binary tree over the sources splits counts: of the first n rows that reach a node, its
left child gets the rounded share. So the number taken from a source within the first n rows is a function of n alone;
the source of a row follows from two such counts, and the row of a source's m-th draw by going up instead of down. The
tree joins the lightest nodes first (Huffman), which keeps every prefix within two rows of its share.

A change of weights opens a segment with a tree of its own. What each source is ahead or behind enters the roundings of
the new tree, so debts are settled at once and do not add up over changes. No method can promise two rows against
weights chosen with the counts in view (the cup game: log K); `Segment.farthest` says what holds.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..core.plain_sum import plain_sum

Int64s = npt.NDArray[np.int64]

TOTAL = 1 << 24
"""The sum of integer weights. With it, products stay below 2^63 for 5·10^11 rows of one segment."""


def integer_weights(weights: Sequence[float] | Sequence[Fraction]) -> tuple[int, ...]:
    """Integers that sum to `TOTAL`, by largest remainder; a positive weight stays positive, zero stays zero."""
    whole = plain_sum(weights)
    exact = [weight / whole * TOTAL for weight in weights]
    found = [max(int(share), 1) if share > 0 else 0 for share in exact]
    by_rest = sorted(range(len(found)), key=lambda number: (found[number] - exact[number], number))
    for number in [number for number in by_rest if found[number]][: max(0, TOTAL - sum(found))]:
        found[number] += 1
    found[max(range(len(found)), key=lambda number: found[number])] += TOTAL - sum(found)
    return tuple(found)


_REACHES = (10, 15, 20, 30, 50, 1000)
_GOOD = 3 * TOTAL // 2


_BITS = 32
_NUMBERS = (1 << _BITS) - 1

_Node: TypeAlias = tuple[int, int, int, int, int]
"""Left, right, share, whole, phase: of the first n rows here, floor((n · share + phase) / whole) go left, but 0 … n.

A plain tuple: a run with many sources and changes makes tens of thousands when it is resumed.
"""


class Place(NamedTuple):
    """Of each row: its source, and how many rows of that source came before it."""

    sources: Int64s
    ordinals: Int64s


class _Tree(NamedTuple):
    """Nodes are numbered after the sources, children before their parents; the last is the root."""

    root: int
    nodes: list[_Node]


class Segment:
    """Rows from `first_row` on, under constant weights; `taken` and `owed` describe the sources at its start.

    `owed[j]` is the sum of the weights of source j over all rows before, so `taken[j] - owed[j] / TOTAL` is its lead.
    `farthest`, in rows, is a bound on the lead of any source at any row of the segment.
    """

    def __init__(self, first_row: int, weights: Sequence[int], taken: Sequence[int], owed: Sequence[int]) -> None:
        self.first_row = first_row
        self.weights = tuple(weights)
        self.taken = tuple(taken)
        self.owed = tuple(owed)
        leads = [rows * TOTAL - share for rows, share in zip(taken, owed, strict=True)]
        farthest, tree = _best_tree(self.weights, leads)
        self.farthest = farthest / TOTAL
        self._root, self._nodes = tree

    def place(self, rows: Int64s) -> Place:
        """Source and ordinal (over the whole run) of rows counted from the segment's start."""
        at, count = np.full(len(rows), self._root), rows.copy()
        walking = np.arange(len(rows) if self._nodes else 0)
        while len(walking):  # all rows go down one node together
            left, right, share, whole, phase = self._columns[:, at[walking] - len(self.weights)]
            here = count[walking]
            before = np.clip((here * share + phase) // whole, 0, here)
            goes = np.clip(((here + 1) * share + phase) // whole, 0, here + 1) > before
            at[walking] = np.where(goes, left, right)
            count[walking] = np.where(goes, before, here - before)
            walking = walking[at[walking] >= len(self.weights)]
        return Place(at, count + np.array(self.taken)[at])

    @cached_property
    def _columns(self) -> Int64s:
        """[left, right, share, whole, phase; nodes] the nodes by their numbers, those of the sources left out."""
        return np.array(self._nodes, dtype=np.int64).T

    def counts(self, num_rows: int) -> tuple[int, ...]:
        """How many of the segment's first `num_rows` rows come from each source."""
        num_sources = len(self.weights)
        found = [0] * (num_sources + len(self._nodes))
        found[self._root] = num_rows
        for number in range(len(self._nodes) - 1, -1, -1):
            left, right, share, whole, phase = self._nodes[number]
            count = found[num_sources + number]
            found[left] = before = min(max((count * share + phase) // whole, 0), count)
            found[right] = count - before
        return tuple(found[:num_sources])

    def row_of(self, source: int, draw: int) -> int:
        """The row, from the segment's start, that is the source's draw number `draw` (from 0) in this segment."""
        number = source
        while number != self._root:
            parent = self._parents[number]
            left, _, share, whole, phase = self._nodes[parent - len(self.weights)]
            # The least count at the parent with which this child has draw + 1 rows, less one.
            if number == left:
                least = -((phase - (draw + 1) * whole) // share)
            else:
                least = -(-(draw * whole + 1 + phase) // (whole - share))
            draw = max(least, draw + 1) - 1
            number = parent
        return draw

    @cached_property
    def _parents(self) -> dict[int, int]:
        """The parent of each node and source."""
        first = len(self.weights)
        return {child: first + number for number, node in enumerate(self._nodes) for child in node[:2]}


def _best_tree(weights: Sequence[int], leads: Sequence[int]) -> tuple[int, _Tree]:
    """The first tree whose bound is good, else the best: which nodes are joined matters while leads are paid back."""
    tree = _tree(weights, leads, _REACHES[0])
    farthest = _bound(tree)
    for reach in _REACHES[1:]:
        if farthest <= _GOOD:
            break
        other = _tree(weights, leads, reach)
        bound = _bound(other)
        if bound < farthest:
            farthest, tree = bound, other
    return farthest, tree


def _tree(weights: Sequence[int], leads: Sequence[int], reach: int) -> _Tree:
    """Join the lightest node with that partner, up to `reach` tenths of the next weight, that best cancels its lead."""
    lead = [*leads]
    # Weight and number in one integer, which is ordered as the pair is.
    waiting = sorted(weight << _BITS | number for number, weight in enumerate(weights) if weight)
    nodes: list[_Node] = []
    while len(waiting) > 1:
        first = waiting.pop(0)
        share, left = first >> _BITS, first & _NUMBERS
        mine, limit = lead[left], ((waiting[0] >> _BITS) * reach // 10 + 1) << _BITS
        chosen, least = 0, abs(mine + lead[waiting[0] & _NUMBERS])
        for index in range(1, len(waiting)):
            partner = waiting[index]
            if partner >= limit or not least:
                break
            gap = abs(mine + lead[partner & _NUMBERS])
            if gap < least:
                chosen, least = index, gap
        second = waiting.pop(chosen)
        right = second & _NUMBERS
        whole = share + (second >> _BITS)
        joint = mine + lead[right]
        # The left child's lead over its share of the joint lead, so that the rounding begins by paying it back.
        nodes.append((left, right, share, whole, whole // 2 - (mine * whole - share * joint) // TOTAL))
        insort(waiting, whole << _BITS | len(lead))
        lead.append(joint)
    return _Tree(waiting[0] & _NUMBERS, nodes)


def _bound(tree: _Tree) -> int:
    """The farthest that a source can come from its share in this tree, in rows times `TOTAL`.

    A node's rounding strays between half a row either way, or from where it begins; to a child's comes its share of
    the node's own.
    """
    half = TOTAL // 2
    num_sources = tree.root + 1 - len(tree.nodes)
    low, high = [0] * (tree.root + 1), [0] * (tree.root + 1)
    for number in range(len(tree.nodes) - 1, -1, -1):
        left, right, share, whole, phase = tree.nodes[number]
        under, over = low[num_sources + number], high[num_sources + number]
        ahead = (whole // 2 - phase) * TOTAL // whole
        less, more = min(ahead, -half), max(ahead, half)
        rest = whole - share
        low[left], high[left] = under * share // whole + less, -(-over * share // whole) + more
        low[right], high[right] = under * rest // whole - more, -(-over * rest // whole) - less
    return max(-min(low[:num_sources]), max(high[:num_sources])) if tree.nodes else 0


class Rails(Protocol):
    """What stands between the weights that are asked for and those that hold."""

    def allowed(self, asked: Sequence[int], taken: Sequence[int]) -> tuple[int, ...] | None:
        """The weights that hold after so many rows of each source; None where no source may go on."""
        ...

    def limit(self, source: int, taken: int) -> int | None:
        """The rows that a source that gave `taken` may give in all; None where there is no end, or none near."""
        ...


class Spent(Exception):
    """No source may give another row from `row` on."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class Stage(NamedTuple):
    """From `row` on, `weights` are asked for."""

    row: int
    weights: tuple[int, ...]


class Schedule:
    """The sources of all rows of a run: weights, their changes, and what the rails make of them.

    Changes that follow from arithmetic (stages, sources that reach their limit) become segments when rows beyond them
    are asked about, so the state of a run holds none of them.
    """

    def __init__(self, weights: Sequence[int], rails: Rails | None = None, stages: Sequence[Stage] = ()) -> None:
        self._rails = rails
        self._num_sources = len(weights)
        self._asked: list[tuple[int, ...]] = []
        """For each segment, the weights that were asked for."""
        self.segments: list[Segment] = []
        self._stages: list[Stage] = []
        self._changed = 0
        """Row of the last change from outside."""
        self._settled = 0
        """The segments of rows before it are made."""
        self._end: int | None = None
        self.change(0, weights, stages=stages)

    def change(
        self,
        row: int,
        weights: Sequence[int] | None = None,
        *,
        stages: Sequence[Stage] = (),
        rails: Rails | None = None,
    ) -> None:
        """From `row` on, `weights` (None: as before) and `rails` hold, later `stages`, and no former stages.

        Rows before are not touched; `row` must not lie before the last change.
        """
        if row < self._changed:
            raise ValueError(f"row {row} lies before the last change, at row {self._changed}")
        if self.segments:
            self._reach(row)
            while len(self.segments) > 1 and self.segments[-1].first_row > row:
                self.segments.pop()
                self._asked.pop()
        asked = tuple(weights) if weights is not None else self._asked[-1]
        self._rails = rails or self._rails
        later = {stage.row: stage for stage in stages if stage.row > row}  # of two at one row, the second holds
        self._stages = sorted(later.values())
        self._changed, self._settled, self._end = row, row, None
        self._open(row, asked)

    def place(self, first: int, stop: int) -> Place:
        """Source and ordinal of the rows `first` … `stop` - 1; raises `Spent` where there are not so many."""
        self._reach(stop)
        sources, ordinals = np.empty(stop - first, np.int64), np.empty(stop - first, np.int64)
        row, number = first, self._segment_at(first)
        while row < stop:
            segment = self.segments[number]
            end = self.segments[number + 1].first_row if number + 1 < len(self.segments) else stop
            end = min(end, stop)
            place = segment.place(np.arange(row - segment.first_row, end - segment.first_row))
            sources[row - first : end - first], ordinals[row - first : end - first] = place
            row, number = end, number + 1
        return Place(sources, ordinals)

    def taken(self, row: int) -> tuple[int, ...]:
        """Rows of each source within the first `row` rows of the run."""
        self._reach(row)
        segment = self.segments[self._segment_at(row)]
        return _added(segment.taken, segment.counts(row - segment.first_row))

    def weights(self, row: int) -> tuple[int, ...]:
        """The weights that hold for a row; for one that does not come any more, those of the last that does."""
        self._go_on(row + 1)
        return self.segments[self._segment_at(row)].weights

    def row_of(self, source: int, ordinal: int) -> int | None:
        """The row that is the source's draw number `ordinal` of the run; None where the weights never reach it."""
        while True:
            number = bisect_right(self.segments, ordinal, key=lambda segment: segment.taken[source]) - 1
            segment = self.segments[number]
            last = number == len(self.segments) - 1
            if segment.weights[source]:
                row = segment.first_row + segment.row_of(source, ordinal - segment.taken[source])
                if not last or row < self._settled:
                    return row
                upto = row + 1
            elif not last:
                return None  # not reached: a later segment would have taken more
            elif self._stages:
                upto = self._stages[0].row
            else:
                return None
            if self._end is not None:
                return None
            self._go_on(upto)

    @property
    def end(self) -> int | None:
        """The row from which on no source may give another; None where some source may for ever."""
        while self._end is None:
            segment, rails = self.segments[-1], self._rails
            if rails is None:
                return None
            events = [stage.row for stage in self._stages[:1]]
            for source, weight in enumerate(segment.weights):
                if weight and (limit := rails.limit(source, 1 << 62)) is not None:
                    events.append(segment.first_row + segment.row_of(source, limit - segment.taken[source]))
            if not events:
                return None
            self._go_on(min(events) + 1)
        return self._end

    def _go_on(self, row: int) -> None:
        """`_reach`, or as far as there are rows."""
        with suppress(Spent):
            self._reach(row)

    def _reach(self, row: int) -> None:
        """Make the segments of all rows before `row`."""
        while self._settled < row and self._end is None:
            segment = self.segments[-1]
            stop = min(row, self._stages[0].row) if self._stages else row
            over = self._first_over(segment, stop)
            if over is not None:
                self._settled = over
                self._open(over, self._asked[-1])
            else:
                self._settled = stop
                if self._stages and stop == self._stages[0].row:
                    self._open(stop, self._stages.pop(0).weights)
        if self._end is not None and row > self._end:
            raise Spent(self._end)

    def _first_over(self, segment: Segment, stop: int) -> int | None:
        """The first row before `stop` with which a source would give more than it may."""
        if self._rails is None:
            return None
        taken = _added(segment.taken, segment.counts(stop - segment.first_row))
        found = []
        for source, rows in enumerate(taken):
            limit = self._rails.limit(source, rows) if rows > segment.taken[source] else None
            if limit is not None and rows > limit:
                found.append(segment.first_row + segment.row_of(source, limit - segment.taken[source]))
        return min(found) if found else None

    def _open(self, row: int, asked: tuple[int, ...]) -> None:
        """Begin a segment; one that has no row yet is replaced."""
        taken: Sequence[int] = (0,) * self._num_sources
        owed: Sequence[int] = taken
        if self.segments:
            last = self.segments[-1]
            length = row - last.first_row
            taken = _added(last.taken, last.counts(length)) if length else last.taken
            owed = [before + weight * length for before, weight in zip(last.owed, last.weights, strict=True)]
        weights = self._rails.allowed(asked, taken) if self._rails is not None else asked
        if weights is None:
            self._end = row
            return
        if self.segments and row == self.segments[-1].first_row:
            self.segments.pop()
            self._asked.pop()
        self.segments.append(Segment(row, weights, taken, owed))
        self._asked.append(asked)

    def _segment_at(self, row: int) -> int:
        return bisect_right(self.segments, row, key=lambda segment: segment.first_row) - 1


def _added(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    return tuple(before + count for before, count in zip(left, right, strict=True))
