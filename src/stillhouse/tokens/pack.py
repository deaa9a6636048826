"""Tokens with the plan of their rows."""

from pydantic import Field

from ..core.artifact import Tokens
from ..core.context import Context
from ..core.step import Step
from .packing import Packing


class Pack(Step[Tokens], tag="tokens.pack/1"):
    """`tokens` with the plan that says what stands in each row of `seq_len` tokens.

    The token files are linked, not copied, and a loader takes row length, packing and seed from the result, and the
    plan where these are as they are here; plans that depend on the seed serve a loader over these tokens alone. Its
    `packing.json` tells documents, rows and positions used; documents that were cut or left out as longer than a row
    stand with their row ids in `split.jsonl` and `left_out.jsonl`.

    A loader packs by itself; this step does it before, once for all who read the tokens, and shows what it does.
    """

    tokens: Step[Tokens]
    seq_len: int = Field(2048, ge=2, description="tokens of a row")
    packing: Packing = Field(default_factory=Packing)
    seed: int = Field(0, description="of a loader that is given none")
    epochs: int = Field(1, ge=1, description="epochs to plan, for packing that is done anew each epoch")

    def run(self, context: Context) -> None:
        from ._pack import pack

        pack(self, context)
