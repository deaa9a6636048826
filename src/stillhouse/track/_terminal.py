"""Curves as text: a canvas of braille dots, two by four in a character."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the dot in row, column of one braille character (Unicode 2800)."""


class Line(Protocol):
    """What is drawn: points in order of step, and what to call them."""

    @property
    def label(self) -> str: ...
    @property
    def steps(self) -> Sequence[int]: ...
    @property
    def values(self) -> Sequence[float]: ...


def drawn(title: str, lines: Sequence[Line], width: int, height: int, log: bool = False) -> str:
    """The lines on axes of `width` by `height` characters, legend included; values that are not finite are left out."""
    scale = math.log10 if log else float
    points = [
        [(step, scale(value)) for step, value in zip(line.steps, line.values, strict=True) if _drawable(value, log)]
        for line in lines
    ]
    every = [point for line in points for point in line]
    if not every:
        return f"{title}: nothing that can be drawn"
    left, right = min(step for step, _ in every), max(step for step, _ in every)
    low, high = min(value for _, value in every), max(value for _, value in every)
    labels = [_number(10**v if log else v) for v in (high, (low + high) / 2, low)]
    margin = max(map(len, labels))
    columns, rows = max(10, width - margin - 2), max(4, height - 3 - (len(lines) > 1))
    canvas = [[0] * columns for _ in range(rows)]
    for line in points:
        places = [
            (_place(step, left, right, 2 * columns), _place(high - value + low, low, high, 4 * rows))
            for step, value in line
        ]
        for start, end in zip(places[:1] + places, places, strict=False):
            _stroke(canvas, start, end)
    marks = {0: labels[0], (rows - 1) // 2: labels[1], rows - 1: labels[2]}
    body = []
    for row, cells in enumerate(canvas):
        dots = "".join(chr(0x2800 + cell) for cell in cells).replace(chr(0x2800), " ")
        body.append(f"{marks.get(row, ''):>{margin}} ┤{dots}".rstrip())
    first, last = str(left), str(right)
    ruler = " " * (margin + 2) + first + last.rjust(columns - len(first))
    legend = ["  ".join(line.label for line in lines)] if len(lines) > 1 else []
    return "\n".join([" " * (margin + 2) + title, *body, " " * (margin + 1) + "└" + "─" * columns, ruler, *legend])


def _drawable(value: float, log: bool) -> bool:
    return math.isfinite(value) and (value > 0 or not log)


def _place(value: float, low: float, high: float, cells: int) -> int:
    return 0 if high == low else min(cells - 1, int((value - low) / (high - low) * (cells - 1) + 0.5))


def _stroke(canvas: list[list[int]], start: tuple[int, int], end: tuple[int, int]) -> None:
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for index in range(steps + 1):
        x = round(start[0] + (end[0] - start[0]) * index / steps)
        y = round(start[1] + (end[1] - start[1]) * index / steps)
        canvas[y // 4][x // 2] |= DOTS[y % 4][x % 2]


def _number(value: float) -> str:
    return f"{value:.4g}"
