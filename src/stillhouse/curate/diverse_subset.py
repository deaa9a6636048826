"""A few rows that stand for many."""

from typing import Literal

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from ..rows.named import Columns


class DiverseSubset(Step[Rows], tag="curate.diverse_subset/1"):
    """`size` rows that cover the table; the others are dropped and name the chosen row that is nearest.

    `facility_location` makes every row have a chosen one near it on average: it maximises the sum over all rows of the
    highest cosine (not below 0) with a chosen row. Greedy choice reaches at least 1 − 1/e of the best possible
    (Nemhauser et al. 1978); rows whose gain cannot be the largest are not looked at again (Minoux 1978).
    `k_centre` makes no row far from all: it takes the row nearest to the middle, then over and over the row that is
    farthest from those taken; the largest distance left is at most twice the best possible (Gonzalez 1985), and
    outliers are taken first.

    Facility location takes the square of the rows in time. For many rows, `cover` says how many of them, drawn by
    `seed`, are to be covered, and `epsilon` how much of the guarantee may go so that only some rows, drawn anew each
    time, are looked at (stochastic greedy, 1 − 1/e − ε; Mirzasoleiman et al. 2015).
    """

    rows: Step[Rows]
    size: float = Field(gt=0)
    """A share of the rows if below 1, else their number."""
    method: Literal["facility_location", "k_centre"] = "facility_location"
    column: str | None = None
    """Holds the vectors; where neither it nor `texts` is given, that is `vector`."""
    texts: Columns | None = None
    """Columns of text that are compared by their n-grams in place of vectors."""
    ngram: int = Field(2, ge=1, le=32)
    unit: Literal["words", "characters"] = "words"
    cover: int | None = Field(None, ge=1)
    epsilon: float | None = Field(None, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_way(self) -> "DiverseSubset":
        if self.column is not None and self.texts is not None:
            raise RecipeError("DiverseSubset: both `column` and `texts` are given", "Give vectors or texts.")
        if self.method == "k_centre" and (self.cover is not None or self.epsilon is not None):
            raise RecipeError("DiverseSubset: `cover` and `epsilon` are for facility location", "Leave them out.")
        return self

    def limited(self, num_rows: int) -> "DiverseSubset":
        """One row: a share of a few rows may be none."""
        del num_rows
        found: DiverseSubset = self.replace(size=1)
        return found

    def run(self, context: Context) -> None:
        from ._diverse_subset import write_subset

        write_subset(self, context)
