"""A real server on this machine that speaks as each provider does, behaves, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

from stillhouse.core.errors import RowFault
from tests.calls.voices import CHAT, COMPLETION, VOICES, Heard, Said, Voice

Teacher = Callable[[list[dict[str, Any]], dict[str, Any] | None, int], str]


@dataclass(frozen=True)
class Call:
    """One request as the server saw it: its number, and how often the same body came before."""

    number: int
    before: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    heard: Heard
    path: str
    voice: Voice = CHAT

    @property
    def text(self) -> str:
        """The last message."""
        return str(self.heard.messages[-1]["content"])

    @property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of a structured request."""
        return self.heard.schema

    @property
    def sample(self) -> int:
        return int(self.headers.get("X-Stillhouse-Sample", "0"))


@dataclass(frozen=True)
class Act:
    """How the server answers one request, other than by its teacher."""

    text: str | None = None
    finish: str = "stop"
    refusal: str | None = None
    status: int = 200
    error: Mapping[str, Any] | None = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    said: Said | None = None
    """What the model says, with all that a reply can hold; `text`, `finish` and `refusal` are short for it."""
    wire: Literal["whole", "reset", "cut", "trickle", "silence"] = "whole"
    """`reset`: half of the body, then the connection is torn; `cut`: half of the JSON with a matching length;
    `trickle`: byte by byte; `silence`: the headers, then nothing."""

    @classmethod
    def error_of(cls, status: int, message: str = "no", code: str | None = None, **headers: str) -> Act:
        """An error with OpenAI's body; underscores in header names become dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status=status, error={"message": message, "type": code, "code": code}, headers=named)


Misbehaviour = Callable[[Call], Act | None]


class MisbehavingServer:
    """Runs in a thread of its own from `with` to its end; counts what it is asked.

    `teacher` replies where `behave` returns None for a call. `latency` is seconds before each reply.
    """

    def __init__(
        self,
        teacher: Teacher | None = None,
        *,
        behave: Misbehaviour | None = None,
        latency: float | Callable[[Call], float] = 0.0,
        key: str | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.answered: Counter[str] = Counter()
        """Texts whose reply was sent whole, with how often."""
        self.in_flight = 0
        self.peak_in_flight = 0
        self.behave = behave
        self.url = ""
        self._teacher = teacher
        self._latency = latency
        self._key = key
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._answering = asyncio.Event()
        self._answering.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def num_calls(self) -> int:
        return len(self.calls)

    def texts(self) -> Counter[str]:
        """How often each last message was asked."""
        return Counter(call.text for call in self.calls)

    def hold(self) -> None:
        """Answer nothing from here on, until `let_go`."""
        self._loop.call_soon_threadsafe(self._answering.clear)

    def let_go(self) -> None:
        self._loop.call_soon_threadsafe(self._answering.set)

    def wait_for(self, num_calls: int) -> None:
        """Return when so many calls have come in; raises `TimeoutError` after a minute."""
        until = time.monotonic() + 60
        while self.num_calls < num_calls:
            if time.monotonic() > until:
                raise TimeoutError(f"{self.num_calls} of {num_calls} calls came")
            time.sleep(0.002)

    def __enter__(self) -> MisbehavingServer:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """Stop listening and drop all connections; the counters stay."""
        if self._runner is not None:
            self._do(self._runner.cleanup())
            self._runner = None

    def restart(self) -> None:
        """Listen again, at the same place."""
        self._do(self._start(int(self.url.rsplit(":", 1)[1].split("/")[0])))

    def _do(self, work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(timeout=30)

    async def _start(self, port: int = 0) -> None:
        app = web.Application(client_max_size=1 << 26)
        for voice in (*VOICES.values(), COMPLETION):
            app.router.add_post(voice.route, self._listening(voice))
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, backlog=1024, reuse_address=True)
        await site.start()
        bound = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{bound}/v1"

    def _listening(self, voice: Voice) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def listen(request: web.Request) -> web.StreamResponse:
            return await self._chat(request, voice)

        return listen

    async def _chat(self, request: web.Request, voice: Voice) -> web.StreamResponse:
        body = await request.read()
        digest = hashlib.sha256(body).hexdigest()
        value = json.loads(body)
        heard = voice.heard(value, request.match_info)
        path = request.raw_path
        call = Call(len(self.calls), self._seen[digest], value, request.headers, heard, path, voice)
        self._seen[digest] += 1
        self.calls.append(call)
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._latency(call) if callable(self._latency) else self._latency)
            await self._answering.wait()
            header, before = voice.key
            given = request.headers.get(header, "none").removeprefix(before)
            if self._key is not None and given != self._key:
                act = trouble(call, "wrong key", key=given)
            else:
                act = (self.behave and self.behave(call)) or self._taught(call)
            return await self._answer(request, call, act)
        finally:
            self.in_flight -= 1

    def _taught(self, call: Call) -> Act:
        if self._teacher is None:
            return Act(text=f"reply to {call.text}")
        try:
            return Act(text=self._teacher(call.heard.messages, call.schema, call.sample))
        except RowFault as fault:
            return Act(refusal=fault.message) if fault.kind == "refused" else Act.error_of(400, fault.message)

    async def _answer(self, request: web.Request, call: Call, act: Act) -> web.StreamResponse:
        body = act.raw if act.raw is not None else _body(call, act)
        if act.wire == "cut":
            body = body[: len(body) // 2]
        if act.wire in ("whole", "cut"):
            response = web.Response(body=body, status=act.status, headers=act.headers, content_type="application/json")
            await response.prepare(request)
            await response.write_eof()
            self.answered[call.text] += 1
            return response
        return await self._broken(request, body, act)

    async def _broken(self, request: web.Request, body: bytes, act: Act) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            if act.wire == "trickle":
                for byte in body:
                    await response.write(bytes([byte]))
                    await asyncio.sleep(0.02)
            elif act.wire == "silence":
                await asyncio.sleep(30)
            else:
                await response.write(body[: len(body) // 2])
                await asyncio.sleep(0.01)
        if request.transport is not None:
            request.transport.abort()
        return response


def trouble(call: Call, kind: str, key: str = "") -> Act:
    """An error as the API that was called words it."""
    found = call.voice.troubles[kind]
    raw = json.dumps(found.body).replace("{key}", key).encode()
    return Act(status=found.status, raw=raw, headers=found.headers)


def _body(call: Call, act: Act) -> bytes:
    if act.error is not None:
        return json.dumps({"error": act.error}).encode()
    said = act.said
    if said is None:
        prompt = sum(len(str(message["content"])) for message in call.heard.messages)
        reply = len(act.text or "")
        model = call.heard.model
        said = Said(act.text, act.finish, act.refusal, model=model, prompt_tokens=prompt, reply_tokens=reply)
    if "give_reply" in call.heard.tools and said.text is not None and not said.tool_calls:
        said = replace(said, text=None, finish="tools", tool_calls=(("call_1", "give_reply", _arguments(said.text)),))
    return json.dumps(call.voice.answer(replace(said, number=call.number))).encode()


def _arguments(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return {"text": text}
