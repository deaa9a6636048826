"""A model with random weights, sized by a few numbers: for students small enough to train where the user sits."""

from typing import Literal

from pydantic import Field, SerializeAsAny, model_validator

from ..core.artifact import Files, Model
from ..core.context import Context
from ..core.step import Step


class FromScratch(Step[Model], tag="models.from_scratch/1"):
    """A transformers model with fresh weights, and the tokenizer's files beside them.

    The defaults make about a million parameters over a vocabulary of a thousand.
    """

    tokenizer: SerializeAsAny[Step[Files]]
    architecture: Literal["llama"] = "llama"
    hidden: int = Field(160, ge=8, description="width of the residual stream")
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int | None = Field(None, ge=1, description="heads of keys and values; None: as many as `heads`")
    ff: int | None = Field(None, ge=8, description="width of the feed-forward layer; None: 8/3 of `hidden`")
    max_length: int = Field(512, ge=8, description="longest conversation in tokens")
    tie_embeddings: bool = True
    init_std: float = Field(
        0.02, gt=0, description="standard deviation of fresh weights; narrow models learn faster with about 1/√hidden"
    )
    rope_theta: float = Field(10_000.0, gt=1, description="base of the rotary positions; short texts want a small one")
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "FromScratch":
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden ({self.hidden}) must be heads ({self.heads}) times an even number")
        if self.kv_heads is not None and self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        return self

    @property
    def feed_forward(self) -> int:
        """The width of the feed-forward layer that `ff` or its default gives."""
        return self.ff if self.ff is not None else -(-self.hidden * 8 // 3 // 16) * 16

    def run(self, context: Context) -> None:
        from ._scratch import build

        num_parameters = build(self, context.get(self.tokenizer).path, context.folder)
        context.note(num_parameters=num_parameters)
