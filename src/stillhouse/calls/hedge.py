"""Asking a second time where a reply is late: what comes first counts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from stillhouse.core.errors import StillhouseError

from .attempts import heard
from .gate import Gate, Place
from .reply import Reply

_LEAST = 50
_LOOKED_AT = 500
_EVERY = 20


class Hedge:
    """When a reply is late, by those so far: later than the share `quantile` of the last few hundred."""

    def __init__(self, quantile: float) -> None:
        self._quantile = quantile
        self._seconds: deque[float] = deque(maxlen=_LOOKED_AT)
        self._since = 0
        self._late: float | None = None

    def note(self, seconds: float) -> None:
        """A reply took so long."""
        self._seconds.append(seconds)
        self._since += 1
        if len(self._seconds) >= _LEAST and (self._late is None or self._since >= _EVERY):
            ordered = sorted(self._seconds)
            self._late = ordered[min(len(ordered) - 1, int(self._quantile * len(ordered)))]
            self._since = 0

    @property
    def late(self) -> float | None:
        """Seconds after which a reply is late; None until enough are known."""
        return self._late


def _ready(gate: Gate, place: Place | None) -> Place | None:
    """The place, if its source can be asked: where its key is missing, the first call is not to suffer for it."""
    if place is not None:
        try:
            place.source.ready()
        except StillhouseError:
            gate.release(place)
            return None
    return place


async def raced(
    gate: Gate, hedge: Hedge, place: Place, ask: Callable[[Place], Coroutine[Any, Any, Reply]]
) -> list[Reply]:
    """The replies that came, the one that counts first; usually one. Raises what the first call raised.

    A second call is made when the first is late and there is a turn for it at once. The one that loses is given up.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    tasks = [loop.create_task(heard(place, ask(place)))]
    second: Place | None = None
    try:
        await asyncio.wait(tasks, timeout=hedge.late)
        if not tasks[0].done():
            second = _ready(gate, gate.at_once(place.size, rather_not=place.source))
            if second is not None:
                tasks.append(loop.create_task(heard(second, ask(second))))
        waiting = set(tasks)
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() is None for task in done):
                break
        came = [task.result() for task in tasks if task.done() and task.exception() is None]
        if not came:
            return [tasks[0].result()]
        hedge.note(loop.time() - started)
        return came
    finally:
        late = [task for task in tasks if not task.done()]
        for task in late:
            task.cancel()
        if late:
            await asyncio.gather(*late, return_exceptions=True)
        if second is not None:
            gate.release(second)
