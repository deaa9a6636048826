"""What a training method is: from a model and a batch to a sum, its denominator and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.forward import Forward
    from ._batches import MicroBatch


@dataclass(frozen=True)
class Measured:
    """What a micro-batch contributes. Never a mean: the loop alone divides, by the denominator of the whole update."""

    sum: Tensor
    """A scalar to go backward from."""
    denominator: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Sums over the same denominator, without a graph."""


class Objective(Protocol):
    """A training method; a part that the loop calls for each micro-batch."""

    def __call__(self, forward: Forward, batch: MicroBatch) -> Measured: ...
