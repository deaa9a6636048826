"""How a mapper that waits for others says that all it asks for is on its way: there is room for the next rows."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_told: ContextVar[Callable[[], None] | None] = ContextVar("stillhouse_sent", default=None)


def tell_when_sent(tell: Callable[[], None]) -> None:
    """Call `tell` when what the present task asks is on its way."""
    _told.set(tell)


def all_sent() -> None:
    """All that the present task asks just now is on its way."""
    tell = _told.get()
    if tell is not None:
        tell()


def parts_sent(number: int) -> list[Callable[[], None]]:
    """What each of so many parts of the present task tells: when all have, all of the task is on its way."""
    tell, left = _told.get() or _nobody, {*range(number)}

    def part(place: int) -> Callable[[], None]:
        def told() -> None:
            left.discard(place)
            if not left:
                tell()

        return told

    return [part(place) for place in range(number)]


def _nobody() -> None:
    """Nobody waits for it."""
