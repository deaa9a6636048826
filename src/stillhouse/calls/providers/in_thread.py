"""What models have in common that run in this process and block: a thread of their own, several requests at once.

Replies of libraries that know OpenAI's chat are kept in its form, so that one reader reads them all.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import orjson

from stillhouse.core.errors import ModelError, RowFault
from stillhouse.text.chat import PREFIX

from ..reply import Reply
from ..request import Request
from .openai import read
from .protocol import Answered


class InThread(ABC):
    """A model of this process; a subclass says how it answers some requests at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"stillhouse-{name}")
        self._waiting: list[tuple[Request, asyncio.Future[Reply]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Reply:
        """One reply; requests that wait at the same time are answered together."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, answer))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._answer_waiting())
        return await answer

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.answers, requests, seconds)

    async def close(self) -> None:
        if self._runner is not None:
            self._runner.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @abstractmethod
    def answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        """As `InProcess.ask_some`, in the thread."""

    async def _answer_waiting(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # lets callers of the same moment join the batch
            taken, self._waiting = self._waiting, []
            while taken:
                requests = [request for request, _ in taken]
                try:
                    answered = await self.ask_some(requests, 0.0)
                except Exception as error:
                    for _, answer in taken:
                        _tell(answer, error)
                    break
                for place, outcome in answered:
                    _tell(taken[place][1], outcome)
                done = {place for place, _ in answered}
                taken = [item for place, item in enumerate(taken) if place not in done]


def _tell(answer: asyncio.Future[Reply], outcome: Reply | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def library(name: str, extra: str, for_whom: str) -> Any:  # a module whose types are not there to be checked
    """The library called `name`; raises `ModelError` naming the extra that brings it."""
    try:
        return import_module(name)
    except ImportError as error:
        missing = name if error.name == name else f"{name} ({error})"
        raise ModelError(
            f"`{for_whom}` needs the library `{missing}`, which is not installed",
            f"Run `pip install 'stillhouse[{extra}]'`.",
            kind="library",
        ) from None


def chat_reply(body: Mapping[str, Any]) -> Reply:
    """The reply of a library's answer in the form of OpenAI's chat."""
    return read(orjson.dumps(body, default=str))


def prefix_of(request: Request) -> str | None:
    """The text that a request is to be gone on from as it is, or None for a conversation."""
    messages = request.messages
    return str(messages[0].get("content")) if len(messages) == 1 and messages[0].get("role") == PREFIX else None


def fault_of(error: Exception) -> RowFault:
    """What a library's complaint about one request means for its row."""
    text = str(error)
    too_long = any(
        words in text.lower() for words in ("maximum model length", "context window", "exceed", "longer than")
    )
    return RowFault("too_long" if too_long else "rejected", f"{type(error).__name__}: {text[:300]}")
