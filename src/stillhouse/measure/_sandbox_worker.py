"""The worker of a sandbox: a small process that checks one thing after the other, each in a fork of its own.

Run as a script, it loads the standard library, `_contain.py` beside it and what a verifier's function needs. It has one
thread, so that it may fork. A job comes on stdin (its length, then the pickle of a parent that is trusted); for each
item of it one line of JSON goes to stdout. When stdin ends, all ends.

A fork lives in a folder of its own, without the worker's channels, under its limits, and dies with its process group.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import io
import json
import os
import pickle
import resource
import runpy
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NoReturn

MIB = 1 << 20
encode = json.JSONEncoder().encode  # bound now: what runs in a fork may change the module
LONGEST = 2000
"""Characters of a reason or an error that are passed on."""


def main() -> None:
    jobs, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for channel in (0, 1):
        os.dup2(null, channel)
    contain = _contain()
    folder = tempfile.mkdtemp(prefix="stillhouse-check-")
    try:
        worker = Worker(jobs, answers, folder, contain)
        while (job := worker.next_job()) is not None:
            worker.work(job)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _contain() -> Any:
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_contain.py")
    spec = importlib.util.spec_from_file_location("_contain", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Gone(Exception):
    """Who asked is gone."""


class Worker:
    """What checks have in common: the channels, the folder, what was made ready once."""

    def __init__(self, jobs: int, answers: int, folder: str, contain: Any) -> None:
        self._jobs, self._answers, self._folder, self._contain = jobs, answers, folder, contain
        self._function: Callable[..., Any] | None = None
        self._holds_files = self._holds_calls = False
        self._adopts = bool(contain.adopt_orphans())
        self._rules: dict[bool, int | None] = {}
        self._filters: dict[tuple[bool, bool], bytes] = {}

    def next_job(self) -> Mapping[str, Any] | None:
        head = _read_exactly(self._jobs, 4)
        if head is None:
            return None
        body = _read_exactly(self._jobs, struct.unpack("<I", head)[0])
        return None if body is None else pickle.loads(body)  # noqa: S301 -- from the process that started this one

    def work(self, job: Mapping[str, Any]) -> None:
        kind = job["kind"]
        if kind == "hello":
            self._say(self._hello(job))
        elif kind == "programs":
            for item in job["items"]:
                self._say(self._program(item, job["limits"]))
        else:
            place = 0
            while place < len(job["items"]):
                place += self._calls(job["items"][place:], job["limits"])

    def _say(self, answer: Mapping[str, Any]) -> None:
        data = encode(answer).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]

    def _hello(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """Load the function, if there is one, and tell what can be contained."""
        self._holds_files, self._holds_calls = _succeeds(self._try_files), _succeeds(self._try_calls)
        contained = {"files": self._holds_files, "network": self._holds_calls, "processes": self._holds_calls}
        answer: dict[str, Any] = {"status": "ok", "contained": contained}
        if job.get("function"):
            sys.path[:] = job["path"]
            try:
                self._function = _function(job["function"], job.get("script"))
            except BaseException as error:
                answer |= {"status": "raised", "detail": _error_text(error)}
        gc.collect()
        gc.freeze()
        return answer

    def _try_files(self) -> None:
        """In a fork: fails unless files can be closed to it."""
        rules = self._contain.file_rules(self._folder, self._contain.python_folders())
        if rules is None:
            raise OSError("no Landlock")
        self._contain.give_up_privileges()
        self._contain.keep_from_files(rules)
        for path in ("/etc", os.path.dirname(self._folder)):
            try:
                os.listdir(path)
            except PermissionError:
                continue
            raise OSError(f"`{path}` is open")

    def _try_calls(self) -> None:
        """In a fork: fails unless sockets and processes can be kept from it."""
        if not self._contain.can_filter():
            raise OSError("no filter for this machine")
        self._contain.give_up_privileges()
        self._contain.keep_from_calls(self._contain.filter_program(network=False, processes=False))
        import socket

        for refused in (socket.socket, os.fork):
            try:
                refused()
            except PermissionError:
                continue
            os._exit(1)

    def _program(self, item: Mapping[str, Any], limits: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._own_folder() as folder, tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
            given.write(item["stdin"].encode("utf-8", "surrogatepass"))
            given.seek(0)
            ready, token = self._ready(folder, limits), os.urandom(8).hex()
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                self._become(folder, limits, ready, write, given, said, token)
                _run_program(item, write, token)
            os.close(write)
            lines, status = self._watch(child, read, limits["seconds"], 1)
            found = _answer(lines[0]) if lines else {"status": status or "ended"}
            if lines and found.pop("token", None) != token:  # a program that writes wherever it can
                found = {"status": "forged"}
            size = min(said.seek(0, os.SEEK_END), limits["file_mib"] * MIB)
            said.seek(0)
            found["stdout"] = said.read(size).decode("utf-8", "replace")
            return found

    def _calls(self, items: Sequence[tuple[Any, str]], limits: Mapping[str, Any]) -> int:
        """Check items in one fork, as far as it gets; says and gives the number of those that were answered."""
        with self._own_folder() as folder, tempfile.TemporaryFile() as said:
            ready = self._ready(folder, limits)
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                self._become(folder, limits, ready, write, None, said)
                _run_calls(self._function, items, limits, write)
            os.close(write)
            lines, status = self._watch(child, read, limits["seconds"], len(items))
            done = lines[: len(items)]
            for line in done:
                self._say(_answer(line))
            if len(done) < len(items):
                self._say({"status": status or "ended"})
                return len(done) + 1
            return len(done)

    @contextlib.contextmanager
    def _own_folder(self) -> Iterator[str]:
        """An empty folder, the same one each time: the rules for files name it once."""
        folder = os.path.join(self._folder, "here")
        if not os.path.isdir(folder):
            os.mkdir(folder)
        try:
            yield folder
        finally:
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    _remove_folder(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)

    def _become(
        self,
        folder: str,
        limits: Mapping[str, Any],
        ready: tuple[int | None, bytes | None],
        write: int,
        given: BinaryIO | None,
        said: BinaryIO,
        token: str | None = None,
    ) -> None:
        """In the fork: leave everything behind that is the worker's, and go under the limits."""
        try:
            os.setsid()
            os.chdir(folder)
            os.environ["HOME"] = os.environ["TMPDIR"] = folder
            tempfile.tempdir = folder
            if given is not None:
                os.dup2(given.fileno(), 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            rules, calls = ready
            _set_limits(limits)
            if rules is not None or calls is not None:
                self._contain.give_up_privileges()
            if rules is not None:
                self._contain.keep_from_files(rules)
            for channel in (self._jobs, self._answers, *self._rules.values()):
                if channel is not None:
                    os.close(channel)
            if calls is not None:
                self._contain.keep_from_calls(calls)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        except BaseException as error:
            _leave(write, {"status": "broken", "detail": _error_text(error), "token": token})

    def _ready(self, folder: str, limits: Mapping[str, Any]) -> tuple[int | None, bytes | None]:
        """The rules for files and the filter of calls, made once, before the fork."""
        read_all = bool(limits["read_all"])
        if read_all not in self._rules:
            readable = None if read_all else self._contain.python_folders()
            self._rules[read_all] = self._contain.file_rules(folder, readable) if self._holds_files else None
        if not self._holds_calls:
            return self._rules[read_all], None
        kept = (bool(limits["network"]), bool(limits["processes"]))
        if kept not in self._filters:
            self._filters[kept] = self._contain.filter_program(network=kept[0], processes=kept[1])
        return self._rules[read_all], self._filters[kept]

    def _end_orphans(self) -> None:
        """What a fork started and left behind, in its process group or out of it."""
        for _ in range(1000):  # one that starts others faster than they are ended is left to its limits
            orphans = self._contain.own_children()
            if not orphans:
                return
            for process in orphans:
                with contextlib.suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            for process in orphans:
                with contextlib.suppress(OSError):
                    os.waitpid(process, 0)

    def _watch(self, child: int, read: int, seconds: float, num_lines: int) -> tuple[list[bytes], str | None]:
        """Up to `num_lines` lines of a fork, each within its time; its process group is killed then.

        With fewer lines there is a word for why: `time`, a limit, a signal, or None where it simply ended.
        """
        data, late = b"", False
        until = time.monotonic() + seconds
        try:
            while data.count(b"\n") < num_lines:
                ready, _, _ = select.select([read, self._jobs], [], [], max(0.0, until - time.monotonic()))
                if read in ready:
                    piece = os.read(read, 1 << 16)
                    data += piece
                    if not piece or len(data) > 64 * MIB:
                        break
                    if b"\n" in piece:
                        until = time.monotonic() + seconds
                elif ready:  # no job comes before this one is answered: who asked has closed the channel
                    raise Gone
                else:
                    late = True
                    break
            else:
                return data.split(b"\n")[:-1], None
        finally:
            os.close(read)
            status = _killed(child, wait=not late)
            if self._adopts:
                self._end_orphans()
        word = "time" if late else _signal_name(os.WTERMSIG(status)) if os.WIFSIGNALED(status) else None
        return data.split(b"\n")[:-1], word


def _remove_folder(path: str) -> None:
    """Take a folder away, also one of folders in folders that is deeper than Python's own way can go."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if os.path.isdir(path):
        subprocess.run(["rm", "-rf", "--", path], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _succeeds(attempt: Callable[[], None]) -> bool:
    """Whether an attempt raises nothing, made in a fork."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _killed(child: int, *, wait: bool) -> int:
    """End a fork and all in its process group; gives its status. One that is ending by itself says why first."""
    status = None
    until = time.monotonic() + (1.0 if wait else 0.0)
    while status is None and time.monotonic() < until:
        done, found = os.waitpid(child, os.WNOHANG)
        status = found if done else None
        if status is None:
            time.sleep(0.0005)
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    return status


def _answer(line: bytes) -> dict[str, Any]:
    """A line of a fork; whatever ran there may have written it."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) and isinstance(found.get("status"), str) else {"status": "forged"}


def _signal_name(number: int) -> str:
    if number == signal.SIGXCPU:
        return "cpu"
    if number == signal.SIGXFSZ:
        return "size"
    return f"signal {signal.Signals(number).name}" if number in set(signal.Signals) else f"signal {number}"


def _set_limits(limits: Mapping[str, Any]) -> None:
    used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])) + 1
    hard = resource.RLIM_INFINITY if limits["read_all"] else used + limits["cpu_seconds"] + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + limits["cpu_seconds"], hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_mib"] * MIB,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    space = _address_space()
    if space:
        resource.setrlimit(resource.RLIMIT_AS, (space + limits["memory_mib"] * MIB,) * 2)


def _address_space() -> int:
    """What this process has mapped; 0 where that cannot be told, as on macOS, which has no such limit either."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _run_program(item: Mapping[str, Any], write: int, token: str) -> NoReturn:
    """Run a program and its tests, tell how it ended, and go."""
    main_module = types.ModuleType("__main__")
    main_module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main_module
    sys.argv = ["program.py"]
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8", errors="replace")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="backslashreplace")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what is said there is not compared
    answer: dict[str, Any] = {"status": "ok"}
    sources = {"program.py": item["code"], **({} if item["tests"] is None else {"tests.py": item["tests"]})}
    try:
        for name, source in sources.items():
            exec(compile(source, name, "exec"), main_module.__dict__)  # noqa: S102 -- what all this is for
    except SystemExit as error:
        if item["tests"] is not None or error.code not in (None, 0):
            answer = {"status": "exit", "detail": f"{error.code}"}
    except MemoryError:
        answer = {"status": "memory"}
    except BaseException as error:
        answer = {"status": "raised", "detail": _error_text(error, sources)}
    with contextlib.suppress(BaseException):
        sys.stdout.flush()
    _leave(write, {**answer, "token": token})


def _run_calls(
    function: Callable[..., Any] | None, items: Sequence[tuple[Any, str]], limits: Mapping[str, Any], write: int
) -> NoReturn:
    assert function is not None
    used = 0
    as_tool = limits.get("as_tool", False)
    for row, reply in items:
        if used:
            resource.setrlimit(resource.RLIMIT_CPU, (used + 1 + limits["cpu_seconds"], resource.RLIM_INFINITY))
        try:
            said = function(**row) if as_tool else function(dict(row), reply)
            found = {"text": _told(said)} if as_tool else _said(said)
        except MemoryError:
            answer: dict[str, Any] = {"status": "memory"}
        except Exception as error:
            answer = {"status": "raised", "detail": _error_text(error)}
        except BaseException as error:
            answer = {"status": "exit", "detail": f"{getattr(error, 'code', error)}"}
        else:
            answer = {"status": "ok", **found}
        os.write(write, encode(answer).encode() + b"\n")
        used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    os._exit(0)


def _said(said: Any) -> dict[str, Any]:
    if isinstance(said, str):
        return {"said": said[:LONGEST]}
    if type(said).__name__ in ("bool", "bool_"):
        return {"said": bool(said)}
    return {"said": None, "instead": f"{said!r:.80} ({type(said).__name__})"}


def _told(said: Any) -> str:
    """What a tool gives, as it is told to a model: text as it is, all else as JSON."""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)


