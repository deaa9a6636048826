"""An adapter worked into its base: one folder of plain weights."""

from pydantic import SerializeAsAny

from ..core.artifact import Model
from ..core.context import Context
from ..core.step import Step


class Merge(Step[Model], tag="models.merge/1"):
    """The base of `model` with its adapter added to the weights: in float32, rounded once to the base's dtype.

    The sum is checked before rounding: merged and unmerged model must give the same logits. A quantised base is
    refused.
    """

    model: SerializeAsAny[Step[Model]]

    def run(self, context: Context) -> None:
        from ._merge import merge

        context.note(**merge(context.get(self.model).path, context.folder))
