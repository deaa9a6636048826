"""Tokens whose examples weigh something else."""

from pydantic import Field

from ..core.artifact import Rows, Tokens
from ..core.context import Context
from ..core.step import Step


class Reweight(Step[Tokens], tag="tokens.reweight/1"):
    """`tokens` with other weights of the examples in the loss, taken from a table: nothing is tokenised again.

    The token files are linked, not copied. A row of `weights` speaks of the row whose id stands in its column `row`;
    without `row`, of the tokenised row that it is, or was made from. Examples of which no row speaks keep their weight,
    or weigh `others`. Rows of `weights` that speak of no row of the tokens are counted (`unknown`) and warned of. Plans
    of packing stay valid.
    """

    tokens: Step[Tokens]
    weights: Step[Rows]
    column: str = Field("weight", description="the column with the new weight, 0 or more")
    row: str | None = Field(None, description="the column with the id of the row that was tokenised")
    others: float | None = Field(None, ge=0, allow_inf_nan=False, description="weight of the rows that are not named")

    def run(self, context: Context) -> None:
        from ._reweight import reweight

        reweight(self, context)
