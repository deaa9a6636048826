"""Rows that mean the same."""

from typing import Literal

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step


class SemanticDedup(Step[Rows], tag="curate.semantic_dedup/1"):
    """One row of each group whose vectors point the same way; the others are dropped and name the row that was kept.

    Rows are taken in order of preference (`keep`), and one is dropped when the cosine of its vector with that of a row
    kept before reaches `threshold`; so a chain of small changes does not carry away a row unlike all that stay. A row
    without a vector is like nothing.

    All pairs are compared, a block at a time: the square of the rows in time (100,000 rows of width 384 take about
    4 × 10¹² operations), their vectors in memory or, where they are many, in a file. With `clusters` only rows of the
    same cluster are compared (k-means; SemDeDup, Abbas et al. 2023): quicker by their number, and a pair on a border is
    overlooked.
    """

    rows: Step[Rows]
    column: str = "vector"
    """Holds the vectors, as `Embed` makes them."""
    threshold: float = Field(0.92, gt=0, le=1)
    """Depends on the embedder: look at some of the pairs that are dropped."""
    keep: Literal["first", "longest", "best"] = "first"
    """`longest` text in the column `by`, or the `best`, which is the highest number there."""
    by: str | None = None
    clusters: int | None = Field(None, ge=2)
    seed: int = 0
    """For the clusters."""

    @model_validator(mode="after")
    def _says_by_what(self) -> "SemanticDedup":
        if (self.keep == "first") != (self.by is None):
            what = "text is measured" if self.keep == "longest" else "number decides"
            raise RecipeError(
                f"SemanticDedup: `keep` is `{self.keep}`, `by` is {self.by!r}",
                "Leave `by` out." if self.keep == "first" else f"Name in `by` the column whose {what}.",
            )
        return self

    def run(self, context: Context) -> None:
        from ._semantic_dedup import write_unlike

        write_unlike(self, context)
