"""Pieces of a map step's input on their way: read, mapped, turned into files for the journal."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from ._occurrence import without_numbers
from ._tables import (
    RowBuffer,
    arrow_batches,
    aside_table,
    content_bytes,
    dict_rows,
    row_id,
    row_text,
    table_bytes,
)
from .context import Context
from .errors import EXHAUSTED, RecipeError, RowFault
from .occurrence import mapped
from .outcome import KEEP, Drop, Emit, Fail, Outcome, Row, content_of
from .sent import tell_when_sent
from .step import Mapper, MapStep


@dataclass(slots=True)
class Counts:
    """Rows in, out, dropped and failed; of the failed, those that got no answer.

    `lost` are the rows in of which nothing but failures came: a row may have several outcomes.
    """

    rows_in: int = 0
    out: int = 0
    dropped: int = 0
    failed: int = 0
    unanswered: int = 0
    lost: int = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        self.rows_in += entry["in"]
        self.out += entry["out"]
        self.dropped += entry["dropped"]
        self.failed += entry["failed"]
        self.unanswered += entry["unanswered"]
        self.lost += entry.get("lost", entry["failed"])


class Made(NamedTuple):
    """What became of a chunk: its journal entry, its files, and the first of its failures."""

    entry: dict[str, Any]
    files: dict[str, bytes]
    examples: list[Fail]


@dataclass(slots=True, eq=False)
class Chunk:
    """Rows from number `start` on that are being mapped; `future` is None where their outcomes are there already."""

    start: int
    num_rows: int
    begun: float
    made: Callable[[], Made]
    future: concurrent.futures.Future[Any] | None = None
    sent: bool = False
    """Whether all that is asked for these rows is on its way."""

    @property
    def plain(self) -> bool:
        return self.future is None

    @property
    def ready(self) -> bool:
        return self.future is None or self.future.done()


class Workers(Protocol):
    """Who maps chunks: this process, or others that an engine knows."""

    @property
    def width(self) -> int:
        """Chunks that keep all of them busy."""
        ...

    def prepare(self) -> None:
        """Meet what is wrong with a step before any row does."""
        ...

    def start(self, start: int, table: pa.Table, changed: Callable[[], None]) -> Chunk:
        """Begin with the rows of a table, of which the first has number `start`; `changed` is told of each change."""
        ...

    def close(self) -> None: ...


class Engine(Protocol):
    """Where map steps run."""

    def workers(self, step: MapStep, context: Context, loop: asyncio.AbstractEventLoop) -> Workers:
        """Who maps a step; raises `RecipeError` for one that cannot get there."""
        ...

    def close(self) -> None: ...


class Here:
    """Maps in this process: a plain mapper in the step's own thread, an async one on the session's call loop."""

    def __init__(
        self, step: MapStep, context: Context, loop: asyncio.AbstractEventLoop, *, by_row: bool = False
    ) -> None:
        self._step, self._context, self._loop, self._by_row = step, context, loop, by_row
        self._mapper: Mapper | None = None
        self.width = 1

    def prepare(self) -> None:
        if self._mapper is None:
            self._mapper = self._step.mapper(self._context)

    def start(self, start: int, table: pa.Table, changed: Callable[[], None]) -> Chunk:
        self.prepare()
        assert self._mapper is not None
        begun = time.monotonic()
        table, numbers = without_numbers(table)
        rows = dict_rows(table.drop_columns(["_parents", "_calls"]))
        outcomes = mapped(self._mapper, rows, numbers)
        if not inspect.isawaitable(outcomes):
            return Chunk(start, len(rows), begun, lambda: self._made(start, table, rows, outcomes))
        chunk = Chunk(start, len(rows), begun, lambda: self._made(start, table, rows, future.result()))

        def sent() -> None:
            chunk.sent = True
            changed()

        future = asyncio.run_coroutine_threadsafe(_awaited(outcomes, sent), self._loop)
        chunk.future = future
        future.add_done_callback(lambda _: changed())
        return chunk

    def _made(self, start: int, table: pa.Table, rows: list[Row], outcomes: Sequence[Outcome]) -> Made:
        return made_of(self._step, start, table, rows, outcomes, by_row=self._by_row)

    def close(self) -> None:
        """Nothing is held that others could want."""


async def _awaited(outcomes: Any, sent: Callable[[], None]) -> Sequence[Outcome]:
    tell_when_sent(sent)
    return await outcomes  # type: ignore[no-any-return]


class Source(Protocol):
    """Where the rows of a map step come from."""

    @property
    def tail(self) -> int:
        """The number of the first row that no attempt came to."""
        ...

    @property
    def flows(self) -> bool:
        """Whether its rows come from a step that still runs, a few at a time."""
        ...

    @property
    def total(self) -> int | None:
        """How many rows there are, once that is known."""
        ...

    @property
    def ended(self) -> bool:
        """Whether `next` has nothing more to give, now or later."""
        ...

    def next(self, size: int) -> tuple[int, pa.Table] | None:
        """The next table of at most `size` rows, with the number of its first row; None where none is there now."""
        ...

    def wait(self, seconds: float) -> None:
        """Until there may be more."""
        ...


class Table:
    """The rows of a finished table that are not done yet: first those that no attempt came to, then the gaps.

    So what a step makes of rows that it meets for the first time shows first.
    """

    flows = False

    def __init__(self, paths: Sequence[Path], total: int, done: Sequence[Mapping[str, Any]]) -> None:
        self._paths = paths
        self.total: int | None = total
        gaps, self.tail = [], 0
        for start, rows in sorted((entry["start"], entry["in"]) for entry in done):
            if start > self.tail:
                gaps.append((self.tail, start))
            self.tail = start + rows
        self._open = deque([(self.tail, sys.maxsize), *gaps])
        self._reader = Reader(paths)

    @property
    def ended(self) -> bool:
        return not self._open

    def next(self, size: int) -> tuple[int, pa.Table] | None:
        while self._open:
            start, end = self._open[0]
            if self._reader.place > start:
                self._reader = Reader(self._paths)
            self._reader.skip(start - self._reader.place)
            table = self._reader.take(min(size, end - start))
            if table.num_rows == 0 or start + table.num_rows == end:
                self._open.popleft()
            else:
                self._open[0] = (start + table.num_rows, end)
            if table.num_rows:
                return start, table
        return None

    def wait(self, seconds: float) -> None:
        """All is there."""


class Reader:
    """The rows of Parquet files from `place` on."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.place = 0
        self._batches = arrow_batches(paths, 8192)
        self._held: deque[pa.RecordBatch] = deque()

    def take(self, num_rows: int) -> pa.Table:
        """The next `num_rows` rows, fewer at the end."""
        taken: list[pa.RecordBatch] = []
        while num_rows and (batch := self._next()) is not None:
            taken.append(batch.slice(0, num_rows))
            if batch.num_rows > num_rows:
                self._held.appendleft(batch.slice(num_rows))
            num_rows -= taken[-1].num_rows
            self.place += taken[-1].num_rows
        return pa.Table.from_batches(taken) if taken else pa.table({})

    def skip(self, num_rows: int) -> None:
        while num_rows and (batch := self._next()) is not None:
            if batch.num_rows > num_rows:
                self._held.appendleft(batch.slice(num_rows))
            passed = min(num_rows, batch.num_rows)
            num_rows -= passed
            self.place += passed

    def _next(self) -> pa.RecordBatch | None:
        return self._held.popleft() if self._held else next(self._batches, None)


