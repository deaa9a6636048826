"""Greedy choice of rows that cover the others.

`M` rows to be covered, `N` rows to choose from, `H` width of their vectors, each of length 1.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.context import Context
from ..core.errors import RecipeError
from ..rows._apportion import keys_of, num_wanted
from ._choice import Places, Why, ids_of, write_chosen
from ._semantic_dedup import nearest_of
from ._vectors import Vectors, blocks, text_vectors, vectors_of

if TYPE_CHECKING:
    from .diverse_subset import DiverseSubset

TOGETHER = 32  # rows whose gain is computed in one product
BLOCK = 1024
Numbers = npt.NDArray[np.float64]


def write_subset(step: DiverseSubset, context: Context) -> None:
    """The work of `DiverseSubset`."""
    source = context.get(step.rows)
    size = num_wanted(step.size, len(source))
    if size == 0 and len(source):
        raise RecipeError(f"DiverseSubset: of {len(source)} rows a share of {step.size:g} is none", "Give a number.")
    if step.texts is not None:
        vectors = text_vectors(source, step.texts, step.ngram, step.unit, context)
    else:
        vectors = vectors_of(source, step.column or "vector", context)
    ids = ids_of(source)
    if step.method == "k_centre":
        chosen = k_centre(vectors, size, context.check_stop)
    else:
        covered = vectors
        if step.cover is not None and step.cover < len(vectors):
            keys = keys_of([name.decode() for name in ids], step.seed)
            covered = vectors[np.sort(np.argsort(keys, kind="stable")[: step.cover])]
        chosen = facility_location(vectors, covered, size, step.epsilon, step.seed, context.check_stop)
    keep = np.zeros(len(source), dtype=bool)
    keep[chosen] = True
    score, nearest = (np.empty(len(source), np.float32), np.empty(len(source), np.int64))
    for piece in blocks(len(source), BLOCK):
        score[piece], nearest[piece] = nearest_of(vectors[piece], vectors, chosen)
    if len(source):
        context.note(mean_cosine=round(float(score.mean()), 6), least_cosine=round(float(score.min()), 6))

    def why(row: int) -> Why:
        return Why("stood for by another", f"{ids[nearest[row]].decode()} (cosine {score[row]:.3f})")

    write_chosen(source, context, keep, why)


def facility_location(
    vectors: Vectors,
    covered: Vectors,
    size: int,
    epsilon: float | None = None,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Places:
    """The rows chosen, in order of choice: each time the one that adds most to the sum of best cosines."""
    best = np.zeros(len(covered), dtype=np.float32)

    def gains(rows: Places) -> Numbers:
        scores_MN = covered @ vectors[rows].T
        found: Numbers = np.maximum(scores_MN - best[:, None], 0).sum(axis=0, dtype=np.float64)
        return found

    def take(row: int) -> None:
        np.maximum(best, covered @ vectors[row], out=best)
        check()

    if epsilon is None:
        return _lazily(len(vectors), size, gains, take)
    return _stochastically(len(vectors), size, epsilon, seed, gains, take)


def _lazily(num: int, size: int, gains: Callable[[Places], Numbers], take: Callable[[int], None]) -> Places:
    """Greedy with an old gain as the upper bound of the new one: right because gains only fall (submodularity)."""
    heap: list[tuple[float, int, int]] = []  # (−gain, row, number of rows taken when it was computed)
    for piece in blocks(num, TOGETHER):
        rows = np.arange(piece.start, piece.stop)
        heap += [(-gain, row, 0) for gain, row in zip(gains(rows).tolist(), rows.tolist(), strict=True)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < size:
        if heap[0][2] == len(chosen):
            row = heapq.heappop(heap)[1]
            chosen.append(row)
            take(row)
            continue
        # A few of the best at once: one product of many columns costs little more than one of a single column.
        stale = [heapq.heappop(heap)]
        while heap and len(stale) < TOGETHER and heap[0][2] != len(chosen):
            stale.append(heapq.heappop(heap))
        rows = np.array([row for _, row, _ in stale])
        for gain, row in zip(gains(rows).tolist(), rows.tolist(), strict=True):
            heapq.heappush(heap, (-gain, row, len(chosen)))
    return np.array(chosen, dtype=np.int64)


def _stochastically(
    num: int, size: int, epsilon: float, seed: int, gains: Callable[[Places], Numbers], take: Callable[[int], None]
) -> Places:
    """Each time the best of (n / k) ln(1 / ε) rows drawn from those not taken."""
    generator = np.random.default_rng(seed)
    left = np.arange(num)
    wanted = max(1, math.ceil(num / max(size, 1) * math.log(1 / epsilon)))
    chosen: list[int] = []
    while len(chosen) < size:
        places = np.sort(generator.choice(len(left), min(wanted, len(left)), replace=False))
        found = np.concatenate([gains(left[places[piece]]) for piece in blocks(len(places), TOGETHER)])
        place = int(places[int(np.argmax(found))])
        row = int(left[place])
        chosen.append(row)
        take(row)
        left = np.delete(left, place)
    return np.array(chosen, dtype=np.int64)


def k_centre(vectors: Vectors, size: int, check: Callable[[], None] = lambda: None) -> Places:
    """The rows chosen, in order of choice: the row nearest to the mean, then always the one farthest from all taken."""
    if size == 0:
        return np.zeros(0, dtype=np.int64)
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    chosen = [int(np.argmax(vectors @ mean))]
    nearest = vectors @ vectors[chosen[0]]
    taken = np.zeros(len(vectors), dtype=bool)
    taken[chosen[0]] = True
    while len(chosen) < size:
        row = int(np.argmin(np.where(taken, np.inf, nearest)))
        chosen.append(row)
        taken[row] = True
        np.maximum(nearest, vectors @ vectors[row], out=nearest)
        check()
    return np.array(chosen, dtype=np.int64)
