"""What a task is like, drawn from examples."""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..calls.ask import Ask
from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Step
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class LengthRange(BaseModel):
    """Shortest and longest text in characters, and the mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shortest: int
    longest: int
    mean: float


class PolicyWords(BaseModel):
    """The part of a policy that a model writes."""

    model_config = ConfigDict(title="TaskPolicy", extra="ignore", frozen=True)

    task_description: str
    input_format: str
    output_format: str
    reasoning_style: str
    key_constraints: list[str]
    difficulty: Literal["easy", "medium", "hard"]
    reasoning_patterns: list[str]
    examples_summary: str


class TaskPolicy(PolicyWords):
    """A task in words, with the lengths of its inputs and outputs as they were measured."""

    model_config = ConfigDict(extra="forbid")

    input_length_range: LengthRange
    output_length_range: LengthRange


class ExtractPolicy(Step[Report], tag="generate.extract_policy/1"):
    """Asks `by` once to describe the task that `rows` (`input`, `output`) show; the report holds a `TaskPolicy`.

    Lengths are measured over all rows, never guessed. At most `examples` rows are shown, spread over the table.
    """

    rows: Step[Rows]
    by: Ask
    instruction: str = Field(min_length=1)
    examples: int = Field(20, ge=1)
    attempts: int = Field(3, ge=1, description="a reply that cannot be used is asked for again, up to this many in all")

    def run(self, context: Context) -> None:
        from ._policy import write_policy

        write_policy(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call."""
        shown = min(rows_in or self.examples, self.examples)
        return expected(self.by, session, rows=None, calls=1, prompt=1500 + 600 * shown, reply=2000)
