"""Replies that hold certain texts: by pattern, by word, by list."""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..core.part import Part
from ..text.normalise import normalise
from .json_fields import parse_json
from .score import expected_value
from .verdict import Verdict

LONGEST = 200


class RegexVerifier(Part, tag="measure.regex_verifier/1"):
    """Accepts replies in which `pattern` is found, or with `whole` replies that it matches from end to end; with
    `absent` those without it.

    Patterns are Python's. One that backtracks (`(a+)+b`) can take hours over a reply made for it: a function with
    `limits` is the place for what must not hang.
    """

    pattern: str = Field(min_length=1)
    whole: bool = False
    absent: bool = False
    ignore_case: bool = False
    dot_matches_all: bool = False

    @model_validator(mode="after")
    def _readable(self) -> "RegexVerifier":
        try:
            self._compiled()
        except re.error as error:
            raise ValueError(f"`{self.pattern}` is no regular expression: {error}") from None
        return self

    def _compiled(self) -> re.Pattern[str]:
        flags = (re.IGNORECASE if self.ignore_case else 0) | (re.DOTALL if self.dot_matches_all else 0)
        return re.compile(self.pattern, flags)  # the module remembers compiled patterns

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        pattern = self._compiled()
        found = pattern.fullmatch(reply.strip()) if self.whole else pattern.search(reply)
        if (found is None) == self.absent:
            return Verdict(True)
        if found is not None:
            return Verdict(False, f"it holds `{found[0][:LONGEST]}`")
        return Verdict(False, f"it does not {'match' if self.whole else 'hold'} `{self.pattern}`")


class ContainsVerifier(Part, tag="measure.contains_verifier/1"):
    """Accepts replies that hold `all`, `any` or `none` of `texts`, or of those in `column` (one text, or a list).

    Case and runs of space do not count, unless `exactly`; with `words` a text must not begin or end inside a word.
    """

    texts: tuple[str, ...] = ()
    column: str | None = None
    which: Literal["all", "any", "none"] = "all"
    exactly: bool = False
    words: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> "ContainsVerifier":
        if bool(self.texts) == (self.column is not None):
            raise ValueError("give `texts`, or the `column` that holds them")
        if any(not text.strip() for text in self.texts):
            raise ValueError("`texts` holds an empty text, which every reply holds")
        return self

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        texts = self.texts if self.column is None else _texts(expected_value(item, self.column))
        if not texts:
            return Verdict(False, f"there is no text in `{self.column}` to look for")
        plain = self._plain(reply)
        held = [text for text in texts if self._holds(plain, self._plain(text))]
        if self.which == "none":
            return Verdict(True) if not held else Verdict(False, f"it holds `{held[0][:LONGEST]}`")
        if self.which == "any":
            return Verdict(True) if held else Verdict(False, "it holds none of " + _named(texts))
        missing = [text for text in texts if text not in held]
        return Verdict(True) if not missing else Verdict(False, "it does not hold " + _named(missing))

    def _plain(self, text: str) -> str:
        return text if self.exactly else normalise("whitespace", text)

    def _holds(self, reply: str, text: str) -> bool:
        if not self.words:
            return text in reply
        return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", reply) is not None


class ListVerifier(Part, tag="measure.list_verifier/1"):
    """Accepts replies that list just what stands in `column`: in any order, or in the `same` one.

    A list is JSON, or text with an item a line (bullets and numbers before it do not count) or, on one line, between
    commas or semicolons. Items are compared after `normaliser`; how often one stands there counts, unless `once`.
    """

    column: str = "output"
    order: Literal["any", "same"] = "any"
    once: bool = False
    normaliser: str = Field("whitespace", description="exact, strip, casefold, whitespace, json or number")

    @field_validator("normaliser")
    @classmethod
    def _known(cls, name: str) -> str:
        normalise(name, "")  # raises for an unknown name
        return name

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        value = expected_value(item, self.column)
        if value is None:
            return Verdict(False, f"there is no list in `{self.column}` to hold it against")
        wanted, found = self._settled(listed(value)), self._settled(listed(reply))
        missing, extra = _less(wanted, found), _less(found, wanted)
        if missing:
            return Verdict(False, "it lacks " + _named(missing))
        if extra:
            return Verdict(False, "it also lists " + _named(extra))
        if self.order == "same" and wanted != found:
            return Verdict(False, "its order is another")
        return Verdict(True)

    def _settled(self, items: list[str]) -> list[str]:
        settled = [normalise(self.normaliser, item) for item in items]
        return list(dict.fromkeys(settled)) if self.once else settled


_BULLET = re.compile(r"^\s*(?:[-*•·]|\(?\d+[.)]|\(?[a-zA-Z][.)])\s+")


def listed(value: Any) -> list[str]:
    """The items of a list: of a JSON array, or of a text with an item a line or between commas or semicolons."""
    if isinstance(value, str):
        try:
            parsed = parse_json(value)
        except ValueError:
            parsed = None
        if not isinstance(parsed, list):
            lines = [line for line in value.splitlines() if line.strip()]
            pieces = lines if len(lines) > 1 else re.split(r";|,(?!\d{3}\b)" if ";" not in value else ";", value)
            items = [_BULLET.sub("", piece).strip() for piece in pieces]
            return [item for item in items if item]
        value = parsed
    if isinstance(value, list | tuple | set | frozenset):
        return [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in value]
    return [json.dumps(value, ensure_ascii=False)]


def _less(items: list[str], others: list[str]) -> list[str]:
    """What is in `items` more often than in `others`."""
    left = list(others)
    found: list[str] = []
    for item in items:
        if item in left:
            left.remove(item)
        else:
            found.append(item)
    return found


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value.strip() else ()
    if isinstance(value, list | tuple):
        return tuple(str(each) for each in value if each is not None and str(each).strip())
    return () if value is None else (str(value),)


def _named(texts: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(f"`{text[:LONGEST]}`" for text in texts[:5])
    return shown if len(texts) <= 5 else f"{shown} and {len(texts) - 5} more"
