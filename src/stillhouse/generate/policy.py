"""What a task is like, drawn from examples."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..calls.embedder import Embedder
from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Step
from .checks import Asked
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


class ClusterPolicy(PolicyWords):
    """What the rows of one cluster are like."""

    model_config = ConfigDict(extra="forbid")

    rows: tuple[str, ...]
    """Ids of the rows in it."""


class TaskPolicy(PolicyWords):
    """A task in words, with the lengths of its inputs and outputs as they were measured.

    `clusters` describe its parts, where there are several; the policy itself is that of all rows.
    """

    model_config = ConfigDict(extra="forbid")

    input_length_range: LengthRange
    output_length_range: LengthRange
    clusters: tuple[ClusterPolicy, ...] = ()


class ExtractPolicy(Step[Report], tag="generate.extract_policy/1"):
    """Asks `by` once to describe the task that `rows` (`input`, `output`) show; the report holds a `TaskPolicy`.

    Lengths are measured over all rows, never guessed. At most `examples` rows are shown, spread over the table.

    With `clusters`, rows of like inputs are grouped (k-means over their vectors by `embedder`), and each group is
    described by a call of its own besides: what holds for orders need not hold for complaints. `auto` takes the number
    of groups with the best silhouette, or none where nothing tells groups apart.
    """

    rows: Step[Rows]
    by: Asked
    instruction: str = Field(min_length=1)
    examples: int = Field(20, ge=1)
    attempts: int = Field(3, ge=1, description="a reply that cannot be used is asked for again, up to this many in all")
    clusters: Literal["auto"] | Annotated[int, Field(ge=2)] | None = None
    embedder: Embedder = Embedder(model="hash:256")

    def run(self, context: Context) -> None:
        from ._policy import write_policy

        write_policy(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call, and one for each cluster (as if `auto` found three)."""
        shown = min(rows_in or self.examples, self.examples)
        calls = 1 + (0 if self.clusters is None else 3 if self.clusters == "auto" else self.clusters)
        return expected(self.by, session, rows=None, calls=calls, prompt=1500 + 600 * shown, reply=2000)