def made_of(
    step: MapStep,
    start: int,
    table: pa.Table,
    rows: Sequence[Row],
    outcomes: Sequence[Outcome],
    *,
    by_row: bool = False,
) -> Made:
    """The journal entry and the files of one chunk; with `by_row` the entry says how many rows came of each."""
    if len(outcomes) != len(rows):
        raise RecipeError(
            f"the mapper of `{type(step).__name__}` gave {len(outcomes)} outcomes for {len(rows)} rows",
            "Return one outcome for each row, in order.",
        )
    dropped: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    buffer = RowBuffer.empty()
    kept: list[int] = []
    lost = 0
    outs: list[int] = []
    for place, (row, outcome) in enumerate(zip(rows, outcomes, strict=True)):
        num_failed, num_out, num_dropped = len(failed), len(buffer.ids), len(dropped)
        if isinstance(outcome, Emit):
            _emit(buffer, row, outcome, failed)
        elif outcome is KEEP:
            kept.append(place)
            buffer.add(row["_id"], (), (), row)
        elif isinstance(outcome, list | tuple):
            seen: dict[tuple[tuple[str, ...], bytes], int] = {}
            for one in outcome:
                if isinstance(one, Emit):
                    _emit(buffer, row, one, failed, seen)
                else:
                    _put_aside(step, row, one, dropped, failed)
        else:
            _put_aside(step, row, outcome, dropped, failed)
        own = len(buffer.ids) - num_out
        if by_row:
            outs.append(own)
        if len(failed) > num_failed:
            lost += own == 0 and len(dropped) == num_dropped
            for record in failed[num_failed:]:
                record.update(_place=place, _at=num_out, _outs=own, _attempt=0)
    files: dict[str, bytes] = {}
    if buffer.ids:
        made = _kept_table(table, kept, buffer) if kept else buffer.table(table.schema)
        files[f"{start:012d}.rows"] = table_bytes(made)
    for kind, aside in (("dropped", dropped), ("failed", failed)):
        if aside:
            files[f"{start:012d}.{kind}"] = table_bytes(aside_table(kind, aside))
    entry: dict[str, Any] = {"start": start, "in": len(rows), "out": len(buffer.ids)}
    entry |= {"dropped": len(dropped), "failed": len(failed), "lost": lost}
    entry["unanswered"] = sum(record["kind"] == EXHAUSTED for record in failed)
    if by_row:
        entry["outs"] = outs
    return Made(entry, files, [Fail(one["kind"], one["message"], one["raw"]) for one in failed[:3]])


