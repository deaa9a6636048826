"""A text and what is to be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.outcome import Emit, Made, Row
from ..rows.transform import lacks, missing_column
from ._asking import AsyncMapper, asked_at_once, refuse_taken, shown_of
from ._prompt import SAMPLE
from .output import Reading
from .template import Template

if TYPE_CHECKING:
    from .process import ProcessWithPrompt

NAME = "ProcessWithPrompt"


def processor(step: ProcessWithPrompt, context: Context) -> AsyncMapper:
    source, fill = context.get(step.rows), Template(step.instruction)
    reading = Reading(step.column, step.response, unpack=step.unpack)
    if lacks(source, step.input):
        raise missing_column(NAME, step.input, source.columns)
    added = (*reading.columns, *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(NAME, source, added, "Give another name in `column`.")

    def questions(row: Row) -> Sequence[Question]:
        parts = (
            _labelled(step.input_label, shown_of(NAME, row, step.input)),
            _labelled(step.instruction_label, fill(row)),
        )
        return [Question(step.separator.join(parts), step.response, sample) for sample in range(step.samples)]

    def read(row: Row, place: int, answer: Answer) -> Made:
        made: dict[str, Any] = {**row, **reading.columns_of(answer)}
        if step.samples > 1:
            made[SAMPLE] = place
        return Emit((made,), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)


def _labelled(label: str, text: str) -> str:
    return f"{label} {text}" if label else text
