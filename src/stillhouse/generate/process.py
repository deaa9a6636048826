"""An instruction applied to one column."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..text.schema import Schema
from .checks import Asked, Column, Instruction, check_samples, check_unpack
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class ProcessWithPrompt(MapStep, tag="generate.process_with_prompt/1"):
    """Applies `instruction` to what stands in the column `input` of each row: `Summarise it in one sentence.`

    The text comes first, under `input_label`, then the instruction under `instruction_label`; a model follows best what
    it has read last. The reply becomes `column`. The instruction is a template and may use the row's other columns. A
    row without anything in `input` fails.
    """

    by: Asked
    instruction: Instruction
    input: str = Field("text", min_length=1)
    column: Column = "reply"
    input_label: str = "Input:"
    instruction_label: str = "Instruction:"
    separator: str = "\n\n"
    response: Schema | None = None
    unpack: bool = False
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _whole(self) -> "ProcessWithPrompt":
        check_samples(self.by, self.samples)
        check_unpack(self.response, self.unpack)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The input, and what the instruction reads."""
        from .template import columns_read

        return (self.input, *columns_read(self.instruction))

    def mapper(self, context: Context) -> Mapper:
        from ._process import processor

        return processor(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row and sample."""
        rows = None if rows_in is None else rows_in * self.samples
        return expected(self.by, session, rows=rows, calls=rows, prompt=len(self.instruction) + 600, reply=400)
