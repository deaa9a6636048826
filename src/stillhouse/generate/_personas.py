"""Asking for related personas, and for what they would write."""

from __future__ import annotations

from collections.abc import Mapping as Mapped
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Made, Row
from ..rows.transform import lacks, missing_column
from ._asking import AsyncMapper, asked_at_once, refuse_taken, reply_schema, text_of
from ._drawn import said
from ._prompt import SAMPLE
from .personas import PERSONA_KINDS
from .template import Template

if TYPE_CHECKING:
    from .personas import PersonaPrompt, PersonaToPersona

RELATED = """\
Here is a person:

<persona>
{text}
</persona>

Name {each} other persons who stand in a close relation to this one: at work, in the family, as friend or rival, by what
they give or need. They must differ from each other. For each say the relation in a few words, and describe the person
in one or two sentences, without a name and so that it can be understood without the first."""
WRITTEN = """\
{what}

It must come from the life and the knowledge of this person, and be as special as the person is:

<persona>
{text}
</persona>"""
PERSONA = {
    "type": "object",
    "properties": {"relation": {"type": "string"}, "persona": {"type": "string"}},
    "required": ["relation", "persona"],
    "additionalProperties": False,
}
PERSONAS = reply_schema("RelatedPersonas", personas={"type": "array", "items": PERSONA})
TEXT = reply_schema("PersonaText", text={"type": "string"})
KIND = "kind"


def relator(step: PersonaToPersona, context: Context) -> AsyncMapper:
    name, source = type(step).__name__, context.get(step.rows)
    if lacks(source, step.input):
        raise missing_column(name, step.input, source.columns)

    def questions(row: Row) -> Sequence[Question]:
        return (Question(RELATED.format(text=text_of(name, row, step.input), each=step.each), PERSONAS),)

    def read(row: Row, place: int, answer: Answer) -> Made:
        del row, place
        found = [
            {step.input: one["persona"].strip(), "relation": one["relation"].strip()}
            for one in answer.value["personas"][: step.each]
            if one["persona"].strip()
        ]
        if not found:
            raise RowFault("empty", "the reply names nobody", answer.text)
        return Emit(found, answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)


def persona_asker(step: PersonaPrompt, context: Context) -> AsyncMapper:
    name, source = type(step).__name__, context.get(step.rows)
    if lacks(source, step.input):
        raise missing_column(name, step.input, source.columns)
    given = step.kinds
    kinds = dict(given) if isinstance(given, Mapped) else {kind: PERSONA_KINDS[kind] for kind in given}
    fills = {kind: Template(words) for kind, words in kinds.items()}
    added = (KIND, step.column, *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(name, source, added, "Give another name in `column`, or take it away: `Select(without=…)`.")
    names = list(kinds)

    def questions(row: Row) -> Sequence[Question]:
        text = text_of(name, row, step.input)
        asked = [WRITTEN.format(what=fill(row), text=text) for fill in fills.values()]
        return [Question(words, TEXT, sample) for words in asked for sample in range(step.samples)]

    def read(row: Row, place: int, answer: Answer) -> Made:
        made: dict[str, Any] = {**row, KIND: names[place // step.samples], step.column: said(answer, "text")}
        if step.samples > 1:
            made[SAMPLE] = place % step.samples
        return Emit((made,), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)
