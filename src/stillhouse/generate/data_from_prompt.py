"""Rows from one instruction."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..rows.grid import Grid
from ..text.schema import Schema
from .checks import MADE, Asked, Column, Instruction, check_samples, check_unpack
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

NUMBER = "number"


class DataFromPrompt(MapStep, tag="generate.data_from_prompt/1"):
    """`num` rows from one `instruction`, each by a call of its own: `Write a question about the weather.`

    Call i is asked with sample index i, so that replies differ; that needs a temperature above 0. A larger `num` asks
    only for the rows that are new. The reply stands in `column`, as JSON text where there is a `response` schema; with
    `unpack` each field of the schema is a column. The instruction may use `{{ number }}`, which counts from 0.
    """

    rows: Step[Rows] = Field(MADE, description="the numbers 0 to `num` - 1, made by itself")
    by: Asked
    instruction: Instruction
    num: int = Field(ge=1)
    column: Column = "text"
    response: Schema | None = None
    unpack: bool = False

    @model_validator(mode="after")
    def _numbered(self) -> "DataFromPrompt":
        check_samples(self.by, self.num, "num")
        check_unpack(self.response, self.unpack)
        if "rows" not in self.model_fields_set:
            self.__dict__["rows"] = Grid(each=self.num, number=NUMBER)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The number, and what the instruction reads."""
        from .template import columns_read

        return (NUMBER, *columns_read(self.instruction))

    def mapper(self, context: Context) -> Mapper:
        from ._data_from_prompt import writer

        return writer(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call for each row."""
        return expected(self.by, session, rows=rows_in, calls=rows_in, prompt=len(self.instruction), reply=400)
