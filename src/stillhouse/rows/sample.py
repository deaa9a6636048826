"""Some of the rows, drawn by chance."""

from typing import Literal

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step


class Sample(Step[Rows], tag="rows.sample/1"):
    """`size` rows drawn without repeats, in their old order; all where there are fewer.

    Row ids and `seed` decide, so a sample tends to keep its rows when others are added, and a larger one holds the
    smaller. With `by`, each value of that column has its share to within one row (`proportional`), or as many rows as
    the others, as far as it has them (`equal`).
    """

    rows: Step[Rows]
    size: float = Field(gt=0)
    """A share of the rows if below 1, else their number."""
    by: str | None = None
    shares: Literal["proportional", "equal"] = "proportional"
    seed: int = 0

    @model_validator(mode="after")
    def _shares_of_what(self) -> "Sample":
        if self.by is None and self.shares == "equal":
            raise RecipeError("Sample: `shares` are equal, but `by` names no column", "Name the column in `by`.")
        return self

    def limited(self, num_rows: int) -> "Sample":
        """All of a few rows: a share of them may be none."""
        found: Sample = self.replace(size=num_rows)
        return found

    def run(self, context: Context) -> None:
        from ._sample import write_sample

        write_sample(self, context)
