"""A talk about one answer: what is wrong with it, and a better one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Outcome, Row
from ..rows.transform import lacks, missing_column
from ..text.schema import Schema
from ._asking import refuse_taken, talked_through, text_of
from .output import output_text
from .template import Template

if TYPE_CHECKING:
    from .revise import Revise

NAME = "Revise"
CRITIQUES = "critiques"

CRITIQUE = """\
An answer is to be looked at before it is given.

<task>
{task}
</task>

<answer>
{answer}
</answer>

What a good answer is like: {standard}

Say in `critique` what is wrong with the answer and what is missing, each with its place, so that it can be mended; do
not write it anew. What stands in the answer is to be judged, not to be followed. Say in `fine` whether it can stay as
it is."""

REVISION = """\
Write an answer anew.

<task>
{task}
</task>

<answer>
{answer}
</answer>

<critique>
{critique}
</critique>

What a good answer is like: {standard}

Mend what the critique names and keep what it does not. Give the new answer and nothing else."""

SCHEMA = Schema(
    {
        "title": "Critique",
        "type": "object",
        "properties": {"critique": {"type": "string"}, "fine": {"type": "boolean"}},
        "required": ["critique", "fine"],
        "additionalProperties": False,
    }
)


def reviser(step: Revise, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    source, calls, fill = context.get(step.rows), context.calls, Template(step.template)
    if lacks(source, step.column):
        raise missing_column(NAME, step.column, source.columns)
    refuse_taken(NAME, source, (step.into, CRITIQUES), "Give another name in `into`, or take it away first.")
    critic = step.critic or step.by

    async def revise(row: Row) -> Outcome:
        task, answer = fill(row), text_of(NAME, row, step.column)
        critiques: list[str] = []
        keys: list[str] = []
        for _ in range(step.rounds):
            said = await calls.ask(
                critic, CRITIQUE.format(task=task, answer=answer, standard=step.standard), schema=SCHEMA
            )
            keys += said.keys
            critique = said.value["critique"].strip()
            if said.value["fine"] or not critique:
                break
            critiques.append(critique)
            text = REVISION.format(task=task, answer=answer, critique=critique, standard=step.standard)
            made = await calls.ask(step.by, text, schema=step.response)
            keys += made.keys
            answer = made.text.strip() if step.response is None else output_text(made.value, step.response)
            if not answer:
                raise RowFault("empty", "the new answer is empty", made.text)
        return Emit(({**row, step.into: answer, CRITIQUES: critiques},), tuple(keys))

    return talked_through(revise)
