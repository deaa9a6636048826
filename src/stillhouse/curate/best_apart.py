"""The best rows that are not alike."""

from typing import Literal

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from ..rows.named import Columns


class BestApart(Step[Rows], tag="curate.best_apart/1"):
    """The best rows by score, each unlike those taken before it (the selection of DEITA, Liu et al. 2023).

    Rows are gone through from the highest score down; one is taken when the cosine with every row taken before is below
    `threshold`, until there are `size`. With several columns in `by` the score is their product (DEITA multiplies
    complexity and quality). The others are dropped: too like a better row, past the size, or without a score.
    """

    rows: Step[Rows]
    by: Columns
    """Columns of numbers; higher is better."""
    size: int = Field(ge=1)
    """The most rows that are taken; fewer where no others are unlike."""
    threshold: float = Field(0.9, gt=0, le=1)
    column: str | None = None
    """Holds the vectors; where neither it nor `texts` is given, that is `vector`."""
    texts: Columns | None = None
    """Columns of text that are compared by their n-grams in place of vectors."""
    ngram: int = Field(2, ge=1, le=32)
    unit: Literal["words", "characters"] = "words"

    @model_validator(mode="after")
    def _one_way(self) -> "BestApart":
        if self.column is not None and self.texts is not None:
            raise RecipeError("BestApart: both `column` and `texts` are given", "Give vectors or texts.")
        return self

    def run(self, context: Context) -> None:
        from ._best_apart import write_best

        write_best(self, context)
