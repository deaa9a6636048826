"""What a command prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from ..rows.preview import visible as visible

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def say(text: str) -> None:
    """One message on stderr."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; what JSON has no form for is written as text."""
    import json

    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style, where the stream is a terminal and NO_COLOR is not set; no meaning rests on it."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def table(rows: Iterable[Sequence[Any]], header: Sequence[str]) -> str:
    """Columns side by side, numbers to the right."""
    lines = [list(header), *([_cell(value) for value in row] for row in rows)]
    numeric = [len(lines) > 1 and all(_is_number(line[column]) for line in lines[1:]) for column in range(len(header))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = []
    for line in lines:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        shown.append("  ".join(cells).rstrip())
    shown[0] = styled(shown[0], "bold")
    return "\n".join(shown)


def fields(values: Mapping[str, Any]) -> str:
    """One field a line, names in a column; None is left out."""
    known = {name: value for name, value in values.items() if value is not None}
    width = max((len(name) for name in known), default=0)
    return "\n".join(f"{name:<{width}}  {_cell(value)}" for name, value in known.items())


def size(num_bytes: float) -> str:
    """1234567 -> 1.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    raise AssertionError


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    return visible(str(value))


def _is_number(text: str) -> bool:
    return text == "–" or text.replace(",", "").replace(".", "", 1).removeprefix("-").removeprefix("$").isdigit()
