"""One thing drawn from the text of each row: the instruction that it answers, the person it speaks of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Made, Row
from ..rows.transform import lacks, missing_column
from ._asking import AsyncMapper, asked_at_once, refuse_taken, reply_schema, text_of
from ._prompt import SAMPLE

if TYPE_CHECKING:
    from .backtranslate import Backtranslate
    from .personas import TextToPersona

WORDS = {
    "instruction": """\
Below is a text. Write the instruction, or the question, to which this text as it stands is a good answer.

Write it as a person would who wants this answer and has not seen it: by itself, without a word about a text, with
everything that one must know to answer so (its length and form, whom it is for) and nothing else.

<text>
{text}
</text>""",
    "persona": """\
Below is a text. Who is likely to read it, to write it, to like or to dislike it?

Describe one such person in one or two sentences, as closely as the text allows: what they do, know, want and care for.
Say neither a name nor anything about the text.

<text>
{text}
</text>""",
}
SCHEMAS = {
    "instruction": reply_schema("Backtranslation", instruction={"type": "string"}),
    "persona": reply_schema("Persona", persona={"type": "string"}),
}


def drawer(step: Backtranslate | TextToPersona, context: Context, what: str) -> AsyncMapper:
    name, source, schema, wording = type(step).__name__, context.get(step.rows), SCHEMAS[what], WORDS[what]
    if lacks(source, step.input):
        raise missing_column(name, step.input, source.columns)
    added = (step.column, *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(name, source, added, "Give another name in `column`, or take it away: `Select(without=…)`.")

    def questions(row: Row) -> Sequence[Question]:
        text = wording.format(text=text_of(name, row, step.input))
        return [Question(text, schema, sample) for sample in range(step.samples)]

    def read(row: Row, place: int, answer: Answer) -> Made:
        made: dict[str, Any] = {**row, step.column: said(answer, what)}
        if step.samples > 1:
            made[SAMPLE] = place
        return Emit((made,), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)


def said(answer: Answer, field: str) -> str:
    """The text in a field of the reply; raises `RowFault` (`empty`) where there is none."""
    text = str(answer.value[field]).strip()
    if not text:
        raise RowFault("empty", f"the reply has no {field}", answer.text)
    return text
