"""Map steps on Ray: chunks are mapped by actors anywhere in a cluster; what they ask is asked by this process.

So there is one call cache with one writer, one budget, and one pace for each endpoint, whatever the number of actors,
and a reply is written down before an actor sees it: what a lost actor or a killed driver had asked is found again. The
session folder must be seen by all nodes under the same path; actors read artifacts from it and write nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import RecipeError

if TYPE_CHECKING:
    import asyncio

    from ..core._chunks import Workers
    from ..core.context import Context
    from ..core.step import MapStep


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

    def workers(self, step: MapStep, context: Context, loop: asyncio.AbstractEventLoop) -> Workers:
        """Who maps the chunks of a step. Raises `RecipeError` for a step that cannot get to another process."""
        try:
            from ._ray import RayWorkers, cluster
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "ray":
                raise
            raise RecipeError(
                '`engine="ray"` needs Ray, which is not installed', "`pip install 'stillhouse[ray]'`."
            ) from None
        return RayWorkers(step, context, loop, cluster(self))

    def close(self) -> None:
        """Let go of the actors; a cluster that was started for this engine ends."""
        import sys

        if "stillhouse.engines._ray" in sys.modules:
            from ._ray import leave

            leave(self)
