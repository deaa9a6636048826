"""Dropping rows that are like one kept before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from ..core.artifact import Rows
from ..core.context import Context
from ._minhash import BandFiles, ExactSketcher, Meetings, NearSketcher, Neighbours, Sketcher
from ._shingles import Hashes
from ._texts import TextBatch, text_batches

if TYPE_CHECKING:
    from .dedup import Dedup


def write_first_of_each(step: Dedup, context: Context) -> None:
    """The work of `Dedup`."""
    rows = context.get(step.rows)
    sketcher: Sketcher = ExactSketcher()
    if step.threshold is not None:
        sketcher = NearSketcher(step.threshold, step.ngram, step.unit)
    meetings = found_meetings(rows, step.columns, sketcher, context, "Dedup")
    kept_ids: dict[int, str] = {}
    with context.rows() as writer, Neighbours(context.scratch, meetings, sketcher.threshold) as neighbours:
        writer.counts["in"] = len(rows)
        writer.write_table(rows.schema.empty_table())
        for batch in text_batches(rows, step.columns, "Dedup"):
            ids = batch.ids
            drops: dict[int, tuple[str, str]] = {}
            for row in flagged_rows(batch, meetings, sketcher):
                like = neighbours.first_alike(row.number, row.hashes)
                if like is None:
                    neighbours.add(row.number, row.hashes)
                    kept_ids[row.number] = ids[row.place]
                elif like.score == 1:
                    drops[row.place] = ("duplicate", f"of {kept_ids[like.row]}")
                else:
                    shared = f"{like.score:.2f} of the n-grams shared"
                    drops[row.place] = ("near-duplicate", f"of {kept_ids[like.row]} ({shared})")
            keep = np.ones(batch.table.num_rows, dtype=bool)
            keep[list(drops)] = False
            writer.write_table(batch.table.filter(pa.array(keep)))
            dropped = batch.table.filter(pa.array(~keep)).to_pylist()
            for record, (reason, detail) in zip(dropped, drops.values(), strict=True):
                writer.drop(record, reason, detail)
            context.progress(batch.start + batch.table.num_rows, len(rows))
            context.check_stop()


class FlaggedRow(NamedTuple):
    """A row that may be like another: its number in the table, its place in the batch, its distinct hashes."""

    number: int
    place: int
    hashes: Hashes


def found_meetings(rows: Rows, columns: tuple[str, ...], sketcher: Sketcher, context: Context, name: str) -> Meetings:
    """First and second pass over the rows: which of them share a band value."""
    files = BandFiles(context.scratch, sketcher.num_bands)
    for batch in text_batches(rows, columns, name):
        files.add(sketcher.bands(sketcher.sets(batch.texts)))
        context.check_stop()
    return files.meetings()


def flagged_rows(batch: TextBatch, meetings: Meetings, sketcher: Sketcher) -> Iterator[FlaggedRow]:
    """The rows of a batch that need comparing, with their hashes computed anew."""
    places = np.flatnonzero(meetings.flagged[batch.start : batch.start + batch.table.num_rows]).tolist()
    sets = sketcher.sets([batch.texts[place] for place in places])
    for order, place in enumerate(places):
        yield FlaggedRow(batch.start + place, place, sets.of(order))
