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
from ._panel import heard, refuse_unheard
from .judges import members, names_of
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
    fill, calls, panel = Template(step.template), context.calls, members(step.by)
    names = names_of(panel)

    async def chosen(rows: Sequence[Row]) -> list[Outcome]:
        asked: list[Question] = []
        outcomes: dict[int, Outcome] = {}
        for place, row in enumerate(rows):
            try:
                asked.append(Question(QUESTION.format(question=fill(row)), SCHEMA))
            except RowFault as fault:
                outcomes[place] = failed(fault)
        votes = iter(list(zip(*await heard(calls, panel, asked), strict=True)))
        for place in range(len(rows)):
            if place not in outcomes:
                said = next(votes)
                outcomes[place] = _outcome(said[0], step.keep) if len(said) == 1 else _voted(names, said, step.keep)
        return [outcomes[place] for place in range(len(rows))]

    return chosen


def _voted(names: Sequence[str], said: Sequence[Answer | RowFault], keep: str) -> Outcome:
    try:
        refuse_unheard(said)
    except RowFault as fault:
        return failed(fault)
    votes = [None if isinstance(answer, RowFault) else answer.value["answer"] for answer in said]
    if 2 * votes.count(keep) > len(votes):
        return KEEP
    lines = []
    for name, vote, answer in zip(names, votes, said, strict=True):
        why = str(answer) if isinstance(answer, RowFault) else answer.value["reason"].strip()
        lines.append(f"{name}: {vote or 'no vote'} ({why})" if why else f"{name}: {vote or 'no vote'}")
    return Drop(f"{votes.count(keep)} of {len(votes)} models say {keep}", "\n".join(lines))


def _outcome(answer: Answer | RowFault, keep: str) -> Outcome:
    if isinstance(answer, RowFault):
        return failed(answer)
    said = answer.value["answer"]
    return KEEP if said == keep else Drop(f"the model says {said}", answer.value["reason"].strip() or None)
