"""Negative log-likelihood of the right token.

Axes: `M` positions that are learnt, `V` vocabulary.
"""

from typing import TYPE_CHECKING

from pydantic import Field

from ...core.part import Part

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Part, tag="train.cross_entropy/1"):
    """Weighted sum of −log p(target) over positions, with its denominator, the sum of the weights.

    With `smoothing` the target is 1 − smoothing for the right token and smoothing / V for each (Szegedy et al. 2015).
    """

    smoothing: float = Field(0.0, ge=0, lt=1)

    def __call__(self, logits_MV: "Tensor", targets_M: "Tensor", weights_M: "Tensor") -> "tuple[Tensor, Tensor]":
        from ._cross_entropy import cross_entropy

        return cross_entropy(logits_MV, targets_M, weights_M, self.smoothing)
