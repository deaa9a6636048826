"""Writing an index, and what opens it again.

`index.json` says what it is, `rows.arrow` holds ids and kept columns, `vectors.f32` vectors of length 1; an index by
words has the files of `calls.lexical`, an approximate one the graph beside the vectors.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from ..calls.bm25 import Bm25
from ..calls.embedder import Embedder
from ..calls.embedding import Vectors
from ..calls.lexical import LexicalWriter
from ..calls.nearest import Floats, unit
from ..core.context import Context
from ..core.errors import EXHAUSTED, ModelError, RecipeError, RowFault
from ..core.outcome import Row
from ..core.serial import Writer
from ._embed import check_widths, given_vectors, vectors_of
from ._vectors import check_columns, is_vector_type, is_vectors

if TYPE_CHECKING:
    from .index import Index

FORMAT = 1
BATCH = 2048
AHEAD = 4  # batches whose vectors are on their way while one is written
Begun: TypeAlias = "asyncio.Future[Vectors] | None"
VECTORS, ROWS, ABOUT, GRAPH = "vectors.f32", "rows.arrow", "index.json", "graph.usearch"


def write_index(step: Index, context: Context) -> None:
    """The work of `Index`."""
    rows = context.get(step.rows)
    check_columns("Index", rows, [step.column])
    schema = _kept_schema(step, rows.schema)
    left_out: Counter[str] = Counter()
    writer = _writer(step, context)
    written = 0
    begun: deque[tuple[pa.RecordBatch, Begun]] = deque()
    with pa.OSFile(str(context.folder / ROWS), "wb") as file, pa.ipc.new_file(file, schema) as table:
        try:
            batches: Iterator[pa.RecordBatch | None] = chain(rows.arrow_batches(BATCH), [None] * AHEAD)
            for done, batch in enumerate(batches):
                if batch is not None:
                    begun.append((batch, writer.begin(batch)))
                if begun and (batch is None or len(begun) > AHEAD):
                    written += _settle(*begun.popleft(), writer, table, schema.names, left_out)
                context.progress(min(done * BATCH, len(rows)), len(rows))
                context.check_stop()
        finally:
            writer.give_up([own for _, own in begun])
    if not written:
        why = ", ".join(f"{kind} ({count})" for kind, count in left_out.items()) or "there are no rows"
        raise RecipeError(f"Index: no row can be found by `{step.column}`: {why}", "Look at the rows and the column.")
    about = {"format": FORMAT, "rows": written, "column": step.column, **writer.close(), **_by_form(step)}
    (context.folder / ABOUT).write_text(json.dumps(about, indent=1))
    context.note(rows=written, left_out=dict(left_out))
    if left_out:
        context.warn(f"{left_out.total()} rows are not in the index: {', '.join(left_out)}")


def _settle(
    batch: pa.RecordBatch, begun: Begun, writer: _Words | _Meanings, table: Any, names: list[str], out: Counter[str]
) -> int:
    """Write one batch; returns how many of its rows are in the index, and counts the others by what they lack."""
    faults = writer.finish(batch, begun)
    for fault in faults.values():
        if fault.kind == EXHAUSTED:
            raise ModelError(
                f"a row of the index got no vector: {fault.message}",
                "Run the same command again: what was answered is kept.",
                kind="server",
                retryable=True,
            )
        out[fault.kind] += 1
    good = [place for place in range(batch.num_rows) if place not in faults]
    if good:
        kept = pa.Table.from_batches([batch]).select(names).take(pa.array(good, pa.int64()))
        table.write_table(kept.combine_chunks(), max_chunksize=BATCH)
    return len(good)


def _kept_schema(step: Index, schema: pa.Schema) -> pa.Schema:
    own = [field for field in schema if not field.name.startswith("_")]
    if step.keep is None:
        kept = [field for field in own if not is_vector_type(field.type)]
    else:
        known = {field.name: field for field in own}
        missing = [name for name in step.keep if name not in known]
        if missing:
            names = ", ".join(f"`{name}`" for name in known)
            raise RecipeError(f"Index: `keep` names `{missing[0]}`, which is no column", f"The columns are {names}.")
        kept = [known[name] for name in step.keep]
    return pa.schema([pa.field("_id", pa.string()), *(pa.field(field.name, field.type) for field in kept)])


def _by_form(step: Index) -> dict[str, Any]:
    """Who embeds queries, as data: where a search runs the step may be known by its key alone."""
    if not isinstance(step.by, Embedder):
        return {"by": None}
    writer = Writer()
    return {"by": writer.fields(step.by), "nodes": writer.nodes}


def _writer(step: Index, context: Context) -> _Words | _Meanings:
    if isinstance(step.by, Bm25):
        return _Words(step, context, step.by)
    return _Meanings(step, context)


class _Words:
    def __init__(self, step: Index, context: Context, by: Bm25) -> None:
        self._column = step.column
        self._writer = LexicalWriter(context.folder, by)

    def begin(self, batch: pa.RecordBatch) -> Begun:
        """Nothing has to be asked for."""
        return None

    def give_up(self, begun: Sequence[Begun]) -> None:
        """Nothing is on its way."""

    def finish(self, batch: pa.RecordBatch, begun: Begun) -> dict[int, RowFault]:
        """Takes in a batch; returns what stands against some of its rows."""
        faults: dict[int, RowFault] = {}
        texts = []
        for place, text in enumerate(batch.column(self._column).to_pylist()):
            if isinstance(text, str) and text.strip():
                texts.append(text)
            else:
                faults[place] = RowFault("empty", "no text")
        self._writer.add(texts)
        return faults

    def close(self) -> dict[str, Any]:
        """Ends the files; returns what `index.json` says of them."""
        self._writer.close()
        return {"kind": "words"}


class _Meanings:
    def __init__(self, step: Index, context: Context) -> None:
        self._step, self._context = step, context
        self._given = is_vectors(context.get(step.rows), step.column)
        if self._given != (step.by is None):
            raise RecipeError(
                f"Index: the column `{step.column}` holds {'vectors' if self._given else 'no vectors'}",
                "Vectors are taken as they are, with `by=None`." if self._given
                else "Say by whom its texts become vectors: `by=Embedder(model=…)`, or `by=Bm25()` for words.",
            )  # fmt: skip
        self._file = open(context.folder / VECTORS, "wb")  # noqa: SIM115 - written until `close`
        self._first: Floats | None = None

    def begin(self, batch: pa.RecordBatch) -> Begun:
        """Asks for the vectors of a batch; they come while others are written."""
        if self._given:
            return None
        by = self._step.by if isinstance(self._step.by, Embedder) else None
        work = vectors_of("Index", self._rows(batch), self._step.column, self._context.calls, by, "document")

        async def started() -> Begun:
            return asyncio.ensure_future(work)

        return self._context.wait_for(started())

    def give_up(self, begun: Sequence[Begun]) -> None:
        """Leaves what is on its way; what comes home is kept."""

        async def left() -> None:
            tasks = [task for task in begun if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if any(task is not None for task in begun):
            self._context.wait_for(left())

    def _rows(self, batch: pa.RecordBatch) -> list[Row]:
        found: list[Row] = pa.Table.from_batches([batch]).select(["_id", self._step.column]).to_pylist()
        return found

    def finish(self, batch: pa.RecordBatch, begun: Begun) -> dict[int, RowFault]:
        """Takes in a batch; returns what stands against some of its rows."""
        step, context = self._step, self._context

        async def done(task: asyncio.Future[Vectors]) -> Vectors:
            return await task

        if begun is None:
            found = given_vectors(self._rows(batch), step.column)
        else:
            found = context.wait_for(done(begun))
        good = np.array([place for place in range(batch.num_rows) if place not in found.faults], np.int64)
        vectors = unit(found.array[good])
        if self._first is not None:
            check_widths("Index", self._first, vectors, step.column, step.column)
        if len(vectors) and self._first is None:
            self._first = vectors[:1]
        vectors.astype("<f4", copy=False).tofile(self._file)
        return found.faults

    def close(self) -> dict[str, Any]:
        """Ends the files; returns what `index.json` says of them."""
        self._file.close()
        dimensions = 0 if self._first is None else int(self._first.shape[1])
        about: dict[str, Any] = {"kind": "vectors", "dimensions": dimensions}
        graph = self._step.approximate
        if graph is not None and dimensions:
            from ._graph import write_graph

            write_graph(self._context, self._context.folder, dimensions, graph)
            about["searching"] = graph.searching
        return about
