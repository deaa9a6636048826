"""Conversations: rows with a column `messages`, a list of `{"role", "content"}`, made from the forms in use."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import KEEP, Emit, Fail, Outcome, Row
from ..core.step import Mapper, MapStep

Message = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
_SHARED_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant"}


class ToMessages(MapStep, tag="rows.to_messages/1"):
    """Each row as a conversation in the column `messages`.

    Recognised by their columns, in this order: `messages`, `conversations` (`from`, `value`), `prompt` and
    `completion`, `instruction` and `output` with an optional `input`, `input` and `output`. The columns of the form are
    replaced by `messages`, others stay. A row that is no conversation fails with the reason.
    """

    system: str | None = None
    """Put first in conversations that do not begin with a system message; a column `system` comes before it."""
    thinking: Literal["tags", "field", "drop"] = "tags"
    """A column `thinking` goes before the answer in `<think>` tags, into the message's field `thinking`, or away."""

    def mapper(self, context: Context) -> Mapper:
        form = form_of(context.get(self.rows).columns)
        return lambda rows: [self._outcome(row, form) for row in rows]

    def _outcome(self, row: Row, form: "Form") -> Outcome:
        try:
            messages = form.messages(row)
            check_messages(messages)
            messages = _with_thinking(messages, row.get("thinking"), self.thinking)
            system = row.get("system") or self.system
            if system and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": system}, *messages]
        except RowFault as fault:
            return Fail(fault.kind, fault.message, fault.raw)
        gone = {*form.columns, "thinking", "system"}
        rest = {name: value for name, value in row.items() if name not in gone and name[:1] != "_"}
        if messages == row.get("messages") and not {"thinking", "system"} & set(row):
            return KEEP
        return Emit([{"messages": messages, **rest}])


class Form(NamedTuple):
    """One way in which people write conversations down."""

    columns: tuple[str, ...]
    needs: tuple[str, ...]
    messages: Callable[[Mapping[str, Any]], list[Message]]


def form_of(columns: Sequence[str]) -> Form:
    """The first form whose columns are there; raises `RecipeError` where none is."""
    for form in FORMS:
        if all(name in columns for name in form.needs):
            return form
    known = "; ".join(" and ".join(f"`{name}`" for name in form.needs) for form in FORMS)
    found = ", ".join(f"`{name}`" for name in columns)
    raise RecipeError(
        f"ToMessages: the columns {found} are no form of conversation that is known",
        f"Rename them to one of: {known}.",
    )


def check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RowFault` unless these are messages of known roles with content, a system message only as the first."""
    if not messages:
        raise RowFault("empty", "the conversation has no messages")
    for number, message in enumerate(messages, start=1):
        role = message.get("role")
        if role not in ROLES:
            raise RowFault("invalid", f"message {number} has the role {role!r}, expected one of {', '.join(ROLES)}")
        if role == "system" and number > 1:
            raise RowFault("invalid", f"message {number} is a system message; those come first")
        content = message.get("content")
        if not isinstance(content, str | list) and not message.get("tool_calls"):
            raise RowFault("invalid", f"message {number} has no content")


def _with_thinking(messages: list[Message], thinking: Any, mode: str) -> list[Message]:
    if not thinking or mode == "drop":
        return messages
    if messages[-1]["role"] != "assistant":
        raise RowFault("invalid", "there is a `thinking`, but the last message is not the assistant's")
    last = dict(messages[-1])
    if mode == "field":
        last["thinking"] = thinking
    else:
        last["content"] = f"<think>\n{thinking}\n</think>\n\n{last['content']}"
    return [*messages[:-1], last]


def _given(row: Mapping[str, Any]) -> list[Message]:
    value = row["messages"]
    if not isinstance(value, list | tuple) or not all(isinstance(message, Mapping) for message in value):
        raise RowFault("invalid", "`messages` is not a list of messages", raw=repr(value)[:2000])
    return [{key: field for key, field in message.items() if field is not None} for message in value]


def _shared(row: Mapping[str, Any]) -> list[Message]:
    value = row["conversations"]
    if not isinstance(value, list | tuple) or not all(isinstance(turn, Mapping) for turn in value):
        raise RowFault("invalid", "`conversations` is not a list of turns", raw=repr(value)[:2000])
    return [
        {"role": _SHARED_ROLES.get(str(turn.get("from")), turn.get("from")), "content": turn.get("value")}
        for turn in value
    ]


def _completed(row: Mapping[str, Any]) -> list[Message]:
    prompt, completion = row["prompt"], row["completion"]
    return [*_turns(prompt, "user", "prompt"), *_turns(completion, "assistant", "completion")]


def _turns(value: Any, role: str, column: str) -> list[Message]:
    """Text as one message; a list of messages, which some data sets have there, as it is."""
    if isinstance(value, list | tuple):
        return _given({"messages": value})
    return [{"role": role, "content": _text(value, column)}]


def _instructed(row: Mapping[str, Any]) -> list[Message]:
    request = _text(row["instruction"], "instruction")
    if row.get("input"):
        request += "\n\n" + _text(row["input"], "input")
    return _pair(request, _text(row["output"], "output"))


def _answered(row: Mapping[str, Any]) -> list[Message]:
    return _pair(_text(row["input"], "input"), _text(row["output"], "output"))


def _pair(request: str, reply: str) -> list[Message]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": reply}]


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise RowFault("invalid", f"`{column}` is not text", raw=repr(value)[:2000])
    if not value.strip():
        raise RowFault("empty", f"`{column}` is empty")
    return value


FORMS = (
    Form(("messages",), ("messages",), _given),
    Form(("conversations",), ("conversations",), _shared),
    Form(("prompt", "completion"), ("prompt", "completion"), _completed),
    Form(("instruction", "input", "output"), ("instruction", "output"), _instructed),
    Form(("input", "output"), ("input", "output"), _answered),
)
