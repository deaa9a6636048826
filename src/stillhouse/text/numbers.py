"""Numbers in texts, as people and models write them, read exactly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import Literal, NamedTuple

Decimal = Literal[".", ","]


class Number(NamedTuple):
    """A number as it stands in a text: its value (50 for `50 %`), whether a percent sign follows, and its unit."""

    value: Fraction
    text: str
    percent: bool = False
    unit: str | None = None


def numbers_in(text: str, decimal: Decimal = ".") -> list[Number]:
    """All numbers of a text, in order.

    Read are signs, thousands (`1,234`, `1'234`, `1 234` with a space that does not break), decimals, exponents
    (`1.5e3`, `1.5 × 10^3`), fractions (`3/4`, `1 3/4`, `½`), LaTeX (`\\frac{3}{4}`), currency signs and percent. What
    belongs to a word (`H2O`), a version (`1.2.3`) or a date (`1/2/2024`) is none. With `decimal=","` comma and point
    change roles.
    """
    return list(_numbers(plain_numbers(text), decimal))


def the_number(text: str, where: Literal["marked", "last", "only"] = "marked", decimal: Decimal = ".") -> Number | None:
    """The number that a reply comes to, or None.

    `marked`: the first in the last `\\boxed{}`, after `####`, or after `answer is` or `answer:`, where of `3 + 4 = 7`
    what follows the last equals sign counts; without such a mark the last number. `last`: the last number, marked or
    not. `only`: that of a text which is nothing but a number with its sign, currency and unit.
    """
    if where == "only":
        found = numbers_in(text, decimal)
        return found[0] if len(found) == 1 and _is_all(plain_numbers(text), found[0]) else None
    if where == "marked":
        marked = marked_answer(text)
        if marked is not None:
            found = numbers_in(marked.rpartition("=")[2], decimal)
            return found[0] if found else None
    found = numbers_in(text, decimal)
    return found[-1] if found else None


_ANSWER = re.compile(r"\banswer\b\W{0,4}(?:is\b|are\b|equals\b|[:=])(?=([^\n]*))", re.IGNORECASE)
_HASHES = re.compile(r"^\s*####\s*(.*)$", re.MULTILINE)


def marked_answer(text: str) -> str | None:
    """What a reply marks as its answer; None without a mark.

    That is the content of the last `\\boxed{}`, else what follows the last `####`, else the rest of the sentence after
    the last `answer is`.
    """
    inside = boxed(text)
    if inside is not None:
        return inside
    hashes = _HASHES.findall(text)
    if hashes:
        return str(hashes[-1])
    said = _ANSWER.findall(text)
    return re.split(r"[.!?](?:\s|$)", said[-1], maxsplit=1)[0] if said else None


def boxed(text: str) -> str | None:
    """The content of the last `\\boxed{…}` or `\\fbox{…}`, braces inside it counted; None where there is none."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    opened = text.find("{", start)
    if opened < 0 or text[start:opened].strip() not in ("\\boxed", "\\fbox"):
        return None
    depth = 0
    for place in range(opened, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[opened + 1 : place]
    return None


_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([^{}]+?)\s*\}|(\d))\s*(?:\{\s*([^{}]+?)\s*\}|(\d))")
_POWER = re.compile(r"(?<=\d)\s*(?:\\times|\\cdot|[×·x*])\s*10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?\d+)\s*\}|([+-]?\d+))")
_STYLE = re.compile(r"\\(?:text|textbf|mathrm|mathbf|operatorname|mbox)\s*\{([^{}]*)\}")
_NOTHING = re.compile(r"\\(?:left|right|displaystyle)\b|\\[!,;: ]")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b")
_SIGNS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-", "⁄": "/", "∕": "/", "％": "%", "’": "'"})
_WIDE = {ord("０") + digit: str(digit) for digit in range(10)}
_NO_BREAK = "\u00a0\u202f\u2009\u2007"


def plain_numbers(text: str) -> str:
    """The text with its LaTeX and its unusual signs written plainly, as far as numbers are concerned."""
    text = text.translate(_SIGNS).translate(_WIDE)
    if "\\" in text or "{" in text:
        text = text.replace("{,}", ",").replace("\\%", "%").replace("\\$", "$")
        text = _STYLE.sub(r" \1", _DEGREES.sub("°", _NOTHING.sub("", text)))
        text = _FRACTION.sub(_written, text)
    text = _POWER.sub(lambda found: f"e{found[1] or found[2]}", text)
    return re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", _vulgar, text)


def _written(found: re.Match[str]) -> str:
    """A fraction of LaTeX in one line, apart from a number that stands before it."""
    apart = " " if found.string[: found.start()][-1:].isalnum() else ""
    return f"{apart}{found[1] or found[2]}/{found[3] or found[4]}"


def _vulgar(found: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(found[0])).limit_denominator(10)
    apart = " " if found.string[: found.start()][-1:].isalnum() else ""
    return f"{apart}{value.numerator}/{value.denominator}"


_CURRENCY = "$€£¥₹"
_UNIT = r"(?:[ ]?(?P<unit>[A-Za-zµμΩ°²³]+(?:[/^][A-Za-z0-9²³]+)?))?"


@cache
def _pattern(decimal: Decimal) -> re.Pattern[str]:
    point, comma = (r"\.", ",") if decimal == "." else (",", r"\.")
    groups = rf"\d{{1,3}}(?:[{comma}'{_NO_BREAK}]\d{{3}})+(?!\d)"
    whole = rf"(?:{groups}|\d+)(?:{point}\d+)?|{point}\d+"
    simple = rf"(?:{whole})(?:[eE][+-]?\d+)?"
    return re.compile(
        rf"(?<![\w.])(?<!\d/)(?P<sign>[+-]?)(?P<before>[{_CURRENCY}]?)(?<![A-Za-z_])"
        rf"(?:(?P<mixed>\d+)\s+(?=\d+\s*/\s*\d))?(?P<top>(?>{simple}))"
        rf"(?:\s*/\s*(?P<bottom>(?>{simple})))?(?![\d]|{point}\d|\s*/\s*\d)"
        rf"(?P<percent>\s*%|\s+per\s?cent\b)?{_UNIT}"
    )


def _numbers(text: str, decimal: Decimal) -> Iterator[Number]:
    for found in _pattern(decimal).finditer(text):
        try:
            value = _value(found["top"], decimal)
            if found["bottom"]:
                value /= _value(found["bottom"], decimal)
        except (ZeroDivisionError, ValueError, OverflowError):
            continue
        if found["mixed"]:
            value += int(found["mixed"])
        if found["sign"] == "-":
            value = -value
        yield Number(value, found[0].strip(), bool(found["percent"]), found["before"] or found["unit"] or None)


def _value(text: str, decimal: Decimal) -> Fraction:
    comma = "," if decimal == "." else "."
    plain = re.sub(f"[{re.escape(comma)}'{_NO_BREAK}]", "", text).replace(decimal, ".")
    exponent = re.search(r"[eE]([+-]?\d+)$", plain)
    if exponent and len(exponent[1]) > 4:  # a text must not make us compute a number of a million digits
        raise OverflowError(text)
    if len(plain) > 4000:
        raise OverflowError("too many digits")
    return Fraction(plain)


def _is_all(text: str, number: Number) -> bool:
    return text.strip().strip("$ ").rstrip(".") in (number.text, number.text.strip("$ "))
