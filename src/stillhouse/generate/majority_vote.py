"""The reply that most samples, or most models, agree on."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..measure.agreement import Agreement
from ..measure.verify import Verifying
from ..text.schema import Schema
from .checks import Column, Instruction, check_samples
from .expectation import Load, expected_of
from .judges import Asks
from .output import with_layout

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class MajorityVote(MapStep, tag="generate.majority_vote/1"):
    """Asks `template` several times, of one model or several, and adds the reply that most agree on, as `reply`.

    Replies agree when they are equal after the normaliser of `agreement`: `Agreement(normaliser="number")` goes by the
    number that each comes to. The largest group wins when it is more than half of all replies asked for, or reaches
    `agreement.least`; its share stands in `agreement`, its first reply in `reply`. Replies that cannot be used, or that
    `verify` rejects, are votes for nobody. Without a winner the row is dropped with all replies as evidence; it fails
    when no reply was usable. With a `response` schema the reply is its JSON text.
    """

    by: Asks
    template: Instruction
    samples: int = Field(5, ge=1, description="replies of each model")
    column: Column = "reply"
    response: Schema | None = None
    agreement: Agreement = Agreement()
    verify: Verifying | None = None

    @model_validator(mode="after")
    def _samples_differ(self) -> "MajorityVote":
        for by in self.by:
            check_samples(by, self.samples)
        return self

    def identity(self) -> Mapping[str, Any]:
        """The fields, and the order of the schema's fields, in which the JSON text is written."""
        return with_layout(self.values(), self.response)

    def asks_about(self) -> Sequence[str]:
        """What the template reads."""
        from .template import columns_read

        return columns_read(self.template)

    def mapper(self, context: Context) -> Mapper:
        from ._majority_vote import voting

        return voting(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row, model and sample."""
        calls = None if rows_in is None else rows_in * self.samples
        return expected_of([Load(by, calls, len(self.template) + 200, 400) for by in self.by], session, rows=rows_in)
