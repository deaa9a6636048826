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


def cooking(messages: Messages, schema: Schema, sample: int) -> str:
    """Says yes to texts with `soup`, cannot read those with `puzzle`."""
    text = messages[0]["content"]
    if "puzzle" in text:
        return "hm"
    return json.dumps({"reason": "it names a soup" if "soup" in text else "no food", "answer": _yes("soup" in text)})


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def counting(messages: Messages, schema: Schema, sample: int) -> str:
    """Scores a text by the number in it, half a point more in each further sample; cannot read those with `puzzle`."""
    text = messages[0]["content"]
    if "puzzle" in text:
        raise RowFault("refused", "no puzzles")
    number = float(re.findall(r"text (\d+)", text)[0])
    return json.dumps({"reason": f"it says {number:g}", "score": number + sample / 2})


def rubric(messages: Messages, schema: Schema, sample: int) -> str:
    """`clarity` is the number in the text, `depth` one more in each further sample, at most 5."""
    text = messages[0]["content"]
    number = int(re.findall(r"text (\d+)", text)[0])
    scores = {"clarity": number, "depth": min(5, 2 + sample)}
    assert schema is not None
    return json.dumps(
        {name: {"reason": f"{name} is {scores[name]}", "score": scores[name]} for name in schema["properties"]}
    )
