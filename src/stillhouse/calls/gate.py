"""Slots of one deployment: how many calls may be on the wire at once, and from when on."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """At most `limit` holders at once, served in order of arrival; `pause` closes it for a while.

    Belongs to one event loop. Steps that ask the same deployment share its gate.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.peak = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opens_at = 0.0
        self._alarm: asyncio.TimerHandle | None = None

    async def acquire(self) -> None:
        """Wait for a slot and take it."""
        loop = asyncio.get_running_loop()
        if not self._waiting and self.in_flight < self.limit and self._opens_at <= loop.time():
            self._take()
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot came together with the cancellation
            raise

    def release(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        self._serve()

    def pause(self, seconds: float) -> None:
        """Let nobody in for `seconds`; calls on the wire go on. Of several pauses the longest counts."""
        loop = asyncio.get_running_loop()
        self._opens_at = max(self._opens_at, loop.time() + seconds)
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = loop.call_at(self._opens_at, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._serve()

    def _serve(self) -> None:
        if self._alarm is not None:
            return
        while self._waiting and self.in_flight < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._take()
                turn.set_result(None)

    def _take(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
