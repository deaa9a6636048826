"""Running a map step: chunks in flight without a barrier, committed as they are done, taken up again after a kill.

A chunk is known by the number of its first row. What an earlier attempt committed stays, except chunks with rows that
failed: the cause may be mended since.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ._chunks import Chunk, Counts, Here, Source, Table, Workers
from ._feed import Feed, still_true
from ._occurrence import numbering_of, with_numbers
from ._tables import merge_aside, merge_parts, moved, read_part, write_aside
from .artifact import Rows
from .context import Context
from .errors import ModelError, remedy
from .garbage import rare_collections
from .journal import Pieces
from .occurrence import asks_apart
from .outcome import Fail
from .step import MapStep

OPEN_CHUNKS = 8
MOST_CHUNKS = 128  # small ones, of which a few rows are still waited for
SMALLEST, LARGEST = 64, 4096  # rows of a chunk
HANDED = 16  # rows of a chunk where others wait for them: more, and the slowest of each leaves slots of the next idle
FEW = 2  # rows of a chunk where others wait for them, or until a first row has worked
SHARE = 16  # such a chunk has this part of the rows that were taken before it, or are left
QUICK, LONG = 0.25, 4.0  # seconds: a chunk that takes less makes the next larger, one that takes more makes it smaller
PATIENCE = 1.0  # seconds that a plain mapper may work on a chunk: it cannot be stopped meanwhile
LOOK_SECONDS = 0.05  # how often one looks for more rows of a step that still runs

Entry = Mapping[str, Any]
Number = Callable[[int, pa.Table], pa.Table]
"""Rows of which the first has this number, with their numbers among those that ask the same."""


class Whole(NamedTuple):
    """A table, and the place in it at which a part of it begins."""

    rows: Rows
    start: int


def numbered(step: MapStep, rows: Rows, whole: Whole | None = None) -> Number:
    """Numbers rows of a finished table by their order in it."""
    if not asks_apart(step):
        return lambda start, table: table
    found = numbering_of(step, rows if whole is None else whole.rows)
    before = 0 if whole is None else whole.start
    return lambda start, table: with_numbers(table, found.of(before + start, table.num_rows))


@rare_collections()
def run_map(
    step: MapStep,
    context: Context,
    loop: asyncio.AbstractEventLoop,
    *,
    workers: Workers | None = None,
    feed: Feed | None = None,
    worked: bool = False,
    part: bool = False,
    whole: Whole | None = None,
) -> dict[str, Any]:
    """Map all rows; returns counts and digest for the record. The rows stand under the result's `data/`.

    `workers` map in place of this process; `feed` is told of each piece that is done; `worked`: the mapper has shown
    in this run already that it works; `part`: of a table, of which others may work where all of this failed; `whole`:
    the table that the rows are a part of, where it is known.
    """
    source = context.get(step.rows)
    number = numbered(step, source, whole)
    pieces = Pieces(context.scratch / "chunks")
    done = [entry for entry in pieces.restore() if "start" in entry and not entry["failed"]]
    if any("of" in entry for entry in done):  # mapped before the rows were all there
        true = still_true(done, source, number)
        if feed is not None:
            feed.broken = feed.broken or len(true) < len(done)
        done = true
    pieces.keep(done)
    run = MapRun(step, context, pieces, workers or Here(step, context, loop), feed=feed, worked=worked, number=number)
    if not done:
        run.workers.prepare()
    run.all(Table(source.paths, len(source), done), done)
    counts = run.counts
    if counts.lost and counts.lost == counts.rows_in and not part:
        raise too_many_failures(type(step).__name__, counts.lost, counts.rows_in, run.examples)
    made = merged(context, pieces.folder, run.entries, counts, source.schema if step.chooses else None)
    context.note(**step.summary(Rows(context.result, made)))
    return made


class MapRun:
    """The rows of one source on their way through one step."""

    def __init__(
        self,
        step: MapStep,
        context: Context,
        pieces: Pieces,
        workers: Workers,
        *,
        feed: Feed | None = None,
        worked: bool = False,
        number: Number = lambda start, table: table,
        mark: Callable[[pa.Table], Entry] = lambda table: {},
        watch: Callable[[MapRun], None] | None = None,
    ) -> None:
        self.step, self.context, self.pieces, self.workers, self.feed = step, context, pieces, workers, feed
        self.counts, self.fresh = Counts(), Counts()
        self.entries: list[Entry] = []
        self.examples: list[Fail] = []
        self._worked, self._number, self._mark = worked, number, mark
        self._watch = watch or watch_failures
        self._marks: dict[int, Entry] = {}
        # Where another step waits for the rows they come a few at a time, unless they come fast.
        self._size = min(context.options.chunk, HANDED) if self._wanted else context.options.chunk
        self._waiting: list[Chunk] = []
        self._taken = self._looked = 0
        self._changed = threading.Event()

    def all(self, source: Source, done: Iterable[Entry] = ()) -> None:
        """Map what is left of the source after the pieces that are `done`."""
        for entry in done:
            self._count(entry)
        try:
            while True:
                self._begin(source)
                if self._waiting:
                    self._look(source)
                elif source.ended:
                    break
                else:
                    source.wait(LOOK_SECONDS)
                self.context.check_stop()
        finally:
            for chunk in self._waiting:
                if chunk.future is not None:
                    chunk.future.cancel()
            self.pieces.close()
            self.workers.close()

    def _begin(self, source: Source) -> None:
        """Keep chunks in flight.

        A plain mapper has its outcomes at once: they are committed before the next chunk is begun. Until a first row
        has worked few rows are on their way: what is asked may be rubbish, or the model gone.
        """
        while self._has_room(source) and not any(chunk.ready for chunk in self._waiting):
            taken = source.next(self._next_rows(source))
            if taken is None:
                break
            start, table = taken[0], self._number(*taken)
            self._taken += table.num_rows
            self._marks[start] = self._mark(table)
            self._waiting.append(self.workers.start(start, table, self._changed.set))

    def _next_rows(self, source: Source) -> int:
        """How many rows the next chunk has.

        A row goes on when the slowest of its chunk is there, and that holds others up where a run begins and where it
        ends: there chunks are small, so that the next step has its first rows soon and its last ones not late.
        """
        if not self._worked:
            left = self._left_to_look_at
            return min(FEW, left) if left > 0 else FEW
        if not self._wanted:
            return self._size
        total = source.total
        near = self._taken if total is None else min(self._taken, total - self._taken)
        return min(self._size, max(FEW, near // SHARE))

    def _has_room(self, source: Source) -> bool:
        waiting = self._waiting
        if not self._worked:
            return not waiting or self._left_to_look_at > 0
        if not (self._wanted or source.flows):
            return len(waiting) < max(OPEN_CHUNKS, self.workers.width)
        # Where another step waits for the rows, or they come from one: the next when the last are all on their way.
        # More at once would come home later, as those who answer take their questions in turn; fewer would leave them
        # idle.
        unsent = [chunk.num_rows for chunk in waiting if not chunk.sent]
        return len(waiting) < MOST_CHUNKS and (
            len(unsent) < max(2, self.workers.width) or sum(unsent) < min(2 * self._size, HANDED)
        )

    @property
    def _left_to_look_at(self) -> int:
        """Rows that may still be begun before one has worked."""
        return self.context.options.first_look - self._looked - sum(chunk.num_rows for chunk in self._waiting)

    @property
    def _wanted(self) -> bool:
        return self.feed is not None and self.feed.wanted

    def _look(self, source: Source) -> None:
        """Commit a chunk that is done; while rows may still come, look for them now and then."""
        self._changed.clear()
        chunk = next((chunk for chunk in self._waiting if chunk.ready), None)
        if chunk is None:
            self._changed.wait(0.2 if source.ended else LOOK_SECONDS)
            return
        made = chunk.made()  # it stays among those that are cancelled when this ends in an error
        self._waiting.remove(chunk)
        entry = {**made.entry, **self._marks.pop(chunk.start)}
        self.pieces.commit(entry, made.files)
        self.examples = [*self.examples, *made.examples][:3]
        self._count(entry)
        if chunk.start >= source.tail:
            self.fresh.add(entry)
        self._looked += entry["in"]
        self._worked = self._worked or entry["lost"] < entry["in"]
        self._size = _next_size(self._size, chunk, time.monotonic() - chunk.begun)
        counts = self.counts
        self.context.progress(counts.rows_in, source.total, failed=counts.failed, dropped=counts.dropped)
        self._watch(self)

    def _count(self, entry: Entry) -> None:
        self.counts.add(entry)
        self.entries.append(entry)
        if self.feed is not None:
            self.feed.add(entry, self.pieces.folder)


def _next_size(size: int, chunk: Chunk, seconds: float) -> int:
    """Chunk sizes follow the pace, so that neither journal nor kill costs much; they change nothing in the result."""
    if chunk.plain:
        in_time = int(chunk.num_rows * PATIENCE / max(seconds, 1e-6))
        return max(1, min(2 * size if seconds < QUICK else size, in_time, LARGEST))
    if seconds < QUICK:
        return min(2 * size, LARGEST) if chunk.num_rows >= size else size
    return max(size // 2, min(size, SMALLEST)) if seconds > LONG else size


def watch_failures(run: MapRun) -> None:
    """Stop a step that makes nothing but failures, early and with the first of them.

    `fresh` are the rows that were met for the first time; those of earlier attempts that are tried again had failed.
    """
    options, counts, fresh, name = run.context.options, run.counts, run.fresh, type(run.step).__name__
    if fresh.rows_in >= options.first_look and fresh.lost == fresh.rows_in:
        raise too_many_failures(name, fresh.lost, fresh.rows_in, run.examples)
    if counts.rows_in >= 5 * options.first_look and counts.lost > options.max_failed * counts.rows_in:
        raise too_many_failures(name, counts.lost, counts.rows_in, run.examples)


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


def merged(
    context: Context, folder: Path, entries: Sequence[Entry], counts: Counts, schema: pa.Schema | None
) -> dict[str, Any]:
    """Write the pieces of a step as its result; `schema` is that of a table of no rows, where it is known."""
    _, digest = merge_parts(sorted(folder.glob("*.rows")), context.folder, schema)
    merge_aside("dropped", sorted(folder.glob("*.dropped")), context.result / "dropped.parquet")
    write_aside("failed", _failed(folder, entries), context.result / "failed.parquet")
    found = {"in": counts.rows_in, "out": counts.out, "dropped": counts.dropped, "failed": counts.failed}
    return {"counts": with_unanswered(found, counts.unanswered), "digest": digest}


def _failed(folder: Path, entries: Sequence[Entry]) -> Iterable[pa.Table]:
    rows_out = 0
    for entry in sorted(entries, key=lambda entry: entry["start"]):
        if entry["failed"]:
            yield moved(read_part(folder / f"{entry['start']:012d}.failed"), entry["start"], rows_out)
        rows_out += entry["out"]


def with_unanswered(counts: dict[str, int], unanswered: int) -> dict[str, int]:
    """Counts for a record; where rows got no answer it says so, and the next run asks them again."""
    return {**counts, "unanswered": unanswered} if unanswered else counts
