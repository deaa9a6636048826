"""Conversations between an assistant and a user who is played."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from ..core.context import Context
from ..core.functions import Function
from ..core.step import Mapper, MapStep
from .checks import Asked, Column, Instruction, check_samples
from .expectation import Load, expected_of

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Converse(MapStep, tag="generate.converse/1"):
    """A conversation for each row, in the column `messages`: a model plays the user, `by` is the assistant.

    `opening` is a template for the user's first message; without it the user who is played begins. `scenario` says who
    the user is and what for they came: `You are {{ persona }} and want {{ goal }}.` `system` is a template for the
    assistant's system prompt, which becomes the first message. There are at most `turns` exchanges; it ends earlier
    when the user has what they wanted and goes (unless `may_leave` is False), or when `until(messages)` says True.

    Each turn is a call. Conversations of different rows are held at the same time. Where one of a row's calls gives no
    usable reply the row fails, with the conversation so far. The column `num_turns` counts the exchanges. With
    `samples` above 1 so many conversations are held for each row, numbered in the column `sample`.
    """

    follows_up: ClassVar[bool] = True

    by: Asked
    user: Asked | None = Field(None, description="who plays the user; None asks `by`")
    opening: Instruction | None = None
    scenario: Instruction | None = None
    system: Instruction | None = None
    turns: int = Field(3, ge=1)
    may_leave: bool = True
    until: Function | None = None
    column: Column = "messages"
    samples: int = Field(1, ge=1)

    @model_validator(mode="after")
    def _samples_differ(self) -> "Converse":
        try:
            check_samples(self.by, self.samples)
        except ValueError:  # one of the two is enough to make conversations differ
            check_samples(self.user or self.by, self.samples)
        return self

    @field_validator("until")
    @classmethod
    def _takes_messages(cls, until: Any) -> Any:
        from ..measure.function_verifier import name_of, takes

        if until is not None and not takes(until, 1):
            raise ValueError(f"`{name_of(until)}` does not take the messages: write it as `def until(messages)`")
        return until

    def asks_about(self) -> Sequence[str]:
        """What its templates read."""
        from .template import columns_read

        return columns_read(self.opening, self.scenario, self.system)

    def mapper(self, context: Context) -> Mapper:
        from ._converse import Conversations

        return Conversations(self, context).mapper

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As if nobody left early."""
        rows = None if rows_in is None else rows_in * self.samples
        replies = None if rows is None else rows * self.turns
        questions = None if rows is None else rows * (self.turns - (self.opening is not None))
        so_far = 400 * self.turns
        loads = [Load(self.by, replies, 300 + so_far, 600), Load(self.user or self.by, questions, 900 + so_far, 150)]
        return expected_of(loads, session, rows=rows)
