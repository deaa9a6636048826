"""A comparison as plain text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH = 100


def text_table(report: Mapping[str, Any]) -> str:
    """The findings of `Compare` (the value of its report) as lines of at most about 100 characters."""
    lead = report["metrics"][0]
    lines = [
        f"{report['num_items']} held-out rows, 95 % intervals"
        if report["alpha"] == 0.05
        else f"{report['num_items']} held-out rows"
    ]
    lines += [
        "",
        *_grid(
            ["model", *report["metrics"], "right", "wrong", "errors"], [_row(report, name) for name in report["models"]]
        ),
    ]
    pairs = [pair for pair in report["pairs"] if pair["metric"] == lead]
    for pair in pairs:
        lines += ["", f"{pair['after']} against {pair['before']} ({lead}, {pair['test']})", *_wrapped(pair["sentence"])]
        flips = f"{pair['fixed']} fixed, {pair['broken']} broken"
        lines.append(f"  {flips}, {pair['both_right']} right in both, {pair['both_wrong']} in neither")
    for column in dict.fromkeys(entry["column"] for entry in report["slices"]):
        entries = [entry for entry in report["slices"] if entry["column"] == column]
        rows = [
            [
                entry["value"],
                f"{entry['num_items']} ({100 * entry['share']:.0f} %)",
                *(interval(entry["scores"][m][lead]) for m in report["models"]),
            ]
            for entry in entries
        ]
        lines += ["", *_grid([column, "rows", *report["models"]], rows)]
    return "\n".join(lines)


def interval(score: Mapping[str, Any]) -> str:
    """`93.1 % [89.3, 95.6]`."""
    if score["score"] is None:
        return "undefined"
    return f"{100 * score['score']:.1f} % [{100 * score['low']:.1f}, {100 * score['high']:.1f}]"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _row(report: Mapping[str, Any], name: str) -> list[str]:
    scores = report["scores"][name]
    lead = scores[report["metrics"][0]]
    errors = ", ".join(f"{count} {kind}" for kind, count in lead["errors"].items()) or "0"
    return [
        name,
        *(interval(scores[metric]) for metric in report["metrics"]),
        str(lead["right"]),
        str(lead["wrong"]),
        errors,
    ]


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[index]) for line in (head, *rows)) for index in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, *rows)
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
