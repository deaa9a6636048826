"""Looking rows up in an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from ..calls.embedder import Embedder
from ..calls.embedding import Vectors
from ..calls.lexical import LexicalIndex
from ..calls.nearest import Found, VectorFile, nearest
from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.errors import RecipeError, RowFault, StoreError
from ..core.outcome import Emit, Outcome, Row
from ..core.serial import read_nodes
from ._asking import failed, refuse_taken, text_of
from ._embed import given_vectors, vectors_of
from ._index import ABOUT, FORMAT, ROWS, VECTORS
from ._vectors import check_columns, is_vectors

if TYPE_CHECKING:
    from .retrieve import Retrieve


class Hit(NamedTuple):
    """A row of the corpus that was found."""

    id: str
    score: float
    row: dict[str, Any]


class Hits(NamedTuple):
    """What was found for one row, best first, and the calls that made its vector; or its fault."""

    hits: list[Hit]
    calls: tuple[str, ...] = ()
    fault: RowFault | None = None


class Searcher:
    """An index that was opened, for the rows of one step.

    `search` blocks: it is called in the step's thread, or in one of its own.
    """

    def __init__(self, step: str, index: Files, rows: Rows, column: str, columns: Sequence[str] | None) -> None:
        self._step, self._column = step, column
        check_columns(step, rows, [column])
        about = _about(index.path)
        self.size = int(about["rows"])
        self._rows = _KeptRows(index.path / ROWS, step, columns)
        self.by = _embedder(about)
        self._given = is_vectors(rows, column)
        self._words = LexicalIndex(index.path, self.size) if about["kind"] == "words" else None
        self._dimensions = int(about.get("dimensions", 0))
        if self._words is not None:
            return
        self._vectors = VectorFile(index.path / VECTORS, self._dimensions)
        self._find: Callable[[Any, int], Found] = lambda queries, k: nearest(queries, self._vectors, k)
        if "searching" in about:
            from ._graph import Graph

            self._find = Graph(index.path, self._vectors, int(about["searching"])).search
        if not self._given and self.by is None:
            raise RecipeError(
                f"{step}: the index holds vectors that were given, and `{column}` holds no vectors",
                "Add them with `Embed`, by the model that made those of the index.",
            )

    @property
    def columns(self) -> list[str]:
        """The columns of what is found."""
        return self._rows.columns

    async def queries(self, rows: Sequence[Row], calls: Any) -> Vectors | list[str | RowFault]:
        """What to look up for each row: vectors, or texts for an index by words."""
        if self._words is None:
            if self._given:
                return given_vectors(rows, self._column)
            return await vectors_of(self._step, rows, self._column, calls, self.by, "query")
        texts: list[str | RowFault] = []
        for row in rows:
            try:
                texts.append(text_of(self._step, row, self._column))
            except RowFault as fault:
                texts.append(fault)
        return texts

    def search(
        self, rows: Sequence[Row], queries: Vectors | list[str | RowFault], k: int, *, apart: bool, least: float | None
    ) -> list[Hits]:
        """The best `k` for each row; with `apart` none of them is the row itself."""
        wanted = k + apart
        if isinstance(queries, Vectors):
            width = queries.array.shape[1]
            if width and width != self._dimensions:
                raise RecipeError(
                    f"{self._step}: the vectors of `{self._column}` have {width} numbers, those of the index "
                    f"{self._dimensions}",
                    "Vectors of one model can be compared, those of two cannot.",
                )
            array = queries.array if width else np.zeros((len(rows), self._dimensions), np.float32)
            found = self._find(array, wanted)
            faults = queries.faults
        else:
            assert self._words is not None
            found = self._words.search([text if isinstance(text, str) else "" for text in queries], wanted)
            faults = {place: fault for place, fault in enumerate(queries) if isinstance(fault, RowFault)}
        taken = self._rows.take(found.places)
        result: list[Hits] = []
        for place, row in enumerate(rows):
            if place in faults:
                result.append(Hits([], fault=faults[place]))
                continue
            hits = [
                Hit(own["_id"], score, {name: value for name, value in own.items() if name != "_id"})
                for own, score in zip(taken[place], found.scores[place].tolist(), strict=False)
                if (least is None or score >= least) and not (apart and own["_id"] == row["_id"])
            ]
            calls = queries.calls(place) if isinstance(queries, Vectors) else ()
            result.append(Hits(hits[:k], calls))
        return result


def retriever(step: Retrieve, context: Context) -> Callable[[Sequence[Row]], list[Outcome]]:
    """The mapper of `Retrieve`: plain, for what takes time in it is arithmetic."""
    rows, calls = context.get(step.rows), context.calls
    refuse_taken("Retrieve", rows, step.into, "Give another name in `into`.")
    searcher = Searcher("Retrieve", context.get(step.index), rows, step.column, step.columns)

    def retrieve(some: Sequence[Row]) -> list[Outcome]:
        queries = context.wait_for(searcher.queries(some, calls))
        found = searcher.search(some, queries, step.k, apart=step.apart, least=step.least)
        return [_outcome(row, hits) for row, hits in zip(some, found, strict=True)]

    def _outcome(row: Row, found: Hits) -> Outcome:
        if found.fault is not None:
            return failed(found.fault)
        shown = [hit_form(hit, bool(searcher.columns)) for hit in found.hits]
        parents = tuple(dict.fromkeys((row["_id"], *(hit.id for hit in found.hits))))
        return Emit(({**row, step.into: shown},), found.calls, parents)

    return retrieve


def hit_form(hit: Hit, with_row: bool) -> dict[str, Any]:
    """What stands of a hit in a column."""
    return {"id": hit.id, "score": hit.score, **({"row": hit.row} if with_row else {})}


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text())
    except (OSError, ValueError):
        raise RecipeError(f"`{folder}` is no index", "Make one with `Index(rows=…, by=…)`.") from None
    if about["format"] != FORMAT:
        raise StoreError(
            f"the index `{folder}` has format {about['format']}, this version of stillhouse reads {FORMAT}",
            "Use the version that made it, or make it anew.",
        )
    return about


def _embedder(about: dict[str, Any]) -> Embedder | None:
    if about["by"] is None:
        return None
    found = read_nodes({**about["nodes"], "by": about["by"]}, "by")["by"]
    if not isinstance(found, Embedder):
        raise StoreError("the index was made by what is no embedder")
    return found


class _KeptRows:
    """Ids and kept columns of the corpus, mapped; read row by row."""

    def __init__(self, path: Path, step: str, columns: Sequence[str] | None) -> None:
        self._file = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._file)
        names = [name for name in reader.schema.names if name != "_id"]
        missing = [name for name in columns or () if name not in names]
        if missing:
            there = ", ".join(f"`{name}`" for name in names) or "none"
            raise RecipeError(f"{step}: the index keeps no column `{missing[0]}`", f"It keeps {there}.")
        self.columns = list(names if columns is None else columns)
        self._batches = [
            reader.get_batch(number).select(["_id", *self.columns]) for number in range(reader.num_record_batches)
        ]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self._batches)])

    def take(self, places: Any) -> list[list[dict[str, Any]]]:
        """The rows at (Q, K) places; those of -1 are left out."""
        distinct = np.unique(places[places >= 0])
        owners = np.searchsorted(self._starts, distinct, side="right") - 1
        known: dict[int, dict[str, Any]] = {}
        for owner in np.unique(owners):
            own = distinct[owners == owner]
            taken = pa.Table.from_batches([self._batches[owner]]).take(pa.array(own - self._starts[owner]))
            known.update(zip(own.tolist(), taken.to_pylist(), strict=True))
        return [[known[place] for place in line if place >= 0] for line in places.tolist()]
