from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.tokens._permutation import key_of, permuted, unpermuted


def test_it_is_a_bijection_for_every_small_size() -> None:
    for size in range(1, 5001, 1):
        index = np.arange(size)
        image = permuted(index, size, size)
        assert np.array_equal(np.sort(image), index), size


@given(st.integers(1, 10**12), st.integers(0, 2**64 - 1), st.lists(st.integers(0, 10**12), min_size=1, max_size=50))
def test_the_inverse_leads_back(size: int, key: int, numbers: list[int]) -> None:
    index = np.array(sorted({number % size for number in numbers}), dtype=np.int64)
    image = permuted(index, size, key)
    assert len(np.unique(image)) == len(index)
    assert int(image.min()) >= 0
    assert int(image.max()) < size
    assert np.array_equal(unpermuted(image, size, key), index)


def test_golden_values() -> None:
    assert key_of("rows", 0, "web", 1) == 13614553826057909075
    assert permuted(np.arange(10), 10, 42).tolist() == [9, 6, 7, 0, 8, 3, 5, 1, 2, 4]
    assert permuted(np.array([0, 1, 10**11]), 10**12, 7).tolist() == [868823629237, 253782548142, 839443261238]


def test_names_and_numbers_do_not_run_together() -> None:
    assert len({key_of("a", 1), key_of("a1"), key_of(1, "a"), key_of("a", "1"), key_of("1", "a")}) == 5


@pytest.mark.parametrize("size", [97, 1000, 24_414])
def test_neighbours_land_anywhere(size: int) -> None:
    """The mean distance of images of neighbours is that of a random order, a third of the size, within a tenth."""
    distances = [
        np.abs(np.diff(permuted(np.arange(size), size, key_of("order", number)))).mean() for number in range(20)
    ]
    assert abs(float(np.mean(distances)) / size - 1 / 3) < 1 / 30


def test_every_place_is_taken_about_equally_often() -> None:
    """The place of index 0 over 6,000 keys: 20 places, chi-square below the 0.9999 quantile of 19 degrees (52)."""
    places = [int(permuted(np.array([0]), 20, key_of(number))[0]) for number in range(6000)]
    counts = np.bincount(places, minlength=20)
    assert float(((counts - 300) ** 2 / 300).sum()) < 52
