"""A number for each row, and the best rows by it."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step
from .checks import Column, Instruction, check_samples
from .expectation import Load, expected_of
from .judges import Panel, members

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


def _check_scale(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"`low` is {low:g} and `high` {high:g}: a scale rises")


class ScoreWithPrompt(MapStep, tag="generate.score_with_prompt/1"):
    """Adds `score`, a number from `low` to `high`, and `score_reason`.

    The question is a template over the row: `How useful is this to a beginner? {{ text }}`. With `samples` above 1 the
    scores are averaged and the reason is that of the first. A row without a usable score fails.

    With several models in `by` the score is the mean of theirs, and `score_judges` holds what each gave; one whose
    reply cannot be used has none, and its fault stands there. The record's facts tell how far they lie apart.
    """

    by: Panel
    template: Instruction
    low: float = 1
    high: float = 10
    samples: int = Field(1, ge=1)
    column: Column = "score"

    @model_validator(mode="after")
    def _whole(self) -> "ScoreWithPrompt":
        _check_scale(self.low, self.high)
        for by in members(self.by):
            check_samples(by, self.samples)
        return self

    def asks_about(self) -> Sequence[str]:
        """What the template reads."""
        from .template import columns_read

        return columns_read(self.template)

    def mapper(self, context: Context) -> Mapper:
        from ._score_with_prompt import scoring

        return scoring(self, context)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """Mean and spread of the scores, and how the judges differ, where there are several."""
        from ._panel import between
        from ._scores import spread_of

        found = {"scores": spread_of(made, [self.column])}
        return {**found, **between(made, f"{self.column}_judges")} if isinstance(self.by, tuple) else found

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row, sample and model."""
        calls = None if rows_in is None else rows_in * self.samples
        prompt = len(self.template) + 600
        return expected_of([Load(by, calls, prompt, 200) for by in members(self.by)], session, rows=rows_in)


class RankWithPrompt(Step[Rows], tag="generate.rank_with_prompt/1"):
    """The rows in the order of a score that a model gives, the highest first: `ScoreWithPrompt`, then a sort.

    Rows below `least` and those after the first `top` are dropped, and say so; rows of equal scores stay in their
    order. A row without a usable score failed when it was scored and is not ranked.
    """

    rows: Step[Rows]
    by: Panel
    template: Instruction
    low: float = 1
    high: float = 10
    samples: int = Field(1, ge=1)
    column: Column = "score"
    top: int | None = Field(None, ge=1)
    least: float | None = None
    lowest_first: bool = False

    @model_validator(mode="after")
    def _whole(self) -> "RankWithPrompt":
        _check_scale(self.low, self.high)
        for by in members(self.by):
            check_samples(by, self.samples)
        if self.least is not None and not self.low <= self.least <= self.high:
            raise ValueError(f"`least` is {self.least:g}, but scores go from {self.low:g} to {self.high:g}")
        return self

    @cached_property
    def ranked(self) -> Step[Rows]:
        """What is read: the scored rows in their order."""
        from ..rows.order import Sort

        names = ("rows", "by", "template", "low", "high", "samples", "column")
        scored = ScoreWithPrompt(**{name: value for name, value in self.values().items() if name in names})
        return Sort(rows=scored, by=(self.column,), descending=() if self.lowest_first else (self.column,))

    def identity(self) -> Mapping[str, Any]:
        """The sorted rows, and which of them stay."""
        chosen = ("top", "least", "column")
        return {"ranked": self.ranked, **{name: value for name, value in self.values().items() if name in chosen}}

    def inputs(self) -> tuple[Step[Any], ...]:
        return (self.ranked,)

    def run(self, context: Context) -> None:
        from ._score_with_prompt import write_best

        write_best(self, context)

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """No calls: the scores are there."""
        del session
        from ..core.plan import Expectation

        rows = rows_in if self.top is None or rows_in is None else min(self.top, rows_in)
        return Expectation(rows=rows, calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0)
