"""Which rows go to the test part: shares that add up, and a choice that depends on row ids and a seed alone."""

from __future__ import annotations

from collections.abc import Sequence

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


def quotas(sizes: Integers, wanted: int) -> Integers:
    """`wanted` shared out in proportion to `sizes`, each within one of its exact share (largest remainders first)."""
    exact = sizes * wanted
    total = max(int(sizes.sum()), 1)
    shares = exact // total
    remainders = exact - shares * total
    extra = np.argsort(-remainders, kind="stable")[: wanted - int(shares.sum())]
    shares[extra] += 1
    return shares


def chosen(keys: Keys, unit_of_row: Integers, stratum_of_row: Integers, wanted: int) -> npt.NDArray[np.bool_]:
    """Rows of the test part: whole units in the order of their smallest key, as many as each stratum's quota holds.

    Units and strata are numbered from 0; a unit belongs to the stratum of its row with the smallest key. So the choice
    does not depend on the order of the rows.
    """
    quota = quotas(np.bincount(stratum_of_row), wanted)
    order = np.argsort(keys, kind="stable")
    _, first = np.unique(unit_of_row[order], return_index=True)
    strata = stratum_of_row[order[first]].tolist()
    sizes = np.bincount(unit_of_row).tolist()
    taken = np.zeros(len(sizes), dtype=bool)
    left = quota.tolist()
    missing = int(quota.sum())
    for unit in np.argsort(first, kind="stable").tolist():
        if sizes[unit] <= left[strata[unit]]:
            taken[unit] = True
            left[strata[unit]] -= sizes[unit]
            missing -= sizes[unit]
            if missing == 0:
                break
    return taken[unit_of_row]
