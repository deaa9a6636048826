"""Groups among a few vectors, and how well they are told apart."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Doubles: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.int64]

MOST = 8
LEAST = 0.15
"""A mean silhouette below this says that there are no groups (Kaufman and Rousseeuw 1990 call it no structure below
0.25; vectors of few words are noisier than their data)."""
_ROUNDS, _STARTS = 50, 4


class Groups(NamedTuple):
    """The group of each row, numbered by their first rows; the mean silhouette, None for a single group."""

    of_row: list[int]
    silhouette: float | None

    @property
    def number(self) -> int:
        return max(self.of_row, default=-1) + 1


def groups(vectors: NDArray[np.floating[Any]], number: int | None, seed: int = 0) -> Groups:
    """Spherical k-means of rows of length 1 into `number` groups; None takes the number (to 8) of the best silhouette.

    For some thousand rows at most: all their products are held at once.
    """
    rows = np.asarray(vectors, np.float64)
    if number == 1 or len(rows) < 3:
        return Groups([0] * len(rows), None)
    products = rows @ rows.T
    best = Groups([0] * len(rows), None)
    for wanted in range(2, min(MOST, len(rows) - 1) + 1) if number is None else (min(number, len(rows)),):
        found = _clustered(rows, wanted, seed)
        score = silhouette(1.0 - products, found)
        if number is not None or score > max(best.silhouette or 0.0, LEAST):
            best = Groups(_renumbered(found), round(score, 6))
    return best


def silhouette(distances: Doubles, of_row: Numbers) -> float:
    """The mean silhouette (Rousseeuw 1987): (b - a) / max(a, b), of a the mean distance within the row's own group and
    b that to the nearest other one; 0 for a row alone in its group."""
    names = np.unique(of_row)
    if len(names) < 2:
        return 0.0
    members = (of_row[:, None] == names[None]).astype(np.float64)
    sums, sizes = distances @ members, members.sum(0)
    own = np.searchsorted(names, of_row)
    rows = np.arange(len(of_row))
    alone = sizes[own] == 1
    within = (sums[rows, own] - np.diagonal(distances)) / np.where(alone, 1.0, sizes[own] - 1)
    means = sums / sizes
    means[rows, own] = np.inf
    nearest = means.min(1)
    widest = np.maximum(within, nearest)
    scores = np.where(alone | (widest <= 0), 0.0, (nearest - within) / np.where(widest > 0, widest, 1.0))
    return float(scores.mean())


def _clustered(rows: Doubles, number: int, seed: int) -> Numbers:
    """The best of some starts, by the sum of cosines with the centres."""
    best, best_score = np.zeros(len(rows), np.int64), -np.inf
    for start in range(_STARTS):
        draws = np.random.default_rng([seed, number, start])
        centres = rows[_begun(rows, number, draws)]
        nearest = np.full(len(rows), -1)
        for _ in range(_ROUNDS):
            found = np.round(rows @ centres.T, 9).argmax(1)
            if np.array_equal(found, nearest):
                break
            nearest = found
            sums = np.stack([rows[nearest == group].sum(0) for group in range(number)])
            lengths = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1.0), centres)
        score = round(float((rows * centres[nearest]).sum()), 9)
        if score > best_score:
            best, best_score = nearest, score
    return best


def _begun(rows: Doubles, number: int, draws: np.random.Generator) -> list[int]:
    """k-means++ (Arthur and Vassilvitskii 2007): rows drawn by their distance from those drawn before."""
    chosen = [int(draws.integers(len(rows)))]
    nearest = 1.0 - rows @ rows[chosen[0]]
    while len(chosen) < number:
        weights = np.maximum(np.round(nearest, 9), 0.0)
        weights[chosen] = 0.0
        total = weights.sum()
        left = [place for place in range(len(rows)) if place not in chosen]
        place = int(draws.choice(len(rows), p=weights / total)) if total > 0 else left[0]
        chosen.append(place)
        nearest = np.minimum(nearest, 1.0 - rows @ rows[place])
    return chosen


def _renumbered(of_row: Numbers) -> list[int]:
    order: dict[int, int] = {}
    return [order.setdefault(int(group), len(order)) for group in of_row]
