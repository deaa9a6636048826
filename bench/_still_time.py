"""Time that stands still while anybody computes: how long a schedule takes, whatever else the machine has to do.

An event loop whose clock jumps to its next timer once every other thread of the process sleeps. What is measured by it
is what rows wait for each other; the price of computing is left out. Linux only, which tells of each thread whether it
sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

CALM, LOOKS = 0.0004, 3
"""Seconds between two looks at the other threads, and looks at which all sleep before time goes on."""
THREADS = Path("/proc/self/task")


def is_known() -> bool:
    return sys.platform == "linux"


class StillLoop(asyncio.SelectorEventLoop):
    """A loop by whose clock only waiting takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: StillLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:  # as the selector of the platform says
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        calm = 0
        while calm < LOOKS:
            found = super().select(CALM)
            if found:
                return found
            calm = 0 if _others_work() else calm + 1
        timers = self._loop._scheduled  # type: ignore[attr-defined]
        if timers:
            self._loop.now = max(self._loop.now, timers[0].when())
        return []


def _others_work() -> bool:
    own = str(threading.get_native_id())
    for thread in os.listdir(THREADS):
        if thread == own:
            continue
        try:
            state = (THREADS / thread / "stat").read_bytes()
        except OSError:  # it has ended
            continue
        if state[state.rindex(b")") + 2 :][:1] in b"RD":
            return True
    return False


@contextlib.contextmanager
def still_time() -> Iterator[None]:
    """Loops that are made meanwhile are still ones."""
    with patch.object(asyncio, "new_event_loop", StillLoop):
        yield
