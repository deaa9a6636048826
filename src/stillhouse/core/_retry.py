"""Making a map step's result again where rows failed: these are mapped once more, all others are taken as they are.

A row is tried where it stands, so that the table has the order it would have had. What a killed retry mapped is taken
up by the same retry: nothing of the result is replaced before all of it is done.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ._chunks import Here, Reader, Table
from ._map import MapRun, Whole, with_unanswered
from ._occurrence import numbering_of, with_numbers
from ._tables import (
    PLACE,
    arrow_batches,
    common_schema,
    read_part,
    schema_of_part,
    write_aside,
    write_tables,
)
from .artifact import Rows
from .context import Context
from .errors import EXHAUSTED
from .journal import Pieces
from .keys import canonical, digest_of
from .occurrence import asks_apart
from .retry import KINDS, Retry
from .step import MapStep

CallsAgain = Callable[[int, Mapping[str, Any], Any], Callable[[], Any]]
"""The call service for an attempt, changes of the `Ask`, and kinds of failure (None: all is asked anew)."""


class Chosen(NamedTuple):
    """A row that is tried again: where it stands, how many rows came of it, as which attempt, whether nothing did."""

    place: int
    at: int
    outs: int
    attempt: int
    anew: bool


def chosen_rows(earlier: Rows, retry: Retry) -> list[Chosen]:
    """The rows that failed in one of the ways that are meant, in order; none where their places are not known."""
    path = earlier.aside_path("failed")
    if not path.exists() or PLACE[0] not in pq.read_schema(path).names:
        return []
    table = pq.read_table(path, columns=["kind", *PLACE])
    kinds, *numbers = (table.column(name).to_pylist() for name in table.column_names)
    found: dict[int, Chosen] = {}
    for kind, place, at, outs, attempt in zip(kinds, *numbers, strict=True):
        if retry.takes(kind) and place is not None:
            known = found.get(place)
            # Of a row with several replies, and where one is only waited for, good ones are kept and found again.
            anew = outs == 0 and kind != EXHAUSTED and (known is None or known.anew)
            found[place] = Chosen(place, at, outs, attempt + (kind != EXHAUSTED), anew)
    return [found[place] for place in sorted(found)]


class _Group:
    """Chosen rows of one attempt, and what became of them."""

    def __init__(self, chosen: list[Chosen], folder: Path) -> None:
        self.chosen = chosen
        self.folder = folder
        self.source = folder.with_suffix(".parquet")
        self.entries: list[Mapping[str, Any]] = []

    def ids(self) -> pa.Array:
        return pq.read_table(self.source, columns=["_id"]).column("_id").combine_chunks()

    def results(self) -> Iterator[tuple[Chosen, pa.Table | None]]:
        """Each row that was tried, with the rows that came of it (None for none)."""
        for entry in sorted(self.entries, key=lambda entry: entry["start"]):
            table = read_part(self.folder / f"{entry['start']:012d}.rows") if entry["out"] else None
            begun = 0
            for row, outs in zip(self.chosen[entry["start"] :], entry["outs"], strict=False):
                yield row, table.slice(begun, outs) if table is not None and outs else None
                begun += outs

    def parts(self, kind: str) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob(f"*.{kind}")):
            yield read_part(path)

    def failed(self) -> Iterator[pa.Table]:
        """Failed rows with their true place and the attempt that they failed at; `_at` is left to be counted."""
        for entry in sorted(self.entries, key=lambda entry: entry["start"]):
            if not entry["failed"]:
                continue
            table = read_part(self.folder / f"{entry['start']:012d}.failed")
            rows = [self.chosen[entry["start"] + index] for index in table.column("_place").to_pylist()]
            table = _with(table, "_place", [row.place for row in rows])
            yield _with(table, "_attempt", [row.attempt for row in rows])


def run_retry(
    step: MapStep,
    context: Context,
    loop: asyncio.AbstractEventLoop,
    earlier: Rows,
    retry: Retry,
    calls_again: CallsAgain,
    *,
    seen: Context,
    whole: Whole | None = None,
) -> dict[str, Any]:
    """The earlier result with the rows that `retry` means mapped anew; returns counts, digest and history.

    `seen` is the context that the mapper is made with; `whole` the table that the rows are a part of, where they are.
    """
    chosen = chosen_rows(earlier, retry)
    groups: list[_Group] = []
    table, start = whole or (context.get(step.rows), 0)
    numbers = numbering_of(step, table) if chosen and asks_apart(step) else None
    for attempt, anew in sorted({(row.attempt, row.anew) for row in chosen}):
        rows = [row for row in chosen if (row.attempt, row.anew) == (attempt, anew)]
        told = [retry.as_dict(), attempt, anew, [row.place for row in rows]]
        group = _Group(rows, context.scratch / "again" / digest_of(canonical(told)))
        write_chosen(context.get(step.rows).paths, [row.place for row in rows], group.source)
        calls = calls_again(attempt, retry.asking, None if anew else retry.kinds or frozenset(KINDS))
        groups.append(group)
        own = None if numbers is None else numbers.at([start + row.place for row in rows])
        if not _map_group(step, seen.with_calls(_knowing(calls, earlier)), loop, group, own):
            left = len(chosen) - sum(entry["in"] for each in groups for entry in each.entries)
            context.warn(f"all of the first rows that were tried failed again; {left} others are left as they are")
            break
    made = _Spliced(context, earlier, groups).write(retry)
    context.note(**earlier.record.get("facts", {}))
    context.note(**step.summary(Rows(context.result, made)))
    return made


def _knowing(calls: Callable[[], Any], earlier: Rows) -> Callable[[], Any]:
    """The call service that also finds the replies that earlier retries got."""
    return lambda: calls().after([each.get("asking", {}) for each in earlier.record.get("retries", [])])


def write_chosen(paths: Sequence[Path], places: Sequence[int], target: Path) -> None:
    """The rows with these numbers (ascending) as a Parquet file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.asarray(places)
    with pq.ParquetWriter(target, pq.read_schema(paths[0])) as writer:
        begun = 0
        for batch in arrow_batches(paths, 8192):
            low, high = np.searchsorted(numbers, (begun, begun + batch.num_rows))
            if high > low:
                writer.write_batch(batch.take(pa.array(numbers[low:high] - begun)))
            begun += batch.num_rows


