"""The same question again and again, each time another sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.outcome import Emit, Made, Row
from ._asking import AsyncMapper, asked_at_once
from .data_from_prompt import NUMBER
from .output import Reading
from .template import Template

if TYPE_CHECKING:
    from .data_from_prompt import DataFromPrompt


def writer(step: DataFromPrompt, context: Context) -> AsyncMapper:
    fill = Template(step.instruction)
    reading = Reading(step.column, step.response, unpack=step.unpack)

    def questions(row: Row) -> Sequence[Question]:
        return (Question(fill(row), step.response, int(row[NUMBER])),)

    def read(row: Row, place: int, answer: Answer) -> Made:
        del row, place
        return Emit((reading.columns_of(answer),), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)
