"""What models have in common whose library runs in this process and blocks: a thread of their own, several at once.

Their replies are kept in the form of OpenAI's chat, so that one reader reads them all.
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

    async def ask(self, request: Request) -> Reply:
        ((_, outcome),) = await self.ask_some([request], 0.0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.answers, requests, seconds)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    @abstractmethod
    def answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        """As `InProcess.ask_some`, in the thread."""


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
