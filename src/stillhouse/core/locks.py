"""Lock files: held by a process while it lives, whatever becomes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file."""
    with taken(path) as free:
        return not free


@contextlib.contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file, if it is free or once it is; gives whether it is held."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
