"""Which of two answers is better."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep
from .checks import Column, Instruction
from .expectation import Load, expected_of
from .judges import Asks, PairJudge

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class JudgePairs(MapStep, tag="generate.judge_pairs/1"):
    """Says of the answers in the columns `a` and `b` which is better: `winner` is `a`, `b` or `tie`.

    `instruction` is a template over the row and says what better means. Each judge is asked twice, with either answer
    first; where its two verdicts disagree it is a tie, so that a liking for a place cannot decide. Of several judges
    more than half must agree. `verdicts` holds for each judge its winner, both verdicts and their reasons. Equal
    answers are a tie nobody is asked about. A row fails when no judge gave both verdicts.

    The record's facts tell how far the orders agree, how much each judge leans to the first place, and kappa between
    judges; `judges_text(rows)` shows them.
    """

    by: Asks
    instruction: Instruction
    a: str = "a"
    b: str = "b"
    column: Column = "winner"
    evidence: Column = "verdicts"
    ties: bool = Field(True, description="whether a judge may call it a tie")

    @model_validator(mode="after")
    def _two(self) -> "JudgePairs":
        if self.a == self.b:
            raise ValueError(f"`a` and `b` are both `{self.a}`: name two columns")
        return self

    @property
    def judge(self) -> PairJudge:
        return PairJudge(by=self.by, instruction=self.instruction, ties=self.ties)

    def asks_about(self) -> Sequence[str]:
        """The answers, and what the instruction reads."""
        from .template import columns_read

        return (self.a, self.b, *columns_read(self.instruction))

    def mapper(self, context: Context) -> Mapper:
        from ._judge_pairs import judge

        return judge(self, context)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """Winners, agreement between the orders, position bias, and kappa between the judges."""
        from ._judge_pairs import summary

        return summary(self, made)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """Two calls for each row and judge."""
        calls = None if rows_in is None else 2 * rows_in
        prompt = len(self.instruction) + 1400
        return expected_of([Load(by, calls, prompt, 200) for by in self.by], session, rows=rows_in)
