"""Tasks for which tools are needed."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..rows.grid import Grid
from .checks import MADE, Asked, Column, check_samples
from .expectation import expected
from .tools import checked_tools, tool_form

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session

NUMBER = "number"


class ToolTasks(MapStep, tag="generate.tool_tasks/1"):
    """About `num` tasks that people would give to an assistant with these `tools` (after APIGen, Liu et al. 2024, arXiv
    2406.18518), for `ToolTraces` to solve.

    Each call draws by `seed` which tools are needed, one to `most_needed` of them, and asks for `per_call` tasks. The
    rows have the task in `column` and the names of those tools in `needs`. Tools are those of `ToolTraces`; here they
    are only told, never called.
    """

    rows: Step[Rows] = Field(MADE, validate_default=False, description="the numbers of the calls, made by itself")
    by: Asked
    tools: tuple[Any, ...] = Field(min_length=1)
    num: int = Field(ge=1)
    per_call: int = Field(5, ge=1, le=50)
    most_needed: int = Field(2, ge=1)
    column: Column = "instruction"
    seed: int = 0

    @field_validator("tools", mode="before")
    @classmethod
    def _are_tools(cls, tools: Any) -> Any:
        return checked_tools(tools)

    @model_validator(mode="after")
    def _numbered(self) -> "ToolTasks":
        if self.column == "needs":
            raise ValueError("`needs` is the column of the tools; call `column` otherwise")
        check_samples(self.by, self.num_calls, "num")
        if "rows" not in self.model_fields_set:
            self.__dict__["rows"] = Grid(each=self.num_calls, number=NUMBER)
        return self

    @property
    def num_calls(self) -> int:
        """How many calls it takes."""
        return -(-self.num // self.per_call)

    def identity(self) -> Mapping[str, Any]:
        """The fields, and what models are told of the tools: the form of a function leaves its docstring out."""
        return {**self.values(), "told": [tool_form(tool) for tool in self.tools]}

    def asks_about(self) -> Sequence[str]:
        """The number."""
        return (NUMBER,)

    def mapper(self, context: Context) -> Mapper:
        from ._tool_tasks import inventor

        return inventor(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each `per_call` tasks."""
        told = max(len(str(tool_form(tool))) for tool in self.tools) * self.most_needed
        reply = 120 * self.per_call
        return expected(self.by, session, rows=self.num, calls=rows_in, prompt=500 + told, reply=reply)