def _put_aside(
    step: MapStep, row: Row, outcome: object, dropped: list[dict[str, Any]], failed: list[dict[str, Any]]
) -> None:
    if isinstance(outcome, Drop):
        dropped.append({"_id": row["_id"], "reason": outcome.reason, "detail": outcome.detail, "row": row_text(row)})
    elif isinstance(outcome, Fail):
        failed.append(_failed(row, outcome))
    else:
        raise RecipeError(
            f"the mapper of `{type(step).__name__}` gave {outcome!r:.80} for a row",
            "An outcome is KEEP, Drop(...), Fail(...) or Emit(...), or a list of the last three.",
        )


def _kept_table(table: pa.Table, kept: list[int], buffer: RowBuffer) -> pa.Table:
    """Rows that passed unchanged keep their lineage; where all rows did, no Python value is touched."""
    source = table.take(pa.array(kept, pa.int64())) if len(kept) < table.num_rows else table
    if len(kept) == len(buffer.ids):
        return source
    lineage = {row["_id"]: row for row in dict_rows(source.select(["_id", "_parents", "_calls"]))}
    for place, made in enumerate(buffer.ids):
        known = lineage.get(made)
        if known is not None:
            buffer.parents[place], buffer.calls[place] = known["_parents"] or (), known["_calls"] or ()
    return buffer.table(table.schema)


def _emit(
    buffer: RowBuffer,
    row: Row,
    outcome: Emit,
    failed: list[dict[str, Any]],
    seen: dict[tuple[tuple[str, ...], bytes], int] | None = None,
) -> None:
    """Put the new rows down; `seen` counts equal ones among several outcomes of the row, so that their ids differ."""
    parents = (row["_id"],) if outcome.parents is None else tuple(outcome.parents)
    if len(outcome.rows) == 1 and seen is None:
        _emit_one(buffer, row, outcome.rows[0], parents, outcome.calls, 0, failed)
        return
    seen = {} if seen is None else seen
    for content in outcome.rows:
        try:
            data = content_bytes(content_of(content))
        except RowFault:
            data = b""
        occurrence = seen.get((parents, data), 0)
        seen[parents, data] = occurrence + 1
        _emit_one(buffer, row, content, parents, outcome.calls, occurrence, failed)


def _emit_one(
    buffer: RowBuffer,
    row: Row,
    content: Any,
    parents: tuple[str, ...],
    calls: Sequence[str],
    occurrence: int,
    failed: list[dict[str, Any]],
) -> None:
    own = content_of(content)
    try:
        made = row_id(parents, content_bytes(own), occurrence)
    except RowFault as fault:
        failed.append(_failed(row, Fail(fault.kind, fault.message, fault.raw)))
        return
    buffer.add(made, parents, calls, own)


def _failed(row: Row, fail: Fail) -> dict[str, Any]:
    return {"_id": row["_id"], "kind": fail.kind, "message": fail.message, "raw": fail.raw, "row": row_text(row)}
