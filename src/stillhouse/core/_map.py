"""Running a map step: chunks in flight without a barrier, committed in order, taken up again after a kill.

A chunk is known by the number of its first row. What an earlier attempt committed stays, except chunks with rows that
failed: the cause may be mended since.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ._tables import (
    RowBuffer,
    arrow_batches,
    aside_table,
    content_bytes,
    dict_rows,
    merge_aside,
    merge_parts,
    row_id,
    row_text,
    table_bytes,
)
from .artifact import Rows
from .context import Context
from .errors import EXHAUSTED, ModelError, RecipeError, RowFault, remedy
from .garbage import rare_collections
from .journal import Pieces
from .outcome import KEEP, Drop, Emit, Fail, Outcome, Row, content_of
from .step import Mapper, MapStep

OPEN_CHUNKS = 8
SMALLEST, LARGEST = 64, 4096  # rows of a chunk
QUICK, LONG = 0.25, 4.0  # seconds: a chunk that takes less makes the next larger, one that takes more makes it smaller
PATIENCE = 1.0  # seconds that a plain mapper may work on a chunk: it cannot be stopped meanwhile


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

    def add(self, entry: dict[str, Any]) -> None:
        self.rows_in += entry["in"]
        self.out += entry["out"]
        self.dropped += entry["dropped"]
        self.failed += entry["failed"]
        self.unanswered += entry["unanswered"]
        self.lost += entry.get("lost", entry["failed"])


@dataclass(slots=True)
class Chunk:
    """A piece of the input, with the outcomes on their way."""

    start: int
    table: pa.Table
    rows: list[Row]
    outcomes: Sequence[Outcome] | concurrent.futures.Future[Sequence[Outcome]]
    begun: float

    @property
    def plain(self) -> bool:
        return not isinstance(self.outcomes, concurrent.futures.Future)

    @property
    def ready(self) -> bool:
        return not isinstance(self.outcomes, concurrent.futures.Future) or self.outcomes.done()


@rare_collections()
def run_map(step: MapStep, context: Context, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Map all rows; returns counts and digest for the record. The rows stand under the result's `data/`."""
    source, options = context.get(step.rows), context.options
    pieces = Pieces(context.scratch / "chunks")
    done = [entry for entry in pieces.restore() if "start" in entry and not entry["failed"]]
    pieces.keep(done)
    counts, fresh = Counts(), Counts()
    for entry in done:
        counts.add(entry)
    chunks = _Chunks(source.paths, done)
    examples: list[Fail] = []
    mapper = step.mapper(context)
    waiting: deque[Chunk] = deque()
    size, worked = options.chunk, False
    try:
        while True:
            # A plain mapper has its outcomes at once: they are committed before the next chunk is begun. Until a first
            # row has worked there is one chunk, and a small one: what is asked may be rubbish, or the model gone.
            while len(waiting) < (OPEN_CHUNKS if worked else 1) and not (waiting and waiting[0].ready):
                taken = chunks.next(size if worked else options.first_look)
                if taken is None:
                    break
                waiting.append(_start(mapper, *taken, loop))
            if not waiting:
                break
            chunk = waiting[0]  # stays among those that are cancelled when waiting for it ends in an error
            outcomes = _wait(chunk, context)
            waiting.popleft()
            entry, files = _committed(step, chunk, outcomes, examples)
            pieces.commit({"start": chunk.start, **entry}, files)
            counts.add(entry)
            if chunk.start >= chunks.tail:
                fresh.add(entry)
            worked = worked or entry["lost"] < entry["in"]
            size = _next_size(size, chunk, time.monotonic() - chunk.begun)
            context.progress(counts.rows_in, len(source), failed=counts.failed, dropped=counts.dropped)
            _watch_failures(step, counts, fresh, examples, context)
            context.check_stop()
    finally:
        for chunk in waiting:
            if isinstance(chunk.outcomes, concurrent.futures.Future):
                chunk.outcomes.cancel()
        pieces.close()
    if counts.lost and counts.lost == counts.rows_in:
        raise too_many_failures(type(step).__name__, counts.lost, counts.rows_in, examples)
    made = _merged(context, pieces.folder, counts, source.schema if step.chooses else None)
    context.note(**step.summary(Rows(context.result, made)))
    return made


