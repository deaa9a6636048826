"""From an `Embedder` and texts to vectors as steps use them: cut and normalised where that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from .deployment import Deployments
from .embed_deployments import embed_deployment
from .embedder import Embedder, Role, hashed_dimensions, scheme_of
from .embedding import EmbedWork, Vectors, cut, normalised
from .engine import Engine
from .ledger import Ledger


async def vectors_of(
    engine: Engine, deployments: Deployments, ledger: Ledger, by: Embedder, texts: Sequence[str], role: Role
) -> Vectors:
    """The vectors of `texts`, one row each."""
    if isinstance(by.model, str) and scheme_of(by.model) == "hash" and by.deployment is None:
        return await asyncio.to_thread(_hashed, by, texts, role)
    deployment, form, shorter = embed_deployment(deployments, by, role)
    made = await EmbedWork(engine, deployment, form, ledger).vectors(texts)
    array = made.array if shorter is None else cut(made.array, shorter, deployment.name)
    return made._replace(array=normalised(array) if by.normalise else array)


def _hashed(by: Embedder, texts: Sequence[str], role: Role) -> Vectors:
    """Computed anew each time: that costs about what a look-up does, and no room."""
    from .providers.embed_hash import hashed_vectors

    prefix = by.instruction(role) or ""
    return Vectors(hashed_vectors([prefix + text for text in texts], hashed_dimensions(str(by.model))), [], {})
