"""Clusters of vectors of length 1: spherical k-means (Dhillon and Modha 2001), begun by k-means++ (Arthur 2007)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._choice import Places
from ._vectors import Vectors, blocks, normalised

ROUNDS = 20
SAMPLE = 256  # vectors for each centre from which the centres are learnt
BLOCK = 4096


class Clustering(NamedTuple):
    """The centres, K × H, and the number of each row's cluster."""

    centres: Vectors
    of_row: Places


def clustered(vectors: Vectors, num: int, seed: int) -> Clustering:
    """`num` clusters, or as many as there are rows; the same for the same vectors and seed."""
    num = min(num, len(vectors))
    generator = np.random.default_rng(seed)
    sample = vectors
    if len(vectors) > num * SAMPLE:
        sample = vectors[np.sort(generator.choice(len(vectors), num * SAMPLE, replace=False))]
    centres = _begun(sample, num, generator)
    for _ in range(ROUNDS):
        nearest = nearest_centre(sample, centres)
        moved = centres.copy()
        for number in np.unique(nearest).tolist():
            moved[number] = sample[nearest == number].mean(axis=0)
        moved = normalised(moved)
        if np.allclose(moved, centres, atol=1e-6):
            break
        centres = moved
    return Clustering(centres, nearest_centre(vectors, centres))


def nearest_centre(vectors: Vectors, centres: Vectors) -> Places:
    """The number of the centre with the highest cosine."""
    found = np.empty(len(vectors), dtype=np.int64)
    for piece in blocks(len(vectors), BLOCK):
        found[piece] = (vectors[piece] @ centres.T).argmax(axis=1)
    return found


def _begun(sample: Vectors, num: int, generator: np.random.Generator) -> Vectors:
    """The first centres: rows, each drawn in proportion to its squared distance from those before it."""
    chosen = [int(generator.integers(len(sample)))]
    distance = 2 - 2 * (sample @ sample[chosen[0]]).astype(np.float64)
    while len(chosen) < num:
        weights = np.maximum(distance, 0)
        total = weights.sum()
        # All that is left stands on a centre: any row will do.
        place = generator.choice(len(sample), p=weights / total) if total > 0 else len(chosen) % len(sample)
        chosen.append(int(place))
        distance = np.minimum(distance, 2 - 2 * (sample @ sample[chosen[-1]]).astype(np.float64))
    return sample[chosen].copy()
