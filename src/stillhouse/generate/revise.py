"""Answers that are criticised and written again."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from ..calls.ask import Ask
from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..text.schema import Schema
from .checks import Asked, Column, Instruction
from .expectation import Load, expected_of
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Revise(MapStep, tag="generate.revise/1"):
    """Has the answer in `column` criticised and written again, up to `rounds` times; the last one becomes `into`.

    `template` shows the task (`{{ input }}`), `standard` says what a good answer is like. The critic (`critic`, else
    `by`) names what is wrong, or says that the answer is fine, which ends the rounds. `critiques` holds what was
    criticised, in order: none of it where the answer was fine as it stood. With a `response` schema the new answer is
    its JSON text. A row fails when a critique or a new answer cannot be used.
    """

    follows_up: ClassVar[bool] = True

    by: Asked
    template: Instruction
    standard: str = Field(min_length=1)
    critic: Ask | None = None
    column: str = "output"
    into: Column = "revised"
    rounds: int = Field(1, ge=1)
    response: Schema | None = None

    @model_validator(mode="after")
    def _apart(self) -> "Revise":
        if self.into in (self.column, "critiques"):
            raise ValueError(f"`into` is `{self.into}`, which is another column of this step: give a name of its own")
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The answer, and what the task reads."""
        from .template import columns_read

        return (self.column, *columns_read(self.template))

    def mapper(self, context: Context) -> Mapper:
        from ._revise import reviser

        return reviser(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A critique and a new answer for each row and round, as if no answer were fine."""
        calls = None if rows_in is None else rows_in * self.rounds
        prompt = len(self.template) + len(self.standard) + 1500
        loads = [Load(self.critic or self.by, calls, prompt, 400), Load(self.by, calls, prompt + 400, 800)]
        return expected_of(loads, session, rows=rows_in)
