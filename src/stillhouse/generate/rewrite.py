"""A text column written anew."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Asked, Column, Instruction, check_samples
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Rewrite(MapStep, tag="generate.rewrite/1"):
    """Writes the text in the column `input` anew, as `how` says: `In plain words, for a child of ten.`

    The new text takes the place of the old one, to which the parent of the row leads, or stands in `into` beside it.
    `how` is a template and may use the row's other columns. With `samples` above 1 a row gives as many, numbered in the
    column `sample`. A row without a text fails, and so does a reply without one. To do anything else with a text, ask
    with `ProcessWithPrompt`.
    """

    by: Asked
    how: Instruction
    input: Column = "text"
    into: Column | None = Field(None, description="the column of the new text; None puts it in place of the old one")
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "Rewrite":
        check_samples(self.by, self.samples)
        return self

    def asks_about(self) -> Sequence[str]:
        """The text, and what `how` reads."""
        from .template import columns_read

        return (self.input, *columns_read(self.how))

    def mapper(self, context: Context) -> Mapper:
        from ._rewrite import rewriter

        return rewriter(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        return expected(self.by, session, rows=rows, calls=rows, prompt=len(self.how) + 600, reply=400)
