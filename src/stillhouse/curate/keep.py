"""Rows that a verifier accepts."""

from collections.abc import Sequence
from typing import ClassVar

from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Drop, Outcome, Row
from ..core.step import Mapper, MapStep
from ..measure.verify import Verifying, verdicts


class Keep(MapStep, tag="curate.keep/1"):
    """The rows whose reply `where` accepts, unchanged; the others are dropped with the verifier's reason.

    `where` is a verifier part or a function of the row and its reply that returns True, False or the reason against it.
    """

    chooses: ClassVar[bool] = True

    where: Verifying
    column: str = "output"
    """Holds the reply."""

    def mapper(self, context: Context) -> Mapper:
        del context
        return self._judged

    def _judged(self, rows: Sequence[Row]) -> list[Outcome]:
        replies = [self._reply(row) for row in rows]
        pairs = [(row, reply) for row, reply in zip(rows, replies, strict=True) if reply is not None]
        found = iter(verdicts(self.where, pairs))
        outcomes: list[Outcome] = []
        for reply in replies:
            if reply is None:
                outcomes.append(Drop("there is no reply"))
                continue
            verdict = next(found)
            outcomes.append(KEEP if verdict.accepted else Drop(verdict.reason or "the verifier said no"))
        return outcomes

    def _reply(self, row: Row) -> str | None:
        if self.column not in row:
            names = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
            raise RecipeError(f"Keep: there is no column `{self.column}` to verify", f"The columns are {names}.")
        reply = row[self.column]
        return reply if reply is None or isinstance(reply, str) else str(reply)
