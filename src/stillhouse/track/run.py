"""One run of the experiment store: append-only lines while it lives, Parquet when it ends.

A run is a folder that nobody else writes:

    runs/<id>/run.json            what it is, how it stands, where it ran
    runs/<id>/live-<pid>.jsonl    one line a `log`, each written with one system call
    runs/<id>/metrics.parquet     at the end: metric, step, ts, value, text
    runs/<id>/samples-<pid>.jsonl, samples.parquet    rows worth looking at
    runs/<id>/alive               touched now and then: the evidence that another machine can see
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import orjson

from ..core.errors import StoreError

FORMAT = 1
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 90.0
"""A run on another machine that gave no sign for so long counts as crashed."""


class Run:
    """A run being written: `Run.start`, `log`, `finish`. In a `with` block an exception marks it failed."""

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self._lock = threading.Lock()
        self._files: dict[tuple[str, int], int] = {}
        self._next_step = 0
        self._broken = False
        self._ended = threading.Event()
        threading.Thread(target=self._beat, name=f"heartbeat-{self.id}", daemon=True).start()

    @classmethod
    def start(
        cls,
        store: str | os.PathLike[str],
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        kind: str = "run",
        id: str | None = None,
        **facts: Any,
    ) -> Run:
        """A new run in the session folder `store`, or, with the `id` of one that exists, that run going on.

        `facts` stand in the record: `parent`, `step_key`, `inputs`, ... Raises `StoreError` when the folder cannot be
        written or the id is not a plain name.
        """
        run_id = id if id is not None else new_id()
        if not run_id or run_id.startswith(".") or not all(c.isalnum() or c in "-_." for c in run_id):
            raise StoreError(f"`{run_id}` cannot be the id of a run", "Use letters, digits, `-`, `_` and `.`.")
        folder = Path(store) / "runs" / run_id
        try:
            folder.mkdir(parents=True, exist_ok=True)
            known = read_record(folder) or {}
            record = {
                "format": FORMAT,
                "id": run_id,
                "name": name or known.get("name") or run_id,
                "kind": known.get("kind", kind),
                "status": "running",
                "started": known.get("started", time.time()),
                "ended": None,
                "error": None,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "pid_started": process_start(os.getpid()),
                "config": {**known.get("config", {}), **_plain(config or {})},
                **{key: value for key, value in known.items() if key not in _OWN},
                **_plain(facts),
            }
            write_record(folder, record)
            (folder / "alive").touch()
        except OSError as error:
            raise StoreError(f"the run `{run_id}` cannot be written in `{folder}`: {error.strerror}") from error
        if known:
            from .compaction import reopen

            reopen(Path(store), run_id)
        run = cls(folder, record)
        if known:
            run._next_step = _last_step(folder) + 1
        return run

    @property
    def id(self) -> str:
        return str(self.record["id"])

    @property
    def name(self) -> str:
        return str(self.record["name"])

    def log(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Write one step's metrics. Numbers are values, everything else is kept as text; nested names join with a dot.

        Without `step` the step after the last is meant. A metric logged at a step again replaces the earlier one.
        Never raises: when the disk refuses, it says so once on stderr and the program goes on without a record.
        """
        with self._lock:
            number = self._next_step if step is None else int(step)
            self._next_step = max(self._next_step, number + 1)
            line = metric_line(number, time.time(), values)
            if line is not None:
                self._append("live", line)

    def log_samples(self, samples: Sequence[Mapping[str, Any]], step: int | None = None) -> None:
        """Write rows worth looking at: any columns; `item` is the id of the row they speak about."""
        with self._lock:
            number = max(0, self._next_step - 1) if step is None else int(step)
            for sample in samples:
                plain = _plain(dict(sample))
                line = {"step": number, "ts": time.time(), "item": plain.pop("item", None), "data": plain}
                self._append("samples", orjson.dumps(line) + b"\n")

    def note(self, **facts: Any) -> None:
        """Add to the record of the run."""
        with self._lock, self._careful():
            self.record.update(_plain(facts))
            write_record(self.folder, self.record)

    def finish(self, status: str = "finished", error: str | None = None) -> None:
        """Close the run: Parquet by rename, then the record. Calling it again does nothing."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()
            with self._careful():
                if any(self.folder.glob("*.jsonl")):
                    from ._tables import settle

                    settle(self.folder)
                self.record.update(status=status, error=error, ended=time.time())
                write_record(self.folder, self.record)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.finish()
        elif issubclass(kind, KeyboardInterrupt):
            self.finish("interrupted")
        else:
            self.finish("failed", f"{kind.__name__}: {error}")

    def _append(self, kind: str, line: bytes) -> None:
        if self._ended.is_set():
            self._complain(f"the run `{self.id}` is finished, this was not recorded")
            return
        with self._careful():
            os.write(self._descriptor(kind), line)

    def _descriptor(self, kind: str) -> int:
        place = (kind, os.getpid())  # a forked child must not share a file with its parent
        if place not in self._files:
            path = self.folder / f"{kind}-{place[1]}.jsonl"
            drop_torn_tail(path)
            self._files[place] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return self._files[place]

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._complain(f"the run `{self.id}` is not being recorded: {error}")

    def _complain(self, message: str, stream: TextIO | None = None) -> None:
        if not self._broken:
            self._broken = True
            print(f"stillhouse: {message}", file=stream or sys.stderr)

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.folder / "alive")


_OWN = {"format", "id", "name", "kind", "status", "started", "ended", "error", "host", "pid", "pid_started", "config"}


def new_id() -> str:
    """A name that sorts by time and that no other process takes: `20261121-093012-5f2a9c`."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + f"-{secrets.token_hex(3)}"


