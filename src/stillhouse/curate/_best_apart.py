"""Taking the best rows that are unlike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.context import Context
from ._choice import Why, ids_of, numbers_of, write_chosen
from ._semantic_dedup import Alike, unlike
from ._vectors import text_vectors, vectors_of

if TYPE_CHECKING:
    from .best_apart import BestApart


def write_best(step: BestApart, context: Context) -> None:
    """The work of `BestApart`."""
    source = context.get(step.rows)
    scores = np.prod([numbers_of(source, name, context) for name in step.by], axis=0)
    if step.texts is not None:
        vectors = text_vectors(source, step.texts, step.ngram, step.unit, context)
    else:
        vectors = vectors_of(source, step.column or "vector", context)
    order = np.argsort(-scores, kind="stable")
    order = order[~np.isnan(scores[order])]
    found = Alike(len(source))
    taken = unlike(vectors, order, step.threshold, found, step.size, context.check_stop)
    keep = np.zeros(len(source), dtype=bool)
    keep[taken] = True
    ids = ids_of(source)

    def why(row: int) -> Why:
        if np.isnan(scores[row]):
            return Why("there is no score")
        if found.of[row] >= 0:
            return Why("too like a better row", f"{ids[found.of[row]].decode()} (cosine {found.score[row]:.3f})")
        return Why("better rows fill the size", f"score {scores[row]:g}")

    write_chosen(source, context, keep, why)
