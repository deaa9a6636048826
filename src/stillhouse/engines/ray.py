"""Map steps on Ray: chunks are mapped by actors anywhere in a cluster; what they ask is asked by this process.

So there is one call cache with one writer, one budget, and one pace for each endpoint, whatever the number of actors,
and a reply is written down before an actor sees it: what a lost actor or a killed driver had asked is found again. The
session folder must be seen by all nodes under the same path; actors read artifacts from it and write nothing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import RecipeError

if TYPE_CHECKING:
    import asyncio

    from ..core._chunks import Workers
    from ..core.context import Context
    from ..core.step import MapStep
    from ._ray import Cluster


@dataclass(frozen=True)
class RayEngine:
    """`Session(engine=RayEngine("ray://host:10001", actors=16, num_gpus=1))`.

    `address`: as `ray.init` takes it; None joins the cluster that `RAY_ADDRESS` names or starts one on this machine.
    `actors`: how many map at once; None: as many as the cluster has CPUs for. Each takes `num_cpus` and `num_gpus`.
    """

    address: str | None = None
    actors: int | None = None
    num_cpus: float = 1.0
    num_gpus: float = 0.0


class RayConnection:
    """What one session has of a cluster: made when a step first needs it, shared with sessions of an equal engine."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._cluster: Cluster | None = None
        self._lock = threading.Lock()

    def workers(self, step: MapStep, context: Context, loop: asyncio.AbstractEventLoop) -> Workers:
        """Who maps the chunks of a step. Raises `RecipeError` for a step that cannot get to another process."""
        try:
            from ._ray import RayWorkers, join
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "ray":
                raise
            raise RecipeError(
                '`engine="ray"` needs Ray, which is not installed', "`pip install 'stillhouse[ray]'`."
            ) from None
        with self._lock:
            self._cluster = self._cluster or join(self._engine)
        return RayWorkers(step, context, loop, self._cluster)

    def close(self) -> None:
        """Let go of the actors: the last session ends them, and the cluster that was started for it."""
        with self._lock:
            left, self._cluster = self._cluster, None
        if left is not None:
            from ._ray import leave

            leave(left)
