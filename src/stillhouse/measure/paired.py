"""Two systems measured on the same items: difference, test, flips and what the sample could have shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .intervals import Interval, bootstrap_mean, newcombe_paired

POWER = 0.8
EXACT_ITEMS = 2000
"""Up to so many items `smallest_detectable` sums probabilities; beyond, the normal approximation is as good."""


class Paired(NamedTuple):
    """`after` against `before` on the same items.

    fixed: better after; broken: worse after; for scores of 0 and 1 these are the flips.
    both_right, both_wrong: unchanged at 1 and at less than 1.
    smallest_detectable: difference that these many items would show in four of five repetitions, at `alpha` shared by
    all looks.
    """

    num_items: int
    before: float
    after: float
    difference: float
    interval: Interval
    p_value: float
    test: str
    fixed: int
    broken: int
    both_right: int
    both_wrong: int
    smallest_detectable: float


def compare_pairs(
    before: ArrayLike, after: ArrayLike, *, alpha: float = 0.05, looks: int = 1, resamples: int = 2000, seed: int = 0
) -> Paired:
    """Paired comparison of two scores an item, in 0..1 and in the same order.

    0/1 scores are tested with the exact McNemar test and get Newcombe's interval of the difference, others are tested
    by flipping signs of differences and get a percentile bootstrap over items, both at 1 - alpha. `looks` is the number
    of comparisons for which p will be corrected. Raises ValueError for unequal lengths.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired scores need one value an item on both sides, got {first.shape} and {second.shape}")
    num_items = int(first.size)
    if num_items == 0:
        nan = math.nan
        return Paired(0, nan, nan, nan, Interval(nan, nan), nan, "none", 0, 0, 0, 0, nan)
    change = second - first
    fixed, broken = int((change > 0).sum()), int((change < 0).sum())
    same = change == 0
    both_right, both_wrong = int((same & (second == 1)).sum()), int((same & (second != 1)).sum())
    binary = bool(np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all())
    if binary:
        p_value, test = mcnemar(fixed, broken), "exact McNemar"
        interval = newcombe_paired(both_right, broken, fixed, both_wrong, 1 - alpha)
        smallest = smallest_detectable(num_items, (fixed + broken) / num_items, alpha=alpha / looks)
    else:
        p_value, test = sign_flip(change, seed=seed), "sign-flip permutation"
        interval = bootstrap_mean(change, resamples=resamples, confidence=1 - alpha, seed=seed)
        quantile = NormalDist().inv_cdf(1 - alpha / looks / 2) + NormalDist().inv_cdf(POWER)
        smallest = quantile * float(change.std(ddof=1)) / math.sqrt(num_items) if num_items > 1 else math.nan
    return Paired(
        num_items=num_items,
        before=float(first.mean()),
        after=float(second.mean()),
        difference=float(change.mean()),
        interval=interval,
        p_value=p_value,
        test=test,
        fixed=fixed,
        broken=broken,
        both_right=both_right,
        both_wrong=both_wrong,
        smallest_detectable=smallest,
    )


def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided p of McNemar's test: the chance of flips at least as uneven at equal odds; 1 without flips."""
    flips, fewer = fixed + broken, min(fixed, broken)
    if flips == 0:
        return 1.0
    if flips <= 1000:
        return min(1.0, 2 * sum(math.comb(flips, count) for count in range(fewer + 1)) / (1 << flips))
    logs = np.array(
        [math.lgamma(flips + 1) - math.lgamma(k + 1) - math.lgamma(flips - k + 1) for k in range(fewer + 1)]
    ) - flips * math.log(2)
    return min(1.0, 2 * float(np.exp(logs).sum()))


def sign_flip(differences: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p that the mean difference is 0, by flipping signs of the differences at random.

    Exact up to 16 differences that are not 0; beyond, `resamples` seeded draws and (hits + 1) / (resamples + 1).
    """
    array = np.asarray(differences, dtype=np.float64)
    moved = array[array != 0]
    if moved.size == 0:
        return 1.0
    seen = abs(moved.sum()) * (1 - 1e-12)
    if moved.size <= 16:
        codes = np.arange(2**moved.size)[:, None] >> np.arange(moved.size) & 1
        return float((np.abs((2 * codes - 1) @ moved) >= seen).mean())
    generator = np.random.default_rng(seed)
    block = max(1, 4_000_000 // moved.size)
    hits = 0
    for start in range(0, resamples, block):
        signs = generator.integers(0, 2, (min(block, resamples - start), moved.size), dtype=np.int8) * 2 - 1
        hits += int((np.abs(signs @ moved) >= seen).sum())
    return (hits + 1) / (resamples + 1)


def smallest_detectable(num_items: int, flip_share: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest difference of two proportions that `mcnemar` on `num_items` finds below `alpha` with chance `power`.

    `flip_share` of the items flip, or as many as the difference takes. 1 where even every item flipping the same way
    would not be found; nan without items. Exact up to `EXACT_ITEMS`.
    """
    if num_items == 0:
        return math.nan
    found = _power if num_items <= EXACT_ITEMS else _normal_power
    low, high = 0.0, 1.0
    for _ in range(20):  # to a millionth
        middle = (low + high) / 2
        enough = found(num_items, max(flip_share, middle), middle, alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def _power(num_items: int, flip_share: float, difference: float, alpha: float) -> float:
    """Sum over the number of flips, and over every split of them that the exact test finds."""
    chance_of_number = _binomial(np.array([num_items]), num_items, flip_share)[0]
    numbers = np.flatnonzero(chance_of_number > 1e-9)
    highest = int(numbers[-1])
    fewer = np.minimum(np.arange(highest + 1), np.maximum(numbers[:, None] - np.arange(highest + 1), 0))
    tails = np.cumsum(_binomial(numbers, highest, 0.5), axis=1)
    rejected = 2 * np.take_along_axis(tails, fewer, axis=1) < alpha
    splits = _binomial(numbers, highest, (1 + difference / flip_share) / 2)
    return float(chance_of_number[numbers] @ (splits * rejected).sum(axis=1))


def _binomial(numbers: NDArray[np.int64], highest: int, chance: float) -> NDArray[np.float64]:
    """For each of `numbers` draws the probabilities of 0 to `highest` hits."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(int(numbers.max()), highest) + 1)))])
    chance = min(max(chance, 1e-15), 1 - 1e-15)  # 0 and 1 have no logarithm
    hits = np.arange(highest + 1)
    misses = numbers[:, None] - hits
    ways = logs[numbers][:, None] - logs[hits] - logs[np.maximum(misses, 0)]
    found = ways + hits * math.log(chance) + misses * math.log1p(-chance)
    return np.exp(np.where(misses >= 0, found, -np.inf))


def _normal_power(num_items: int, flip_share: float, difference: float, alpha: float) -> float:
    """As `_power` by the normal approximation (Connor 1987), n d² = (z_α √ψ + z_β √(ψ - d²))² for the share ψ."""
    z_alpha = NormalDist().inv_cdf(1 - alpha / 2)
    spread = math.sqrt(max(flip_share - difference**2, 1e-12))
    return NormalDist().cdf((difference * math.sqrt(num_items) - z_alpha * math.sqrt(flip_share)) / spread)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for looking several times (Holm 1979), in the order given; nan stays nan and does not count."""
    order = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda index: p_values[index])
    adjusted = list(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def flips(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the items that became better and of those that became worse."""
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    return np.flatnonzero(change > 0), np.flatnonzero(change < 0)
