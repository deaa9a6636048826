"""Named text normalisers: what counts as the same answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import field_validator

from ..core.part import Part


class Normalise(Part, tag="text.normalise/1"):
    """The named normaliser as a part: text in, normalised text out."""

    name: str = "strip"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        normalise(name, "")
        return name

    def __call__(self, text: str) -> str:
        return normalise(self.name, text)


def normalise(name: str, text: str) -> str:
    """`text` after the normaliser `name`: two texts count as the same when the results are equal.

    `exact` changes nothing; `strip` drops space at both ends; `casefold` also ignores case; `whitespace` also counts
    any run of space as one; `json` compares JSON by value (order of keys, spaces and 1 against 1.0 do not count) and
    falls back to `strip` for what is no JSON; `number` compares the numbers that the texts come to
    (`text.numbers.the_number`) and falls back to `strip` where there is none. Raises ValueError for an unknown name.
    """
    try:
        function = NORMALISERS[name]
    except KeyError:
        raise ValueError(f"`{name}` is no normaliser; expected one of {', '.join(NORMALISERS)}") from None
    return function(text)


def _exact(text: str) -> str:
    return text


def _strip(text: str) -> str:
    return text.strip()


def _casefold(text: str) -> str:
    return text.strip().casefold()


def _whitespace(text: str) -> str:
    return " ".join(text.split()).casefold()


def _json(text: str) -> str:
    try:
        return canonical_json(json.loads(text, parse_constant=_no_constant))
    except (ValueError, RecursionError):
        return text.strip()


def _number(text: str) -> str:
    from .numbers import the_number

    found = the_number(text)
    return text.strip() if found is None else f"{found.value}{'%' if found.percent else ''}"


def canonical_json(value: Any) -> str:  # any JSON value
    """One text for equal JSON values: sorted keys, no spaces, whole floats written as integers."""
    return json.dumps(_settled(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _settled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _settled(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


NORMALISERS: dict[str, Callable[[str], str]] = {
    "exact": _exact,
    "strip": _strip,
    "casefold": _casefold,
    "whitespace": _whitespace,
    "json": _json,
    "number": _number,
}
