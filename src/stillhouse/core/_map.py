"""Running a map step: chunks in flight without a barrier, committed in order, taken up again after a kill."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ._tables import (
    RowBuffer,
    arrow_batches,
    aside_table,
    content_bytes,
    content_of,
    dict_rows,
    merge_aside,
    merge_parts,
    row_id,
    row_text,
    table_bytes,
)
from .context import Context
from .errors import ModelError, RecipeError, RowFault
from .garbage import rare_collections
from .journal import Pieces
from .outcome import KEEP, Drop, Emit, Fail, Outcome, Row
from .step import Mapper, MapStep

OPEN_CHUNKS = 8
SMALLEST, LARGEST = 64, 4096  # rows of a chunk
QUICK, LONG = 0.25, 4.0  # seconds: a chunk that takes less makes the next larger, one that takes more makes it smaller


@dataclass(slots=True)
class Counts:
    """Rows in, out, dropped and failed."""

    rows_in: int = 0
    out: int = 0
    dropped: int = 0
    failed: int = 0

    def add(self, entry: dict[str, Any]) -> None:
        self.rows_in += entry["in"]
        self.out += entry["out"]
        self.dropped += entry["dropped"]
        self.failed += entry["failed"]


@dataclass(slots=True)
class Chunk:
    """A piece of the input, with the outcomes on their way."""

    index: int
    table: pa.Table
    rows: list[Row]
    outcomes: Sequence[Outcome] | concurrent.futures.Future[Sequence[Outcome]]
    started: float

    @property
    def ready(self) -> bool:
        return not isinstance(self.outcomes, concurrent.futures.Future) or self.outcomes.done()


@rare_collections()
def run_map(step: MapStep, context: Context, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """Map all rows; returns counts and digest for the record. The rows stand under the result's `data/`."""
    source = context.get(step.rows)
    pieces = Pieces(context.scratch / "chunks")
    done = pieces.restore()
    counts = Counts()
    for entry in done:
        counts.add(entry)
    chunks = _Chunks(source.paths, context.options.chunk if done else context.options.first_look, counts.rows_in)
    examples: list[Fail] = []
    mapper = step.mapper(context)
    waiting: deque[Chunk] = deque()
    index, size = len(done), context.options.chunk
    try:
        while True:
            # A plain mapper has its outcomes at once: they are committed before the next chunk is begun.
            while len(waiting) < OPEN_CHUNKS and not (waiting and waiting[0].ready):
                table = chunks.next()
                if table is None:
                    break
                waiting.append(_start(mapper, index, table, loop))
                index += 1
                chunks.size = size
            if not waiting:
                break
            chunk = waiting[0]  # stays among those that are cancelled when waiting for it ends in an error
            outcomes = _wait(chunk, context)
            waiting.popleft()
            entry, files = _committed(step, chunk, outcomes, examples)
            pieces.commit({**entry, "chunk": chunk.index}, files)
            counts.add(entry)
            size = _next_size(size, time.monotonic() - chunk.started)
            context.progress(counts.rows_in, len(source), failed=counts.failed, dropped=counts.dropped)
            _watch_failures(step, counts, examples, context)
    finally:
        for chunk in waiting:
            if isinstance(chunk.outcomes, concurrent.futures.Future):
                chunk.outcomes.cancel()
        pieces.close()
    return _merged(context, pieces.folder, counts)


