"""Which rows go to the test part: shares that add up, and a choice that depends on row ids and a seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


def num_wanted(size: float, num_rows: int) -> int:
    """Rows of the test part: a share of `num_rows` if `size` is below 1, else that number, at most all."""
    return min(round(size * num_rows) if size < 1 else int(size), num_rows)


def keys_of(ids: Sequence[str], seed: int) -> Keys:
    """A number for each row id, spread evenly; another seed gives unrelated ones."""
    own = np.fromiter((int(name[:16], 16) for name in ids), dtype=np.uint64, count=len(ids))
    return mixed(own ^ mixed(np.array([seed % 2**64], dtype=np.uint64)))


def mixed(values: Keys) -> Keys:
    """Every input bit spread over every output bit (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def numbered(values: Keys) -> Integers:
    """For each row the number of its value, from 0 without gaps: `np.unique`, in half its memory."""
    order = np.argsort(values)
    ordered = values[order]
    opens = ordered[1:] != ordered[:-1]
    del ordered
    found = np.zeros(len(values), dtype=np.int64)
    found[order[1:]] = np.cumsum(opens)
    return found


def quotas(sizes: Integers, wanted: int, ties: Keys | None = None) -> Integers:
    """`wanted` shared out in proportion to `sizes`, each within one of its exact share (largest remainders first).

    Where remainders are equal, the smaller of `ties` goes first (without them, the earlier).
    """
    exact = sizes * wanted
    total = max(int(sizes.sum()), 1)
    shares = exact // total
    remainders = exact - shares * total
    order = np.lexsort((np.arange(len(sizes)) if ties is None else ties, -remainders))
    shares[order[: wanted - int(shares.sum())]] += 1
    return shares


def equal_quotas(sizes: Integers, wanted: int, ties: Keys) -> Integers:
    """`wanted` shared out so that all get the same, or all they have; what does not divide goes by `ties`."""
    wanted = min(wanted, int(sizes.sum()))
    shares = np.zeros(len(sizes), dtype=np.int64)
    while (left := wanted - int(shares.sum())) > 0:
        open_places = np.flatnonzero(shares < sizes)
        each = left // len(open_places)
        if each == 0:
            shares[open_places[np.argsort(ties[open_places], kind="stable")[:left]]] += 1
        else:
            shares[open_places] = np.minimum(shares[open_places] + each, sizes[open_places])
    return shares


def smallest_keys(keys: Keys, numbers: Integers, num: int) -> Keys:
    """The smallest key of the rows of each number."""
    found = np.full(num, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(found, numbers, keys)
    return found


def drawn(keys: Keys, stratum_of_row: Integers, quota: Integers) -> npt.NDArray[np.bool_]:
    """Of each stratum the rows with the smallest keys, as many as its quota."""
    order = np.lexsort((keys, stratum_of_row))
    ordered = stratum_of_row[order]
    starts = np.searchsorted(ordered, np.arange(len(quota)))
    taken = np.zeros(len(keys), dtype=bool)
    taken[order] = np.arange(len(keys)) - starts[ordered] < quota[ordered]
    return taken


def chosen(keys: Keys, unit_of_row: Integers, stratum_of_row: Integers, wanted: int) -> npt.NDArray[np.bool_]:
    """Rows of the test part: whole units in the order of their smallest key, as many as each stratum's quota holds.

    A unit whose rows belong to several strata is taken where it fits into what each of them still lacks; where rows
    are lacking in the end, also such units that bring the strata nearer to their quotas on the whole. Never more than
    `wanted`. Units and strata are numbered from 0. The choice does not depend on the order of the rows.
    """
    sizes = np.bincount(stratum_of_row)
    quota = quotas(sizes, wanted, smallest_keys(keys, stratum_of_row, len(sizes)))
    num_units = int(unit_of_row.max(initial=-1)) + 1
    if num_units == len(keys):
        return drawn(keys, stratum_of_row, quota)
    order = np.argsort(smallest_keys(keys, unit_of_row, num_units), kind="stable")
    parts = _strata_of_units(unit_of_row, stratum_of_row, num_units)
    taken = np.zeros(num_units, dtype=bool)
    left = quota.tolist()
    missing = int(quota.sum())
    for unit in _each(order):
        strata, counts = parts(unit)
        if all(count <= left[stratum] for stratum, count in zip(strata, counts, strict=True)):
            taken[unit] = True
            missing -= _take(left, strata, counts)
        if missing == 0:
            break
    for unit in _each(order) if missing else ():
        strata, counts = parts(unit)
        if taken[unit] or len(strata) == 1 or sum(counts) > missing:
            continue
        before = sum(abs(left[stratum]) for stratum in strata)
        after = sum(abs(left[stratum] - count) for stratum, count in zip(strata, counts, strict=True))
        if after < before:
            taken[unit] = True
            missing -= _take(left, strata, counts)
    return taken[unit_of_row]


def _each(numbers: Integers) -> Iterator[int]:
    """The numbers one by one; as one list they would take five times the memory."""
    for start in range(0, len(numbers), 8192):
        yield from numbers[start : start + 8192].tolist()


def _take(left: list[int], strata: Sequence[int], counts: Sequence[int]) -> int:
    for stratum, count in zip(strata, counts, strict=True):
        left[stratum] -= count
    return sum(counts)


def _strata_of_units(
    unit_of_row: Integers, stratum_of_row: Integers, num_units: int
) -> Callable[[int], tuple[list[int], list[int]]]:
    """For a unit the strata of its rows, and how many rows it has in each."""
    num_strata = int(stratum_of_row.max(initial=0)) + 1
    pairs, counts = np.unique(unit_of_row * num_strata + stratum_of_row, return_counts=True)
    starts = np.searchsorted(pairs, np.arange(num_units + 1) * num_strata)

    def of_unit(unit: int) -> tuple[list[int], list[int]]:
        own = slice(starts[unit], starts[unit + 1])
        return (pairs[own] - unit * num_strata).tolist(), counts[own].tolist()

    return of_unit
