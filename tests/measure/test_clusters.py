"""Groups of vectors: found where there are some, and told apart as the definition says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.measure.clusters import groups, silhouette


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(number: int, each: int, spread: float, seed: int = 0) -> tuple[Any, list[int]]:
    draws = np.random.default_rng(seed)
    centres = unit(draws.normal(size=(number, 12)))
    owners = [place % number for place in range(number * each)]
    return unit(centres[owners] + spread * draws.normal(size=(number * each, 12))), owners


@pytest.mark.parametrize("number", [2, 3, 5])
def test_planted_groups_are_found_and_counted(number: int) -> None:
    rows, owners = planted(number, 9, 0.05)
    found = groups(rows, None)
    assert found.of_row == owners  # they are numbered by their first rows
    assert groups(rows, number) == found


def test_where_there_are_no_groups_there_is_one() -> None:
    draws = np.random.default_rng(0)
    rows = unit(np.ones((30, 40)) + 0.3 * draws.normal(size=(30, 40)))
    assert groups(rows, None).number == 1
    assert groups(rows, 3).number == 3
    assert groups(rows[:2], None).of_row == [0, 0]
    assert groups(rows[:0], None).of_row == []


def test_equal_rows_and_more_groups_than_rows() -> None:
    rows = unit(np.ones((6, 3)))
    assert groups(rows, None).number == 1
    assert groups(rows, 20).number <= 6


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(3, 12))
def test_the_silhouette_is_its_definition(seed: int, number: int, size: int) -> None:
    draws = np.random.default_rng(seed)
    points = draws.normal(size=(size, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    owners = draws.integers(0, number, size)
    scores = []
    for row in range(size):
        others = {group: [d for d, own in zip(distances[row], owners, strict=True) if own == group] for group in owners}
        own = others.pop(owners[row])
        if len(own) == 1 or not others:
            scores.append(0.0)
            continue
        a, b = sum(own) / (len(own) - 1), min(np.mean(values) for values in others.values())
        scores.append((b - a) / max(a, b))
    assert silhouette(distances, owners) == pytest.approx(float(np.mean(scores)), abs=1e-9)
