"""The graph of an approximate index, by usearch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calls.nearest import Floats, Found, VectorFile, settled, unit
from ..core.context import Context
from ..core.errors import RecipeError
from ._index import GRAPH, VECTORS

if TYPE_CHECKING:
    from .index import Hnsw

_SPARE = 16  # candidates compared exactly besides those asked for


def _usearch() -> Any:
    try:
        from usearch.index import Index
    except ImportError:
        raise RecipeError(
            "an approximate index needs usearch, which is not installed",
            'Install it with `pip install "stillhouse[search]"`, or leave `approximate` out.',
        ) from None
    return Index


def write_graph(context: Context, folder: Path, dimensions: int, by: Hnsw) -> None:
    """Makes the graph of the vectors in `folder`, in one thread, so that it comes out the same."""
    graph = _usearch()(
        ndim=dimensions, metric="ip", dtype="f32",
        connectivity=by.neighbours, expansion_add=by.building, expansion_search=by.searching,
    )  # fmt: skip
    vectors = VectorFile(folder / VECTORS, dimensions)
    for start, block in vectors.blocks(4096):
        graph.add(np.arange(start, start + len(block), dtype=np.uint64), block, threads=1)
        context.progress(start + len(block), len(vectors), unit="rows in the graph")
        context.check_stop()
    graph.save(str(folder / GRAPH))


class Graph:
    """A graph that was written; mapped, not loaded."""

    def __init__(self, folder: Path, vectors: VectorFile, searching: int) -> None:
        self._graph = _usearch().restore(str(folder / GRAPH), view=True)
        self._graph.expansion_search = searching
        self._vectors = vectors

    def search(self, queries: Floats, k: int) -> Found:
        """The best `k` of what the graph proposes, compared exactly; a place of -1 is none."""
        number = min(k + _SPARE, len(self._vectors))
        queries = unit(queries)
        places = np.full((len(queries), number), -1, np.int64)
        if len(queries):
            matches = self._graph.search(queries, number, threads=1)
            keys = np.asarray(matches.keys, np.int64).reshape(len(queries), -1)
            counts = np.atleast_1d(np.asarray(getattr(matches, "counts", keys.shape[1])))
            inside = np.arange(keys.shape[1])[None] < np.broadcast_to(counts, (len(queries),))[:, None]
            places[:, : keys.shape[1]] = np.where(inside, keys, -1)
        return settled(queries, self._vectors, places, k)
