"""Conversations in which a model uses tools."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ..calls.ask import Ask
from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..measure.limits import Limits
from .checks import Column, Instruction, check_samples
from .expectation import Load, expected_of
from .tools import checked_tools, name_of, tool_form

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class ToolTraces(MapStep, tag="generate.tool_traces/1"):
    """A conversation for each row in which a model solves the task in `input` with tools, in the column `messages`;
    the tools stand as JSON text in the column `tools`.

    `tools` are Python functions (`module:function`), whose annotations and docstring tell what they take and do, and
    which are called in a process of their own under `limits`; and JSON Schemas (`{"name", "description",
    "parameters"}`), for which a model, `simulator`, plays the tool. A function should give the same for the same
    arguments: each call begins anew, and a run that is taken up again calls it again.

    As in APIGen (Liu et al. 2024, arXiv 2406.18518) every call is checked for its form (a tool that exists, arguments
    that follow its schema) and by running it. With `mistakes` at `drop` a row in which either fails is dropped, with
    the reason; at `tell` the model is told, and the trace holds how it goes on. Whether an answer makes sense is for a
    judge to say. Also dropped are rows without an answer after `rounds` replies, and, unless `must_use` is False, those
    in which no tool was called. With `samples` above 1 so many traces are made of a row.
    """

    follows_up: ClassVar[bool] = True

    by: Ask
    tools: tuple[Any, ...] = Field(min_length=1)
    input: str = Field("instruction", min_length=1)
    system: Instruction | None = None
    simulator: Ask | None = None
    limits: Limits = Limits()
    mistakes: Literal["drop", "tell"] = "drop"
    rounds: int = Field(8, ge=1, description="replies of the model at most")
    must_use: bool = True
    column: Column = "messages"
    samples: int = Field(1, ge=1)

    @field_validator("tools", mode="before")
    @classmethod
    def _are_tools(cls, tools: Any) -> Any:
        return checked_tools(tools)

    @model_validator(mode="after")
    def _can_be_called(self) -> "ToolTraces":
        check_samples(self.by, self.samples)
        played = [name_of(tool) for tool in self.tools if isinstance(tool, Mapping)]
        if played and self.simulator is None:
            raise ValueError(
                f"`{played[0]}` is a schema and no function: say in `simulator` which model plays it, or give one"
            )
        if self.by.tools:
            raise ValueError("the `Ask` has tools of its own; give them here, with what they do")
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and what models are told of the tools: the form of a function leaves its docstring out."""
        return {**self.values(), "told": [tool_form(tool) for tool in self.tools]}

    def asks_about(self) -> Sequence[str]:
        """The task, and what the system prompt reads."""
        from .template import columns_read

        return (self.input, *columns_read(self.system))

    def mapper(self, context: Context) -> Mapper:
        from ._tool_traces import Traces

        return Traces(self, context).mapper

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As if each row took two calls of tools and an answer."""
        rows = None if rows_in is None else rows_in * self.samples
        told = sum(len(str(tool_form(tool))) for tool in self.tools)
        replies = None if rows is None else rows * min(3, self.rounds)
        loads = [Load(self.by, replies, 800 + told, 250)]
        if self.simulator is not None:
            loads.append(Load(self.simulator, None if rows is None else rows * 2, 900, 250))
        return expected_of(loads, session, rows=rows)