def _next_size(size: int, seconds: float) -> int:
    """Chunk sizes follow the pace, so that neither journal nor kill costs much; they change nothing in the result."""
    if seconds < QUICK:
        return min(2 * size, LARGEST)
    return max(size // 2, SMALLEST) if seconds > LONG else size


class _Chunks:
    """The input in tables of `size` rows; the size may be changed between two of them."""

    def __init__(self, paths: Sequence[Path], size: int, skip: int) -> None:
        self.size = size
        self._skip = skip
        self._batches = arrow_batches(paths, 8192)
        self._rest: list[pa.RecordBatch] = []
        self._held = 0

    def next(self) -> pa.Table | None:
        """The next table; None at the end."""
        while self._held < self.size and (batch := next(self._batches, None)) is not None:
            if self._skip >= batch.num_rows:
                self._skip -= batch.num_rows
                continue
            batch = batch.slice(self._skip)
            self._skip = 0
            self._rest.append(batch)
            self._held += batch.num_rows
        if not self._held:
            return None
        whole = pa.Table.from_batches(self._rest)
        table, rest = whole.slice(0, self.size), whole.slice(self.size)
        self._rest, self._held = rest.to_batches(), rest.num_rows
        return table


def _start(mapper: Mapper, index: int, table: pa.Table, loop: asyncio.AbstractEventLoop) -> Chunk:
    started = time.monotonic()
    rows = dict_rows(table.drop_columns(["_parents", "_calls"]))
    outcomes = mapper(rows)
    if inspect.isawaitable(outcomes):
        return Chunk(index, table, rows, asyncio.run_coroutine_threadsafe(_awaited(outcomes), loop), started)
    return Chunk(index, table, rows, outcomes, started)


async def _awaited(outcomes: Any) -> Sequence[Outcome]:
    return await outcomes  # type: ignore[no-any-return]


def _wait(chunk: Chunk, context: Context) -> Sequence[Outcome]:
    outcomes = chunk.outcomes
    if isinstance(outcomes, concurrent.futures.Future):
        while not concurrent.futures.wait([outcomes], timeout=0.2).done:
            context.check_stop()
        outcomes = outcomes.result()
    context.check_stop()
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
    for place, (row, outcome) in enumerate(zip(chunk.rows, outcomes, strict=True)):
        if isinstance(outcome, Emit):
            _emit(buffer, row, outcome, failed)
        elif outcome is KEEP:
            kept.append(place)
            buffer.add(row["_id"], (), (), row)
        elif isinstance(outcome, Drop):
            record = {"_id": row["_id"], "reason": outcome.reason, "detail": outcome.detail, "row": row_text(row)}
            dropped.append(record)
        elif isinstance(outcome, Fail):
            failed.append(_failed(row, outcome))
        else:
            raise RecipeError(
                f"the mapper of `{type(step).__name__}` gave {outcome!r:.80} for a row",
                "An outcome is KEEP, Drop(...), Fail(...) or Emit(...).",
            )
    examples.extend(
        Fail(entry["kind"], entry["message"], entry["raw"]) for entry in failed[: max(0, 3 - len(examples))]
    )
    files: dict[str, bytes] = {}
    if buffer.ids:
        table = _kept_table(chunk, kept, buffer) if kept else buffer.table()
        files[f"{chunk.index:06d}.rows"] = table_bytes(table)
    for kind, rows in (("dropped", dropped), ("failed", failed)):
        if rows:
            files[f"{chunk.index:06d}.{kind}"] = table_bytes(aside_table(kind, rows))
    entry = {"in": len(chunk.rows), "out": len(buffer.ids), "dropped": len(dropped), "failed": len(failed)}
    return entry, files


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


def _emit(buffer: RowBuffer, row: Row, outcome: Emit, failed: list[dict[str, Any]]) -> None:
    parents = (row["_id"],) if outcome.parents is None else tuple(outcome.parents)
    if len(outcome.rows) == 1:
        _emit_one(buffer, row, outcome.rows[0], parents, outcome.calls, 0, failed)
        return
    seen: dict[bytes, int] = {}
    for content in outcome.rows:
        try:
            data = content_bytes(content_of(content))
        except RowFault:
            data = b""
        occurrence = seen.get(data, 0)
        seen[data] = occurrence + 1
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


def _watch_failures(step: MapStep, counts: Counts, examples: Sequence[Fail], context: Context) -> None:
    """Stop a step that makes nothing but failures, early and with the first of them."""
    options = context.options
    all_failed = counts.rows_in >= options.first_look and counts.failed >= counts.rows_in
    too_many = counts.rows_in >= 5 * options.first_look and counts.failed > options.max_failed * counts.rows_in
    if not (all_failed or too_many):
        return
    raise too_many_failures(type(step).__name__, counts.failed, counts.rows_in, examples)


def too_many_failures(name: str, failed: int, rows_in: int, examples: Sequence[Fail]) -> ModelError:
    """The error that stops a step whose rows fail, with the first examples."""
    shown = []
    for fail in examples:
        raw = "" if fail.raw is None else f": {fail.raw[:200]!r}"
        shown.append(f"    {fail.kind}: {fail.message}{raw}")
    return ModelError(
        f"{failed} of the first {rows_in} rows of `{name}` failed; the first:\n" + "\n".join(shown),
        "Mend the cause and run again; what worked is kept. `Options(max_failed=...)` allows a larger share.",
        kind="rubbish",
    )


def _merged(context: Context, folder: Path, counts: Counts) -> dict[str, Any]:
    _, digest = merge_parts(sorted(folder.glob("*.rows")), context.folder)
    for kind in ("dropped", "failed"):
        merge_aside(kind, sorted(folder.glob(f"*.{kind}")), context.result / f"{kind}.parquet")
    found = {"in": counts.rows_in, "out": counts.out, "dropped": counts.dropped, "failed": counts.failed}
    return {"counts": found, "digest": digest}
