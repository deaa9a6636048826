"""Rows that a model says yes to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from ..calls.ask import Ask
from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Instruction
from .expectation import expected

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class FilterWithPrompt(MapStep, tag="generate.filter_with_prompt/1"):
    """The rows for which `by` answers the question in `template` with yes (or no: `keep="no"`), unchanged.

    The question is a template over the row: `Is this about cooking? {{ text }}`. The model gives its reason, then its
    answer. The other rows are dropped, with the reason as `detail`; a row without a usable answer fails.
    """

    chooses: ClassVar[bool] = True

    by: Ask
    template: Instruction
    keep: Literal["yes", "no"] = "yes"

    def asks_about(self) -> Sequence[str]:
        """What the template reads."""
        from .template import columns_read

        return columns_read(self.template)

    def mapper(self, context: Context) -> Mapper:
        from ._filter_with_prompt import filtering

        return filtering(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """One call for each row."""
        return expected(self.by, session, rows=rows_in, calls=rows_in, prompt=len(self.template) + 500, reply=200)
