"""Stopping work: Ctrl-C or SIGTERM once to stop where it can be taken up again, twice to leave at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from . import exits
from .output import say


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within this, the first SIGINT or SIGTERM raises `KeyboardInterrupt`; the second ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping = False

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal stopping
        del number, frame
        if stopping:
            os._exit(exits.INTERRUPTED)  # as safe as kill -9: what counts as finished is on disk
        stopping = True
        say("stopping where it can go on later (once more to leave at once)")
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
