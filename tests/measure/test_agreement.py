"""Kappa: published examples, and an independent reading of the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.measure.agreement import cohen_kappa, fleiss_kappa

# Fleiss (1971) by way of the usual textbook table: ten items, fourteen judges, five categories.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_kappa_of_two_judges_is_that_of_the_worked_example() -> None:
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1


def test_kappa_of_many_judges_is_that_of_the_worked_example() -> None:
    assert fleiss_kappa(FLEISS) == pytest.approx(0.20993, abs=1e-5)


def test_where_there_is_nothing_to_tell_apart_kappa_is_undefined() -> None:
    assert math.isnan(cohen_kappa([], []))
    assert math.isnan(cohen_kappa(["a"] * 3, ["a"] * 3))
    assert math.isnan(fleiss_kappa([]))
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    with pytest.raises(ValueError, match="2 judgements against 1"):
        cohen_kappa(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="same number of judges"):
        fleiss_kappa([[2, 0], [1, 0]])


def by_matrices(first: list[int], second: list[int], power: int) -> float:
    """Weighted kappa as it stands in Cohen (1968), in matrices."""
    size = 5
    table = np.zeros((size, size))
    for one, other in zip(first, second, strict=True):
        table[one, other] += 1
    table /= table.sum()
    weights = np.abs(np.subtract.outer(np.arange(size), np.arange(size))) ** power
    if power == 0:
        weights = 1.0 - np.eye(size)
    expected = np.outer(table.sum(1), table.sum(0))
    return float(1 - (weights * table).sum() / (weights * expected).sum())


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_kappa_is_that_of_the_definition(pairs: list[tuple[int, int]]) -> None:
    first, second = [one for one, _ in pairs], [other for _, other in pairs]
    for weights, power in ((None, 0), ("linear", 1), ("quadratic", 2)):
        found = cohen_kappa(first, second, weights)  # type: ignore[arg-type]
        if math.isnan(found):
            assert len({*first, *second}) == 1
        else:
            assert found == pytest.approx(by_matrices(first, second, power))
        swapped = cohen_kappa(second, first, weights)  # type: ignore[arg-type]
        assert (math.isnan(found) and math.isnan(swapped)) or found == pytest.approx(swapped)


@given(rows=st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=20))
def test_fleiss_kappa_of_relabelled_judgements_is_the_same(rows: list[list[int]]) -> None:
    counts = [[row.count(category) for category in range(3)] for row in rows]
    turned = [list(reversed(row)) for row in counts]
    found, other = fleiss_kappa(counts), fleiss_kappa(turned)
    assert (math.isnan(found) and math.isnan(other)) or found == pytest.approx(other)


@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_items_that_are_counted_are_as_items_one_by_one(pairs: list[tuple[int, int]]) -> None:
    counts = {pair: pairs.count(pair) for pair in pairs}
    one_by_one = cohen_kappa([one for one, _ in pairs], [other for _, other in pairs], "linear")
    times = [*counts.values()]
    counted = cohen_kappa([one for one, _ in counts], [other for _, other in counts], "linear", counts=times)
    assert (math.isnan(one_by_one) and math.isnan(counted)) or counted == pytest.approx(one_by_one)
    table = [[pair.count(category) for category in range(4)] for pair in pairs]
    rows = [[pair.count(category) for category in range(4)] for pair in counts]
    one_by_one, counted = fleiss_kappa(table), fleiss_kappa(rows, times=times)
    assert (math.isnan(one_by_one) and math.isnan(counted)) or counted == pytest.approx(one_by_one)
