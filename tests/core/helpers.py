"""Functions whose identity the tests look at."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

FACTOR = 3


def helper(value: int) -> int:
    return value * FACTOR


def direct(row: dict[str, Any]) -> dict[str, Any]:
    """A docstring that does not count."""
    # neither does a comment
    return {"i": helper(row["i"])}


def with_library(row: dict[str, Any]) -> dict[str, Any]:
    return {"i": math.floor(row["i"]), "text": json.dumps(row["i"])}


def adder(amount: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def add(row: dict[str, Any]) -> dict[str, Any]:
        return {"i": row["i"] + amount}

    return add


def recursive(value: int) -> int:
    return 1 if value == 0 else value * recursive(value - 1)


handle = open  # a builtin under another name


def uses_object(row: dict[str, Any]) -> dict[str, Any]:
    return {"i": str(STRANGE)}


STRANGE = object()
