"""Pairs of a better and a worse answer, for preference training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep
from ..measure.verify import Verifying
from .checks import Instruction, check_samples
from .expectation import Load, expected_of
from .judges import Asks, PairJudge
from .rubric import Rubric

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class PreferencePairs(MapStep, tag="generate.preference_pairs/1"):
    """Asks `template` for several answers, of one model or several, and makes rows with `chosen` and `rejected`.

    What says which is better is `judge`: a `PairJudge`, which compares all answers two by two and in both orders; a
    `Rubric`, whose total counts; or a verifier, or a function of the row and the answer, for which an accepted answer
    is better than one that is not. In the templates of a rubric, and to a verifier, the answer is the column `reply`
    beside those of the row.

    `pairs="extremes"` makes one row of the best and the worst answer, `"all"` one of every two that differ. Equal
    answers count once. Scores (`chosen_score`, `rejected_score`; of a `PairJudge` the share of comparisons won, ties
    as half) must differ by more than `margin`, and a comparison of the two must not say the contrary; else the row is
    dropped with the answers as evidence. A row fails when no answer is usable, or one may still come. Behind a pair
    stand the calls of both answers and of the judge.
    """

    follows_up: ClassVar[bool] = True

    by: Asks
    template: Instruction
    judge: Verifying
    samples: int = Field(4, ge=1, description="answers of each model")
    pairs: Literal["extremes", "all"] = "extremes"
    margin: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _two(self) -> "PreferencePairs":
        if self.samples * len(self.by) < 2:
            raise ValueError("one answer makes no pair: ask for more `samples`, or more models")
        for by in self.by:
            check_samples(by, self.samples)
        return self

    def asks_about(self) -> Sequence[str]:
        """What the template reads."""
        from .template import columns_read

        return columns_read(self.template)

    def mapper(self, context: Context) -> Mapper:
        from ._preference_pairs import pairing

        return pairing(self, context)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """How many pairs each model's answers won and lost, and how far apart the scores are."""
        from ._preference_pairs import summary

        return summary(made)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """The answers' calls, and those of a judge that is a model."""
        answers = self.samples * len(self.by)
        if rows_in is None:
            return expected_of([Load(self.by[0], None, 0, 0)], session, rows=None)
        loads = [Load(by, rows_in * self.samples, len(self.template) + 300, 800) for by in self.by]
        if isinstance(self.judge, PairJudge):
            compared = rows_in * answers * (answers - 1)  # every two of them, in both orders
            loads += [Load(by, compared, len(self.judge.instruction) + 2600, 200) for by in self.judge.by]
        elif isinstance(self.judge, Rubric):
            asked = rows_in * answers * self.judge.samples
            reply = 220 * len(self.judge.criteria)
            loads.append(Load(self.judge.by, asked, self.judge.prompt_length + 800, reply))
        return expected_of(loads, session, rows=rows_in)
