"""A model that replies by script, for tests, docs and dry runs: no network, every kind of trouble on demand."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from stillhouse.core.errors import ModelError, RecipeError, RowFault

from ..reply import Finish, Reply, own_reply, text_reply
from ..request import Request
from .protocol import Answered

Script: TypeAlias = Callable[[list[dict[str, Any]], dict[str, Any] | None, int], "str | Reply"]

_scripts: dict[str, Scripted] = {}


def script(
    name: str,
    replies: Script | Sequence[str | Reply] | None = None,
    *,
    latency: float | Callable[[int], float] | None = None,
    failures: Mapping[int, Exception] | None = None,
) -> Scripted:
    """Register what `scripted:NAME` replies, and return it to look at what it was asked.

    `replies`: a function as of `python:` models, a list (one for each call, then the last again and again), or None,
    which repeats the last message. `latency`: seconds of each call, or a function of the call's number. `failures`: the
    exception that call number i raises.
    """
    made = _scripts[name] = Scripted(name, replies, latency=latency, failures=failures)
    return made


def scripted_named(name: str) -> Scripted:
    """The script that was registered as `name`."""
    if name not in _scripts:
        raise RecipeError(
            f"nothing is scripted as `{name}`",
            'Register it first: `stillhouse.calls.providers.scripted.script("…", …)`.',
        )
    return _scripts[name]


def scripted_reply(text: str = "", finish: Finish = "stop", refusal: str | None = None) -> Reply:
    """A reply that ends otherwise than well: cut (`length`), stopped by a filter or refused (`refused`)."""
    return own_reply(text, finish, refusal=refusal)


class Scripted:
    """A scripted model: counts its calls and keeps what it was asked, in order."""

    def __init__(
        self,
        name: str,
        replies: Script | Sequence[str | Reply] | None = None,
        *,
        latency: float | Callable[[int], float] | None = None,
        failures: Mapping[int, Exception] | None = None,
    ) -> None:
        self.name = name
        self.requests: list[Request] = []
        self.in_flight = 0
        self.peak_in_flight = 0
        self._replies = replies
        self._latency = latency
        self._failures = dict(failures or {})
        self._lock = threading.Lock()

    @property
    def num_calls(self) -> int:
        return len(self.requests)

    @property
    def waits(self) -> bool:
        """Whether calls take time, so that they are made at once rather than in one go."""
        return self._latency is not None

    async def ask(self, request: Request) -> Reply:
        call = self._begin(request)
        try:
            if self._latency is not None:
                await asyncio.sleep(self._latency(call) if callable(self._latency) else self._latency)
            return self._reply(call, request)
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        return None

    def in_process(self) -> InstantScript:
        """This script as a provider that answers at once."""
        return InstantScript(self)

    def _begin(self, request: Request) -> int:
        with self._lock:
            self.requests.append(request)
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            return len(self.requests) - 1

    def _reply(self, call: int, request: Request) -> Reply:
        if call in self._failures:
            raise self._failures[call]
        replies = self._replies
        if replies is None:
            found: str | Reply = str(request.messages[-1]["content"])
        elif callable(replies):
            schema = None if request.schema is None else request.schema.form
            found = replies([dict(message) for message in request.messages], schema, request.sample)
        else:
            found = replies[min(call, len(replies) - 1)]
        return text_reply(found) if isinstance(found, str) else found


class InstantScript:
    """A script without latency: many requests in one go."""

    def __init__(self, script: Scripted) -> None:
        self._script = script

    async def ask(self, request: Request) -> Reply:
        return await self._script.ask(request)

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        until = time.monotonic() + seconds
        answered: list[Answered] = []
        for place, request in enumerate(requests):
            call = self._script._begin(request)
            try:
                answered.append((place, self._script._reply(call, request)))
            except (RowFault, ModelError) as error:
                answered.append((place, error))
            finally:
                self._script.in_flight -= 1
            if time.monotonic() > until:
                break
        return answered

    async def close(self) -> None:
        return None
