"""Asking for a number, and choosing by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Outcome, Row
from ..text.schema import Schema
from ._asking import failed, refuse_taken
from ._panel import heard, refuse_unheard
from ._scores import usable
from .judges import members, names_of
from .template import Template

if TYPE_CHECKING:
    from .score_with_prompt import RankWithPrompt, ScoreWithPrompt

QUESTION = """\
{question}

Say in `reason`, in one or two sentences, what decides it. Then give the `score`, a number from {low:g} to {high:g}."""


class Opinion(NamedTuple):
    """What one model says of one row: the mean of its samples, and the reason of the first."""

    score: float
    reason: str
    keys: tuple[str, ...]


def _column(judge: str, said: Opinion | RowFault) -> dict[str, Any]:
    if isinstance(said, RowFault):
        return {"judge": judge, "score": None, "reason": None, "fault": str(said)}
    return {"judge": judge, "score": said.score, "reason": said.reason, "fault": None}


def scoring(step: ScoreWithPrompt, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    fill, calls, column = Template(step.template), context.calls, step.column
    panel, evidence = members(step.by), f"{column}_judges"
    names = names_of(panel)
    added = (column, f"{column}_reason", *((evidence,) if len(panel) > 1 else ()))
    refuse_taken("ScoreWithPrompt", context.get(step.rows), added, "Give another name in `column`.")
    schema = Schema(
        {
            "title": "Score",
            "type": "object",
            "properties": {
                "reason": {"type": "string"},
                "score": {"type": "number", "minimum": step.low, "maximum": step.high},
            },
            "required": ["reason", "score"],
            "additionalProperties": False,
        }
    )

    def opinion(answers: Sequence[Answer | RowFault]) -> Opinion | RowFault:
        try:
            good = usable(answers)
        except RowFault as fault:
            return fault
        score = fmean(float(answer.value["score"]) for answer in good)
        keys = tuple(key for answer in good for key in answer.keys)
        return Opinion(score, good[0].value["reason"].strip(), keys)

    def outcome(row: Row, said: Sequence[Opinion | RowFault]) -> Outcome:
        try:
            refuse_unheard(said)
        except RowFault as fault:
            return failed(fault)
        good = [one for one in said if isinstance(one, Opinion)]
        made = {**row, column: fmean(one.score for one in good), f"{column}_reason": good[0].reason}
        if len(panel) > 1:
            made[evidence] = [_column(name, one) for name, one in zip(names, said, strict=True)]
        return Emit((made,), tuple(key for one in good for key in one.keys))

    async def scored(rows: Sequence[Row]) -> list[Outcome]:
        asked: list[Question] = []
        outcomes: dict[int, Outcome] = {}
        for place, row in enumerate(rows):
            try:
                text = QUESTION.format(question=fill(row), low=step.low, high=step.high)
            except RowFault as fault:
                outcomes[place] = failed(fault)
                continue
            asked += [Question(text, schema, sample) for sample in range(step.samples)]
        judges = [iter(answers) for answers in await heard(calls, panel, asked)]
        for place, row in enumerate(rows):
            if place not in outcomes:
                said = [opinion([next(answers) for _ in range(step.samples)]) for answers in judges]
                outcomes[place] = outcome(row, said)
        return [outcomes[place] for place in range(len(rows))]

    return scored


def write_best(step: RankWithPrompt, context: Context) -> None:
    """The first of the sorted rows; the others with the reason that they are not."""
    kept = 0
    with context.rows() as writer:
        for batch in context.get(step.ranked).batches(lineage=True):
            context.check_stop()
            for row in batch:
                score = row[step.column]
                if step.least is not None and score < step.least:
                    writer.drop(row, f"the score is below {step.least:g}", f"{score:g}")
                elif step.top is not None and kept >= step.top:
                    writer.drop(row, f"it is not among the first {step.top}", f"{score:g}")
                else:
                    writer.keep(row)
                    kept += 1
