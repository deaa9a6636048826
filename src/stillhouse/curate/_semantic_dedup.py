"""Choosing rows whose vectors are unlike."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ..core.artifact import Rows
from ..core.context import Context
from ..rows.transform import missing_column
from ._choice import Places, Why, ids_of, numbers_of, write_chosen
from ._kmeans import clustered
from ._vectors import Vectors, blocks, vectors_of

if TYPE_CHECKING:
    from .semantic_dedup import SemanticDedup

BLOCK, KEPT_BLOCK = 512, 8192
ROUNDING = 1e-6  # of a float32 product: equal vectors are alike at a threshold of 1


def write_unlike(step: SemanticDedup, context: Context) -> None:
    """The work of `SemanticDedup`."""
    source = context.get(step.rows)
    vectors = vectors_of(source, step.column, context)
    order = _preference(step, source, context)
    groups = [order]
    if step.clusters is not None and len(source):
        cluster = clustered(vectors, step.clusters, step.seed).of_row
        groups = [order[cluster[order] == number] for number in range(int(cluster.max()) + 1)]
        context.note(clusters=sum(len(group) > 0 for group in groups))
    found = Alike(len(source))
    for group in groups:
        unlike(vectors, group, step.threshold, found, check=context.check_stop)
    ids = ids_of(source)

    def why(row: int) -> Why:
        score = f"cosine {found.score[row]:.3f}"
        return Why("means the same", f"as {ids[found.of[row]].decode()} ({score})")

    write_chosen(source, context, found.of < 0, why)


def _preference(step: SemanticDedup, source: Rows, context: Context) -> Places:
    """Row numbers, the preferred first; ties go to the earlier row, rows without a value come last."""
    if step.by is None:
        return np.arange(len(source))
    if step.keep == "best":
        values = numbers_of(source, step.by, context)
    else:
        if len(source) and step.by not in source.columns:
            raise missing_column("SemanticDedup", step.by, source.columns)
        parts = [
            np.asarray(pc.fill_null(pc.utf8_length(batch.column(step.by).cast("string")), -1), dtype=np.float64)
            for batch in source.arrow_batches()
        ]
        values = np.concatenate([np.zeros(0), *parts])
    return np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")


class Alike:
    """For each row the kept row that it is like (−1 for those kept), and their cosine."""

    def __init__(self, num_rows: int) -> None:
        self.of: Places = np.full(num_rows, -1)
        self.score: npt.NDArray[np.float32] = np.zeros(num_rows, dtype=np.float32)


def unlike(
    vectors: Vectors,
    order: Places,
    threshold: float,
    found: Alike,
    most: int | None = None,
    check: Callable[[], None] | None = None,
) -> Places:
    """The rows of `order` that are kept, at most `most`: each below `threshold` with all kept before it.

    Of those refused, `found` tells the nearest kept row. Rows after the last kept one are not looked at.
    """
    limit = threshold - ROUNDING
    kept = np.empty(min(len(order), most or len(order)), dtype=np.int64)
    num = 0
    for piece in blocks(len(order), BLOCK):
        if num == len(kept):
            break
        rows = order[piece]
        block = vectors[rows]
        best, nearest = nearest_of(block, vectors, kept[:num])
        among = block @ block.T
        for place, row in enumerate(rows.tolist()):
            if num == len(kept):
                break
            if best[place] >= limit:
                found.of[row], found.score[row] = nearest[place], best[place]
                continue
            kept[num] = row
            num += 1
            # Those after it in the block are compared with it here, those in later blocks as one of the kept.
            closer = np.flatnonzero(among[place, place + 1 :] > best[place + 1 :]) + place + 1
            best[closer], nearest[closer] = among[place, closer], row
        if check is not None:
            check()
    return kept[:num]


def nearest_of(block: Vectors, vectors: Vectors, kept: Places) -> tuple[npt.NDArray[np.float32], Places]:
    """For each vector of the block the highest cosine with a kept row, and that row (the first of equals)."""
    best = np.full(len(block), -np.inf, dtype=np.float32)
    nearest = np.full(len(block), -1)
    for piece in blocks(len(kept), KEPT_BLOCK):
        scores = block @ vectors[kept[piece]].T
        places = scores.argmax(axis=1)
        values = scores[np.arange(len(block)), places]
        closer = values > best
        best[closer], nearest[closer] = values[closer], kept[piece][places[closer]]
    return best, nearest
