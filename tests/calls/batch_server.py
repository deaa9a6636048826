"""A server on this machine that acts like the batch APIs of OpenAI and Anthropic, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

Doing = Literal["answer", "refuse", "reject", "break", "expire", "cancel", "lose", "nameless", "garble", "twice"]
"""What becomes of one request of a batch: `reject` is its own fault, `break` the server's, `lose` leaves no line."""

Point = str
"""Where the server is: `upload`, `create`, `status`, `content`, `list`, `cancel`, before and after it has done it."""


@dataclass
class Batch:
    """One batch, whoever's API it came through."""

    id: str
    lines: list[dict[str, Any]]
    metadata: dict[str, str] = field(default_factory=dict)
    made: float = field(default_factory=time.time)
    state: Literal["running", "done", "cancelled", "expired", "failed"] = "running"
    error: tuple[str, str] = ("", "")


class BatchServer:
    """Runs in a thread of its own from `with` to its end.

    `done`: batches are done as soon as they are looked at. `doing(text, tries)` says what becomes of a request whose
    last message is `text` and which was in `tries` batches before. `at(point)` is called on the way: what it returns is
    the status of an error, or 0 for a connection that is torn.
    """

    def __init__(
        self,
        reply: Callable[[str], str] = lambda text: f"reply to {text}",
        *,
        done: bool = False,
        doing: Callable[[str, int], Doing] = lambda text, tries: "answer",
        at: Callable[[Point], int | None] = lambda point: None,
    ) -> None:
        self.batches: dict[str, Batch] = {}
        self.files: dict[str, bytes] = {}
        self.live: list[str] = []
        """Texts that were asked live."""
        self.points: Counter[Point] = Counter()
        self.done, self.doing, self.at, self.reply = done, doing, at, reply
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def asked(self) -> Counter[str]:
        """How often each text is in a batch that was begun: what is paid for."""
        return Counter(_text(line) for batch in list(self.batches.values()) for line in batch.lines)

    def finish(self) -> None:
        """All batches are done."""
        for batch in self.batches.values():
            if batch.state == "running":
                batch.state = "done"

    def __enter__(self) -> BatchServer:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(timeout=30)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 28)
        add = app.router.add_route
        add("POST", "/v1/files", self._guarded("upload", self._upload))
        add("GET", "/v1/files/{id}/content", self._guarded("content", self._content))
        add("POST", "/v1/batches", self._guarded("create", self._create))
        add("GET", "/v1/batches", self._guarded("list", self._list))
        add("GET", "/v1/batches/{id}", self._guarded("status", self._status))
        add("POST", "/v1/batches/{id}/cancel", self._guarded("cancel", self._cancel))
        add("POST", "/v1/messages/batches", self._guarded("create", self._create_messages))
        add("GET", "/v1/messages/batches", self._guarded("list", self._list_messages))
        add("GET", "/v1/messages/batches/{id}", self._guarded("status", self._status_messages))
        add("GET", "/v1/messages/batches/{id}/results", self._guarded("content", self._results))
        add("POST", "/v1/messages/batches/{id}/cancel", self._guarded("cancel", self._cancel_messages))
        add("POST", "/v1/chat/completions", self._chat)
        add("POST", "/v1/messages", self._messages)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    def _guarded(
        self, point: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.points[point] += 1
            failed = self._pass(f"{point} before", request)
            if failed is not None:
                return failed
            response = await handler(request)
            failed = self._pass(f"{point} after", request)
            return response if failed is None else failed

        return guarded

    def _pass(self, point: Point, request: web.Request) -> web.Response | None:
        status = self.at(point)
        if status is None:
            return None
        if status == 0 and request.transport is not None:
            request.transport.abort()
        error = {"message": "trouble", "type": "server_error"}
        return web.json_response({"type": "error", "error": error}, status=status or 500)

    # OpenAI

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        content = form["file"]
        assert isinstance(content, web.FileField)
        number = f"file-{len(self.files)}"
        self.files[number] = content.file.read()
        return web.json_response({"id": number, "purpose": "batch", "filename": content.filename})

    async def _create(self, request: web.Request) -> web.Response:
        value = await request.json()
        assert value["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[value["input_file_id"]].splitlines()]
        assert {line["url"] for line in lines} == {value["endpoint"]}
        batch = self._new("batch", [{"custom_id": line["custom_id"], "body": line["body"]} for line in lines])
        batch.metadata = value["metadata"]
        return web.json_response(self._openai(batch))

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response(self._page(request, self._openai, "after"))

    async def _status(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        return _gone() if batch is None else web.json_response(self._openai(batch))

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        if batch is None or batch.state != "running":
            return web.json_response({"error": {"message": "it is over", "type": "invalid_request_error"}}, status=409)
        batch.state = "cancelled"
        return web.json_response(self._openai(batch))

    def _openai(self, batch: Batch) -> dict[str, Any]:
        names = {"running": "in_progress", "done": "completed"}
        over = batch.state in ("done", "cancelled", "expired")
        found: dict[str, Any] = {
            "id": batch.id,
            "object": "batch",
            "status": names.get(batch.state, batch.state),
            "created_at": int(batch.made),
            "metadata": batch.metadata,
            "request_counts": {"total": len(batch.lines), "completed": len(batch.lines) if over else 0, "failed": 0},
            "output_file_id": f"out-{batch.id}" if over else None,
            "error_file_id": f"err-{batch.id}" if over else None,
            "errors": None,
        }
        if batch.state == "failed":
            found["errors"] = {"data": [{"code": batch.error[0], "message": batch.error[1], "line": 1}]}
        return found

    async def _content(self, request: web.Request) -> web.Response:
        kind, _, number = request.match_info["id"].partition("-")
        lines = [line for wrong, line in self._openai_lines(self.batches[number]) if wrong == (kind == "err")]
        return web.Response(body=b"\n".join(lines))

    def _openai_lines(self, batch: Batch) -> Iterator[tuple[bool, bytes]]:
        """Whether a line stands in the file of errors, and the line."""
        for line, doing in self._outcomes(batch):
            key, body = line["custom_id"], line["body"]
            if doing == "lose":
                continue
            if doing == "garble":
                yield False, b'{"custom_id": "' + key.encode()
                continue
            if doing in ("expire", "cancel"):
                error = {"code": f"batch_{doing}d", "message": "This request was not executed in time."}
                yield True, json.dumps({"id": "x", "custom_id": key, "response": None, "error": error}).encode()
                continue
            status, answer = self._chat_answer(body, doing)
            value = {"id": "x", "custom_id": key, "response": {"status_code": status, "body": answer}, "error": None}
            if doing == "nameless":
                del value["custom_id"]
            for _ in range(2 if doing == "twice" else 1):
                yield status != 200, json.dumps(value).encode()

    def _chat_answer(self, body: dict[str, Any], doing: str = "answer") -> tuple[int, dict[str, Any]]:
        if doing == "reject":
            return 400, {"error": {"message": "this cannot be", "type": "invalid_request_error", "code": None}}
        if doing == "break":
            return 500, {"error": {"message": "broken", "type": "server_error"}}
        text = str(body["messages"][-1]["content"])
        message = {"role": "assistant", "content": self.reply(text), "refusal": None}
        if doing == "refuse":
            message |= {"content": None, "refusal": "I will not"}
        usage = {"prompt_tokens": 1000, "completion_tokens": 1000}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {"id": "c", "model": body["model"], "choices": [choice], "usage": usage}

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.live.append(str(body["messages"][-1]["content"]))
        return web.json_response(self._chat_answer(body)[1])

    # Anthropic

    async def _create_messages(self, request: web.Request) -> web.Response:
        value = await request.json()
        lines = [{"custom_id": each["custom_id"], "body": each["params"]} for each in value["requests"]]
        return web.json_response(self._anthropic(self._new("msgbatch", lines)))

    async def _list_messages(self, request: web.Request) -> web.Response:
        return web.json_response(self._page(request, self._anthropic, "after_id"))

    async def _status_messages(self, request: web.Request) -> web.Response:
        batch = self._found(request)
        return _gone() if batch is None else web.json_response(self._anthropic(batch))

    async def _cancel_messages(self, request: web.Request) -> web.Response:
        return await self._cancel(request)

    def _anthropic(self, batch: Batch) -> dict[str, Any]:
        over = batch.state != "running"
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        counts["succeeded" if over else "processing"] = len(batch.lines)
        made = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(batch.made)) + ".5Z"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": "ended" if over else "in_progress",
            "request_counts": counts,
            "created_at": made,
            "results_url": f"{self.url}/messages/batches/{batch.id}/results" if over else None,
        }

    async def _results(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        return web.Response(body=b"\n".join(self._anthropic_lines(batch)))

    def _anthropic_lines(self, batch: Batch) -> Iterator[bytes]:
        for line, doing in self._outcomes(batch):
            key = line["custom_id"]
            if doing == "lose":
                continue
            if doing == "garble":
                yield b'{"custom_id": "' + key.encode()
                continue
            result: dict[str, Any] = {"type": {"expire": "expired", "cancel": "canceled"}.get(doing, "errored")}
            if doing in ("reject", "break"):
                kind = "invalid_request_error" if doing == "reject" else "api_error"
                result["error"] = {"type": "error", "error": {"type": kind, "message": "this cannot be"}}
            elif doing not in ("expire", "cancel"):
                result = {"type": "succeeded", "message": self._message(line["body"], doing)}
            value: dict[str, Any] = {"custom_id": key, "result": result}
            if doing == "nameless":
                del value["custom_id"]
            for _ in range(2 if doing == "twice" else 1):
                yield json.dumps(value).encode()

    def _message(self, body: dict[str, Any], doing: str = "answer") -> dict[str, Any]:
        text = _last_text(body)
        refuses = doing == "refuse"
        return {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [] if refuses else [{"type": "text", "text": self.reply(text)}],
            "stop_reason": "refusal" if refuses else "end_turn",
            "usage": {"input_tokens": 1000, "output_tokens": 1000},
        }

    async def _messages(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.live.append(_last_text(body))
        return web.json_response(self._message(body))

    # both

    def _new(self, kind: str, lines: list[dict[str, Any]]) -> Batch:
        batch = Batch(f"{kind}_{len(self.batches)}", lines)
        self.batches[batch.id] = batch
        return batch

    def _found(self, request: web.Request) -> Batch | None:
        batch = self.batches.get(request.match_info["id"])
        if batch is not None and self.done and batch.state == "running":
            batch.state = "done"
        return batch

    def _page(self, request: web.Request, form: Callable[[Batch], dict[str, Any]], cursor: str) -> dict[str, Any]:
        """Two a page, newest first."""
        newest = list(reversed(self.batches.values()))
        ids = [batch.id for batch in newest]
        start = ids.index(request.query[cursor]) + 1 if cursor in request.query else 0
        return {"data": [form(batch) for batch in newest[start : start + 2]], "has_more": start + 2 < len(newest)}

    def _outcomes(self, batch: Batch) -> Iterator[tuple[dict[str, Any], Doing]]:
        """The requests in any order, each with what becomes of it."""
        before = Counter[str]()
        for other in self.batches.values():
            if other is batch:
                break
            before.update(_text(line) for line in other.lines)
        lines = list(batch.lines)
        random.Random(batch.id).shuffle(lines)
        for line in lines:
            doing = self.doing(_text(line), before[_text(line)])
            if batch.state in ("cancelled", "expired") and doing == "answer":
                doing = "cancel" if batch.state == "cancelled" else "expire"
            yield line, doing


def _text(line: dict[str, Any]) -> str:
    return _last_text(line["body"])


def _last_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _gone() -> web.Response:
    return web.json_response({"error": {"message": "no such batch", "type": "not_found_error"}}, status=404)
