"""Asking a yes or a no about each row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import KEEP, Drop, Outcome, Row
from ..text.schema import Schema
from ._asking import failed
from .template import Template

if TYPE_CHECKING:
    from .filter_with_prompt import FilterWithPrompt

QUESTION = """\
{question}

Say in `reason`, in one sentence, what decides it. Then give your `answer`: `yes` or `no`."""

SCHEMA = Schema(
    {
        "title": "YesOrNo",
        "type": "object",
        "properties": {"reason": {"type": "string"}, "answer": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["reason", "answer"],
        "additionalProperties": False,
    }
)


def filtering(step: FilterWithPrompt, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    fill, calls = Template(step.template), context.calls

    async def chosen(rows: Sequence[Row]) -> list[Outcome]:
        asked: list[Question] = []
        outcomes: dict[int, Outcome] = {}
        for place, row in enumerate(rows):
            try:
                asked.append(Question(QUESTION.format(question=fill(row)), SCHEMA))
            except RowFault as fault:
                outcomes[place] = failed(fault)
        answers = iter(await calls.ask_many(step.by, asked) if asked else ())
        for place in range(len(rows)):
            if place not in outcomes:
                outcomes[place] = _outcome(next(answers), step.keep)
        return [outcomes[place] for place in range(len(rows))]

    return chosen


def _outcome(answer: Answer | RowFault, keep: str) -> Outcome:
    if isinstance(answer, RowFault):
        return failed(answer)
    said = answer.value["answer"]
    return KEEP if said == keep else Drop(f"the model says {said}", answer.value["reason"].strip() or None)
