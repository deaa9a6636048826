"""Asking about each row, and telling answers from generations that went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Fail, Outcome, Row

if TYPE_CHECKING:
    from ..core.context import Context
    from .predict import Predict

ADDED = ("reply", "finish", "error")
OF_THE_MODEL = frozenset({"cut", "empty", "refused", "invalid", "too_long"})
"""Kinds of `RowFault` that tell of the model and not of the road to it."""


def predictor(step: Predict, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls = context.calls

    async def predict(rows: Sequence[Row]) -> list[Outcome]:
        prompts = [Prompt(question(row, step.input_column)) for row in rows]
        answers = await calls.ask_many(step.by, prompts)
        return [outcome(row, answer, step.answer_after) for row, answer in zip(rows, answers, strict=True)]

    return predict


def question(row: Row, column: str) -> str | list[dict[str, Any]]:
    """What is asked about a row. Raises `RecipeError` where the row cannot be asked about."""
    if column not in row:
        known = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
        raise RecipeError(f"the rows have no column `{column}`", f"Name the one with the question; there are {known}.")
    taken = [name for name in ADDED if name in row]
    if taken:
        raise RecipeError(f"the rows have a column `{taken[0]}` already", "Rename it: predictions are written there.")
    value = row[column]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(message, dict) and "role" in message for message in value):
        asked = value[:-1] if value[-1]["role"] == "assistant" else value
        return [{key: part for key, part in message.items() if part is not None} for message in asked]
    raise RecipeError(
        f"the column `{column}` of row {row['_id']} holds {value!r:.60}",
        "Give a text or a list of messages with `role` and `content`.",
    )


def outcome(row: Row, answer: Answer | RowFault, mark: str | None = None) -> Outcome:
    """The row with what became of its question; `mark` ends the reasoning in a reply."""
    if isinstance(answer, Answer):
        error = "cut" if answer.finish == "length" else None
        added = {**parted(answer.text, mark), "finish": answer.finish, "error": error}
        return Emit([{**row, **added}], calls=answer.keys)
    if answer.kind in OF_THE_MODEL:
        return Emit([{**row, **parted(answer.raw or "", mark), "finish": answer.kind, "error": answer.kind}])
    return Fail(answer.kind, answer.message, answer.raw)


def parted(text: str, mark: str | None) -> dict[str, str]:
    """`reply` and, where a mark is looked for, the `thought` before it."""
    if mark is None:
        return {"reply": text}
    thought, _, reply = text.rpartition(mark)
    return {"reply": reply.strip(), "thought": thought.strip()}
