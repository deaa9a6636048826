"""Reasoning for examples whose answer is known."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..text.schema import Schema
from .checks import Asked
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class SynthesizeCoT(MapStep, tag="generate.synthesize_cot/1"):
    """Adds `thinking` to rows with `input` and `output`: the reasoning of a reply that comes to the same output.

    The model is not shown the row's own output. A reply that comes to another one (equal as JSON, or as stripped text,
    is the same) is thrown away and asked for again, up to `attempts` in all; a row that never got there stays without
    thinking. `verified` says which. A row for which no reply could be used fails. A row that has `thinking` already is
    not asked about and has none there. With a `response` schema outputs are written as the schema orders their fields;
    a row that does not follow it fails.
    """

    by: Asked
    instruction: str = Field(min_length=1)
    response: Schema | None = None
    attempts: int = Field(3, ge=1)
    examples: int = Field(3, ge=0, description="other rows that are shown with their outputs")

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which outputs are written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The input."""
        return ("input",)

    def mapper(self, context: Context) -> Mapper:
        from ._cot import tracer

        return tracer(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call for each row, as if each first reply came to the right output."""
        prompt = 600 + len(self.instruction) + 500 * self.examples
        return expected(self.by, session, rows=rows_in, calls=rows_in, prompt=prompt, reply=800)
