"""Rows that a model says yes to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Instruction
from .expectation import Load, expected_of
from .judges import Panel, members

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class FilterWithPrompt(MapStep, tag="generate.filter_with_prompt/1"):
    """The rows for which `by` answers the question in `template` with yes (or no: `keep="no"`), unchanged.

    The question is a template over the row: `Is this about cooking? {{ text }}`. The model gives its reason, then its
    answer. The other rows are dropped, with the reason as `detail`; a row without a usable answer fails.

    With several models in `by` more than half of them must say it. A model whose answer cannot be used votes for
    nobody; `detail` holds the votes with their reasons.
    """

    chooses: ClassVar[bool] = True

    by: Panel
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
        """One call for each row and model."""
        prompt = len(self.template) + 500
        return expected_of([Load(by, rows_in, prompt, 200) for by in members(self.by)], session, rows=rows_in)
