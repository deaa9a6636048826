"""Writing an index, and what opens it again.

`index.json` says what it is, `rows.arrow` holds ids and kept columns, `vectors.f32` vectors of length 1; an index by
words has the files of `calls.lexical`, an approximate one the graph beside the vectors.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..calls.bm25 import Bm25
from ..calls.embedder import Embedder
from ..calls.lexical import LexicalWriter
from ..calls.nearest import Floats, unit
from ..core.context import Context
from ..core.errors import EXHAUSTED, ModelError, RecipeError, RowFault
from ..core.serial import Writer
from ._embed import check_widths, given_vectors, vectors_of
from ._vectors import check_columns, is_vector_type, is_vectors

if TYPE_CHECKING:
    from .index import Index

FORMAT = 1
BATCH = 2048
VECTORS, ROWS, ABOUT, GRAPH = "vectors.f32", "rows.arrow", "index.json", "graph.usearch"


def write_index(step: Index, context: Context) -> None:
    """The work of `Index`."""
    rows = context.get(step.rows)
    check_columns("Index", rows, [step.column])
    schema = _kept_schema(step, rows.schema)
    left_out: Counter[str] = Counter()
    writer = _writer(step, context)
    written = 0
    with pa.OSFile(str(context.folder / ROWS), "wb") as file, pa.ipc.new_file(file, schema) as table:
        for done, batch in enumerate(rows.arrow_batches(BATCH), 1):
            faults = writer.add(batch)
            for fault in faults.values():
                if fault.kind == EXHAUSTED:
                    raise ModelError(
                        f"a row of the index got no vector: {fault.message}",
                        "Run the same command again: what was answered is kept.",
                        kind="server",
                        retryable=True,
                    )
                left_out[fault.kind] += 1
            good = [place for place in range(batch.num_rows) if place not in faults]
            if good:
                kept = pa.Table.from_batches([batch]).select(schema.names).take(pa.array(good, pa.int64()))
                table.write_table(kept.combine_chunks(), max_chunksize=BATCH)
            written += len(good)
            context.progress(min(done * BATCH, len(rows)), len(rows))
            context.check_stop()
    if not written:
        why = ", ".join(f"{kind} ({count})" for kind, count in left_out.items()) or "there are no rows"
        raise RecipeError(f"Index: no row can be found by `{step.column}`: {why}", "Look at the rows and the column.")
    about = {"format": FORMAT, "rows": written, "column": step.column, **writer.close(), **_by_form(step)}
    (context.folder / ABOUT).write_text(json.dumps(about, indent=1))
    context.note(rows=written, left_out=dict(left_out))
    if left_out:
        context.warn(f"{left_out.total()} rows are not in the index: {', '.join(left_out)}")


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

    def add(self, batch: pa.RecordBatch) -> dict[int, RowFault]:
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

    def add(self, batch: pa.RecordBatch) -> dict[int, RowFault]:
        """Takes in a batch; returns what stands against some of its rows."""
        step, context = self._step, self._context
        rows = pa.Table.from_batches([batch]).select(["_id", step.column]).to_pylist()
        if self._given:
            found = given_vectors(rows, step.column)
        else:
            by = step.by if isinstance(step.by, Embedder) else None
            found = context.wait_for(vectors_of("Index", rows, step.column, context.calls, by, "document"))
        good = np.array([place for place in range(len(rows)) if place not in found.faults], np.int64)
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
