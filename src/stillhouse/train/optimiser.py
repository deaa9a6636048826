"""Optimisers: how gradients move parameters."""

from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from ..core.part import Part

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class MakeOptimiser(Protocol):
    """What the loop asks of an optimiser's part."""

    def __call__(self, model: "nn.Module", learning_rate: float) -> "Optimizer":
        """The optimiser of the model's trainable parameters; the loop sets their rate at each update."""
        ...


class AdamW(Part, tag="train.adamw/1"):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017)."""

    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: float = Field(
        0.01, ge=0, description="share of the learning rate by which weights shrink at each update"
    )
    decayed: Literal["matrices", "all"] = Field(
        "matrices", description="`matrices`: linear layers alone, not norms, biases and embeddings"
    )

    def __call__(self, model: "nn.Module", learning_rate: float) -> "Optimizer":
        """The optimiser of the model's trainable parameters."""
        from ._optimiser import adamw

        return adamw(self, model, learning_rate)
