"""From a text to the instruction that it answers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Asked, Column, check_samples
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Backtranslate(MapStep, tag="generate.backtranslate/1"):
    """Adds the instruction to which the text in `input` is a good answer (instruction backtranslation, Li et al. 2023,
    arXiv 2308.06259).

    So texts that people wrote become pairs of instruction and answer. Not every text answers anything: let a judge
    grade the pairs and keep the best. `samples` above 1 gives as many rows, numbered in the column `sample`.
    """

    by: Asked
    input: str = Field("text", min_length=1)
    column: Column = "instruction"
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "Backtranslate":
        check_samples(self.by, self.samples)
        return self

    def asks_about(self) -> Sequence[str]:
        """The text."""
        return (self.input,)

    def mapper(self, context: Context) -> Mapper:
        from ._drawn import drawer

        return drawer(self, context, "instruction")

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        return expected(self.by, session, rows=rows, calls=rows, prompt=2000, reply=150)
