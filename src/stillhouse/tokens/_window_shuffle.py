"""The work behind `window_shuffle`: permuted blocks, then permuted rows in windows of them, by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ._permutation import key_of, permuted, unpermuted
from .window_shuffle import WindowShuffle

Int64s = npt.NDArray[np.int64]


class Extent(NamedTuple):
    """Rows that lie together: the first, and one past the last."""

    first: int
    stop: int


class WindowOrder:
    """A permutation of 0 … `num_rows` - 1 under `key`.

    Whole blocks are permuted; the rest, shorter than a block, stays behind them. Places are then cut into windows, the
    last of which may be short.
    """

    def __init__(self, shuffle: WindowShuffle, num_rows: int, key: int) -> None:
        self._num_rows = num_rows
        self._key = key
        self._block = max(1, shuffle.window // shuffle.blocks)
        self._window = self._block * shuffle.blocks
        self._num_blocks = num_rows // self._block
        self._block_key = key_of("blocks", key)

    @property
    def num_windows(self) -> int:
        return -(-self._num_rows // self._window)

    def window_of(self, place: int) -> int:
        return place // self._window

    def rows(self, places: Int64s) -> Int64s:
        """The row at each place."""
        rows = np.empty_like(places)
        for window, here in _groups(places // self._window):
            first = window * self._window
            rows[here] = permuted(places[here] - first, self._size(window), key_of("window", self._key, window)) + first
        return self._moved(rows, back=False)

    def places(self, rows: Int64s) -> Int64s:
        """The inverse of `rows`."""
        moved = self._moved(rows, back=True)
        places = np.empty_like(moved)
        for window, here in _groups(moved // self._window):
            first = window * self._window
            key = key_of("window", self._key, window)
            places[here] = unpermuted(moved[here] - first, self._size(window), key) + first
        return places

    def extents(self, window: int) -> list[Extent]:
        """Where the rows of a window lie."""
        first = window * self._window
        stop = first + self._size(window)
        starts = np.arange(first, stop, self._block)
        found = self._moved(starts, back=False).tolist()
        return [
            Extent(row, row + min(self._block, stop - start)) for row, start in zip(found, starts.tolist(), strict=True)
        ]

    def _size(self, window: int) -> int:
        return min(self._window, self._num_rows - window * self._window)

    def _moved(self, rows: Int64s, *, back: bool) -> Int64s:
        """Rows whose blocks have changed places; those of the rest stay."""
        blocks, inside = np.divmod(rows, self._block)
        change = unpermuted if back else permuted
        whole = np.minimum(blocks, max(0, self._num_blocks - 1))
        moved = change(whole, self._num_blocks, self._block_key) * self._block + inside
        return np.where(blocks < self._num_blocks, moved, rows)


def _groups(numbers: Int64s) -> Iterator[tuple[int, Int64s]]:
    """Each different number with the indices where it stands."""
    for number in np.unique(numbers).tolist():
        yield number, np.flatnonzero(numbers == number)
