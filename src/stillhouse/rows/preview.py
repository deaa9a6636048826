"""A few rows as a table, for a terminal or a web page."""

import html
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

_NARROWEST = 6


def head(rows: Iterable[Mapping[str, Any]], num: int = 5) -> list[dict[str, Any]]:
    """The first `num` rows; reads no further."""
    return [dict(row) for row in islice(rows, num)]


def preview(
    rows: Iterable[Mapping[str, Any]], num: int = 5, *, width: int = 100, columns: Sequence[str] | None = None
) -> str:
    """The first rows as a table of at most `width` characters a line.

    Long values are cut with `…`, line ends shown as `⏎`.
    Row ids are shown shortened in the first column; other columns that begin with an underscore are left out.
    """
    table = _cells(head(rows, num), columns)
    if not table:
        return "(no rows)"
    names, body = table[0], table[1:]
    wanted = [max(_width(line[place]) for line in table) for place in range(len(names))]
    widths = _fitted(wanted, width - 2 * (len(names) - 1))
    lines = [names, ["─" * one for one in widths], *body]
    return "\n".join(
        "  ".join(_padded(cell, one) for cell, one in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def preview_html(rows: Iterable[Mapping[str, Any]], num: int = 5, *, columns: Sequence[str] | None = None) -> str:
    """The first rows as an HTML table without scripts or styles; all values are escaped."""
    table = _cells(head(rows, num), columns)
    if not table:
        return "<p>(no rows)</p>"
    header = "".join(f"<th>{html.escape(name)}</th>" for name in table[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in table[1:])
    return f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"


def _cells(rows: list[dict[str, Any]], columns: Sequence[str] | None) -> list[list[str]]:
    """The header and the rows as texts; nothing where there are no rows."""
    if not rows:
        return []
    names = columns or list(dict.fromkeys(name for row in rows for name in row if name[:1] != "_"))
    with_id = columns is None and any("_id" in row for row in rows)
    header = [*(["_id"] if with_id else []), *map(visible, names)]
    return [
        header,
        *(
            [*([str(row.get("_id", ""))[:8]] if with_id else []), *(_text(row.get(name)) for name in names)]
            for row in rows
        ),
    ]


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return visible(value.replace("\t", " "))


def visible(text: str) -> str:
    """The text on one line, without what would move a terminal's cursor or turn its letters round.

    Line ends become `⏎`; control characters and marks of direction are written as their numbers (`\\x1b`).
    """
    text = text.replace("\r\n", "⏎").replace("\n", "⏎")
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in _HARMLESS:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


_HARMLESS = "\u200c\u200d\ufeff\u00ad"  # joiners, without which some scripts and emoji fall apart


def _fitted(wanted: list[int], room: int) -> list[int]:
    """Widths that fit: narrow columns get what they want, wide ones share what is left."""
    widths = [0] * len(wanted)
    open_places = sorted(range(len(wanted)), key=lambda place: wanted[place])
    for done, place in enumerate(open_places):
        fair = max(_NARROWEST, room // (len(open_places) - done))
        widths[place] = min(wanted[place], fair)
        room -= widths[place]
    return widths


def _padded(text: str, width: int) -> str:
    if _width(text) > width:
        cut = ""
        for character in text:
            if _width(cut + character) > width - 1:
                break
            cut += character
        text = cut + "…"
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Columns of a terminal: wide East Asian characters take two, combining ones none, control characters one."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
