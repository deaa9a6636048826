"""Reading an order: a guest's words in, the order out. It knows the task sheet, not who wrote the sentence."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .lexicon import Lexeme, lexemes, plain
from .menu import EXTRAS, FOOD

Order = dict[str, Any]  # the JSON value of a reply, see the task sheet


def read_order(text: str) -> Order:
    """The order in `text`; `items` is empty where the text names nothing on the menu."""
    said = lexemes(text)
    at = [position for position, lexeme in enumerate(said) if lexeme.kind == "item"]
    phrases = [_noun_phrase(said, position, previous + 1) for position, previous in zip(at, [-1, *at], strict=False)]
    items: list[dict[str, Any]] = []
    for number, phrase in enumerate(phrases):
        end = phrases[number + 1].start if number + 1 < len(phrases) else len(said)
        after = _after(said, at[number] + 1, end)
        name = said[at[number]].value
        counts = [
            count for count in (after.number, phrase.number) if count is not None
        ]  # "an order of lattes x 2" is two
        items.append(
            {
                "count": counts[0] if counts else 1,
                "item": name,
                "size": phrase.size or after.size,
                "extras": phrase.extras | after.extras,
            }
        )
        if name in FOOD:  # what follows food can only belong to the drink before it
            drink = next((item for item in reversed(items) if item["item"] not in FOOD), None)
            if drink is not None:
                drink["extras"] = drink["extras"] | after.extras
            items[-1].update(size=None, extras=frozenset())
    for item in items:
        item["extras"] = [extra for extra in EXTRAS if extra in item["extras"]]
    return {"items": items, "to_go": _to_go(plain(text))}


class _Phrase(NamedTuple):
    start: int
    number: int | None
    size: str | None
    extras: frozenset[str]


def _noun_phrase(said: list[Lexeme], item: int, floor: int) -> _Phrase:
    """What stands before the item at `item` and belongs to it, looking back no further than `floor`."""
    size: str | None = None
    extras: set[str] = set()
    start = item
    for position in range(item - 1, floor - 1, -1):
        kind, value = said[position]
        before = said[position - 1].kind if position > floor else None
        if kind in ("number", "article"):
            if before == "times" and floor > 0:  # "latte x 2, brownie": the number is the latte's
                break
            return _Phrase(position, int(value), size, frozenset(extras))
        if kind == "size":
            size = size or str(value)
        elif kind == "extra":
            extras.add(str(value))
        elif kind in ("comma", "and"):
            if not _opens(said, position - 1, floor):
                break
        elif kind == "word":  # one unknown adjective may stand after the number: "two more gorgeous lattes"
            further = said[position - 2].kind if before in ("glue", "times") and position - 1 > floor else before
            if further not in ("number", "article"):
                break
        elif kind not in ("container", "glue", "times"):
            break
        if kind in ("size", "extra", "container"):
            start = position
    return _Phrase(start, None, size, frozenset(extras))


def _opens(said: list[Lexeme], position: int, floor: int) -> bool:
    """Whether only modifiers stand between an article or number and `position` ("a large, iced" latte)."""
    if position < floor or said[position].kind not in ("size", "extra"):
        return False
    while position >= floor and said[position].kind in ("size", "extra", "comma", "and"):
        position -= 1
    if position < floor or said[position].kind not in ("number", "article"):
        return False
    return position == floor or said[position - 1].kind not in ("with", "times")


def _after(said: list[Lexeme], start: int, end: int) -> _Phrase:
    """What stands after an item and belongs to it: a chain that an unknown word ends and a *with* opens again."""
    count: int | None = None
    size: str | None = None
    extras: set[str] = set()
    chained = True
    for position in range(start, end):
        kind, value = said[position]
        if kind == "line":
            break
        if kind == "with":
            chained = True
        elif kind == "word" or kind == "container":
            chained = False
        elif chained and kind == "extra":
            extras.add(str(value))
        elif chained and kind == "size" and _stands_alone(said, position):
            size = size or str(value)
        elif chained and kind == "number" and said[position - 1].kind == "times":
            count = int(value)
    return _Phrase(start, count, size, frozenset(extras))


def _stands_alone(said: list[Lexeme], position: int) -> bool:
    """Whether the size at `position` is said of the item before it: not "my little brother", not "a little vanilla"."""
    before = said[position - 1]
    if before.value == "in":
        return True
    after = said[position + 1] if position + 1 < len(said) else Lexeme("line", "")
    ends = after.kind != "word" or after.value in _CLOSERS
    return ends and (before.kind in ("item", "comma", "and", "extra", "number") or before.value in ("both", "all"))


_CLOSERS = frozenset(
    [
        "when",
        "if",
        "as",
        "thanks",
        "thank",
        "cheers",
        "because",
        "since",
        "but",
        "so",
        "then",
        "today",
        "pls",
        "together",
        "along",
        "it's",
        "i'm",
        "we're",
        "that's",
        "im",
        "take",
    ]
)


_GO = re.compile(
    r"\btake\s?(?:away|out)s?\b|\btak(?:e|ing) (?:(?:it|them|that|this|these|those|everything|all) )?(?:away|out)\b"
    r"|\btak(?:e|ing) (?:(?:it|them|that|this|these|those|everything|all)(?: all)? )?(?:with (?:me|us)|along)\b"
    r"|\bto take [^.,;!?]{1,60} with (?:me|us)\b"
    r"|\bin a (?:\w+ )?bag\b"
    r"|\b(?<!\bhave )(?<!\bhas )(?<!\bhad )(?<!\bneed )(?<!\bgot )(?<!\bwant )(?<!\bready )(?<!\btime )(?<!\bplace )"
    r"to go\b(?! (?:to|home|back|through|into|shopping)\b)"
)


def _to_go(text: str) -> bool:
    return _GO.search(text) is not None
