"""Supervised fine-tuning: learn to write the tokens that have a weight."""

from typing import TYPE_CHECKING

from pydantic import Field

from ...core.part import Part
from ..losses.cross_entropy import CrossEntropy

if TYPE_CHECKING:
    from ...models.forward import Forward
    from .._batches import MicroBatch
    from ..objective import Measured


class Sft(Part, tag="train.sft/1"):
    """The loss of each learnt token, given the tokens before it in its document."""

    loss: CrossEntropy = Field(default_factory=CrossEntropy)

    def __call__(self, forward: "Forward", batch: "MicroBatch") -> "Measured":
        from ._sft import measure

        return measure(self.loss, forward, batch)
