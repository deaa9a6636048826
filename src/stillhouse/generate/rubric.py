"""Scores by named criteria."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from ..core.artifact import Rows
from ..core.context import Context
from ..core.part import Part
from ..core.step import Mapper, MapStep
from .checks import Asked, Column, Instruction, check_samples
from .expectation import Load, expected_of
from .judges import Panel, members

if TYPE_CHECKING:
    from ..core.plan import Expectation
    from ..core.session import Session


class Criterion(Part, tag="generate.criterion/1"):
    """One thing that is judged, in whole numbers from `low` to `high`; `weight` is what it counts in the total."""

    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    description: str = Field(min_length=1)
    low: int = 1
    high: int = 5
    weight: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _rising(self) -> "Criterion":
        if self.low >= self.high:
            raise ValueError(f"`low` is {self.low} and `high` {self.high}: a scale rises")
        return self

    def share(self, score: float) -> float:
        """The score on a scale from 0 to 1."""
        return (score - self.low) / (self.high - self.low)


class Rubric(Part, tag="generate.rubric/1"):
    """Who scores, and by which criteria. `template` shows what is judged: `{{ input }}\\n\\nAnswer: {{ output }}`.

    With `samples` above 1 each is scored that often, and the scores are averaged.
    """

    by: Asked
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    template: Instruction
    samples: int = Field(1, ge=1)

    @field_validator("criteria")
    @classmethod
    def _different(cls, criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        return different(criteria)

    @model_validator(mode="after")
    def _samples_differ(self) -> "Rubric":
        check_samples(self.by, self.samples)
        return self

    @property
    def prompt_length(self) -> int:
        """About how many characters it asks with."""
        return len(self.template) + 700 + sum(len(each.description) + 60 for each in self.criteria)


def different(criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
    """The criteria; raises ValueError where two have one name."""
    names = [each.name for each in criteria]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two criteria are called `{twice[0]}`")
    return criteria


class JudgeRubric(MapStep, tag="generate.judge_rubric/1"):
    """Adds scores by a rubric: `score`, the weighted mean of all criteria from 0 to 1, and for each criterion
    `score_NAME`, on its own scale, and `score_NAME_reason`.

    The model reasons about a criterion before it scores it. `template` shows what is judged. With `samples` above 1 the
    scores are averaged; the reasons are those of the first usable reply. A row fails when no reply was usable.
    `Calibrate` holds the scores against those of people.

    With several models in `by` all scores are the means of theirs, and `score_judges` holds what each gave; one whose
    reply cannot be used has none, and its fault stands there. The record's facts tell how far they lie apart.
    """

    by: Panel
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    template: Instruction
    samples: int = Field(1, ge=1)
    column: Column = "score"

    @model_validator(mode="after")
    def _whole(self) -> "JudgeRubric":
        different(self.criteria)
        for by in members(self.by):
            check_samples(by, self.samples)
        return self

    @property
    def rubrics(self) -> list[Rubric]:
        """That of each model."""
        told = {"criteria": self.criteria, "template": self.template, "samples": self.samples}
        return [Rubric(by=by, **told) for by in members(self.by)]

    def asks_about(self) -> Sequence[str]:
        """What the rubric reads."""
        from .template import columns_read

        return columns_read(self.template)

    def mapper(self, context: Context) -> Mapper:
        from ._rubric import judge_rows

        return judge_rows(self, context)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """Mean and spread of every score, and how the judges differ, where there are several."""
        from ._panel import between
        from ._scores import spread_of

        columns = [self.column, *(f"{self.column}_{each.name}" for each in self.criteria)]
        found = {"scores": spread_of(made, columns)}
        return {**found, **between(made, f"{self.column}_judges")} if isinstance(self.by, tuple) else found

    def expect(self, rows_in: int | None, session: "Session") -> "Expectation":
        """A call for each row, sample and model."""
        calls = None if rows_in is None else rows_in * self.samples
        reply = 220 * len(self.criteria)
        loads = [Load(rubric.by, calls, rubric.prompt_length, reply) for rubric in self.rubrics]
        return expected_of(loads, session, rows=rows_in)