def _map_group(
    step: MapStep, context: Context, loop: asyncio.AbstractEventLoop, group: _Group, numbers: Sequence[int] | None
) -> bool:
    """Map the rows of a group; False where that was given up because all of the first ones failed again.

    `numbers` are those of its rows among all that ask the same.
    """
    pieces = Pieces(group.folder)
    done = [entry for entry in pieces.restore() if "outs" in entry and not entry["failed"]]
    pieces.keep(done)

    def number(start: int, table: pa.Table) -> pa.Table:
        return table if numbers is None else with_numbers(table, numbers[start : start + table.num_rows])

    run = MapRun(step, context, pieces, Here(step, context, loop, by_row=True), number=number, watch=_watch)
    group.entries = run.entries
    try:
        run.all(Table([group.source], len(group.chosen), done), done)
    except _Hopeless:
        return False
    return True


class _Hopeless(Exception):
    """All of the first rows failed again: what is left to try is not worth its money."""


def _watch(run: MapRun) -> None:
    counts = run.fresh
    if counts.rows_in >= run.context.options.first_look and counts.lost == counts.rows_in:
        raise _Hopeless


class _Spliced:
    """The new result: the earlier one with what came of the rows that were tried in its place."""

    def __init__(self, context: Context, earlier: Rows, groups: Sequence[_Group]) -> None:
        self._context, self._earlier, self._groups = context, earlier, groups
        results = [result for group in groups for result in group.results()]
        self._results = sorted(results, key=lambda result: result[0].place)
        self._tried = {row.place for row, _ in self._results}

    def write(self, retry: Retry) -> dict[str, Any]:
        """Write rows, dropped and failed ones; returns what goes into the record."""
        result = self._context.result
        schemas = [schema_of_part(path) for group in self._groups for path in sorted(group.folder.glob("*.rows"))]
        schema = common_schema([self._earlier.schema, *schemas])
        num_out, digest = write_tables(self._rows(), schema, self._context.folder)
        num_dropped = write_aside("dropped", self._dropped(), result / "dropped.parquet")
        failed = self._failed()
        write_aside("failed", [failed], result / "failed.parquet")
        unanswered = sum(kind == EXHAUSTED for kind in failed.column("kind").to_pylist())
        rows_in = self._earlier.record["counts"]["in"]
        counts = {"in": rows_in, "out": num_out, "dropped": num_dropped, "failed": failed.num_rows}
        mended = len(self._tried - set(failed.column("_place").to_pylist()))
        told = {**retry.as_dict(), "rows": len(self._tried), "mended": mended, "time": time.time()}
        return {
            "counts": with_unanswered(counts, unanswered),
            "digest": digest,
            "retries": [*self._earlier.record.get("retries", []), told],
        }

    def _rows(self) -> Iterator[pa.Table]:
        reader = Reader(self._earlier.paths)
        for row, table in self._results:
            yield from _up_to(reader, row.at)
            reader.skip(row.outs)
            if table is not None:
                yield table
        yield from _up_to(reader, sys.maxsize)

    def _dropped(self) -> Iterator[pa.Table]:
        ids = pa.concat_arrays([pa.array([], pa.string()), *(group.ids() for group in self._groups)])
        path = self._earlier.aside_path("dropped")
        if path.exists():
            for batch in arrow_batches([path], 8192):
                table = pa.Table.from_batches([batch])
                yield table.filter(pc.invert(pc.is_in(table.column("_id"), ids)))
        for group in self._groups:
            yield from group.parts("dropped")

    def _failed(self) -> pa.Table:
        """Earlier failures of other rows and those of now, in order, with the places that they have now."""
        known = pq.read_table(self._earlier.aside_path("failed"))
        others = known.filter(pc.invert(pc.is_in(known.column("_place"), pa.array(sorted(self._tried), pa.int64()))))
        tables = [others, *(table for group in self._groups for table in group.failed())]
        table = pa.concat_tables([each.select(known.column_names) for each in tables]).combine_chunks()
        table = table.take(pc.sort_indices(table.column("_place")))
        results, now = iter([*self._results, None]), {}
        shift, ahead = 0, next(results)
        ats, outs = table.column("_at").to_pylist(), table.column("_outs").to_pylist()
        for number, place in enumerate(table.column("_place").to_pylist()):
            while ahead is not None and ahead[0].place <= place:
                own = 0 if ahead[1] is None else ahead[1].num_rows
                now = {ahead[0].place: (ahead[0].at + shift, own)}
                shift += own - ahead[0].outs
                ahead = next(results)
            ats[number], outs[number] = now.get(place) or (ats[number] + shift, outs[number])
        return _with(_with(table, "_at", ats), "_outs", outs)


def _up_to(reader: Reader, place: int) -> Iterator[pa.Table]:
    while reader.place < place:
        table = reader.take(min(8192, place - reader.place))
        if table.num_rows == 0:
            return
        yield table


def _with(table: pa.Table, name: str, values: Sequence[int]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values, pa.int64()))
