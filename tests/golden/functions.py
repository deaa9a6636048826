"""Functions that the samples name."""

from __future__ import annotations

from typing import Any

LONGEST = 20


def shout(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "input": row["input"].upper()}


def is_short(row: dict[str, Any]) -> bool:
    return len(row["input"]) <= LONGEST


def is_brief(row: dict[str, Any], reply: str) -> bool:
    return len(reply) <= len(row["input"])


def weigh(what: str, grams: int = 100) -> str:
    """Weighs something."""
    return f"{grams} g of {what}"
