"""The actor's side: maps chunks; what a mapper asks goes to the driver, and the chunk waits for the answer."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import shutil
import sys
import tempfile
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from ..core._chunks import Made, made_of
from ..core._feed import NotYet, SomeRows
from ..core._occurrence import without_numbers
from ..core._tables import dict_rows
from ..core.artifact import KINDS, Artifact
from ..core.context import Context
from ..core.errors import ModelError, RecipeError, RowFault, StillhouseError
from ..core.events import Bus, Event
from ..core.occurrence import mapped
from ..core.options import Options
from ..core.step import Mapper, MapStep
from ..core.store import read_record
from ..core.travel import unpacked

Message = dict[str, Any]
"""To the driver: `asks` (questions of a chunk), `made` (its end) or `error`."""

_chunk: ContextVar[_Chunk] = ContextVar("stillhouse_chunk")


class MapActor:
    """Maps chunks of any number of steps; to be made an async Ray actor."""

    def __init__(self, path: list[str]) -> None:
        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        self._mappers: dict[str, _Prepared] = {}
        self._chunks: dict[str, _Chunk] = {}
        self._warnings: list[str] = []
        self._preparing = asyncio.Lock()

    async def begin(self, key: str, spec: Message, chunk: str, start: int, data: bytes) -> Message:
        """Begin a chunk; returns the first thing that the driver has to know."""
        try:
            async with self._preparing:
                if key not in self._mappers:
                    self._mappers[key] = await asyncio.to_thread(self._prepared, spec)
        except BaseException as error:
            return self._told({"error": as_message(error)})
        if not data:
            return self._told({"made": None})
        self._chunks[chunk] = _Chunk(key, self._mappers[key], start, data)
        return await self._next(chunk)

    async def go_on(self, chunk: str, answers: list[tuple[int, Any, Message | None]]) -> Message:
        """Take answers to questions; returns what comes next."""
        self._chunks[chunk].take(answers)
        return await self._next(chunk)

    async def drop(self, chunk: str) -> None:
        """Nobody wants the chunk any more."""
        async with self._preparing:  # one that waits for its mapper has begun when this goes on
            self._drop(chunk)

    async def forget(self, key: str) -> None:
        """The step has ended: its mapper and what may hang on it, a model say, are let go of."""
        async with self._preparing:
            for chunk in [name for name, each in self._chunks.items() if each.key == key]:
                self._drop(chunk)
            known = self._mappers.pop(key, None)
            if known is not None:
                shutil.rmtree(known.work, ignore_errors=True)

    def _drop(self, chunk: str) -> None:
        known = self._chunks.pop(chunk, None)
        if known is not None:
            known.task.cancel()

    async def _next(self, chunk: str) -> Message:
        message = await self._chunks[chunk].next()
        if "asks" not in message:
            self._chunks.pop(chunk, None)
        return self._told(message)

    def _told(self, message: Message) -> Message:
        warnings, self._warnings = self._warnings, []
        return {**message, "warnings": warnings} if warnings else message

    def _prepared(self, spec: Message) -> _Prepared:
        step, book = unpacked(spec["step"])
        assert isinstance(step, MapStep)
        if book.recipe(step) != spec["recipe_key"]:
            raise RecipeError(
                f"the code or the files that `{type(step).__name__}` is made from are others on a node of the cluster",
                "Give all nodes the same code, and the session folder under the same path.",
            )
        bus = Bus()
        bus.subscribe(self._heard)
        work = Path(tempfile.mkdtemp(prefix="stillhouse-actor-"))
        context = Context(
            step=step,
            build_key=spec["build_key"],
            work=work,
            inputs={key: _input(told) for key, told in spec["inputs"].items()},
            options=Options(**spec["options"]),
            bus=bus,
            stop=threading.Event(),
            calls=Driver,
            book=book,
        )
        try:
            return _Prepared(step, step.mapper(context), work)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def _heard(self, event: Event) -> None:
        if event.kind == "warning":
            self._warnings.append(str(event.data.get("message", "")))


class _Prepared(NamedTuple):
    """A step as this actor maps it, and the folder that it may write to."""

    step: MapStep
    mapper: Mapper
    work: Path


class _Chunk:
    """One chunk under way."""

    def __init__(self, key: str, prepared: _Prepared, start: int, data: bytes) -> None:
        self.key = key
        self._step, self._mapper, self._start, self._data = prepared.step, prepared.mapper, start, data
        self._asks: asyncio.Queue[tuple[int, str, tuple[Any, ...], dict[str, Any]]] = asyncio.Queue()
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self.task = asyncio.ensure_future(self._mapped())

    async def ask(self, method: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What a method of the driver's call service returns, or raises."""
        number = next(self._numbers)
        self._open[number] = asyncio.get_running_loop().create_future()
        self._asks.put_nowait((number, method, args, options))
        return await self._open[number]

    def take(self, answers: list[tuple[int, Any, Message | None]]) -> None:
        for number, value, error in answers:
            future = self._open.pop(number)
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(from_message(error))

    async def next(self) -> Message:
        """The questions that are open now, or how it ended."""
        asked = asyncio.ensure_future(self._asks.get())
        await asyncio.wait((self.task, asked), return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            try:
                return {"made": tuple(self.task.result())}
            except BaseException as error:
                return {"error": as_message(error)}
        asks = [asked.result()]
        while not self._asks.empty():
            asks.append(self._asks.get_nowait())
        return {"asks": asks}

    async def _mapped(self) -> Made:
        _chunk.set(self)
        table = pa.ipc.open_file(pa.BufferReader(self._data)).read_all()
        table, numbers = without_numbers(table)
        rows = dict_rows(table.drop_columns(["_parents", "_calls"]))
        # In a thread, as a plain mapper must not stop the others.
        outcomes: Any = await asyncio.to_thread(mapped, self._mapper, rows, numbers)
        if inspect.isawaitable(outcomes):
            outcomes = await outcomes
        return made_of(self._step, self._start, table, rows, outcomes)


class Driver:
    """The driver's call service, as far as it is asked from here: any of its methods that are awaited."""

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        async def ask(*args: Any, **options: Any) -> Any:
            return await _chunk.get().ask(method, args, options)

        return ask


def _input(told: Message) -> Artifact:
    if "schema" in told:
        return SomeRows(pa.ipc.read_schema(pa.BufferReader(told["schema"])))
    record = read_record(Path(told["folder"]))
    if record is None:
        raise RecipeError(
            f"`{told['folder']}` cannot be read on a node of the cluster",
            "Put the session folder on a file system that all nodes see under the same path.",
        )
    return KINDS["Rows" if told["output"] else record["kind"]](Path(told["folder"]), record, told["output"])


def as_message(error: BaseException) -> Message:
    """An error as plain values: Ray would hand it on as one of its own."""
    if isinstance(error, RowFault):
        return {"type": "RowFault", "args": [error.kind, error.message, error.raw]}
    if isinstance(error, NotYet):
        return {"type": "NotYet", "args": [str(error)]}
    if isinstance(error, ModelError):
        return {
            "type": "ModelError",
            "args": [error.message, error.hint],
            "options": {"kind": error.kind, "retryable": error.retryable},
        }
    if isinstance(error, StillhouseError):
        return {"type": type(error).__name__, "args": [error.message, error.hint]}
    return {"type": "Exception", "args": [f"{type(error).__name__}: {error}"]}


def from_message(message: Message) -> BaseException:
    """The error of a message."""
    from ..core import errors

    if message["type"] == "NotYet":
        return NotYet(*message["args"])
    kind = getattr(errors, message["type"], None) or RuntimeError
    made: BaseException = kind(*message["args"], **message.get("options", {}))
    return made
