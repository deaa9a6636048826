"""Answers to inputs, with the reasoning that leads to them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..calls.ask import scheme_of
from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from ..measure.agreement import Agreement
from ..measure.verify import Verifying
from ..text.schema import Schema
from .checks import Asked
from .expectation import expected
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Answer(MapStep, tag="generate.answer/1"):
    """Adds `thinking`, `output` and `agreement` to rows with an `input`.

    With `samples` above 1 each input is answered that often and the answers are put to the vote: the largest group
    of equal ones wins when it is more than half of all samples, or reaches `agreement.least` where that is given.
    Otherwise the row is dropped with the answers as evidence; replies that cannot be used count as votes for nobody.
    `agreement` is the group's share, `thinking` that of its first reply. A row fails when no sample gave a usable
    reply, or when the vote is open because some got no answer. With a `response` schema every output follows it.

    Where the policy has clusters, rows with the number of one in `cluster`, as `Amplify` makes them, are answered by
    its policy.

    An answer that `verify` rejects is a vote for nobody too; a row all of whose answers it rejects is dropped.
    """

    by: Asked
    instruction: str = Field(min_length=1)
    policy: Step[Report] | None = None
    examples: Step[Rows] | None = None
    """Rows with `input`, `output` and perhaps `thinking`, of which the first `shown` go into each question."""
    shown: int = Field(4, ge=0)
    response: Schema | None = None
    samples: int = Field(1, ge=1)
    agreement: Agreement = Agreement(normaliser="json")
    verify: Verifying | None = None
    """A verifier, or a function of a row and its output."""

    @model_validator(mode="after")
    def _samples_differ(self) -> "Answer":
        by_chance = not isinstance(self.by.model, str) or scheme_of(self.by.model) not in ("python", "scripted")
        if self.samples > 1 and self.by.temperature == 0 and by_chance:
            raise ValueError(
                f"`samples` is {self.samples}, but at temperature 0 they are all the same answer; ask with "
                "`Ask(model=…, temperature=0.7)`"
            )
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which outputs are written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """The input, and the cluster that says how it is answered."""
        return ("input", "cluster")

    def mapper(self, context: Context) -> Mapper:
        from ._answer import answerer

        return answerer(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """As many calls for each row as there are samples."""
        prompt = 700 + len(self.instruction) + (1200 if self.policy else 0) + (500 * self.shown if self.examples else 0)
        calls = None if rows_in is None else rows_in * self.samples
        return expected(self.by, session, rows=rows_in, calls=calls, prompt=prompt, reply=800)
