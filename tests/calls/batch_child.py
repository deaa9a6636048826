"""Processes that run a step in batch jobs, and may be killed.

They are forked from one that has imported everything, so that each begins at once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stillhouse.core.errors import Waiting

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.calls.test_batch", "tests.calls.batch_child", "aiohttp", "pyarrow.parquet"])
_LONG = 150.0


class Child:
    """One such process, which waits for `go`. `moment`: where it kills itself while it collects."""

    def __init__(self, folder: Path, url: str, api: str, moment: str = "") -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_run, args=(folder, url, api, moment, theirs), daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self._pid = self._process.pid
        theirs.close()
        self._killed = False

    def go(self) -> None:
        self._pipe.send("go")

    def kill(self) -> None:
        """Once, from whichever thread; returns when it is dead."""
        if not self._killed:
            self._killed = True
            os.kill(self._pid, signal.SIGKILL)
            wait([self._process.sentinel], _LONG)

    def outcome(self) -> tuple[str, int | None]:
        """What it said, or nothing, and how it ended."""
        try:
            said = str(self._pipe.recv()) if self._pipe.poll(_LONG) else "nothing in time"
        except (EOFError, ConnectionResetError):
            said = ""
        self._process.join(_LONG)
        self._pipe.close()
        return said, self._process.exitcode


def _run(folder: Path, url: str, api: str, moment: str, pipe: Connection) -> None:
    from tests.calls.test_batch import session, step

    class Server:
        def __init__(self) -> None:
            self.url = url

    pipe.recv()
    if moment:
        _die_at(moment)
    with session(folder, Server()) as opened:  # type: ignore[arg-type]
        try:
            pipe.send(f"made {len(opened.run(step(api), name='made'))}")
        except Waiting as error:
            pipe.send(f"waiting {error.message}")


def _die_at(moment: str) -> None:
    from stillhouse.calls.batch.batcher import Batcher
    from stillhouse.calls.batch.jobs import Jobs

    def die(*arguments: Any, **more: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    place: tuple[type, str] = {"put": (Jobs, "settle"), "settle": (Batcher, "_bill"), "finish": (Jobs, "finish")}[
        moment
    ]
    setattr(*place, die)