def _next_size(size: int, chunk: Chunk, seconds: float) -> int:
    """Chunk sizes follow the pace, so that neither journal nor kill costs much; they change nothing in the result."""
    if chunk.plain:
        in_time = int(len(chunk.rows) * PATIENCE / max(seconds, 1e-6))
        return max(1, min(2 * size if seconds < QUICK else size, in_time, LARGEST))
    if seconds < QUICK:
        return min(2 * size, LARGEST)
    return max(size // 2, SMALLEST) if seconds > LONG else size


class _Chunks:
    """The rows that are not done yet, in tables: first those that no attempt came to, from `tail` on, then the gaps.

    So what a step makes of rows that it meets for the first time shows first.
    """

    def __init__(self, paths: Sequence[Path], done: Sequence[Mapping[str, Any]]) -> None:
        self._paths = paths
        gaps, self.tail = [], 0
        for start, rows in sorted((entry["start"], entry["in"]) for entry in done):
            if start > self.tail:
                gaps.append((self.tail, start))
            self.tail = start + rows
        self._open = deque([(self.tail, sys.maxsize), *gaps])
        self._reader = _Reader(paths)

    def next(self, size: int) -> tuple[int, pa.Table] | None:
        """The next table of at most `size` rows, with the number of its first row; None at the end."""
        while self._open:
            start, end = self._open[0]
            if self._reader.place > start:
                self._reader = _Reader(self._paths)
            self._reader.skip(start - self._reader.place)
            table = self._reader.take(min(size, end - start))
            if table.num_rows == 0 or start + table.num_rows == end:
                self._open.popleft()
            else:
                self._open[0] = (start + table.num_rows, end)
            if table.num_rows:
                return start, table
        return None


class _Reader:
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


def _start(mapper: Mapper, start: int, table: pa.Table, loop: asyncio.AbstractEventLoop) -> Chunk:
    begun = time.monotonic()
    rows = dict_rows(table.drop_columns(["_parents", "_calls"]))
    outcomes = mapper(rows)
    if inspect.isawaitable(outcomes):
        return Chunk(start, table, rows, asyncio.run_coroutine_threadsafe(_awaited(outcomes), loop), begun)
    return Chunk(start, table, rows, outcomes, begun)


async def _awaited(outcomes: Any) -> Sequence[Outcome]:
    return await outcomes  # type: ignore[no-any-return]


def _wait(chunk: Chunk, context: Context) -> Sequence[Outcome]:
    outcomes = chunk.outcomes
    if isinstance(outcomes, concurrent.futures.Future):
        while not concurrent.futures.wait([outcomes], timeout=0.2).done:
            context.check_stop()
        return outcomes.result()
    return outcomes


def _committed(
    step: MapStep, chunk: Chunk, outcomes: Sequence[Outcome], examples: list[Fail]
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The journal entry and the files of one chunk."""
    if len(outcomes) != len(chunk.rows):
        raise RecipeError(
            f"the mapper of `{type(step).__name__}` gave {len(outcomes)} outcomes for {len(chunk.rows)} rows",
            "Return one outcome for each row, in order.",
        )
    dropped: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    buffer = RowBuffer.empty()
    kept: list[int] = []
    lost = 0
    for place, (row, outcome) in enumerate(zip(chunk.rows, outcomes, strict=True)):
        num_failed, num_well = len(failed), len(buffer.ids) + len(dropped)
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
        lost += len(failed) > num_failed and len(buffer.ids) + len(dropped) == num_well
    examples.extend(
        Fail(entry["kind"], entry["message"], entry["raw"]) for entry in failed[: max(0, 3 - len(examples))]
    )
    files: dict[str, bytes] = {}
    if buffer.ids:
        table = _kept_table(chunk, kept, buffer) if kept else buffer.table()
        files[f"{chunk.start:012d}.rows"] = table_bytes(table)
    for kind, rows in (("dropped", dropped), ("failed", failed)):
        if rows:
            files[f"{chunk.start:012d}.{kind}"] = table_bytes(aside_table(kind, rows))
    entry = {"in": len(chunk.rows), "out": len(buffer.ids), "dropped": len(dropped), "failed": len(failed)}
    unanswered = sum(record["kind"] == EXHAUSTED for record in failed)
    return {**entry, "unanswered": unanswered, "lost": lost}, files


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


def _kept_table(chunk: Chunk, kept: list[int], buffer: RowBuffer) -> pa.Table:
    """Rows that passed unchanged keep their lineage; where all rows did, no Python value is touched."""
    source = chunk.table.take(pa.array(kept, pa.int64())) if len(kept) < len(chunk.rows) else chunk.table
    if len(kept) == len(buffer.ids):
        return source
    lineage = {row["_id"]: row for row in dict_rows(source.select(["_id", "_parents", "_calls"]))}
    for place, made in enumerate(buffer.ids):
        known = lineage.get(made)
        if known is not None:
            buffer.parents[place], buffer.calls[place] = known["_parents"] or (), known["_calls"] or ()
    return buffer.table()


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


def _watch_failures(step: MapStep, counts: Counts, fresh: Counts, examples: Sequence[Fail], context: Context) -> None:
    """Stop a step that makes nothing but failures, early and with the first of them.

    `fresh` are the rows that were met for the first time; those of earlier attempts that are tried again had failed.
    """
    options = context.options
    if fresh.rows_in >= options.first_look and fresh.lost == fresh.rows_in:
        raise too_many_failures(type(step).__name__, fresh.lost, fresh.rows_in, examples)
    if counts.rows_in >= 5 * options.first_look and counts.lost > options.max_failed * counts.rows_in:
        raise too_many_failures(type(step).__name__, counts.lost, counts.rows_in, examples)


def too_many_failures(name: str, failed: int, rows_in: int, examples: Sequence[Fail]) -> ModelError:
    """The error that stops a step whose rows fail, with the first examples."""
    shown = []
    for fail in examples:
        raw = "" if fail.raw is None else f": {fail.raw[:200]!r}"
        shown.append(f"    {fail.kind}: {fail.message}{raw}")
    what = remedy([fail.kind for fail in examples]) or "Mend the cause and run again."
    return ModelError(
        f"{failed} of the first {rows_in} rows of `{name}` failed; the first:\n" + "\n".join(shown),
        f"{what} What worked is kept. `Options(max_failed=...)` allows a larger share.",
        kind="rubbish",
    )


def _merged(context: Context, folder: Path, counts: Counts, schema: pa.Schema | None) -> dict[str, Any]:
    _, digest = merge_parts(sorted(folder.glob("*.rows")), context.folder, schema)
    for kind in ("dropped", "failed"):
        merge_aside(kind, sorted(folder.glob(f"*.{kind}")), context.result / f"{kind}.parquet")
    found = {"in": counts.rows_in, "out": counts.out, "dropped": counts.dropped, "failed": counts.failed}
    return {"counts": with_unanswered(found, counts.unanswered), "digest": digest}


def with_unanswered(counts: dict[str, int], unanswered: int) -> dict[str, int]:
    """Counts for a record; where rows got no answer it says so, and the next run asks them again."""
    return {**counts, "unanswered": unanswered} if unanswered else counts
