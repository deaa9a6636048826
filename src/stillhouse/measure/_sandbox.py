"""Checks in processes of their own: workers that are kept, results by item, a worker that dies is replaced.

A worker forks for each program, and once for many calls of a function (a fork that dies costs the one call that killed
it). So a check takes a millisecond, not the start of a Python.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import RecipeError
from .limits import Limits

WORKER = Path(__file__).with_name("_sandbox_worker.py")
BATCH = 64
"""Calls of a function that share a fork."""
GRACE = 120.0
"""Seconds beyond a check's own after which its worker is taken for dead: it ends checks itself."""
ENDS = {
    "time": "it took longer than {seconds:g} s",
    "cpu": "it worked for more than {cpu_seconds} s",
    "memory": "it took more than {memory_mib} MiB of memory",
    "size": "it wrote more than {file_mib} MiB",
    "ended": "its process ended before it was done",
    "forged": "its process ended before it was done",
    "died": "its process died, twice",
}


class Found(NamedTuple):
    """What came of one check. `reason` is None where it ran to its end; `said` is what a function returned, `text` what
    a tool gave."""

    reason: str | None
    said: bool | str | None = None
    instead: str | None = None
    stdout: str = ""
    text: str = ""


class Program(NamedTuple):
    """Python code, with tests that run after it in the same names, and what it reads."""

    code: str
    tests: str | None = None
    stdin: str = ""


def run_programs(programs: Sequence[Program], limits: Limits) -> list[Found]:
    """What came of each program, in order; several run at once."""
    settings = {**limits.model_dump(), "read_all": False}
    items = [program._asdict() for program in programs]
    return [_found(answer, limits) for answer in _pool(None).answers("programs", items, settings, 1)]


class Home(NamedTuple):
    """Where workers find a function: `module:name`, and the script to run for its names where it stands in one.

    `function` is the object that is meant: when a module is loaded anew, workers with the old one are not asked.
    """

    name: str
    script: str | None = None
    function: object = None


def call_function(home: Home, items: Sequence[tuple[Any, str]], limits: Limits) -> list[Found]:
    """What a function says of each row and reply, in order. Raises `RecipeError` where it cannot be loaded there."""
    settings = {**limits.model_dump(), "read_all": True}
    answers = _pool(home).answers("calls", items, settings, BATCH)
    return [_found(answer, limits) for answer in answers]


def call_tool(home: Home, arguments: Mapping[str, Any], limits: Limits) -> Found:
    """What `function(**arguments)` gives, in `text`: text as it is, all else as JSON. Else as `call_function`."""
    settings = {**limits.model_dump(), "read_all": True, "as_tool": True}
    (answer,) = _pool(home).answers("calls", [(dict(arguments), "")], settings, 1)
    return _found(answer, limits)


def contained() -> Mapping[str, bool]:
    """What checks are kept from on this machine: `network`, `processes`, `files`."""
    return _pool(None).contained()


def _found(answer: Mapping[str, Any], limits: Limits) -> Found:
    status = answer["status"]
    stdout = answer.get("stdout", "")
    if status == "ok":
        return Found(None, answer.get("said"), answer.get("instead"), stdout, answer.get("text", ""))
    if status == "raised":
        return Found(str(answer.get("detail")), stdout=stdout)
    if status == "exit":
        return Found(f"it left with `{answer.get('detail')}`", stdout=stdout)
    if status == "broken":
        raise RecipeError(
            f"a check cannot be contained on this machine: {answer.get('detail')}", "Run it in a container of its own."
        )
    text = ENDS.get(status, f"it died of {status}")
    return Found(text.format(**limits.model_dump()), stdout=stdout)


