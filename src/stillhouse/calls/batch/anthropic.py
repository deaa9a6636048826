"""Anthropic's message batches: one request brings all, and one file of results comes back, in any order.

A batch there bears no mark of ours. One that was begun without our having noted it is known by its time and its number
of requests; whether it is ours shows when its results do, by their ids.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import orjson

from stillhouse.core.errors import ModelError

from .api import Line, Result, Sent, Status

_CLOCKS_APART = 600.0  # seconds that their clock may be behind ours
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicBatches(Line):
    """`/messages/batches`."""

    max_requests = 100_000
    max_bytes = 256_000_000
    discount = 0.5
    marks = False

    @property
    def _headers(self) -> dict[str, str]:
        key = {} if self.place.secret is None else {"x-api-key": self.place.secret}
        return self.place.headers({"anthropic-version": "2023-06-01", **key})

    def line(self, key: str, path: str, body: bytes) -> bytes:
        return b'{"custom_id":"' + key.encode() + b'","params":' + body + b"},\n"

    async def upload(self, job: Sent, lines: Path) -> str:
        return ""

    async def create(self, job: Sent, file: str, path: str, lines: Path) -> str:
        whole = lines.with_name(lines.name + ".whole")
        try:
            _write_whole(lines, whole)
            with open(whole, "rb") as data:  # noqa: ASYNC230 - sent from the disk, piece by piece
                url = self.place.base + "/messages/batches"
                response = await self.transport.send(url, self._headers, data)
        finally:
            whole.unlink(missing_ok=True)
        return str(self.read(response)["id"])

    async def find(self, job: Sent, known: frozenset[str]) -> str | None:
        after = ""
        while True:
            page = await self.json("GET", f"/messages/batches?limit=100{after}", self._headers)
            found = page.get("data") or []
            for batch in found:
                counts = batch.get("request_counts") or {}
                is_new = str(batch["id"]) not in known and _made(batch) > job.since - _CLOCKS_APART
                if is_new and sum(int(number) for number in counts.values()) == job.num:
                    return str(batch["id"])
            if not found or not page.get("has_more") or _made(found[-1]) < job.since - _CLOCKS_APART:
                return None
            after = f"&after_id={found[-1]['id']}"

    async def status(self, remote: str) -> Status | None:
        batch = await self.json("GET", f"/messages/batches/{remote}", self._headers, gone=True)
        if batch is None:
            return None
        counts = batch.get("request_counts") or {}
        done = int(counts.get("succeeded") or 0)
        failed = sum(int(counts.get(name) or 0) for name in ("errored", "canceled", "expired"))
        if batch.get("processing_status") != "ended":
            return Status("running", done, failed)
        lost = [f"{counts[name]} {name}" for name in ("errored", "canceled", "expired") if counts.get(name)]
        url = batch.get("results_url")
        path = f"/messages/batches/{remote}/results" if url else ""
        return Status("ended", done, failed, ", ".join(lost), (path,) if path else ())

    async def fetch(self, status: Status, target: Path) -> None:
        with open(target, "wb") as file:  # noqa: ASYNC230 - written as it comes
            for path in status.files:
                url = self.place.base + path
                response = await self.transport.send(url, self._headers, None, method="GET", into=file)
                if response.status not in (200, 404, 410):
                    self.read(response)

    def result(self, line: bytes) -> Result | None:
        try:
            value = orjson.loads(line)
            key, result = value["custom_id"], value["result"]
            kind = result["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        if not isinstance(key, str):
            return None
        if kind == "succeeded":
            return Result(key, self.outcome(200, orjson.dumps(result.get("message"))))
        if kind != "errored":
            return Result(key, None)
        error = result.get("error") or {}
        inner = error.get("error")
        about: dict[str, Any] = inner if isinstance(inner, dict) else error
        status = _STATUS.get(str(about.get("type")), 500)
        return Result(key, self.outcome(status, orjson.dumps({"type": "error", "error": about})))

    async def cancel(self, remote: str) -> None:
        try:
            await self.json("POST", f"/messages/batches/{remote}/cancel", self._headers, {})
        except ModelError as error:
            if error.retryable:
                raise
            # It has ended meanwhile: what came of it is collected as ever.

    async def close(self) -> None:
        await self.transport.close()


def _write_whole(lines: Path, whole: Path) -> None:
    """The lines as the one JSON document that is sent."""
    with open(lines, "rb") as source, open(whole, "wb") as target:
        target.write(b'{"requests":[\n')
        previous = b""
        for line in source:
            target.write(previous)
            previous = line
        target.write(previous.rstrip(b",\n") + b"\n]}")


def _made(batch: dict[str, Any]) -> float:
    try:
        return dt.datetime.fromisoformat(str(batch["created_at"])).timestamp()
    except (KeyError, ValueError):
        return float("inf")
