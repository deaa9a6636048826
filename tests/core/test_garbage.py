"""The search for cycles is less frequent inside and as it was outside, however steps overlap."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from stillhouse.core.garbage import YOUNG, rare_collections


@pytest.fixture(autouse=True)
def own_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 11, 12)
    yield
    gc.set_threshold(*before)


def test_thresholds_come_back_when_the_last_has_left() -> None:
    first, second = rare_collections(), rare_collections()
    first.__enter__()
    assert gc.get_threshold() == (YOUNG, 11, 12)
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() == (YOUNG, 11, 12)
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 11, 12)


def test_an_error_gives_them_back_too() -> None:
    with pytest.raises(ValueError, match="inside"), rare_collections():
        raise ValueError("inside")
    assert gc.get_threshold() == (700, 11, 12)


@pytest.mark.parametrize("own", [0, 3 * YOUNG])
def test_a_collector_that_is_off_or_rarer_is_left_alone(own: int) -> None:
    gc.set_threshold(own, 11, 12)
    with rare_collections():
        assert gc.get_threshold() == (own, 11, 12)
    assert gc.get_threshold() == (own, 11, 12)
