"""The loader as a torch data set: the one file of `tokens` that knows torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..core.errors import RecipeError
from .batch import Batch, named_arrays
from .loader import Loader

FIELDS = ("ids", "labels", "weights", "position_ids", "document_ids", "cu_seqlens", "source_ids")


class LoaderDataset(IterableDataset[dict[str, Tensor]]):
    """Whole batches as tensors, for `DataLoader(dataset, batch_size=None)`; keeps its place in `state_dict`.

    Works with torchdata's `StatefulDataLoader` and with Accelerate, without worker processes: reading is a copy out of
    a memory map, and a state held by workers would not be exact. A loader of rank r hands out the rows of rank r, so
    nothing else may deal its batches to processes.

    `pin_memory` (default: where there is a CUDA device) puts tensors into pinned memory, from which
    `tensor.to(device, non_blocking=True)` copies while the device computes.
    """

    def __init__(self, loader: Loader, num_steps: int | None = None, *, pin_memory: bool | None = None) -> None:
        self.loader = loader
        self.num_steps = num_steps
        """Where iterating ends, counted from the run's first step; None never ends."""
        self.pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if get_worker_info() is not None:
            raise RecipeError("LoaderDataset cannot be read by worker processes", "Use `num_workers=0`.")
        while self.num_steps is None or self.loader.step < self.num_steps:
            yield tensors(next(self.loader), pin_memory=self.pin_memory)

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)


def tensors(batch: Batch, *, pin_memory: bool = False) -> dict[str, Tensor]:
    """The batch's arrays as tensors that share their memory, or are copies in pinned memory.

    An extra array is called `extras.NAME`.
    """
    found = {name: torch.from_numpy(array) for name, array in named_arrays(batch, FIELDS).items()}
    return {name: tensor.pin_memory() for name, tensor in found.items()} if pin_memory else found
