"""Muon: matrices move along orthogonalised momentum, the rest by AdamW."""

from typing import TYPE_CHECKING

from pydantic import Field

from ..core.part import Part
from .optimiser import AdamW

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Muon(Part, tag="train.muon/1"):
    """Momentum orthogonalised by Newton-Schulz iterations for linear layers (Jordan et al. 2024), `rest` for others.

    Updates are scaled to the size of AdamW's (Liu et al. 2025), so that one learning rate serves both. It learns from
    scratch in about half of AdamW's updates; for weights that were trained with AdamW, AdamW is the safer choice.
    """

    momentum: float = Field(0.95, ge=0, lt=1)
    weight_decay: float = Field(
        0.1, ge=0, description="share of the learning rate by which the linear layers shrink at each update"
    )
    rest: AdamW = AdamW()

    def __call__(self, model: "nn.Module", learning_rate: float) -> "Optimizer":
        """The optimiser of the model's trainable parameters."""
        from ._muon import muon

        return muon(self, model, learning_rate)
