"""Dropping rows that are like one kept before."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from ..core.context import Context
from ._minhash import BandFiles, ExactSketcher, FlaggedRow, Likeness, Meetings, NearSketcher, Neighbours, Sketcher
from ._texts import TextBatch, text_batches

if TYPE_CHECKING:
    from .dedup import Dedup

Batches = Callable[[], Iterable[TextBatch]]
"""Gives the rows from the beginning, each time it is called."""


def write_first_of_each(step: Dedup, context: Context) -> None:
    """The work of `Dedup`."""
    rows = context.get(step.rows)
    sketcher: Sketcher = ExactSketcher()
    if step.threshold is not None:
        sketcher = NearSketcher(step.threshold, step.ngram, step.unit)

    def batches() -> Iterator[TextBatch]:
        for batch in text_batches(rows, step.columns, "Dedup"):
            context.check_stop()
            yield batch

    first_ids = Ids()
    with context.rows() as writer:
        writer.counts["in"] = len(rows)
        writer.write_table(rows.schema.empty_table())
        for found in searched(batches, sketcher, context.scratch):
            batch = found.batch
            ids = batch.ids
            for place in found.firsts:
                first_ids.add(batch.start + place, ids[place])
            keep = np.ones(batch.table.num_rows, dtype=bool)
            keep[list(found.repeats)] = False
            writer.write_table(batch.table.filter(pa.array(keep)))
            dropped = batch.table.filter(pa.array(~keep)).to_pylist()
            for record, like in zip(dropped, found.repeats.values(), strict=True):
                if like.score == 1:
                    writer.drop(record, "duplicate", f"of {first_ids.of(like.row)}")
                else:
                    shared = f"{like.score:.2f} of the n-grams shared"
                    writer.drop(record, "near-duplicate", f"of {first_ids.of(like.row)} ({shared})")
            context.progress(batch.start + batch.table.num_rows, len(rows))


class Ids:
    """The ids of some rows, added in order of row; all ids have one length."""

    def __init__(self) -> None:
        self._rows, self._text = array("i"), bytearray()

    def add(self, row: int, name: str) -> None:
        self._rows.append(row)
        self._text += name.encode()

    def of(self, row: int) -> str:
        length = len(self._text) // len(self._rows)
        start = bisect_left(self._rows, row) * length
        return self._text[start : start + length].decode()


class Searched(NamedTuple):
    """A batch with the places of rows that are like one before (in their order), and of those others may be like."""

    batch: TextBatch
    repeats: dict[int, Likeness]
    firsts: list[int]


def searched(batches: Batches, sketcher: Sketcher, folder: Path) -> Iterator[Searched]:
    """Reads the rows twice; rows that are in neither list of their batch are like nothing. Works in `folder`."""
    meetings = found_meetings(batches(), sketcher, folder)
    with Neighbours(folder, meetings, sketcher.threshold) as neighbours:
        for batch in batches():
            found = Searched(batch, {}, [])
            for row in flagged_rows(batch, meetings, sketcher):
                place = row.number - batch.start
                like = neighbours.first_alike(row)
                if like is None:
                    neighbours.add(row)
                    found.firsts.append(place)
                else:
                    found.repeats[place] = like
            yield found


def found_meetings(batches: Iterable[TextBatch], sketcher: Sketcher, folder: Path) -> Meetings:
    """Which rows share a band value."""
    files = BandFiles(folder, sketcher.num_bands)
    for batch in batches:
        files.add(sketcher.bands(sketcher.sets(batch.texts)))
    return files.meetings()


def flagged_rows(batch: TextBatch, meetings: Meetings, sketcher: Sketcher) -> Iterator[FlaggedRow]:
    """The rows of a batch that need comparing, with their hashes computed anew."""
    places = np.flatnonzero(meetings.flagged[batch.start : batch.start + len(batch.texts)])
    groups = meetings.groups(batch.start, batch.start + len(batch.texts))[:, places].T.tolist()
    if len(places) == 0:
        return
    sets = sketcher.sets([batch.texts[place] for place in places.tolist()]).shortened()
    parts = itertools.pairwise(sets.offsets.tolist())
    for place, found, (start, stop) in zip(places.tolist(), groups, parts, strict=True):
        own = [group for group in found if group >= 0]
        yield FlaggedRow(batch.start + place, own, sets.hashes_S[start:stop])
