"""A Python function as a model of vectors: `python:package.module:function`, and one that goes by a script in tests."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stillhouse.core.errors import ModelError, RecipeError, RowFault

from ..reply import Usage
from .embed_protocol import EmbedForm, Limits, Made
from .python import fault_of

VectorFunction = Callable[[list[str]], "ArrayLike | Awaitable[ArrayLike]"]
"""`embed(texts)` returns one vector for each text; it may raise `RowFault`."""


class EmbeddingFunction:
    """A plain function is called in one thread of its own, an async one on the session's loop."""

    limits = Limits(256)

    def __init__(self, function: VectorFunction) -> None:
        self._function = function
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stillhouse-embedder")

    async def embed(self, texts: Sequence[str], form: EmbedForm) -> Made:
        del form
        try:
            if inspect.iscoroutinefunction(self._function):
                found: Any = await self._function(list(texts))
            else:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._thread, self._function, list(texts))
            array = np.asarray(found, np.float32)
        except (RowFault, ModelError):
            raise
        except Exception as error:
            raise fault_of(error) from error
        if array.ndim != 2 or len(array) != len(texts):
            raise ModelError(
                f"the function returned an array of the shape {array.shape} for {len(texts)} texts",
                "Return one vector for each text, in order.",
            )
        if not np.isfinite(array).all():
            raise RowFault("invalid", "the function returned what is no number")
        return Made(array)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


_scripts: dict[str, ScriptedEmbedder] = {}


def script_vectors(
    name: str,
    vectors: Callable[[str], Sequence[float]],
    *,
    latency: float = 0.0,
    failures: Mapping[int, Exception] | None = None,
    limits: Limits | None = None,
) -> ScriptedEmbedder:
    """Register what `Embedder(model="scripted:NAME")` gives, and return it to look at what it was asked.

    `vectors`: the vector of a text; it may raise `RowFault`. `latency`: seconds of each call. `failures`: the exception
    that call number i raises.
    """
    made = _scripts[name] = ScriptedEmbedder(vectors, latency, dict(failures or {}), limits or Limits(64))
    return made


def scripted_embedder(name: str) -> ScriptedEmbedder:
    """The script that was registered as `name`."""
    if name not in _scripts:
        raise RecipeError(
            f"no vectors are scripted as `{name}`",
            'Register them first: `stillhouse.calls.providers.embed_python.script_vectors("…", …)`.',
        )
    return _scripts[name]


class ScriptedEmbedder:
    """A scripted model of vectors: keeps the texts of each call, in order."""

    def __init__(
        self, vectors: Callable[[str], Sequence[float]], latency: float, failures: dict[int, Exception], limits: Limits
    ) -> None:
        self.calls: list[list[str]] = []
        self.in_flight = 0
        self.peak_in_flight = 0
        self._limits = limits
        self._vectors = vectors
        self._latency = latency
        self._failures = failures
        self._lock = threading.Lock()

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def texts(self) -> list[str]:
        """All texts it was asked for."""
        return [text for call in self.calls for text in call]

    async def embed(self, texts: Sequence[str], form: EmbedForm) -> Made:
        del form
        with self._lock:
            call = len(self.calls)
            self.calls.append(list(texts))
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._latency)
            if call in self._failures:
                raise self._failures[call]
            array = np.array([self._vectors(text) for text in texts], np.float32)
            return Made(array, Usage(sum(len(text.split()) for text in texts)))
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        return None
