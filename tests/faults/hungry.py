"""An objective that needs a quarter of a gigabyte for each batch, and can be made to starve."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from stillhouse.core.part import Part
from stillhouse.train.objectives.sft import Sft

if TYPE_CHECKING:
    from stillhouse.models.forward import Forward
    from stillhouse.train._batches import MicroBatch
    from stillhouse.train.objective import Measured

SIZE = 1 << 28
STARVES_AT = "HUNGRY_STARVES_AT"
"""Variable with the batch before which the process may not grow by even half of `SIZE` any more."""
_batches = 0


class Hungry(Part, tag="tests.hungry/1"):
    """`Sft`, with memory that is asked for and never touched, so that it costs nothing where it is granted."""

    def __call__(self, forward: Forward, batch: MicroBatch) -> Measured:
        global _batches
        _batches += 1
        if os.environ.get(STARVES_AT) == str(_batches):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + SIZE // 2, -1))
        held = torch.empty(SIZE, dtype=torch.uint8)
        found = Sft()(forward, batch)
        del held
        return found
