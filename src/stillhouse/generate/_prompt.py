"""Questions for each row, from templates or a conversation, and their replies as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Made, Row
from ..rows.conversation import check_messages
from ..rows.transform import lacks, missing_column
from ._asking import SAMPLE as SAMPLE
from ._asking import AsyncMapper, asked_at_once
from ._asking import failed as failed  # others take them from here
from ._asking import most_passing as most_passing
from ._asking import refuse_taken as refuse_taken
from .output import Reading
from .template import Template

if TYPE_CHECKING:
    from .prompt import Prompt

TEMPLATE = "template"


def prompter(step: Prompt, context: Context, *, name: str = "Prompt") -> AsyncMapper:
    """The mapper; `name` is what messages call the step."""
    source, reading = context.get(step.rows), Reading(step.column, step.response, unpack=step.unpack, keep=step.keep)
    named = step.templates
    added = (*reading.columns, *((TEMPLATE,) if named else ()), *((SAMPLE,) if step.samples > 1 else ()))
    refuse_taken(name, source, added, "Give another name in `column`, or take it away: `Select(without=…)`.")
    for column in (*step.images, *((step.messages,) if step.messages is not None else ())):
        if lacks(source, column):
            raise missing_column(name, column, source.columns)
    ask = _asker(step)
    names = list(named or ("",))

    def questions(row: Row) -> Sequence[Question]:
        asked = [ask(name, row) for name in names]
        return [Question(text, step.response, sample) for text in asked for sample in range(step.samples)]

    def read(row: Row, place: int, answer: Answer) -> Made:
        made: dict[str, Any] = {**row, **reading.columns_of(answer)}
        if named:
            made[TEMPLATE] = names[place // step.samples]
        if step.samples > 1:
            made[SAMPLE] = place % step.samples
        return Emit((made,), answer.keys)

    return asked_at_once(context.calls, step.by, questions, read)


def _asker(step: Prompt) -> Callable[[str, Row], str | list[dict[str, Any]]]:
    """What is asked about a row by the template of a name: text, or messages where there is more than one."""
    named = step.templates or ({} if step.template is None else {"": str(step.template)})
    fills = {name: Template(text) for name, text in named.items()}
    system = None if step.system is None else Template(step.system)
    column = step.messages

    def ask(name: str, row: Row) -> str | list[dict[str, Any]]:
        text = fills[name](row) if fills else None
        if system is None and column is None and not step.images:
            return str(text)
        messages = [] if system is None else [{"role": "system", "content": system(row)}]
        if column is not None:
            messages += _conversation(row, column, without_system=system is not None)
        if text is None:
            return messages
        shown = [{"type": "image", "image": image} for name in step.images for image in _images(row, name)]
        content = [*shown, {"type": "text", "text": text}] if shown else text
        return [*messages, {"role": "user", "content": content}]

    return ask


def _images(row: Row, column: str) -> Sequence[str]:
    """The paths or URLs in a column: one, a list of them, or none."""
    value = row[column]
    found = [] if value is None else [value] if isinstance(value, str) else value
    if isinstance(found, list | tuple) and all(isinstance(image, str) and image for image in found):
        return found
    where = f"row {row.get('_id', '?')}, `{column}`"
    raise RowFault(
        "invalid", f"{where}: it is neither the path or URL of an image nor a list of them", repr(value)[:2000]
    )


def _without_nones(message: dict[str, Any]) -> dict[str, Any]:
    """A message without the fields that only others of its table have, in its parts too."""
    said = {key: field for key, field in message.items() if field is not None}
    if isinstance(content := said.get("content"), list | tuple):
        said["content"] = [_without_nones(part) if isinstance(part, dict) else part for part in content]
    return said


def _conversation(row: Row, column: str, *, without_system: bool) -> list[dict[str, Any]]:
    value = row[column]
    where = f"row {row.get('_id', '?')}, `{column}`"
    if not isinstance(value, list | tuple) or not all(isinstance(message, dict) for message in value):
        raise RowFault("invalid", f"{where}: it is no list of messages", repr(value)[:2000])
    messages = [_without_nones(message) for message in value]
    try:
        check_messages(messages)
    except RowFault as fault:
        raise RowFault(fault.kind, f"{where}: {fault.message}", repr(value)[:2000]) from None
    if without_system and messages[0]["role"] == "system":
        raise RecipeError(
            f"Prompt: {where} begins with a system message, and `system` would make another",
            "Leave `system` out, or take the system messages away first.",
        )
    return messages
