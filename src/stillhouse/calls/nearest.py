"""The nearest vectors of many, exactly: products of blocks, the best kept, the last word in float64.

Axes: `Q` queries, `N` vectors in the file, `B` of them in a block, `K` candidates of a query, `D` numbers of a vector.

Memory is that of a block and of the candidates, however many vectors there are. Blocks are multiplied in float32; some
more than `k` candidates are kept and their cosines computed anew in float64, so that neither the order of the blocks
nor the number of queries at once shows in the result. Scores are rounded to seven digits, as far as float32 vectors
carry; of equal ones the vector that stands first is first.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stillhouse.core.errors import StoreError

Floats: TypeAlias = NDArray[np.float32]
Doubles: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

DIGITS = 7
_SPARE = 16  # candidates kept besides those asked for
_PRODUCTS = 1 << 22  # numbers of one product of blocks
_BLOCK_BYTES = 1 << 24
_QUERIES = 1024  # searched in one pass


class Found(NamedTuple):
    """The nearest of each query, best first: places in the file and scores, both (Q, K)."""

    places: Places
    scores: Doubles


class VectorFile:
    """Vectors of length 1 as raw little-endian float32, one after the other."""

    def __init__(self, path: Path, dimensions: int) -> None:
        self.path = path
        self.dimensions = dimensions
        size = path.stat().st_size
        if dimensions < 1 or size % (4 * dimensions):
            raise StoreError(f"`{path}` has {size} bytes, which are no vectors of {dimensions} numbers")
        self._count = size // (4 * dimensions)

    def __len__(self) -> int:
        return self._count

    def blocks(self, most: int) -> Iterator[tuple[int, Floats]]:
        """Runs of at most `most` vectors with the place of their first; each is overwritten by the next."""
        most = max(1, min(most, _BLOCK_BYTES // (4 * self.dimensions) or 1, self._count))
        # Read, not mapped: pages of a map would count as this process's memory, up to the whole file.
        buffer = np.empty((most, self.dimensions), "<f4")
        with FileIO(self.path) as file:
            for start in range(0, self._count, most):
                block = buffer[: min(most, self._count - start)]
                _fill(file, block)
                yield start, block

    def take(self, places: Places) -> Floats:
        """The vectors at `places`, of any shape."""
        taken = np.memmap(self.path, "<f4", "r", shape=(self._count, self.dimensions))[places]
        return np.asarray(taken)


def nearest(queries_QD: Floats, vectors: VectorFile, k: int) -> Found:
    """The `k` vectors of the greatest cosine with each query (all, where there are fewer). Queries of any length."""
    queries_QD = unit(queries_QD)
    parts = [
        _best(queries_QD[start : start + _QUERIES], vectors, k) for start in range(0, max(1, len(queries_QD)), _QUERIES)
    ]
    return Found(np.concatenate([part.places for part in parts]), np.concatenate([part.scores for part in parts]))


def settled(queries_QD: Floats, vectors: VectorFile, places_QK: Places, k: int) -> Found:
    """The best `k` of given candidates by their cosines in float64; a place of -1 is none."""
    scores_QK = np.full(places_QK.shape, -np.inf)
    step = max(1, _PRODUCTS // max(1, places_QK.shape[1] * vectors.dimensions))
    for start in range(0, len(places_QK), step):
        part = slice(start, start + step)
        taken_QKD = vectors.take(np.maximum(places_QK[part], 0)).astype(np.float64)
        scores_QK[part] = cosines(taken_QKD, queries_QD[part].astype(np.float64)[:, None])
    scores_QK = np.where(places_QK < 0, -np.inf, np.round(scores_QK, DIGITS) + 0.0)
    order = np.lexsort((places_QK, -scores_QK), axis=1)[:, :k]
    return Found(np.take_along_axis(places_QK, order, 1), np.take_along_axis(scores_QK, order, 1))


def cosines(left: Doubles, right: Doubles) -> Doubles:
    """Cosines along the last axis; 0 where one is a vector of zeros. Lengths of 1 in float32 are not quite 1."""
    products = np.einsum("...d,...d->...", left, right)
    squares = np.einsum("...d,...d->...", left, left) * np.einsum("...d,...d->...", right, right)
    return np.asarray(np.clip(products / np.sqrt(np.where(squares > 0, squares, 1.0)), -1.0, 1.0))


def unit(rows: NDArray[np.floating[Any]]) -> Floats:
    """Rows at length 1; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows, dtype=np.float64))
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0)[:, None], np.float32)


def _best(queries_QD: Floats, vectors: VectorFile, k: int) -> Found:
    keep = min(k + max(_SPARE, k // 4), len(vectors))
    best = _Best(len(queries_QD), keep)
    buffer = np.empty(0, np.float32)
    for start, block_BD in vectors.blocks(max(1024, _PRODUCTS // max(1, len(queries_QD)))):
        if buffer.size < len(queries_QD) * len(block_BD):
            buffer = np.empty(len(queries_QD) * len(block_BD), np.float32)
        scores_QB = buffer[: len(queries_QD) * len(block_BD)].reshape(len(queries_QD), len(block_BD))
        np.matmul(queries_QD, block_BD.T, out=scores_QB)
        best.add(start, scores_QB)
    return settled(queries_QD, vectors, best.places_QK, k)


class _Best:
    """The best candidates of each query so far; of equal ones those that came first."""

    def __init__(self, num_queries: int, keep: int) -> None:
        self.places_QK = np.full((num_queries, keep), -1, np.int64)
        self._scores_QK = np.full((num_queries, keep), -np.inf, np.float32)
        self._keep = keep

    def add(self, start: int, scores_QB: Floats) -> None:
        """Take in a block whose first vector stands at `start`."""
        bound_Q = self._scores_QK.min(axis=1, initial=np.inf)
        if np.isneginf(bound_Q).any() and scores_QB.shape[1] > self._keep:
            # Until there are enough candidates everything would pass: the block's own best suffice.
            least = scores_QB.shape[1] - self._keep
            own_Q = np.partition(scores_QB, least, axis=1)[:, least]
            bound_Q = np.maximum(bound_Q, np.nextafter(own_Q, np.float32(-np.inf)))
        passing = np.flatnonzero(scores_QB > bound_Q[:, None])  # on two axes it takes several times as long
        if not len(passing):
            return
        rows, columns = np.divmod(passing, scores_QB.shape[1])
        # Candidates of before and of now, by query, then score, then place; the first of each query stay.
        touched = np.unique(rows)
        own = np.repeat(touched, self._keep)
        all_rows = np.concatenate([own, rows])
        all_scores = np.concatenate([self._scores_QK[touched].ravel(), scores_QB[rows, columns]])
        all_places = np.concatenate([self.places_QK[touched].ravel(), columns + start])
        order = np.lexsort((all_places, -all_scores, all_rows))
        sorted_rows = all_rows[order]
        begins = np.searchsorted(sorted_rows, touched)
        chosen = order[begins[:, None] + np.arange(self._keep)]
        self._scores_QK[touched] = all_scores[chosen]
        self.places_QK[touched] = all_places[chosen]


def _fill(file: FileIO, block: Floats) -> None:
    view = block.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        read = file.readinto(view[done:])
        if not read:
            raise StoreError(f"`{file.name}` ended while it was read")
        done += read