def metric_line(step: int, ts: float, values: Mapping[str, Any]) -> bytes | None:
    """One line of a live file: `m` numbers, `t` texts, `n` numbers that JSON cannot write (nan, inf, -inf)."""
    numbers: dict[str, float] = {}
    texts: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in _flat(values):
        if isinstance(value, bool | int | float):
            number = float(value)
            if math.isfinite(number):
                numbers[name] = number
            else:
                others[name] = repr(number)
        elif isinstance(value, str):
            texts[name] = value.encode(errors="replace").decode()
        elif value is not None:
            number_like = _as_number(value)
            if number_like is None:
                texts[name] = json.dumps(_plain(value), ensure_ascii=False)
            elif math.isfinite(number_like):
                numbers[name] = number_like
            else:
                others[name] = repr(number_like)
    if not (numbers or texts or others):
        return None
    line: dict[str, Any] = {"step": step, "ts": ts}
    line.update({key: found for key, found in (("m", numbers), ("t", texts), ("n", others)) if found})
    return orjson.dumps(line) + b"\n"


def drop_torn_tail(path: Path) -> int:
    """Cut a last line that has no end; returns how many bytes went. A file that does not exist is left alone."""
    try:
        with open(path, "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            end = size
            while end > 0:
                start = max(0, end - 65536)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
            return size - end
    except FileNotFoundError:
        return 0


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a run; None where there is none or it cannot be read."""
    try:
        record = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    temporary = folder / f".run-{os.getpid()}-{threading.get_ident()}.json"
    temporary.write_text(json.dumps(record, ensure_ascii=False, indent=1))
    os.replace(temporary, folder / "run.json")


def status_of(folder: Path, record: Mapping[str, Any]) -> str:
    """The status as the evidence has it: a run called running whose process is gone is `crashed`."""
    status = str(record.get("status", "unknown"))
    if status != "running":
        return status
    pid = record.get("pid")
    if record.get("host") == socket.gethostname() and isinstance(pid, int):
        return "running" if process_lives(pid, record.get("pid_started")) else "crashed"
    try:
        silent = time.time() - (folder / "alive").stat().st_mtime
    except OSError:
        return "crashed"
    return "running" if silent < STALE_SECONDS else "crashed"


def process_lives(pid: int, started: Any) -> bool:
    """Whether `pid` runs and is the process meant: where the system tells its start time, that must agree."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    now = process_start(pid)
    return now is None or started is None or now == started


def process_start(pid: int) -> str | None:
    """When the kernel says that a process began (boot id and ticks); None where it does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] == "Z":
            return "zombie"
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (OSError, IndexError):
        return None
    return f"{boot}/{fields[19]}"


def _last_step(folder: Path) -> int:
    from ._tables import last_step

    return last_step(folder)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _as_number(value: Any) -> float | None:
    """numpy and torch scalars are numbers too."""
    item = getattr(value, "item", None)
    if item is None:
        return None
    try:
        return float(item())
    except (TypeError, ValueError, RuntimeError):
        return None


def _plain(value: Any) -> Any:
    """`value` as JSON can write it; what JSON does not know becomes its text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    number = _as_number(value)
    return str(value) if number is None else number
