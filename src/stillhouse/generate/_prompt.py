"""Asking about the rows of a chunk in one go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import EXHAUSTED, RecipeError, RowFault
from ..core.outcome import Emit, Fail, Outcome, Row
from .output import output_text
from .template import Template

if TYPE_CHECKING:
    from .prompt import Prompt


def prompter(step: Prompt, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls, by, column, schema = context.calls, step.by, step.column, step.response
    refuse_taken("Prompt", context.get(step.rows), column, "Give another name in `column`.")
    fill = Template(step.template)

    async def ask(rows: Sequence[Row]) -> list[Outcome]:
        questions: list[Question] = []
        unfilled: dict[int, RowFault] = {}
        for place, row in enumerate(rows):
            try:
                questions.append(Question(fill(row), schema))
            except RowFault as fault:
                unfilled[place] = fault
        answers = await calls.ask_many(by, questions)
        if not unfilled:
            return [outcome(row, answer) for row, answer in zip(rows, answers, strict=True)]
        waiting = iter(answers)
        return [outcome(row, unfilled.get(place) or next(waiting)) for place, row in enumerate(rows)]

    def outcome(row: Row, answer: Answer | RowFault) -> Outcome:
        if isinstance(answer, RowFault):
            return failed(answer)
        if schema is None:
            return Emit(({**row, column: answer.text},), answer.keys)
        try:
            return Emit(({**row, column: output_text(answer.value, schema)},), answer.keys)
        except RowFault as fault:
            return failed(fault)

    return ask


def refuse_taken(step: str, rows: Rows, column: str, remedy: str) -> None:
    """Raise `RecipeError` where a column that is to be made is there already."""
    if column in rows.columns:
        raise RecipeError(f"{step}: the rows have a column `{column}` already", remedy)


def most_passing(faults: Sequence[RowFault]) -> RowFault:
    """The fault that a row fails with, of those of all its calls: one that may have passed when it is asked again."""
    return next((fault for fault in faults if fault.kind == EXHAUSTED), faults[0])


def failed(fault: RowFault) -> Fail:
    """The row's line in `failed.parquet`."""
    return Fail(fault.kind, fault.message, fault.raw)
