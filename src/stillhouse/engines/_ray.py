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
STOP_SECONDS = 0.2
"""How often one who waits for the first actor looks whether the run was stopped."""


class Cluster:
    """The actors that this process has in a cluster for sessions of one engine."""

    def __init__(self, engine: RayEngine) -> None:
        self.engine = engine
        self.sessions = 0
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

    def forget(self, key: str) -> None:
        """A step has ended: no actor needs its mapper."""
        with self._lock:
            for actor in self._load:
                actor.forget.remote(key)

    def close(self) -> None:
        with self._lock:
            for actor in self._load:
                ray.kill(actor)
            self._load.clear()

    def _grow(self) -> None:
        """As many actors as are wanted and have room; at least one, which waits for room if need be."""
        self._looked = time.monotonic()
        room = int(ray.available_resources().get("CPU", 0) / (self.engine.num_cpus or 1))
        wanted = self.engine.actors or sys.maxsize
        while len(self._load) < wanted and (room > 0 or not self._load):
            options = {"num_cpus": self.engine.num_cpus, "num_gpus": self.engine.num_gpus, "max_concurrency": 1000}
            actor = ray.remote(MapActor).options(**options).remote([entry for entry in sys.path if entry])
            self._load[actor] = 0
            room -= 1


_clusters: dict[RayEngine, Cluster] = {}
_started = False
_opening = threading.Lock()


def join(engine: RayEngine) -> Cluster:
    """The actors of an engine, for one session more; connects where this process is no part of a cluster yet."""
    global _started
    with _opening:
        if not ray.is_initialized():
            quiet = {} if (engine.address or "").startswith("ray://") else {"log_to_driver": False}
            ray.init(address=engine.address, logging_level="ERROR", **quiet)
            _started = True
        if engine not in _clusters:
            _clusters[engine] = Cluster(engine)
        known = _clusters[engine]
        known.sessions += 1
        return known


def leave(cluster: Cluster) -> None:
    """One session less: the last of an engine ends its actors, the last of all the connection that was made here."""
    global _started
    with _opening:
        cluster.sessions -= 1
        if cluster.sessions:
            return
        del _clusters[cluster.engine]
        cluster.close()
        if _started and not _clusters:
            ray.shutdown()
            _started = False


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
        future = asyncio.run_coroutine_threadsafe(self._mapped(0, b"", lambda: None), self._loop)
        try:
            while not concurrent.futures.wait([future], timeout=STOP_SECONDS).done:
                self._context.check_stop()  # a cluster without room lets one wait, a large model too
            future.result()
        finally:
            future.cancel()

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
        """The actors stay for the next step, without what they hold for this one."""
        self._cluster.forget(self._key)

    async def _mapped(self, start: int, data: bytes, sent: Callable[[], None]) -> Made:
        """Map on one actor after another until one lives to the end."""
        tell_when_sent(sent)
        for _ in range(MOST_TRIES):
            actor = await self._taken()
            chunk = uuid.uuid4().hex
            try:
                return await self._on(actor, chunk, start, data)
            except RayActorError:
                await asyncio.to_thread(self._cluster.lost, actor)
            except RayError as error:
                actor.drop.remote(chunk)
                raise TrainError(f"Ray: {error}") from error
            except BaseException:  # cancelled, too
                actor.drop.remote(chunk)
                raise
            finally:
                self._cluster.give_back(actor)
        raise TrainError(
            f"{MOST_TRIES} actors were lost over the same rows of `{type(self._context.step).__name__}`",
            "They may need more memory than a node has: give the session smaller chunks (`Options(chunk=16)`).",
        )

    async def _taken(self) -> Any:
        """An actor; who is cancelled while waiting for it has none."""
        taking = asyncio.get_running_loop().run_in_executor(None, self._cluster.take)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._not_wanted)
            raise

    def _not_wanted(self, taken: asyncio.Future[Any]) -> None:
        if not taken.cancelled() and not taken.exception():
            self._cluster.give_back(taken.result())

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
