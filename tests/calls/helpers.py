"""What the tests of this folder share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.request import Prompt
from stillhouse.calls.retry import Patience
from stillhouse.calls.service import CallService
from stillhouse.core.events import Bus, Event
from tests.calls.server import MisbehavingServer

T = TypeVar("T")

QUICK = Patience(attempts=3, first_wait=0.01, longest_wait=0.05, throttled=5.0, unreachable=0.3)
"""Bounds of trying again that suit a test."""


def asking(server: MisbehavingServer, **settings: Any) -> Ask:
    return Ask(model="openai/teacher", endpoint=server.url, **settings)


def prompts(texts: Iterable[str]) -> list[Prompt]:
    return [Prompt(text) for text in texts]


def with_service(
    folder: Path, work: Callable[[CallService], Awaitable[T]], events: list[Event] | None = None, **settings: Any
) -> T:
    """Run `work` with a service on `folder` that is closed afterwards; `events` collects what it publishes."""

    async def run() -> T:
        bus = Bus()
        if events is not None:
            bus.subscribe(events.append)
        settings.setdefault("credentials", Credentials())
        settings.setdefault("patience", QUICK)
        service = CallService(folder, bus=bus, **settings)
        try:
            return await work(service)
        finally:
            await service.aclose()

    return asyncio.run(run())
