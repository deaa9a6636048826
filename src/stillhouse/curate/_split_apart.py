"""Splitting so that rows that are alike stay together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.artifact import Rows
from ..core.context import Context
from ..rows._apportion import Integers, chosen, num_wanted
from ..rows._split import check_size, row_facts, write_parts
from ._dedup import flagged_rows, found_meetings
from ._minhash import NearSketcher, Neighbours
from ._texts import TextBatch, text_batches

if TYPE_CHECKING:
    from .split_apart import SplitApart


def write_apart(step: SplitApart, context: Context) -> None:
    """The work of `SplitApart`."""
    source = context.get(step.rows)
    wanted = num_wanted(step.test_size, len(source))
    check_size("SplitApart", wanted, len(source))
    facts = row_facts(source, context, step.seed, step.by, step.group)
    known = None if step.known is None else context.get(step.known)
    num_known = 0 if known is None else len(known)
    clusters = Clusters(len(source) + num_known)
    clusters.join_equal(np.append(facts.groups, int(facts.groups.max(initial=-1)) + 1 + np.arange(num_known)))
    _join_alike(step, source, known, clusters, context)
    units, units_known = np.split(clusters.numbered(), [len(source)])
    free = ~np.isin(units, units_known)
    in_test = np.zeros(len(source), dtype=bool)
    in_test[free] = chosen(facts.keys[free], gapless(units[free]), facts.strata[free], wanted)
    context.note(clusters=int(units.max(initial=-1)) + 1, test_wanted=wanted, test_found=int(in_test.sum()))
    write_parts(source, context, in_test)


def _join_alike(step: SplitApart, source: Rows, known: Rows | None, clusters: Clusters, context: Context) -> None:
    """Join what is alike; the rows of `known` are numbered after those of `source`."""
    sketcher = NearSketcher(step.threshold, step.ngram, step.unit)

    def batches() -> Iterator[TextBatch]:
        for rows, first in ((source, 0), (known, len(source))):
            for batch in text_batches(rows, step.columns, "SplitApart") if rows is not None else ():
                context.check_stop()
                yield batch._replace(start=first + batch.start)

    meetings = found_meetings(batches(), sketcher, context.scratch)
    with Neighbours(context.scratch, meetings, sketcher.threshold) as neighbours:
        for batch in batches():
            for row in flagged_rows(batch, meetings, sketcher):
                for other in neighbours.candidates(row):
                    # What is in one cluster already need not be compared: a thousand copies cost a thousand looks.
                    if clusters.apart(row.number, other) and neighbours.are_alike(other, row):
                        clusters.join(row.number, other)
                neighbours.add(row)
            context.progress(min(batch.start + batch.table.num_rows, len(source)), len(source))


class Clusters:
    """Disjoint sets of rows (Tarjan 1975, with path halving); the root of a set is its first row."""

    def __init__(self, num_rows: int) -> None:
        self._parent: npt.NDArray[np.int32] = np.arange(num_rows, dtype=np.int32)

    def root(self, row: int) -> int:
        parent = self._parent
        while (above := int(parent[row])) != row:
            parent[row] = parent[above]
            row = int(parent[row])
        return row

    def apart(self, left: int, right: int) -> bool:
        return self.root(left) != self.root(right)

    def join(self, left: int, right: int) -> None:
        first, second = sorted((self.root(left), self.root(right)))
        self._parent[second] = first

    def join_equal(self, values: Integers) -> None:
        """Rows with equal values are one set. For the start, when every row is alone."""
        first = np.full(int(values.max(initial=-1)) + 1, len(values), dtype=np.int32)
        np.minimum.at(first, values, np.arange(len(values), dtype=np.int32))
        self._parent = first[values]

    def numbered(self) -> Integers:
        """The number of each row's set, from 0 in order of first row."""
        roots = self._parent
        while True:
            above = roots[roots]
            if np.array_equal(above, roots):
                break
            roots = above
        return gapless(roots)


def gapless(numbers: Integers | npt.NDArray[np.int32]) -> Integers:
    """The numbers from 0 in their order, without those that do not occur: `np.unique`, without sorting."""
    occurs = np.zeros(int(numbers.max(initial=-1)) + 1, dtype=bool)
    occurs[numbers] = True
    found: Integers = (np.cumsum(occurs) - 1)[numbers]
    return found
