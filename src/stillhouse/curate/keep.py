"""Rows that a verifier accepts."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Drop, Outcome, Row
from ..core.part import Part
from ..core.step import Mapper, MapStep
from ..measure.function_verifier import FunctionVerifier
from ..measure.verdict import Verdict


def _verifier(value: Any) -> Any:
    if isinstance(value, Part) or not (callable(value) or isinstance(value, str)):
        return value
    return FunctionVerifier(function=value)


class Keep(MapStep, tag="curate.keep/1"):
    """The rows whose reply `where` accepts, unchanged; the others are dropped with the verifier's reason.

    `where` is a verifier part or a function of the row and its reply that returns True, False or the reason against it.
    """

    chooses: ClassVar[bool] = True

    where: Annotated[Part, BeforeValidator(_verifier)]
    column: str = "output"
    """Holds the reply."""

    def mapper(self, context: Context) -> Mapper:
        del context
        return self._judged

    def _judged(self, rows: Sequence[Row]) -> list[Outcome]:
        return [self._outcome(row) for row in rows]

    def _outcome(self, row: Row) -> Outcome:
        if self.column not in row:
            names = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
            raise RecipeError(f"Keep: there is no column `{self.column}` to verify", f"The columns are {names}.")
        reply = row[self.column]
        if reply is None:
            return Drop("there is no reply")
        verdict = self.where(row, reply if isinstance(reply, str) else str(reply))  # type: ignore[operator]
        if not isinstance(verdict, Verdict):
            raise RecipeError(
                f"Keep: `{type(self.where).__name__}` returned {verdict!r:.80}, not a verdict",
                "Give a verifier: a part that takes a row and its reply and returns a `Verdict`, or a function.",
            )
        return KEEP if verdict.accepted else Drop(verdict.reason or "the verifier said no")
