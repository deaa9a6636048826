from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.core.errors import RecipeError
from stillhouse.tokens._window_shuffle import WindowOrder
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.window_shuffle import WindowShuffle
from tests.tokens.stores import make_store


@given(st.integers(1, 400), st.integers(1, 60), st.integers(1, 9), st.integers(0, 2**64 - 1))
def test_it_is_a_bijection_with_an_inverse_and_windows_hold_their_rows(
    num_rows: int, window: int, blocks: int, key: int
) -> None:
    order = WindowOrder(WindowShuffle(window=window, blocks=blocks), num_rows, key)
    places = np.arange(num_rows)
    rows = order.rows(places)
    assert np.array_equal(np.sort(rows), places)
    assert np.array_equal(order.places(rows), places)
    assert order.window_of(num_rows - 1) == order.num_windows - 1
    for number in range(order.num_windows):
        here = [place for place in places.tolist() if order.window_of(place) == number]
        held = [row for extent in order.extents(number) for row in range(extent.first, extent.stop)]
        assert sorted(rows[here].tolist()) == sorted(held)
        assert len(order.extents(number)) <= blocks


def test_golden_values() -> None:
    order = WindowOrder(WindowShuffle(window=6, blocks=3), 15, 42)
    assert order.rows(np.arange(15)).tolist() == [8, 4, 5, 6, 7, 9, 1, 3, 11, 2, 0, 10, 13, 12, 14]


@pytest.mark.parametrize("shuffle", [WindowShuffle(window=8, blocks=2), WindowShuffle(window=5, blocks=5)])
def test_each_document_comes_once_an_epoch_and_is_found_again(tmp_path: Path, shuffle: WindowShuffle) -> None:
    store = make_store(tmp_path, [8] * 30)
    loader = get_loader(store, seq_len=8, batch_size=5, packing=Packing("concat"), shuffle=shuffle)
    for epoch in range(2):
        seen = [row for step in range(6 * epoch, 6 * epoch + 6) for row in loader.rows_at_step(step)]
        assert sorted(row.document for row in seen) == list(range(30))
    for step in (0, 7, 11):
        for row in loader.rows_at_step(step):
            assert step in loader.steps_of_row(row.row_id, until=12)


def test_a_window_reads_few_places(tmp_path: Path) -> None:
    store = make_store(tmp_path, [8] * 64)
    shuffle = WindowShuffle(window=16, blocks=2)
    loader = get_loader(store, seq_len=8, batch_size=16, packing=Packing("concat"), shuffle=shuffle)
    documents = sorted(row.document for row in loader.rows_at_step(1))
    jumps = sum(after - before > 1 for before, after in pairwise(documents))
    assert jumps <= 1
    assert documents != [row.document for row in loader.rows_at_step(1)]


def test_a_state_of_another_shuffle_is_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path, [8] * 30)
    state = get_loader(store, seq_len=8, batch_size=5, shuffle="window").state_dict()
    assert get_loader(store, seq_len=8, batch_size=5, shuffle=WindowShuffle(), state=state).step == 0
    with pytest.raises(RecipeError, match="shuffle"):
        get_loader(store, seq_len=8, batch_size=5, state=state)
