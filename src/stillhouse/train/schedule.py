"""Learning rates over a run: factors of the peak."""

import math
from typing import Protocol

from pydantic import Field

from ..core.part import Part


class Schedule(Protocol):
    """What the loop asks of a schedule."""

    def __call__(self, step: int, num_steps: int) -> float:
        """The factor of the peak learning rate for update `step` (from 0) of `num_steps`."""
        ...


class Cosine(Part, tag="train.cosine/1"):
    """Rise in a line over the first `warmup` of the updates, then fall along half a cosine to `final` of the peak."""

    warmup: float = Field(0.05, ge=0, le=1, description="share of the updates")
    final: float = Field(0.0, ge=0, le=1, description="share of the peak at the end")

    def __call__(self, step: int, num_steps: int) -> float:
        num_warmup = round(self.warmup * num_steps)
        if step < num_warmup:
            return (step + 1) / num_warmup
        done = (step - num_warmup) / max(num_steps - num_warmup, 1)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


class Constant(Part, tag="train.constant/1"):
    """Rise in a line over the first `warmup` of the updates, then stay at the peak."""

    warmup: float = Field(0.0, ge=0, le=1, description="share of the updates")

    def __call__(self, step: int, num_steps: int) -> float:
        num_warmup = round(self.warmup * num_steps)
        return min((step + 1) / num_warmup, 1.0) if num_warmup else 1.0
