"""Judges that the tests ask as `python:tests.generate.judges:NAME`."""

from __future__ import annotations

import json
import re
from typing import Any

from stillhouse.calls.ask import Ask
from stillhouse.core.errors import RowFault

Messages = list[dict[str, Any]]
Schema = dict[str, Any] | None
_PAIR = re.compile(r"<first>\n(.*?)\n</first>\n\n<second>\n(.*?)\n</second>", re.DOTALL)


def by(name: str, **settings: Any) -> Ask:
    return Ask(model=f"python:tests.generate.judges:{name}", **settings)


def shown(messages: Messages) -> tuple[str, str]:
    found = next(match for message in messages if (match := _PAIR.search(message["content"])))
    return found[1], found[2]


def says(winner: str, reason: str = "so it is") -> str:
    return json.dumps({"reason": reason, "winner": winner})


def longer(messages: Messages, schema: Schema, sample: int) -> str:
    """Prefers the longer answer, wherever it stands."""
    first, second = shown(messages)
    if len(first) == len(second):
        return says("tie")
    return says("first" if len(first) > len(second) else "second", f"{len(first)} against {len(second)}")


def shorter(messages: Messages, schema: Schema, sample: int) -> str:
    first, second = shown(messages)
    return says("first" if len(first) < len(second) else "second")


def first(messages: Messages, schema: Schema, sample: int) -> str:
    """Always takes what stands first."""
    return says("first")


def second(messages: Messages, schema: Schema, sample: int) -> str:
    return says("second")


def leaning(messages: Messages, schema: Schema, sample: int) -> str:
    """Takes the first unless the second is far longer."""
    one, other = shown(messages)
    return says("second" if len(other) > len(one) + 3 else "first")


def undecided(messages: Messages, schema: Schema, sample: int) -> str:
    return says("tie")


def refuses(messages: Messages, schema: Schema, sample: int) -> str:
    raise RowFault("refused", "I do not judge")


def babbles(messages: Messages, schema: Schema, sample: int) -> str:
    """Cannot judge pairs with `puzzle`."""
    one, other = shown(messages)
    return "well, well" if "puzzle" in one + other else longer(messages, schema, sample)
