"""Documents made by several processes: `python -m stillhouse.tokens._processes`.

The parent sends rows as Arrow through stdin and reads documents from stdout; when it dies, stdin ends, and so does the
process. What comes back is in the order of the rows, so the result does not tell how many processes there were.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import pyarrow as pa

from ..core import errors
from ..core._tables import dict_rows
from ..core.errors import StillhouseError, StoreError
from ._documents import Documenter, Documents, Writing

DONE, FAILED = b"d", b"f"
_HEAD = struct.Struct("<cQ")


class Chunk(NamedTuple):
    """Some rows, the first of which is number `start`."""

    start: int
    rows: pa.RecordBatch


Other = TypeVar("Other")


class Processes:
    """`count` processes that make documents; to be used in a `with` block."""

    def __init__(self, count: int, writing: Writing) -> None:
        self._workers = [_Worker(writing) for _ in range(count)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="tokenize")

    @property
    def pids(self) -> list[int]:
        return [worker.pid for worker in self._workers]

    def map(self, chunks: Iterable[Chunk | Other]) -> Iterator[tuple[Chunk, Documents] | Other]:
        """Each chunk with its documents, in order; what is no chunk comes through. Two a process are in flight."""
        waiting: deque[tuple[Chunk, Future[Documents]] | Other] = deque()
        for chunk in chunks:
            waiting.append((chunk, self._threads.submit(self._ask, chunk.rows)) if isinstance(chunk, Chunk) else chunk)
            if len(waiting) > 2 * len(self._workers):
                yield _settled(waiting.popleft())
        while waiting:
            yield _settled(waiting.popleft())

    def _ask(self, rows: pa.RecordBatch) -> Documents:
        worker = self._idle.get()
        try:
            return worker.ask(rows)
        finally:
            self._idle.put(worker)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()  # before the threads are waited for: they end with their pipes
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()


def _settled(entry: tuple[Chunk, Future[Documents]] | Other) -> tuple[Chunk, Documents] | Other:
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], Future):
        return entry[0], entry[1].result()
    return entry  # type: ignore[return-value]  # a chunk never waits without its future


class _Worker:
    def __init__(self, writing: Writing) -> None:
        # One thread each: there are as many processes as threads are allowed.
        alone = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {**os.environ, **alone, "TOKENIZERS_PARALLELISM": "false"}
        environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stillhouse.tokens._processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent, which ends them
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        self._begun = False
        self._settings = json.dumps({**asdict(writing), "tokenizer": os.fspath(writing.tokenizer)}).encode()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, rows: pa.RecordBatch) -> Documents:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        try:
            if not self._begun:
                _send(self._to, DONE, self._settings)
                self._begun = True
            _send(self._to, DONE, sink.getvalue().to_pybytes())
            kind, data = _receive(self._from)
        except (EOFError, OSError):
            raise self._lost() from None
        if kind == FAILED:
            told = json.loads(data)
            raise getattr(errors, told["type"])(told["message"], told["hint"])
        return Documents.unpacked(data)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        for stream in (self._to, self._from):
            try:
                stream.close()
            except BrokenPipeError:  # what was still to be sent
                continue

    def _lost(self) -> StillhouseError:
        code = self._process.wait()
        how = "was killed from outside: most likely memory ran out" if code == -signal.SIGKILL else f"ended with {code}"
        return StoreError(
            f"Tokenize: a process that tokenises {how}",
            "Run the same command again: finished segments are kept. Fewer `threads` of the session need less memory.",
        )


def _send(stream: IO[bytes], kind: bytes, data: bytes) -> None:
    stream.write(_HEAD.pack(kind, len(data)))
    stream.write(data)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        raise EOFError
    kind, size = _HEAD.unpack(head)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return kind, data


def main() -> None:
    """The process's side."""
    to, source = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    os.dup2(2, 1)  # what libraries print must not stand between documents
    try:
        settings = json.loads(_receive(source)[1])
        text = settings.pop("text")
        writing = Writing(**{**settings, "tokenizer": Path(settings["tokenizer"])}, text=text and tuple(text))
        documenter: Documenter | None = None
        while True:
            data = _receive(source)[1]
            try:
                documenter = documenter or Documenter(writing, checked=True)
                with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
                    rows = [row for batch in reader for row in dict_rows(batch)]
                _send(to, DONE, documenter(rows).packed())
            except StillhouseError as error:
                kind = type(error).__name__ if type(error).__name__ in ("RecipeError", "StoreError") else "RecipeError"
                told = {"type": kind, "message": error.message, "hint": error.hint}
                _send(to, FAILED, json.dumps(told).encode())
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the parent is gone, or needs no more


if __name__ == "__main__":
    main()
