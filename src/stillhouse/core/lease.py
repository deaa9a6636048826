"""What a run uses, told to `gc`: a file of build keys under `work-v1`, locked while the run lives.

A run that failed or was killed leaves its file, which speaks for its results until it is old: the next run takes them
up. Keys are added, and results removed, under one lock, so that neither overtakes the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from .locks import is_locked
from .store import Store, disk_error

if TYPE_CHECKING:
    from filelock import BaseFileLock


class Lease:
    """The build keys that one run uses; to be held in a `with` block until its results have their name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.work / f"lease-{os.getpid()}-{time.time_ns()}.keys"
        self._held: BaseFileLock | None = None
        self._added: set[str] = set()
        self._threads = threading.Lock()

    def add(self, build_key: str) -> None:
        """Keep this result from `gc`. Where it was there before it is to be looked for after this."""
        from filelock import FileLock

        with self._threads:
            if build_key in self._added:
                return
            try:
                with gate(self._store):
                    if self._held is None:
                        self._held = FileLock(self._path.with_suffix(".lock"), thread_local=False)
                        self._held.acquire(timeout=0)
                    with open(self._path, "a") as file:
                        file.write(f"{build_key}\n")
            except OSError as error:
                if error.errno in (errno.EROFS, errno.EACCES):
                    return  # a store that cannot be written cannot be collected either
                raise disk_error(error, self._path) from error
            self._added.add(build_key)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held is None:
            return
        if kind is None:
            self._path.unlink(missing_ok=True)
        self._path.with_suffix(".lock").unlink(missing_ok=True)
        self._held.release()


def gate(store: Store) -> BaseFileLock:
    """The lock under which leases grow and results are removed."""
    from filelock import FileLock

    return FileLock(store.work / "gc.lock")


def leased(store: Store, newest: float) -> set[str]:
    """The keys of runs that live, and of those that ended without success after the time `newest`."""
    found: set[str] = set()
    for path in store.work.glob("lease-*.keys"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < newest and not is_locked(path.with_suffix(".lock")):
                path.unlink()
                path.with_suffix(".lock").unlink(missing_ok=True)
                continue
            found.update(path.read_text().split())
    return found
