"""From the gathered findings to HTML: geometry, differences and the template."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

SHOWN_CHARACTERS = 2000
WIDTH, HEIGHT = 440, 200
LEFT, RIGHT, TOP, BOTTOM = 66, 8, 10, 24


def render(value: Mapping[str, Any], examples: int) -> str:
    """The page as HTML. Everything from rows and models is escaped by the template engine."""
    comparison = value["comparison"]
    lead = comparison["metrics"][0]
    pairs = [pair for pair in comparison["pairs"] if pair["metric"] == lead]
    return template().render(
        page=value,
        comparison=comparison,
        lead=lead,
        bars=bars(comparison, lead),
        pairs=pairs,
        other_pairs=[pair for pair in comparison["pairs"] if pair["metric"] != lead],
        slices=slice_groups(comparison, lead),
        charts=charts(value["training"]),
        widest=max([stage["out"] + stage["dropped"] + stage["failed"] for stage in value["funnel"]], default=0) or 1,
        examples=examples,
    )


@cache
def template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent, number=number, seconds=seconds, short=short, dollars=dollars, pretty=pretty, bare=bare
    )
    environment.globals["difference"] = difference
    return environment.get_template("report.html")


def bars(comparison: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """For each model its score in percent of the bar's width, with the interval as a band."""
    return [
        {"name": name, "is_after": name == comparison["after"], **comparison["scores"][name][metric]}
        for name in comparison["models"]
    ]


SLICE_TITLES = {
    "familiar": "By wording: seen in training, or not",
    "novelty": "By wording: what of it training did not show",
}
"""For the columns that steps of ours add; of others the name is all that is known."""


def slice_groups(comparison: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """Slices by column, each with a title and for each value the bars of all models and the difference's sentence."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in comparison["slices"]:
        groups.setdefault(entry["column"], []).append(
            {
                **entry,
                "bars": [
                    {"name": name, "is_after": name == comparison["after"], **entry["scores"][name][metric]}
                    for name in comparison["models"]
                ],
                "sentences": [
                    f"against {p['before']}: {p['sentence']}" for p in entry["pairs"] if p["metric"] == metric
                ],
            }
        )
    return [{"title": SLICE_TITLES.get(column, f"By {column}"), "values": values} for column, values in groups.items()]


CHARTS = (("loss", ("loss", "eval_loss")), ("learning rate", ("learning_rate",)), ("gradient norm", ("grad_norm",)))


def charts(training: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The curves as SVG geometry; the first is shown, the others are folded."""
    if training is None:
        return []
    found = []
    for title, names in CHARTS:
        series = {name: training["curves"][name] for name in names if training["curves"].get(name)}
        if series:
            found.append(chart(title, series))
    return found


def chart(title: str, series: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Any]:
    """Lines, ticks and frame of one chart, in the units of its view box."""
    steps = [point[0] for points in series.values() for point in points]
    values = [point[1] for points in series.values() for point in points]
    first, last = min(steps), max(steps)
    ticks = ticks_over(min(0.0, *values), max(values))
    low, high = ticks[0], ticks[-1]

    def place(point: Sequence[float]) -> str:
        x = LEFT + (point[0] - first) / max(last - first, 1) * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - point[1]) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{x:.1f},{y:.1f}"

    return {
        "title": title,
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "lines": [
            {"name": name.replace("_", " "), "points": " ".join(map(place, points)), "last": points[-1][1]}
            for name, points in series.items()
        ],
        "ticks": [{"y": float(place((first, tick)).partition(",")[2]), "label": f"{tick:.3g}"} for tick in ticks],
        "first": f"{first:.0f}",
        "last": f"{last:.0f}",
    }


def ticks_over(low: float, high: float) -> list[float]:
    """Round numbers that span `low` to `high`, three to seven of them."""
    span = high - low if high > low else 1.0
    size = 10 ** math.floor(math.log10(span / 3))
    size *= next(factor for factor in (1, 2, 5, 10) if span / (size * factor) <= 5)
    first, last = math.floor(low / size), math.ceil((low + span) / size)
    return [place * size for place in range(first, last + 1)]


def difference(text: str | None, expected: str | None) -> list[tuple[str, bool]]:
    """`text` in pieces, each with whether it differs from `expected`, word by word."""
    shown = short(text or "")
    if expected is None or not text or max(len(text), len(expected)) > SHOWN_CHARACTERS:
        return [(shown, False)]
    own, other = (re.findall(r"\w+|\s+|[^\w\s]", pretty(part)) for part in (text, expected))
    pieces: list[tuple[str, bool]] = []
    for kind, start, stop, _, _ in difflib.SequenceMatcher(None, own, other, autojunk=False).get_opcodes():
        if start < stop:
            pieces.append(("".join(own[start:stop]), kind != "equal"))
    return pieces


def pretty(text: str | None) -> str:
    """JSON in one way of writing, so that only what differs looks different; other text as it is."""
    if text is None:
        return ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else text


def bare(text: str) -> str:
    """A message without the backticks that names wear in a terminal."""
    return text.replace("`", "")


def short(text: str) -> str:
    more = len(text) - SHOWN_CHARACTERS
    return text if more <= 0 else f"{text[:SHOWN_CHARACTERS]} … ({more} more characters)"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def number(value: float | int | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}" if math.isfinite(value) else str(value)
    return f"{int(value):,}"


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 0.995 or value == 0 else f"${value:.4f}"
