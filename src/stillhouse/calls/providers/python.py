"""A Python function as a model: `python:package.module:function`, called in this process."""

from __future__ import annotations

import asyncio
import inspect
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stillhouse.core.errors import ModelError, RowFault

from ..reply import Reply, text_reply
from ..request import Request
from .protocol import Answered

TextFunction = Callable[[list[dict[str, Any]], dict[str, Any] | None, int], "str | Reply | Awaitable[str | Reply]"]
"""`reply(messages, schema, sample)` returns the reply's text, or what `own_reply` makes where there is more to it (tool
calls, log-probabilities, tokens); it may raise `RowFault`."""


def python_provider(function: TextFunction) -> PythonFunction | AsyncPythonFunction:
    """The provider for a plain or an async function."""
    if inspect.iscoroutinefunction(function):
        return AsyncPythonFunction(function)
    return PythonFunction(function)


class PythonFunction:
    """A plain function, called in one thread of its own: never by two at once, never in the way of the event loop."""

    def __init__(self, function: TextFunction) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stillhouse-python-model")

    async def ask(self, request: Request) -> Reply:
        ((_, outcome),) = await self.ask_some([request], 0.0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def ask_some(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, requests, seconds)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answers(self, requests: Sequence[Request], seconds: float) -> list[Answered]:
        function, clock = self._function, time.monotonic
        until = clock() + seconds
        answered: list[Answered] = []
        for place, request in enumerate(requests):
            try:
                text = function(*_arguments(request))
                answered.append((place, text_reply(text) if type(text) is str else _reply_of(text)))
            except (RowFault, ModelError) as error:
                answered.append((place, error))
            except Exception as error:
                answered.append((place, fault_of(error)))
            if clock() > until:
                break
        return answered


class AsyncPythonFunction:
    """An `async def` function, awaited on the session's loop, as many at once as the deployment has slots."""

    def __init__(self, function: TextFunction) -> None:
        self._function = function

    async def ask(self, request: Request) -> Reply:
        try:
            found: Any = self._function(*_arguments(request))
            return _reply_of(await found)
        except (RowFault, ModelError):
            raise
        except Exception as error:
            raise fault_of(error) from error

    async def close(self) -> None:
        return None


def _arguments(request: Request) -> tuple[list[dict[str, Any]], dict[str, Any] | None, int]:
    schema = request.schema
    return [dict(message) for message in request.messages], None if schema is None else schema.form, request.sample


def _reply_of(found: object) -> Reply:
    if isinstance(found, str):
        return text_reply(found)
    if isinstance(found, Reply) and found.form in ("text", "reply"):
        return found
    raise RowFault("error", f"the function returned {type(found).__name__}, expected the text of the reply")


def fault_of(error: Exception) -> RowFault:
    """The error with the line of the function it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    place = "" if last is None else f" (line {last.lineno} of {last.filename.rpartition('/')[2]}, in `{last.name}`)"
    words = traceback.format_exception_only(error)[-1].strip()
    return RowFault("error", f"{words}{place}")