class _Worker:
    """One process that checks, and the way to it."""

    def __init__(self, function: str | None, script: str | None) -> None:
        own = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
        # A function is the user's and may need its surroundings; a program gets nothing that could be a secret.
        environment = {**os.environ, "PYTHONHASHSEED": "0"} if function else own
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment.setdefault(name, "1")
        self._process = subprocess.Popen(
            [sys.executable, "-E", "-s", "-P", "-u", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=os.getcwd() if function else "/",
            start_new_session=True,
        )
        self._data = b""
        hello = {"kind": "hello", "function": function, "script": script, "path": [p for p in sys.path if p] or ["."]}
        (answer,) = self.ask(hello, 1, 60.0)
        if answer["status"] != "ok":
            self.close()
            raise RecipeError(
                f"`{function}` cannot be loaded in a process of its own: {answer.get('detail')}",
                "Put it at the top of a module that can be imported without side effects.",
            )
        self.contained: dict[str, bool] = answer["contained"]

    def ask(self, job: Mapping[str, Any], num_answers: int, seconds: float) -> Iterator[dict[str, Any]]:
        """The answers to a job, as they come; fewer where the worker dies, or is silent for too long."""
        body = pickle.dumps(job)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(struct.pack("<I", len(body)) + body)
            self._process.stdin.flush()
        except OSError:
            return
        channel = self._process.stdout.fileno()
        for _ in range(num_answers):
            pieces = [self._data]
            while b"\n" not in pieces[-1]:
                ready, _, _ = select.select([channel], [], [], seconds + GRACE)
                piece = os.read(channel, 1 << 20) if ready else b""
                if not piece:
                    return
                pieces.append(piece)
            line, _, self._data = b"".join(pieces).partition(b"\n")
            yield json.loads(line)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it; what it checks ends with it."""
        for channel in (self._process.stdin, self._process.stdout):
            if channel is not None:
                with contextlib.suppress(OSError):
                    channel.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Pool:
    """Workers of one kind, at most as many as there are cores, each busy with one batch."""

    def __init__(self, function: str | None, script: str | None) -> None:
        self._function, self._script = function, script
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._size = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

    def answers(
        self, kind: str, items: Sequence[Any], limits: Mapping[str, Any], size: int
    ) -> Iterator[dict[str, Any]]:
        """An answer for each item, in order."""
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        if len(batches) < 2:
            for batch in batches:
                yield from self._batch(kind, batch, limits)
            return
        with ThreadPoolExecutor(min(self._size, len(batches)), thread_name_prefix="stillhouse-check") as threads:
            for found in threads.map(lambda batch: self._batch(kind, batch, limits), batches):
                yield from found

    def contained(self) -> Mapping[str, bool]:
        worker = self._taken()
        self._back(worker)
        return worker.contained

    def _batch(self, kind: str, items: Sequence[Any], limits: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        died_at = -1
        while len(found) < len(items):
            worker = self._taken()
            job = {"kind": kind, "items": items[len(found) :], "limits": limits}
            try:
                found += worker.ask(job, len(items) - len(found), limits["seconds"])
            except BaseException:
                worker.close()
                raise
            if len(found) == len(items):
                self._back(worker)
                break
            worker.close()
            if died_at == len(found):
                found.append({"status": "died"})
            died_at = len(found)
        return found

    def _taken(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.close()
        return _Worker(self._function, self._script)

    def _back(self, worker: _Worker) -> None:
        with self._lock:
            if len(self._idle) < self._size:
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()


_pools: dict[str | None, tuple[Home | None, _Pool]] = {}
_pools_lock = threading.Lock()


def _pool(home: Home | None) -> _Pool:
    """The workers for a function, or for programs (None); made once, and anew when the function is another."""
    name = None if home is None else home.name
    with _pools_lock:
        known = _pools.get(name)
        if known is not None and (home is None or (known[0] is not None and known[0].function is home.function)):
            return known[1]
        pool = _Pool(name, None if home is None else home.script)
        _pools[name] = (home, pool)
    if known is not None:
        known[1].close()
    return pool


@atexit.register
def close_workers() -> None:
    """End all workers; those that are needed again are started again."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for _, pool in pools:
        pool.close()
