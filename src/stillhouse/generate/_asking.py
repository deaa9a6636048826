"""Fill in, ask, read: what all steps that ask about rows have in common.

`asked_at_once` is for questions that are known beforehand, `talked_through` for those that depend on replies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from ..calls.answer import Answer
from ..calls.ask import Ask
from ..calls.request import Prompt as Question
from ..core.artifact import Rows
from ..core.errors import EXHAUSTED, RecipeError, RowFault
from ..core.outcome import Emit, Fail, Made, Outcome, Row
from ..text.schema import Schema
from .template import shown

IN_FLIGHT = 256
"""Rows of one chunk that talk at the same time; several chunks are open at once."""

SAMPLE = "sample"
"""The column that numbers several new rows of one row."""

AsyncMapper: TypeAlias = Callable[[Sequence[Row]], Awaitable[list[Outcome]]]


def asked_at_once(
    calls: Any, by: Ask, questions: Callable[[Row], Sequence[Question]], read: Callable[[Row, int, Answer], Made]
) -> AsyncMapper:
    """Asks the questions of all rows of a chunk in one go; `read(row, place, answer)` says what an answer makes.

    `place` is that of the question among those of its row. A row whose questions cannot be made (`RowFault`) fails
    before anything is asked for it; a reply that cannot be used fails alone, beside what came of the row's others.
    """

    async def ask(rows: Sequence[Row]) -> list[Outcome]:
        asked: list[Question] = []
        counts: list[int | Fail] = []
        for row in rows:
            try:
                found = questions(row)
            except RowFault as fault:
                counts.append(failed(fault))
                continue
            asked += found
            counts.append(len(found))
        answers = iter(await calls.ask_many(by, asked) if asked else ())
        outcomes: list[Outcome] = []
        for row, count in zip(rows, counts, strict=True):
            if isinstance(count, Fail):
                outcomes.append(count)
                continue
            made = [_read(read, row, place, next(answers)) for place in range(count)]
            outcomes.append(made[0] if count == 1 else made)
        return outcomes

    return ask


def _read(read: Callable[[Row, int, Answer], Made], row: Row, place: int, answer: Answer | RowFault) -> Made:
    if isinstance(answer, RowFault):
        return failed(answer)
    try:
        return read(row, place, answer)
    except RowFault as fault:
        return failed(fault)


def talked_through(one: Callable[[Row], Awaitable[Outcome]]) -> AsyncMapper:
    """Gives each row to `one`, which asks as often as it needs; rows do not wait for each other.

    A `RowFault` fails its row. Any other error stops the step; calls on the wire come home and are kept.
    """

    async def talk(rows: Sequence[Row]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        waiting = iter(enumerate(rows))

        async def work() -> None:
            for place, row in waiting:
                try:
                    outcomes[place] = await one(row)
                except RowFault as fault:
                    outcomes[place] = failed(fault)

        workers = [asyncio.ensure_future(work()) for _ in range(min(len(rows), IN_FLIGHT))]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            raise
        return [outcomes[place] for place in range(len(rows))]

    return talk


def sampled(one: Callable[[Row, int], Awaitable[Made]], number: int) -> Callable[[Row], Awaitable[Outcome]]:
    """`one(row, sample)` for each sample of a row at the same time; with several, each new row bears its number."""

    async def single(row: Row) -> Outcome:
        return await one(row, 0)

    async def attempt(row: Row, sample: int) -> Made:
        try:
            made = await one(row, sample)
        except RowFault as fault:
            return failed(fault)
        if not isinstance(made, Emit):
            return made
        return Emit([{**content, SAMPLE: sample} for content in made.rows], made.calls, made.parents)

    async def several(row: Row) -> Outcome:
        tasks = [asyncio.ensure_future(attempt(row, sample)) for sample in range(number)]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    return single if number == 1 else several


def reply_schema(title: str, **fields: Any) -> Schema:
    """The schema of a reply: an object with just these fields, each given by its JSON Schema."""
    return Schema(
        {
            "title": title,
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }
    )


def failed(fault: RowFault) -> Fail:
    """The row's line in `failed.parquet`."""
    return Fail(fault.kind, fault.message, fault.raw)


def most_passing(faults: Sequence[RowFault]) -> RowFault:
    """The fault that a row fails with, of those of all its calls: one that may have passed when it is asked again."""
    return next((fault for fault in faults if fault.kind == EXHAUSTED), faults[0])


def refuse_taken(step: str, rows: Rows, columns: Sequence[str] | str, remedy: str) -> None:
    """Raise `RecipeError` where a column that is to be made is there already, or would be made twice."""
    made = (columns,) if isinstance(columns, str) else columns
    twice = [column for place, column in enumerate(made) if column in made[:place]]
    if twice:
        raise RecipeError(f"{step}: two new columns would be called `{twice[0]}`", "Give one of them another name.")
    for column in made:
        if column in rows.columns:
            raise RecipeError(f"{step}: the rows have a column `{column}` already", remedy)


def text_of(step: str, row: Row, column: str) -> str:
    """The text in a column of the row. Raises `RecipeError` where there is no such column, `RowFault` without text."""
    value = _value_of(step, row, column)
    if isinstance(value, str):
        return value
    raise RowFault("invalid", f"row {row.get('_id', '?')} has {type(value).__name__}, not text, in `{column}`")


def shown_of(step: str, row: Row, column: str) -> str:
    """What a column of the row looks like in a question: text as it is, all else as JSON. Raises as `text_of` does."""
    return str(shown(_value_of(step, row, column)))


def _value_of(step: str, row: Row, column: str) -> Any:
    if column not in row:
        from ..rows.transform import missing_column

        raise missing_column(f"{step}: row {row.get('_id', '?')}", column, [name for name in row if name[:1] != "_"])
    value = row[column]
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowFault("invalid", f"row {row.get('_id', '?')} has nothing in `{column}`")
    return value
