"""Where calls wait for their turn: in order, until one of the deployment's sources can take them."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from stillhouse.core.errors import ModelError

from .pace import Size, Turn
from .source import Source

NO_SIZE = Size(0)
_SHUT_SECONDS = 1.0
"""Calls that come in this time belong to the run that failed."""


class Place(NamedTuple):
    """A turn, and at which source."""

    source: Source
    turn: Turn
    size: Size


class Gate:
    """Lets calls in, each to the source that can take it soonest; those that wait are served in order of arrival.

    Belongs to one event loop. Steps that ask the same deployment share its gate.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self._waiting: deque[tuple[asyncio.Future[Place], Size]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._failed_at = 0.0
        self.failure: ModelError | None = None
        """Why nobody is let in any more."""
        for source in self.sources:
            source.pace.watch(self.serve, lambda: len(self._waiting))

    @property
    def limit(self) -> int:
        """Calls at once, if all sources take what they may."""
        return sum(source.pace.declared for source in self.sources)

    def was_shared_since(self, at: float) -> bool:
        """Whether other processes asked here too, and may have paid for what is asked next."""
        return any(source.pace.others_at > at for source in self.sources)

    @property
    def in_flight(self) -> int:
        return sum(source.pace.in_flight for source in self.sources)

    async def acquire(self, size: Size = NO_SIZE, *, first: bool = False) -> Place:
        """Wait for a turn and take it; `first` goes before all others that wait.

        Raises the `ModelError` that closed the gate.
        """
        if self.failure is not None:
            raise self.failure
        if not self._waiting:
            source, _ = self._choose(size)
            if source is not None:
                return Place(source, source.pace.take(size), size)
        turn: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft((turn, size))
        else:
            self._waiting.append((turn, size))
        self.serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(turn.result())  # the turn came together with the cancellation
            raise

    def release(self, place: Place) -> None:
        """A call is over."""
        doubt = place.source.doubt
        if doubt is not None and doubt.turn is place.turn:
            doubt.heard(None)  # whatever became of it, nothing more is heard of it
        place.source.pace.give_back(place.turn)

    def lend(self, source: Source) -> Turn | None:
        """Let the first that waits go to `source`, which is shut to all others; None where nobody waits."""
        while self._waiting:
            waiting, size = self._waiting.popleft()
            if not waiting.done():
                turn = source.pace.take(size)
                waiting.set_result(Place(source, turn, size))
                return turn
        return None

    def shut_for_good(self, failure: ModelError) -> None:
        """Nobody is let in any more: those that wait, and those that come, learn why."""
        self.failure = failure
        self._failed_at = asyncio.get_running_loop().time()
        while self._waiting:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(failure)

    def reopen(self) -> bool:
        """Let calls in again where it is another run, in which what was wrong may be mended; says whether it is."""
        if self.failure is None or asyncio.get_running_loop().time() - self._failed_at < _SHUT_SECONDS:
            return False
        self.failure = None
        for source in self.sources:
            source.closed_by = None
            source.suspect = False
            source.pace.begin_again()
        return True

    def at_once(self, size: Size, *, rather_not: Source) -> Place | None:
        """A turn, if there is one now that nobody waits for; not at `rather_not` where there are other sources."""
        if self.failure is not None or self._waiting:
            return None
        for source in sorted(self.sources, key=lambda source: (source is rather_not, source.pace.load)):
            if source.closed_by is None and source.pace.seconds(size) <= 0:
                return Place(source, source.pace.take(size), size)
        return None

    def serve(self) -> None:
        while self._waiting:
            turn, size = self._waiting[0]
            if turn.done():  # whoever waited has gone
                self._waiting.popleft()
                continue
            source, wait = self._choose(size)
            if source is None:
                self._wake_in(wait)
                return
            self._waiting.popleft()
            turn.set_result(Place(source, source.pace.take(size), size))

    def _choose(self, size: Size) -> tuple[Source | None, float]:
        """The source for a call, or None and the seconds after which to look again."""
        if len(self.sources) == 1:
            source = self.sources[0]
            wait = source.pace.seconds(size)
            return (source, 0.0) if wait <= 0 else (None, wait)
        best: Source | None = None
        least = soonest = math.inf
        for source in self.sources:
            if source.closed_by is not None:
                continue
            wait = source.pace.seconds(size)
            if wait > 0:
                soonest = min(soonest, wait)
                continue
            load = source.pace.load
            if load < least:
                best, least = source, load
        return best, soonest

    def _wake_in(self, seconds: float) -> None:
        if seconds == math.inf:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self._alarm_at = math.inf
        self.serve()