def _leave(write: int, answer: Mapping[str, Any]) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(write, encode(answer).encode() + b"\n")
    os._exit(0)


def _error_text(error: BaseException, sources: Mapping[str, str] | None = None) -> str:
    try:
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    except BaseException:  # an exception whose text raises
        text = type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)) if sources else ():
        source = sources.get(frame.filename) if sources else None
        if source is not None and frame.lineno is not None:
            lines = source.split("\n")
            shown = lines[frame.lineno - 1].strip() if frame.lineno <= len(lines) else ""
            whose = "the tests" if frame.filename == "tests.py" else "the program"
            text += f" (line {frame.lineno} of {whose}: {shown[:200]})"
            break
    return text[:LONGEST]


def _function(name: str, script: str | None) -> Callable[..., Any]:
    """The function `module:name`, or one of a script, which is run for it as `multiprocessing` does."""
    module_name, _, path = name.partition(":")
    if script is not None:
        values = runpy.run_path(script, run_name="__mp_main__")
        sys.modules["__mp_main__"] = types.ModuleType("__mp_main__")
        sys.modules["__mp_main__"].__dict__.update(values)
        found: Any = sys.modules["__mp_main__"]
    else:
        found = importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _read_exactly(channel: int, size: int) -> bytes | None:
    pieces = []
    while size:
        piece = os.read(channel, min(size, MIB))
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


if __name__ == "__main__":
    with contextlib.suppress(Gone, BrokenPipeError):
        main()
