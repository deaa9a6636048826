"""Rows of one step that ask the same: each gets a reply of its own, where replies differ at all.

The first of them asks what it would ask alone; the number of each further one goes into the sample index of all that is
asked for it. Numbers follow the order of the table, so that they rest on no schedule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .node import children
from .sent import parts_sent, tell_when_sent

if TYPE_CHECKING:
    from .outcome import Outcome, Row
    from .step import Mapper

COLUMN = "_occurrence"
"""The number of a row among those that ask the same; a table without it holds the first of each."""
EACH = 1_000_000_000
"""Sample indices of one row: those of the next that asks the same begin after them."""

PROMPTS = "stillhouse.calls.request:prompts_of"

_number: ContextVar[int] = ContextVar("stillhouse_occurrence", default=0)


def asks_apart(step: Any) -> bool:
    """Whether a step asks a model that may say something else each time, and rows that ask the same are asked apart."""
    from .step import Step

    def visit(node: Any) -> bool:
        return any(
            getattr(child, "asks_apart", False) or visit(child)
            for child in children(node)
            if not isinstance(child, Step)
        )

    return visit(step)


class Apart:
    """A call service as the rows of a step see it: what is asked bears the number of the row that it is asked for."""

    def __init__(self, calls: Any) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def ask(self, by: Any, messages: Any, *, sample: int = 0, **more: Any) -> Any:
        """As `Calls.ask`."""
        return await self._calls.ask(by, messages, sample=sample + _before(by), **more)

    async def ask_many(self, by: Any, prompts: Sequence[Any], **more: Any) -> Any:
        """As `Calls.ask_many`."""
        before = _before(by)
        if before:
            from .functions import resolve

            asked = resolve(PROMPTS)(prompts)
            prompts = [prompt._replace(sample=prompt.sample + before) for prompt in asked]
        return await self._calls.ask_many(by, prompts, **more)


def _before(by: Any) -> int:
    number = _number.get()
    return number * EACH if number and getattr(by, "asks_apart", False) else 0  # a bare name is asked at temperature 0


def mapped(mapper: Mapper, rows: Sequence[Row], numbers: Sequence[int] | None) -> Any:
    """What a mapper returns for rows, of which those with one number are mapped together."""
    if numbers is None:
        return mapper(rows)
    places: dict[int, list[int]] = {}
    for place, number in enumerate(numbers):
        places.setdefault(number, []).append(place)
    first, *others = places
    begun = [mapper([rows[place] for place in places[first]])]
    if not inspect.isawaitable(begun[0]):  # a plain mapper, which asks nobody
        return mapper(rows)
    begun += [mapper([rows[place] for place in places[number]]) for number in others]
    return _together(begun, places, len(rows))


async def _together(begun: Sequence[Any], places: Mapping[int, list[int]], num_rows: int) -> list[Outcome]:
    import asyncio

    tells = parts_sent(len(begun))
    tasks = [
        asyncio.ensure_future(_numbered(number, found, tell))
        for number, found, tell in zip(places, begun, tells, strict=True)
    ]
    try:
        made = await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    if any(len(found) != len(own) for own, found in zip(places.values(), made, strict=True)):
        return [outcome for found in made for outcome in found]  # too many or too few: who takes them says so
    outcomes: dict[int, Outcome] = {}
    for own, found in zip(places.values(), made, strict=True):
        outcomes.update(zip(own, found, strict=True))
    return [outcomes[place] for place in range(num_rows)]


async def _numbered(number: int, outcomes: Any, tell: Callable[[], None]) -> Sequence[Outcome]:
    _number.set(number)
    tell_when_sent(tell)
    return await outcomes  # type: ignore[no-any-return]
