"""A student that begins with nothing: its tokenizer and its shape."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.part import Part
from ..core.step import Step
from ..models.scratch import FromScratch
from ..text.train_tokenizer import TrainTokenizer


class Scratch(Part, tag="recipes.scratch/1"):
    """A small transformer trained from random weights, with a tokenizer learnt from the training rows.

    For where no weights can be had, and for tasks small enough to need none. The defaults make about a million
    parameters.
    """

    vocab_size: int = Field(1024, ge=300)
    json_syntax: bool = Field(False, description="what stands between the values of JSON replies is a token of its own")
    hidden: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    kv_heads: int | None = Field(None, ge=1)
    ff: int | None = Field(None, ge=8)
    max_length: int = Field(512, ge=8, description="longest conversation in tokens")
    init_std: float | None = Field(None, gt=0, description="standard deviation of fresh weights; None: 1/√hidden")
    rope_theta: float = Field(10_000.0, gt=1, description="base of the rotary positions; short texts want a small one")
    seed: int = 0

    def tokenizer(self, conversations: Step[Rows]) -> TrainTokenizer:
        """The tokenizer that is learnt from `conversations`."""
        return TrainTokenizer(rows=conversations, vocab_size=self.vocab_size, json_syntax=self.json_syntax)

    def model(self, tokenizer: TrainTokenizer) -> FromScratch:
        """The untrained model."""
        return FromScratch(
            tokenizer=tokenizer,
            hidden=self.hidden,
            layers=self.layers,
            heads=self.heads,
            kv_heads=self.kv_heads,
            ff=self.ff,
            max_length=self.max_length,
            init_std=self.init_std or round(self.hidden**-0.5, 4),
            rope_theta=self.rope_theta,
            seed=self.seed,
        )
