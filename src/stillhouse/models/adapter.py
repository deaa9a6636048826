"""Low-rank adapters: train a few new weights beside frozen ones."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ..core.part import Part

if TYPE_CHECKING:
    from torch import nn


class Lora(Part, tag="models.lora/1"):
    """LoRA (Hu et al. 2021): the product of two thin matrices is added to the weights of the layers in `targets`.

    By default on all linear layers except the output head, with alpha 32, which does not need tuning with the rank
    (Schulman et al. 2025, "LoRA without regret").
    """

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the adapter's inputs set to 0 in training")
    targets: Literal["all"] | tuple[str, ...] = Field("all", description="`all`, or ends of module names (q_proj)")
    scaling: Literal["rank", "root"] = Field("rank", description="scale by alpha / rank, or by alpha / √rank (rsLoRA)")

    def __call__(self, model: "nn.Module") -> "nn.Module":
        """`model` with fresh adapters that do not change what it computes yet; only they are trainable."""
        from ._adapter import inject

        return inject(self, model)
