"""A key-value cache that writes into room made ahead: growing by concatenation copies everything at every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """A `DynamicLayer` with room for `capacity` positions."""

    def __init__(self, capacity: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the exclusion of transformers does not reach `super`
        self._capacity = capacity
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        end = filled + key_states.shape[-2]
        if self._room is None:
            self._room = self._with_room(key_states), self._with_room(value_states)
        elif end > self._room[0].shape[-2]:
            raise RuntimeError(f"the cache has room for {self._room[0].shape[-2]} positions, {end} are needed")
        keys, values = self._room
        keys[:, :, filled:end] = key_states
        values[:, :, filled:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if self._room is not None:
            filled = self.get_seq_length()
            keys, values = (room.index_select(0, indices) for room in self._room)
            self._room = keys, values
            self.keys, self.values = keys[:, :, :filled], values[:, :, :filled]

    def _with_room(self, states: Tensor) -> Tensor:
        batch, heads, _, width = states.shape
        return torch.empty(batch, heads, self._capacity, width, dtype=states.dtype, device=states.device)


def roomy_cache(config: Any, capacity: int) -> DynamicCache:
    """A cache for `capacity` positions; layers of other kinds (sliding, recurrent) stay as transformers makes them."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
