"""The driver's side: which actor maps which chunk, and what becomes of a chunk whose actor is lost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.exceptions import RayActorError, RayError

from ..core._chunks import Chunk, Made
from ..core._feed import SomeRows
from ..core._tables import table_bytes
from ..core.artifact import Artifact
from ..core.context import Context
from ..core.errors import StillhouseError, TrainError
from ..core.sent import tell_when_sent
from ..core.step import MapStep
from ..core.travel import packed
from ._actor import MapActor, as_message, from_message

if TYPE_CHECKING:
    from .ray import RayEngine

MOST_TRIES = 4
"""Actors that one chunk may lose: it may be the chunk that kills them."""
LOOK_SECONDS = 5.0
"""How often one looks whether the cluster has room for actors that are lacking."""


class Cluster:
    """A connection to a cluster and the actors that this process has there."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._started = not ray.is_initialized()
        if self._started:
            quiet = {} if (engine.address or "").startswith("ray://") else {"log_to_driver": False}
            ray.init(address=engine.address, logging_level="ERROR", **quiet)
        self._load: dict[Any, int] = {}
        self._lock = threading.Lock()
        self._looked = 0.0
        self._grow()

    def width(self) -> int:
        """Actors there are."""
        return max(1, len(self._load))

    def take(self) -> Any:
        """The actor with the least to do; to be given back."""
        with self._lock:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self._grow()
            actor = min(self._load, key=lambda each: self._load[each])
            self._load[actor] += 1
            return actor

    def give_back(self, actor: Any) -> None:
        with self._lock:
            if actor in self._load:
                self._load[actor] -= 1

    def lost(self, actor: Any) -> None:
        """The actor or its node is gone."""
        with self._lock:
            self._load.pop(actor, None)
            if not self._load:
                self._grow()

    def close(self) -> None:
        for actor in self._load:
            ray.kill(actor)
        self._load.clear()
        if self._started:
            ray.shutdown()

    def _grow(self) -> None:
        """As many actors as are wanted and have room; at least one, which waits for room if need be."""
        self._looked = time.monotonic()
        room = int(ray.available_resources().get("CPU", 0) / (self._engine.num_cpus or 1))
        wanted = self._engine.actors or sys.maxsize
        while len(self._load) < wanted and (room > 0 or not self._load):
            options = {"num_cpus": self._engine.num_cpus, "num_gpus": self._engine.num_gpus, "max_concurrency": 1000}
            actor = ray.remote(MapActor).options(**options).remote([entry for entry in sys.path if entry])
            self._load[actor] = 0
            room -= 1


_clusters: dict[RayEngine, Cluster] = {}
_opening = threading.Lock()


def cluster(engine: RayEngine) -> Cluster:
    """The connection of an engine; made when it is first needed."""
    with _opening:
        if engine not in _clusters:
            _clusters[engine] = Cluster(engine)
        return _clusters[engine]


def leave(engine: RayEngine) -> None:
    with _opening:
        known = _clusters.pop(engine, None)
    if known is not None:
        known.close()


class RayWorkers:
    """Maps the chunks of one step on the actors of a cluster."""

    def __init__(self, step: MapStep, context: Context, loop: asyncio.AbstractEventLoop, cluster: Cluster) -> None:
        self._context, self._loop, self._cluster = context, loop, cluster
        self._key = uuid.uuid4().hex
        self._spec = {
            "step": packed(step, context.book),
            "recipe_key": context.book.recipe(step),
            "build_key": context.build_key,
            "inputs": {key: _told(artifact) for key, artifact in context.inputs.items()},
            "options": context.options.model_dump(),
        }

    @property
    def width(self) -> int:
        """Chunks that are mapped at once, so that no actor waits for its next."""
        return 2 * self._cluster.width()

    def prepare(self) -> None:
        """Let one actor make the mapper: what is wrong with the step shows there."""
        work = self._mapped(0, b"", lambda: None)
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, start: int, table: pa.Table, changed: Callable[[], None]) -> Chunk:
        future: concurrent.futures.Future[Made]
        chunk = Chunk(start, table.num_rows, time.monotonic(), lambda: future.result())

        def sent() -> None:
            chunk.sent = True
            changed()

        future = asyncio.run_coroutine_threadsafe(self._mapped(start, table_bytes(table), sent), self._loop)
        chunk.future = future
        future.add_done_callback(lambda _: changed())
        return chunk

    def close(self) -> None:
        """The actors stay for the next step."""

    async def _mapped(self, start: int, data: bytes, sent: Callable[[], None]) -> Made:
        """Map on one actor after another until one lives to the end."""
        tell_when_sent(sent)
        for _ in range(MOST_TRIES):
            actor = await asyncio.to_thread(self._cluster.take)
            chunk = uuid.uuid4().hex
            try:
                return await self._on(actor, chunk, start, data)
            except RayActorError:
                await asyncio.to_thread(self._cluster.lost, actor)
            except asyncio.CancelledError:
                actor.drop.remote(chunk)
                raise
            except RayError as error:
                raise TrainError(f"Ray: {error}") from error
            finally:
                self._cluster.give_back(actor)
        raise TrainError(
            f"{MOST_TRIES} actors were lost over the same rows of `{type(self._context.step).__name__}`",
            "They may need more memory than a node has: give the session smaller chunks (`Options(chunk=16)`).",
        )

    async def _on(self, actor: Any, chunk: str, start: int, data: bytes) -> Made:
        message = await actor.begin.remote(self._key, self._spec, chunk, start, data)
        while True:
            for warning in message.get("warnings", ()):
                self._context.warn(warning)
            if "asks" not in message:
                break
            answers = await asyncio.gather(*(self._answered(*ask) for ask in message["asks"]))
            message = await actor.go_on.remote(chunk, answers)
        if "error" in message:
            raise from_message(message["error"])
        return Made(*message["made"]) if message["made"] else Made({}, {}, [])

    async def _answered(
        self, number: int, method: str, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[int, Any, dict[str, Any] | None]:
        """What the session's own call service says; errors that concern all rows end the step here."""
        from ..core.errors import RowFault

        try:
            return number, await getattr(self._context.calls, method)(*args, **options), None
        except (RowFault, StillhouseError) as error:
            return number, None, as_message(error)


def _told(artifact: Artifact) -> dict[str, Any]:
    if isinstance(artifact, SomeRows):
        return {"schema": artifact.schema.serialize().to_pybytes()}
    return {"folder": str(artifact.folder.resolve()), "output": artifact._output}
