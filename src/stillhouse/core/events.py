"""The event bus: the core publishes what happens, progress views and the experiment store listen."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is dotted (`step.started`); `data` holds JSON values."""

    kind: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


Listener = Callable[[Event], None]


class Bus:
    """Delivers events in the publishing thread, in order of subscription.

    A listener that raises is dropped with one line on stderr: watching must not harm the work.
    """

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; the returned function removes it."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
        return lambda: self._remove(listener)

    def publish(self, kind: str, **data: Any) -> None:
        if self._listeners:
            self.send(Event(kind, data))

    def send(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:
                self._remove(listener)
                print(f"stillhouse: a listener failed on `{event.kind}` and is off now: {error!r}", file=sys.stderr)

    def _remove(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [known for known in self._listeners if known is not listener]
