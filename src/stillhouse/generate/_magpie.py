"""Going on from the beginning of a user's turn, and answering what came."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import EXHAUSTED, RecipeError, RowFault
from ..core.outcome import Emit, Outcome, Row
from ..text.chat import PREFIX
from ._asking import AsyncMapper, failed, talked_through
from .magpie import MESSAGES, NUM_TURNS, NUMBER

if TYPE_CHECKING:
    from .magpie import Magpie


Messages = list[dict[str, str]]


def writer(step: Magpie, context: Context) -> AsyncMapper:
    begins = (lambda messages: _written(step, messages)) if step.prefix else _renderer(step, context)
    if step.turns > 1:
        return talked_through(_Talks(step, context, begins).of)
    return _asker(step, context, [{"role": PREFIX, "content": begins([])}])


class _Talks:
    """Conversations in which the model goes on as the user after each answer."""

    def __init__(self, step: Magpie, context: Context, begins: Callable[[Messages], str]) -> None:
        self._step, self._calls, self._begins = step, context.calls, begins
        self._answerer = step.answerer or step.by

    async def of(self, row: Row) -> Outcome:
        """One conversation; it ends before a turn that cannot be used, but for the first."""
        messages: Messages = []
        keys: list[str] = []
        for turn in range(self._step.turns):
            try:
                added, calls = await self._turn(messages, int(row[NUMBER]))
            except RowFault as fault:
                # What may work another time must not decide how long a conversation is.
                if turn == 0 or fault.kind == EXHAUSTED:
                    raw = fault.raw or (json.dumps(messages, ensure_ascii=False) if messages else None)
                    raise RowFault(fault.kind, f"turn {turn + 1}: {fault.message}", raw) from None
                break
            messages += added
            keys += calls
        content = {self._step.column: messages[0]["content"], MESSAGES: messages, NUM_TURNS: len(messages) // 2}
        return Emit((content,), keys)

    async def _turn(self, messages: Messages, sample: int) -> tuple[Messages, tuple[str, ...]]:
        begun = [{"role": PREFIX, "content": self._begins(messages)}]
        said = await self._calls.ask(self._step.by, begun, sample=sample)
        user = {"role": "user", "content": said.text.strip()}
        if not user["content"]:
            raise RowFault("empty", "the user says nothing")
        answer = await self._calls.ask(self._answerer, [*messages, user])
        return [user, {"role": "assistant", "content": answer.text}], (*said.keys, *answer.keys)


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


def _written(step: Magpie, messages: Messages) -> str:
    """The conversation as the user's own `prefix` and `between` write it, up to the next words of the user."""
    after_user, after_answer = step.between or ("", "")
    parts = [message["content"] + (after_answer if place % 2 else after_user) for place, message in enumerate(messages)]
    return "".join([step.prefix or "", *parts])


def _renderer(step: Magpie, context: Context) -> Callable[[Messages], str]:
    """The same by the chat template of a local model."""
    model = step.by.model
    folder = Path(model.partition(":")[2]) if isinstance(model, str) else context.get(model).path
    try:
        from ..models.generate import tokenizer_folder
        from ..text.chat import ChatRenderer
        from ..text.tokenizer import load_tokenizer

        renderer = ChatRenderer(load_tokenizer(tokenizer_folder(folder)))
        renderer.user_prefix(step.system)
    except ImportError as error:
        raise RecipeError(
            f"Magpie: the chat template of a local model needs `{error.name}`",
            "Install `stillhouse[train]`, or give the `prefix` yourself.",
        ) from None
    except RecipeError as error:
        raise RecipeError(f"Magpie: {error.message}", "Give the `prefix` yourself.") from None
    return lambda messages: renderer.user_prefix(step.system, messages)
