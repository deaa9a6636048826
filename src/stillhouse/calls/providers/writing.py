"""What dialects share when they write a request: JSON mode, seeds, turns of a conversation, a body's extra fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import orjson

from stillhouse.core.errors import ModelError
from stillhouse.core.occurrence import EACH

from ..images import Image, image_of, is_image
from ..repair import asked_in_words
from ..reply import ToolCall, tool_call
from ..request import Message, Request
from .place import Place

Body: TypeAlias = dict[str, Any]
"""A request's body, of JSON values."""
Part: TypeAlias = str | Image | ToolCall | Mapping[str, Any]
"""A part of a turn: text, image, a tool call, or whatever else the provider is to make sense of."""


class Turn(NamedTuple):
    """One turn of a conversation; `tool_call_id` says which call a `tool` turn answers, `tool_name` of which tool."""

    role: str
    parts: list[Part]
    tool_call_id: str = ""
    tool_name: str = ""

    @property
    def text(self) -> str:
        return "".join(part for part in self.parts if isinstance(part, str))


def mode_of(request: Request, place: Place, known: Sequence[str]) -> str | None:
    """How JSON is asked for, or None where it is not; raises `ModelError` for a way that the API does not know."""
    if request.schema is None:
        return None
    mode = request.extras.structured or place.endpoint.structured
    if mode not in known:
        raise ModelError(
            f"`{place.name}` cannot be asked for JSON by `{mode}`",
            f"Its API knows {', '.join(f'`{name}`' for name in known)}: set `structured` of the `Ask` or the endpoint.",
            kind="rejected",
        )
    return mode


def messages_of(request: Request, mode: str | None) -> Sequence[Message]:
    """The messages that are sent; with the schema in words, where the mode alone does not tell it."""
    return asked_in_words(request) if mode in ("object", "prompt") else request.messages


def seed_of(request: Request) -> int | None:
    """A seed of its own for each sample and resample, or None where none is set."""
    seed = request.sampling.seed
    if seed is None:
        return None
    found = seed + request.sample + 1_000_003 * request.again
    # Rows that ask the same bear samples beyond 32 bits, which not every server takes as a seed.
    return found if request.sample < EACH else found % 2_147_483_647


def not_taken(place: Place, what: str, instead: str) -> ModelError:
    """The error for a setting that an API has no field for."""
    return ModelError(f"the API of `{place.name}` has no {what}", instead, kind="rejected")


def without_seed(request: Request, place: Place) -> None:
    """Raise where a seed is set: the API has none, and replies would not be what the recipe says."""
    if request.sampling.seed is not None:
        raise not_taken(place, "seed", "Leave `seed` out.")


def written(body: Body, extra: Mapping[str, Any] | None) -> bytes:
    """The body as it is sent; `extra` fields are laid over it, object by object."""
    return orjson.dumps(_laid_over(body, extra) if extra else body, default=dict)


def identifier(title: str) -> str:
    """A title as a name of letters, digits, `_` and `-`."""
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in title)
    return name[:64] or "reply"


def split_turns(messages: Sequence[Message]) -> tuple[str, list[Turn]]:
    """(the system prompt, the other turns) for APIs that take them apart."""
    system: list[str] = []
    turns: list[Turn] = []
    names: dict[str, str] = {}
    for message in messages:
        turn = _turn(message, names)
        if turn.role in ("system", "developer"):
            system.append(turn.text)
        else:
            turns.append(turn)
    return "\n\n".join(system), turns


def _turn(message: Message, names: dict[str, str]) -> Turn:
    content = message.get("content")
    parts: list[Part] = []
    if isinstance(content, str):
        parts = [content] if content else []
    elif isinstance(content, list | tuple):
        parts = [_part(part) for part in content]
    for call in message.get("tool_calls") or ():
        made = tool_call_of(call)
        names[made.id] = made.name
        parts.append(made)
    answered = str(message.get("tool_call_id") or "")
    name = str(message.get("name") or names.get(answered, ""))
    return Turn(str(message.get("role", "user")), parts, answered, name)


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return part
    if is_image(part):
        return image_of(part)
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    return part  # type: ignore[no-any-return]


def tool_call_of(call: Mapping[str, Any]) -> ToolCall:
    """A tool call of a message, as OpenAI writes it or flat."""
    inner = call.get("function", call)
    return tool_call(call.get("id"), inner.get("name"), inner.get("arguments"))


def merged_turns(turns: Sequence[Turn], role_of: Mapping[str, str]) -> list[tuple[str, list[tuple[Turn, Part]]]]:
    """Neighbouring turns of one role as one, where roles have to alternate; each part with the turn it came from."""
    merged: list[tuple[str, list[tuple[Turn, Part]]]] = []
    for turn in turns:
        role = role_of.get(turn.role, turn.role)
        parts: list[tuple[Turn, Part]] = [
            (turn, part) for part in (turn.parts or ([""] if turn.role == "tool" else []))
        ]
        if merged and merged[-1][0] == role:
            merged[-1][1].extend(parts)
        else:
            merged.append((role, parts))
    return merged


def _laid_over(body: Mapping[str, Any], extra: Mapping[str, Any]) -> Body:
    laid = dict(body)
    for name, value in extra.items():
        below = laid.get(name)
        laid[name] = _laid_over(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return laid
