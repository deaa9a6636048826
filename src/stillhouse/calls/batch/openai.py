"""OpenAI's batches: a file is uploaded, a batch made of it; results and errors come as two files, in any order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import orjson

from stillhouse.core.errors import ModelError

from .api import Line, Result, Sent, Status

_MARK = "stillhouse"
_CLOCKS_APART = 600.0  # seconds that their clock may be behind ours
_STATES = {"completed": "ended", "expired": "ended", "cancelled": "ended", "failed": "failed"}


class OpenAIBatches(Line):
    """`/files` and `/batches`, also of servers that speak as OpenAI does."""

    max_requests = 50_000
    max_bytes = 200_000_000
    discount = 0.5
    marks = True

    @property
    def _headers(self) -> dict[str, str]:
        return self.place.headers(self.place.bearer)

    def line(self, key: str, path: str, body: bytes) -> bytes:
        head = orjson.dumps({"custom_id": key, "method": "POST", "url": path})
        return head[:-1] + b',"body":' + body + b"}\n"

    async def upload(self, job: Sent, lines: Path) -> str:
        headers = {name: value for name, value in self._headers.items() if name.lower() != "content-type"}
        with open(lines, "rb") as file:  # noqa: ASYNC230 - sent from the disk, piece by piece
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", file, filename=f"{_MARK}-{job.id}.jsonl", content_type="application/jsonl")
            response = await self.transport.send(self.place.base + "/files", headers, form)
        return str(self.read(response)["id"])

    async def create(self, job: Sent, file: str, path: str, lines: Path) -> str:
        value = {
            "input_file_id": file,
            "endpoint": path,
            "completion_window": "24h",
            "metadata": {_MARK: job.id},
        }
        return str((await self.json("POST", "/batches", self._headers, value))["id"])

    async def find(self, job: Sent, known: frozenset[str]) -> str | None:
        after = ""
        while True:
            page = await self.json("GET", f"/batches?limit=100{after}", self._headers)
            found = page.get("data") or []
            for batch in found:
                if (batch.get("metadata") or {}).get(_MARK) == job.id:
                    return str(batch["id"])
            if not found or not page.get("has_more") or _made(found[-1]) < job.since - _CLOCKS_APART:
                return None
            after = f"&after={found[-1]['id']}"

    async def status(self, remote: str) -> Status | None:
        batch = await self.json("GET", f"/batches/{remote}", self._headers, gone=True)
        if batch is None:
            return None
        counts = batch.get("request_counts") or {}
        done, failed = int(counts.get("completed") or 0), int(counts.get("failed") or 0)
        state, message = str(batch.get("status")), ""
        errors = (batch.get("errors") or {}).get("data") or []
        if errors:
            first = errors[0]
            line = f" (line {first['line']})" if first.get("line") else ""
            message = f"{first.get('code') or ''}: {first.get('message') or ''}{line}".strip(": ")
        if state == "failed" and any("token_limit_exceeded" in str(error.get("code")) for error in errors):
            return Status("later", message=message)
        files = tuple(str(batch[name]) for name in ("output_file_id", "error_file_id") if batch.get(name))
        known: Any = _STATES.get(state, "running")
        return Status(
            known, done, failed, message or (state if known == "ended" and state != "completed" else ""), files
        )

    async def fetch(self, status: Status, target: Path) -> None:
        with open(target, "wb") as file:  # noqa: ASYNC230 - written as it comes
            for name in status.files:
                url = f"{self.place.base}/files/{name}/content"
                response = await self.transport.send(url, self._headers, None, method="GET", into=file)
                if response.status not in (200, 404):  # one that has expired holds nothing any more
                    self.read(response)
                file.write(b"\n")

    def result(self, line: bytes) -> Result | None:
        try:
            value = orjson.loads(line)
            key, response, error = value["custom_id"], value.get("response"), value.get("error")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return None
        if not isinstance(key, str):
            return None
        if isinstance(response, dict) and isinstance(response.get("body"), dict | str):
            body = response["body"]
            status = response.get("status_code")
            data = body.encode() if isinstance(body, str) else orjson.dumps(body)
            return Result(key, self.outcome(status if isinstance(status, int) else 200, data))
        if (
            isinstance(error, dict)
            and "expired" not in str(error.get("code"))
            and "cancel" not in str(error.get("code"))
        ):
            return Result(key, self.outcome(500, orjson.dumps({"error": error})))
        return Result(key, None)

    async def cancel(self, remote: str) -> None:
        try:
            await self.json("POST", f"/batches/{remote}/cancel", self._headers, {})
        except ModelError as error:
            if error.retryable:
                raise
            # It has ended meanwhile: what came of it is collected as ever.

    async def close(self) -> None:
        await self.transport.close()


def _made(batch: dict[str, Any]) -> float:
    found = batch.get("created_at")
    return float(found) if isinstance(found, int | float) else float("inf")
