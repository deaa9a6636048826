"""The work behind `Sft`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..losses.cross_entropy import CrossEntropy
from ..objective import Measured

if TYPE_CHECKING:
    from ...models.forward import Forward
    from .._batches import MicroBatch


def measure(loss: CrossEntropy, forward: Forward, batch: MicroBatch) -> Measured:
    """See `Sft.__call__`; outside training also the share of tokens that would be written rightly."""
    logits_MV = forward.logits(batch.tokens, batch.keep)
    total, denominator = loss(logits_MV, batch.targets, batch.weights)
    metrics = {}
    if not forward.model.training:
        metrics["accuracy"] = (logits_MV.argmax(dim=-1) == batch.targets).float() @ batch.weights
    return Measured(total, denominator, metrics)
