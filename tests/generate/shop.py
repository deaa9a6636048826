"""Tools that the tests of this folder have called."""

from __future__ import annotations

import os
import time
from typing import Annotated, Literal

from pydantic import Field

PRICES = {"tea": 2.5, "ice": 3}


def price(item: str, number: Annotated[int, Field(description="how many", ge=1)] = 1) -> dict[str, object]:
    """What some items cost together.

    Fails for an item that is not sold.
    """
    return {"item": item, "total": PRICES[item] * number}


def opening(day: Literal["mon", "sun"]) -> str:
    """When the shop opens."""
    return "8:00" if day == "mon" else "never"


def sleepy(item: str) -> str:
    """Takes its time."""
    time.sleep(60)
    return item


def abrupt(item: str) -> str:
    """Ends its process."""
    os._exit(3)


def untold(item) -> str:  # type: ignore[no-untyped-def]
    """Says nothing about its argument."""
    return str(item)


def many(*items: str) -> str:
    """Takes any number."""
    return ", ".join(items)
