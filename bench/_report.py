"""A line of a bench: a value beside what it is held against, and how it is shown."""

from __future__ import annotations

import json
from typing import Any


def line(name: str, value: float, unit: str, reference: str, reference_value: float, better: str) -> dict[str, Any]:
    """`better` is "lower" or "higher"; five digits count; without a reference above 0 there is no ratio."""
    return {
        "name": name,
        "value": _digits(value),
        "unit": unit,
        "reference": reference,
        "reference_value": _digits(reference_value),
        "ratio": _digits(value / reference_value) if reference_value else None,
        "better": better,
    }


def show(entry: dict[str, Any], *, as_json: bool) -> None:
    """Print it, for a script or for a reader."""
    told = f"{entry['name']}: {entry['value']:,} {entry['unit']} ({entry['ratio']} × {entry['reference']})"
    print(json.dumps(entry) if as_json else told, flush=True)


def _digits(value: float) -> float:
    return float(f"{value:.5g}")
