"""Confidence intervals.

Every function takes plain numbers or arrays and gives an `Interval`; what is random is seeded.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK_CELLS = 4_000_000
"""Cells of one block of resampled values: bounds the memory of a bootstrap at 32 MB a buffer."""


class Interval(NamedTuple):
    low: float
    high: float


def wilson(successes: int, num_items: int, confidence: float = 0.95) -> Interval:
    """Interval of a proportion (Wilson 1927, without continuity correction); (nan, nan) for no items.

    Held instead of the normal interval because it keeps its coverage with few items and near 0 and 1.
    """
    if not 0 <= successes <= num_items:
        raise ValueError(f"{successes} successes among {num_items} items")
    if num_items == 0:
        return Interval(math.nan, math.nan)
    z = normal_quantile(confidence)
    share = successes / num_items
    spread = z * math.sqrt(share * (1 - share) / num_items + z * z / (4 * num_items**2))
    scale = 1 + z * z / num_items
    middle = share + z * z / (2 * num_items)
    low = 0.0 if successes == 0 else (middle - spread) / scale
    high = 1.0 if successes == num_items else (middle + spread) / scale
    return Interval(low, high)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95) -> Interval:
    """Interval of the second share less the first one, of the same items (Newcombe 1998, method 10).

    The counts are of items with the property in both, in one alone, in neither. Square and add: the distances of
    `wilson`'s ends from each share, less what the correlation of the two takes away. Unlike a bootstrap it does not
    shrink to a point where all items, or none, changed. (nan, nan) for no items.
    """
    num_items = both + only_first + only_second + neither
    if num_items == 0:
        return Interval(math.nan, math.nan)
    first, second = (both + only_first) / num_items, (both + only_second) / num_items
    first_ends = wilson(both + only_first, num_items, confidence)
    second_ends = wilson(both + only_second, num_items, confidence)
    phi = _phi(both, only_first, only_second, neither)

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))

    difference = second - first
    return Interval(
        difference - distance(second - second_ends.low, first_ends.high - first),
        difference + distance(second_ends.high - second, first - first_ends.low),
    )


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """Correlation of two properties, drawn towards 0 by half an item where it is positive; 0 where one never varies."""
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if margins == 0:
        return 0.0
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(product - (both + only_first + only_second + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def bootstrap_mean(
    values: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of the mean; (nan, nan) for no values.

    Where items belong together (questions on one passage, samples of one seed row) give `clusters`, one label a value:
    whole clusters are drawn then.
    """
    means = bootstrap_means(values, clusters=clusters, resamples=resamples, seed=seed)
    if means.size == 0:
        return Interval(math.nan, math.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(low), float(high))


def bootstrap_means(
    values: ArrayLike, *, clusters: ArrayLike | None = None, resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """The means of `resamples` samples drawn with replacement, as many items (or clusters) each as there are."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"expected one value an item, got an array of shape {array.shape}")
    if array.size == 0:
        return np.empty(0)
    if resamples < 1000:
        raise ValueError(f"{resamples} resamples are too few for a 95 % interval, give 1000 or more")
    sums: NDArray[np.float64] = array
    counts: NDArray[np.float64] = np.ones_like(array)
    if clusters is not None:
        labels = np.unique(np.asarray(clusters), return_inverse=True)[1].reshape(-1)
        if labels.size != array.size:
            raise ValueError(f"{labels.size} cluster labels for {array.size} values")
        sums = np.bincount(labels, weights=array).astype(np.float64)
        counts = np.bincount(labels).astype(np.float64)
    generator = np.random.default_rng(seed)
    num_units = sums.size
    block = max(1, min(100, BLOCK_CELLS // num_units))
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = generator.integers(0, num_units, (stop - start, num_units))
        means[start:stop] = sums[drawn].sum(1) / counts[drawn].sum(1)
    return means


def normal_quantile(confidence: float) -> float:
    """z of a two-sided normal interval: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    return NormalDist().inv_cdf(0.5 + confidence / 2)
