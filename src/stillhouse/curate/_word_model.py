"""A language model of counted runs of words.

Smoothed by Witten and Bell (1991): where the words h stood before c(h) words, of T(h) kinds, and c(h w) times before w,
p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)); h' is h without its first word. Below single words stands
1 / (V + 1) for each of V known words, and for all unknown ones together. Where h was never seen, p(w | h') stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._shingles import Hashes, Units, mixed, units_of

Counts = npt.NDArray[np.int64]
_STEP = np.uint64(0x9E3779B97F4A7C15)
_EMPTY = np.uint64(0)  # the hash of no words


class Order(NamedTuple):
    """Runs of one length: their hashes in rising order with counts, and those of what stands before the last word."""

    runs: Hashes
    counts: Counts
    befores: Hashes
    totals: Counts
    kinds: Counts


class WordModel:
    """Counts of runs of 1 to `order` words."""

    def __init__(self, orders: Sequence[Order]) -> None:
        self._orders = orders
        self.num_words = len(orders[0].runs)

    @classmethod
    def counted(cls, texts: Iterable[Sequence[str]], order: int) -> WordModel:
        """From texts, given in batches."""
        parts: list[list[tuple[Hashes, Hashes, Counts]]] = [[] for _ in range(order)]
        for batch in texts:
            units = units_of(batch, "words")
            for size in range(1, order + 1):
                befores, runs = _runs(units, size)
                parts[size - 1].append(_summed(befores, runs, np.ones(len(runs), dtype=np.int64)))
                if len(parts[size - 1]) > 16:  # so that what is common is held once, not once for each batch
                    parts[size - 1] = [_joined(parts[size - 1])]
        return cls([_order(_joined(found)) for found in parts])

    def losses(self, texts: Sequence[str]) -> list[float | None]:
        """The mean of −log p of the words of each text, in nats; None for a text without words."""
        units = units_of(texts, "words")
        p = np.full(len(units.codes_U), 1 / (self.num_words + 1))
        for size, order in enumerate(self._orders, start=1):
            befores, runs = _runs(units, size)
            if len(runs) == 0:
                continue
            places = _ends(units, size)
            seen = _looked_up(order.runs, order.counts, runs)
            total = _looked_up(order.befores, order.totals, befores)
            kinds = _looked_up(order.befores, order.kinds, befores)
            known = total > 0
            here = places[known]
            p[here] = (seen[known] + kinds[known] * p[here]) / (total[known] + kinds[known])
        losses = -np.log(p)
        bounds = units.offsets.tolist()
        # Each text summed alone: what its neighbours hold must not reach its last digits.
        return [
            float(losses[start:stop].sum() / (stop - start)) if stop > start else None
            for start, stop in itertools.pairwise(bounds)
        ]


def _ends(units: Units, size: int) -> Counts:
    """Places of words that have `size` − 1 words before them in their text."""
    lengths = np.diff(units.offsets)
    place_in_text = np.arange(len(units.codes_U)) - np.repeat(units.offsets[:-1], lengths)
    return np.flatnonzero(place_in_text >= size - 1)


def _runs(units: Units, size: int) -> tuple[Hashes, Hashes]:
    """For each run of `size` words the hash of all but its last word, and that of the whole."""
    ends = _ends(units, size)
    befores = np.full(len(ends), _EMPTY)
    for step in range(size - 1, 0, -1):
        befores = mixed(befores * _STEP + units.codes_U[ends - step])
    return befores, mixed(befores * _STEP + units.codes_U[ends])


def _summed(befores: Hashes, runs: Hashes, counts: Counts) -> tuple[Hashes, Hashes, Counts]:
    """Each run once, with the sum of its counts."""
    distinct, first, place = np.unique(runs, return_index=True, return_inverse=True)
    total = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, place, counts)
    return befores[first], distinct, total


def _joined(parts: Sequence[tuple[Hashes, Hashes, Counts]]) -> tuple[Hashes, Hashes, Counts]:
    if not parts:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    befores, runs, counts = (np.concatenate(one) for one in zip(*parts, strict=True))
    return _summed(befores, runs, counts)


def _order(found: tuple[Hashes, Hashes, Counts]) -> Order:
    befores, runs, counts = found
    distinct, place, kinds = np.unique(befores, return_inverse=True, return_counts=True)
    totals = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(totals, place, counts)
    return Order(runs, counts, distinct, totals, kinds.astype(np.int64))


def _looked_up(keys: Hashes, values: Counts, wanted: Hashes) -> Counts:
    """The value of each hash, 0 where it is not known."""
    if len(keys) == 0:
        return np.zeros(len(wanted), dtype=np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
