"""Python functions that tests embed with as `python:tests.calls.embedders:NAME`."""

from __future__ import annotations

import asyncio

from stillhouse.core.errors import RowFault


def lengths(texts: list[str]) -> list[list[float]]:
    """Two numbers about each text."""
    return [[float(len(text)), float(text.count("e") + 1)] for text in texts]


async def later(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return lengths(texts)


def picky(texts: list[str]) -> list[list[float]]:
    if any("bad" in text for text in texts):
        raise RowFault("refused", "not this one")
    return lengths(texts)


def short(texts: list[str]) -> list[list[float]]:
    return lengths(texts)[1:]


def broken(texts: list[str]) -> list[list[float]]:
    return [[1.0 / (len(text) - 1), 0.0] for text in texts]
