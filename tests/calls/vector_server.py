"""A server of vectors that speaks as OpenAI, Cohere, Voyage and Gemini do, and misbehaves on demand."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Asked:
    """One request: its path, headers, body and the texts in it."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    texts: list[str]


@dataclass(frozen=True)
class Told:
    """Another answer than the vectors."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, message: str, code: str = "", **headers: str) -> Told:
    return Told(status, json.dumps({"error": {"message": message, "code": code}}).encode(), headers)


def vector(text: str, dimensions: int = 6) -> list[float]:
    """What the server says about a text: numbers that differ for each."""
    draw = np.random.default_rng(list(text.encode()) or [0])
    found: list[float] = draw.normal(size=dimensions).astype(np.float32).tolist()
    return found


class VectorServer:
    """Runs from `with` to its end. `behave` may give another answer; `numbers` sends lists in place of base64."""

    def __init__(
        self, behave: Callable[[Asked], Told | None] | None = None, *, numbers: bool = False, latency: float = 0.0
    ) -> None:
        self.asked: list[Asked] = []
        self.peak_in_flight = 0
        self._in_flight = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    asked = Asked(len(outer.asked), self.path, dict(self.headers), body, texts_of(body))
                    outer.asked.append(asked)
                    outer._in_flight += 1
                    outer.peak_in_flight = max(outer.peak_in_flight, outer._in_flight)
                time.sleep(latency)
                told = (behave and behave(asked)) or Told(body=json.dumps(answer(asked, numbers)).encode())
                with outer._lock:
                    outer._in_flight -= 1
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                self.wfile.write(told.body)

            def log_message(self, format: str, *args: Any) -> None:
                del format, args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def texts(self) -> list[str]:
        return [text for asked in self.asked for text in asked.texts]

    def __enter__(self) -> VectorServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def texts_of(body: dict[str, Any]) -> list[str]:
    if "requests" in body:
        return [request["content"]["parts"][0]["text"] for request in body["requests"]]
    return list(body.get("input") or body.get("texts") or [])


def answer(asked: Asked, numbers: bool) -> dict[str, Any]:
    """The response of the API that was spoken to."""
    body = asked.body
    if "requests" in body:
        size = body["requests"][0].get("outputDimensionality", 6)
        return {"embeddings": [{"values": vector(text, size)} for text in asked.texts]}
    if "texts" in body:
        size = body.get("output_dimension", 6)
        found = [vector(text, size) for text in asked.texts]
        return {"embeddings": {"float": found}, "meta": {"billed_units": {"input_tokens": 3 * len(found)}}}
    size = body.get("dimensions", body.get("output_dimension", 6))
    data = []
    for place, text in enumerate(asked.texts):
        made: Any = vector(text, size)
        if not numbers:
            made = base64.b64encode(np.array(made, "<f4").tobytes()).decode()
        data.append({"object": "embedding", "index": place, "embedding": made})
    return {"data": data[::-1], "usage": {"prompt_tokens": 2 * len(data), "total_tokens": 2 * len(data)}}
