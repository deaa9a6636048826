"""Python's search for reference cycles, less often while rows stream through.

Rows in flight are many young objects and hardly ever cycles: looking through them after each 700 new objects costs a
fifth of a map step's time (`bench/map_speed.py`), after each 10,000 a hundredth.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 10_000
"""New objects after which the youngest are looked through."""

_lock = threading.Lock()
_running = 0
_before = (0, 0, 0)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect less often inside; the process's own thresholds come back when the last of those inside has left.

    A collector that is switched off, or looks less often already, is left alone.
    """
    global _running, _before
    with _lock:
        _running += 1
        if _running == 1:
            _before = gc.get_threshold()
            if 0 < _before[0] < YOUNG:
                gc.set_threshold(YOUNG, *_before[1:])
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                gc.set_threshold(*_before)
