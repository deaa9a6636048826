"""Going on from the beginning of a user's turn, and answering what came."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Outcome, Row
from ..text.chat import PREFIX
from ._asking import AsyncMapper, failed
from .magpie import NUMBER

if TYPE_CHECKING:
    from .magpie import Magpie


def writer(step: Magpie, context: Context) -> AsyncMapper:
    prefix = step.prefix or template_prefix(step, context)
    return _asker(step, context, [{"role": PREFIX, "content": prefix}])


def _asker(
    step: Magpie, context: Context, begun: list[dict[str, str]]
) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls, answerer = context.calls, step.answerer or step.by

    async def ask(rows: Sequence[Row]) -> list[Outcome]:
        written = await calls.ask_many(step.by, [Question(begun, None, int(row[NUMBER])) for row in rows])
        asked = [(place, Question(_said(found), None, 0)) for place, found in enumerate(written) if _is_said(found)]
        if not step.answers:
            return [_outcome(step, found, None) for found in written]
        replies = await calls.ask_many(answerer, [question for _, question in asked]) if asked else []
        answers = {place: reply for (place, _), reply in zip(asked, replies, strict=True)}
        return [_outcome(step, found, answers.get(place)) for place, found in enumerate(written)]

    return ask


def _said(found: Answer | RowFault) -> str:
    return "" if isinstance(found, RowFault) else found.text.strip()


def _is_said(found: Answer | RowFault) -> bool:
    return bool(_said(found))


def _outcome(step: Magpie, found: Answer | RowFault, answer: Answer | RowFault | None) -> Outcome:
    if isinstance(found, RowFault):
        return failed(found)
    if isinstance(answer, RowFault):
        fault = RowFault(answer.kind, f"the answer: {answer.message}", answer.raw or found.text)
        return failed(fault)
    content = {step.column: found.text.strip()}
    if answer is None:
        return Emit((content,), found.keys)
    return Emit(({**content, "output": answer.text},), (*found.keys, *answer.keys))


def template_prefix(step: Magpie, context: Context) -> str:
    """What the chat template of a local model writes before a user's words."""
    model = step.by.model
    folder = Path(model.partition(":")[2]) if isinstance(model, str) else context.get(model).path
    try:
        from ..models.generate import tokenizer_folder
        from ..text.chat import ChatRenderer
        from ..text.tokenizer import load_tokenizer

        return ChatRenderer(load_tokenizer(tokenizer_folder(folder))).user_prefix(step.system)
    except ImportError as error:
        raise RecipeError(
            f"Magpie: the chat template of a local model needs `{error.name}`",
            "Install `stillhouse[train]`, or give the `prefix` yourself.",
        ) from None
    except RecipeError as error:
        raise RecipeError(f"Magpie: {error.message}", "Give the `prefix` yourself.") from None
