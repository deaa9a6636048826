"""The work behind `CrossEntropy`."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def cross_entropy(logits_MV: Tensor, targets_M: Tensor, weights_M: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """(sum, denominator), in float32 whatever the dtype of the logits."""
    losses_M = functional.cross_entropy(logits_MV.float(), targets_M, reduction="none", label_smoothing=smoothing)
    return losses_M @ weights_M, weights_M.sum()
