"""Engines by name, as `Session(engine=...)` takes them."""

from __future__ import annotations

from typing import Any

from ..core.errors import RecipeError


def open_engine(engine: Any) -> Any:
    """An engine for its name: `ray`, `ray://host:10001` (Ray's client), `ray:ADDRESS` (a cluster); others as they are.

    Each session gets a connection of its own. Nothing is started before a map step needs it.
    """
    from .ray import RayConnection, RayEngine

    if isinstance(engine, RayEngine):
        return RayConnection(engine)
    if not isinstance(engine, str) and hasattr(engine, "close"):
        return engine
    name, colon, address = str(engine).partition(":")
    if name != "ray" or (colon and not address):
        raise RecipeError(
            f"there is no engine `{engine}`", "Give `ray`, `ray://host:10001`, `ray:host:6379`, or a `RayEngine`."
        )
    return RayConnection(RayEngine(str(engine) if address.startswith("//") else address or None))
