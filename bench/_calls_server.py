"""A chat server for the benches of calls: raw asyncio, one process on a core of its own, as quick as Python lets it be.

    python bench/_calls_server.py          prints its port; GET /stats, POST /reset, POST /v1/chat/completions

The path may say how it answers: `/fixed/100/v1/…` after 100 ms, `/skewed/100/v1/…` after log-normal times of that mean
(sigma 0.8, drawn from the text of the prompt, so that each run meets the same).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

SIGMA = 0.8
_REPLY = " ".join(f"word{crc32(str(number).encode()) % 9973}" for number in range(60))
"""About 500 bytes that do not repeat: a text that goes round and round is no reply."""


def latency(path: str, body: bytes) -> float:
    """Seconds before the reply."""
    kind, mean = path.strip("/").split("/")[:2]
    if kind == "fixed":
        return float(mean) / 1000
    return skewed(float(mean) / 1000, json.loads(body)["messages"][-1]["content"])


def skewed(mean: float, text: str) -> float:
    """A log-normal time that belongs to a text."""
    return mean * random.Random(crc32(text.encode())).lognormvariate(-(SIGMA**2) / 2, SIGMA)


class Counters:
    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.peak = 0
        self.connections = 0
        self.first = 0.0
        self.last = 0.0
        self.starts: list[float] = []
        """When the first eight came: some programs try the server before they begin."""
        self.answered: dict[str, int] = {}


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_CHAT = _response(
    json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "teacher",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "logprobs": None,
                    "message": {"role": "assistant", "content": _REPLY, "refusal": None},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200},
            "system_fingerprint": "fp",
        }
    ).encode()
)


class Connection(asyncio.Protocol):
    def __init__(self, counters: Counters) -> None:
        self.counters = counters
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.counters.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            start = head.find(b"content-length:")
            length = 0
            if start >= 0:
                stop = head.find(b"\r\n", start)
                length = int(head[start + 15 : stop if stop >= 0 else None])
            if len(self.buffer) < end + 4 + length:
                return
            path = self.buffer[:end].split(b" ", 2)[1].decode()
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.handle(path, body)

    def handle(self, path: str, body: bytes) -> None:
        counters = self.counters
        if path == "/stats":
            self.transport.write(_response(json.dumps(vars(counters)).encode()))
        elif path == "/reset":
            counters.__init__()  # type: ignore[misc]
            self.transport.write(_response(b"{}"))
        else:
            now = time.time()
            counters.requests += 1
            counters.in_flight += 1
            counters.peak = max(counters.peak, counters.in_flight)
            counters.first = counters.first or now
            if len(counters.starts) < 8:
                counters.starts.append(now)
            asyncio.get_running_loop().call_later(latency(path, body), self.send, body if "/count/" in path else None)

    def send(self, body: bytes | None) -> None:
        counters = self.counters
        counters.in_flight -= 1
        counters.last = time.time()
        if self.transport.is_closing():
            return
        self.transport.write(_CHAT)
        if body is not None:
            text = json.loads(body)["messages"][-1]["content"]
            counters.answered[text] = counters.answered.get(text, 0) + 1


class Server:
    """The server as seen from a bench."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def url(self, kind: str = "fixed", milliseconds: float = 100, *, count: bool = False) -> str:
        return f"{self.root}/{kind}/{milliseconds:g}/{'count/' if count else ''}v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/stats") as response:
            found: dict[str, Any] = json.load(response)
        return found

    def reset(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.root}/reset", method="POST")).close()


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""Of these the server has the last and what is measured the first, where there are two."""


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """The server, while it runs."""
    process = subprocess.Popen([sys.executable, str(Path(__file__))], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def pin(place: int) -> None:
    """Keep this process on one core: the first (0) or the last (-1)."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, {CORES[place]})


async def main() -> None:
    counters = Counters()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counters), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    pin(-1)
    asyncio.run(main())
