"""Rows whose number lies in a band."""

from pydantic import model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step


class Band(Step[Rows], tag="curate.band/1"):
    """The rows whose number in `by` lies between two bounds, both included; the others are dropped with theirs.

    Bounds are numbers (`at_least`, `at_most`), or `percentiles` of the column itself: `(5, 95)` leaves out a twentieth
    at each end (interpolated linearly, as numpy does). The bounds that were used stand in the record. A row without a
    number is dropped.
    """

    rows: Step[Rows]
    by: str
    """A column of numbers: a perplexity, a score, a length."""
    at_least: float | None = None
    at_most: float | None = None
    percentiles: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "Band":
        fixed = self.at_least is not None or self.at_most is not None
        if fixed == (self.percentiles is not None):
            raise RecipeError("Band: give either `percentiles`, or `at_least`, `at_most` or both of them")
        low, high = self.percentiles or (0, 100)
        if not 0 <= low < high <= 100:
            raise RecipeError(f"Band: `percentiles` are ({low:g}, {high:g})", "Give two numbers from 0 to 100, rising.")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise RecipeError(f"Band: at least {self.at_least:g} and at most {self.at_most:g} lets nothing pass")
        return self

    def run(self, context: Context) -> None:
        from ._band import write_band

        write_band(self, context)
