"""The rows of a share, and the parts of a step put one behind the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from ._chunks import Reader
from ._map import too_many_failures, with_unanswered
from ._tables import arrow_batches, common_schema, moved, write_aside, write_tables
from .artifact import Rows
from .bill import summed_bill
from .context import Context
from .outcome import Fail
from .step import MapStep, Step

PIECE = 8192  # rows that are copied at once


def write_share(context: Context, rows: Step[Rows], index: int, of: int) -> None:
    """Copy the `index`-th of `of` pieces; rows keep ids and lineage."""
    source = context.get(rows)
    start, end = len(source) * index // of, len(source) * (index + 1) // of
    reader = Reader(source.paths)
    reader.skip(start)
    with context.rows() as writer:
        while reader.place < end:
            writer.write_table(reader.take(min(PIECE, end - reader.place)))
            context.check_stop()
        if start == end:
            writer.write_table(source.schema.empty_table())


def run_join(step: MapStep, context: Context, parts: Sequence[Rows]) -> dict[str, Any]:
    """The result of a map step from those of its shares; returns counts, digest and where they came from."""
    lost = [part for part in parts if part.record["counts"]["failed"] and not _came_through(part)]
    if lost and not any(_came_through(part) for part in parts):
        first = [Fail(row["kind"], row["message"], row["raw"]) for row in islice(lost[0].failed(), 3)]
        rows_in = sum(part.record["counts"]["in"] for part in parts)
        raise too_many_failures(type(step).__name__, rows_in, rows_in, first)
    schema = common_schema(part.schema for part in parts if len(part) or step.chooses)
    _, digest = write_tables(_rows(parts), schema, context.folder)
    for kind in ("dropped", "failed"):
        write_aside(kind, _asides(kind, parts), context.result / f"{kind}.parquet")
    counts = {name: sum(part.record["counts"][name] for part in parts) for name in ("in", "out", "dropped", "failed")}
    made = {"counts": with_unanswered(counts, sum(part.unanswered for part in parts)), "digest": digest}
    context.note(**step.summary(Rows(context.result, made)))
    told = [{"build_key": part.key, "seconds": part.record["finished"] - part.record["started"]} for part in parts]
    return {**made, "shards": told, **summed_bill([part.record for part in parts])}


def _came_through(part: Rows) -> bool:
    """Whether anything came of its rows, were it that they are not wanted."""
    return bool(part.record["counts"]["out"] or part.record["counts"]["dropped"])


def _rows(parts: Sequence[Rows]) -> Iterator[pa.Table]:
    for part in parts:
        for batch in part.arrow_batches(PIECE):
            yield pa.Table.from_batches([batch])


def _asides(kind: str, parts: Sequence[Rows]) -> Iterator[pa.Table]:
    rows_in = rows_out = 0
    for part in parts:
        path = part.aside_path(kind)
        if path.exists():
            for batch in arrow_batches([path], PIECE):
                yield moved(pa.Table.from_batches([batch]), rows_in, rows_out)
        rows_in += part.record["counts"]["in"]
        rows_out += len(part)
