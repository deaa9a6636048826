"""Several sources and how much of each."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..core.artifact import Tokens
from ..core.errors import RecipeError

if TYPE_CHECKING:
    from ..core.step import Step
    from .source import Source
    from .store import TokenStore

TokenSource: TypeAlias = "Tokens | TokenStore | Path | str | Step[Tokens] | Source"
"""Tokens to read: an artifact, an open store or the folder of one; or what makes them, a step or a file of rows."""


class Mixture:
    """`Mixture({"web": (web, 0.6), "code": (code, 0.4)})`: sources by name, each with its share of the rows.

    Weights are relative. Without any (`Mixture({"web": web, "code": code})`) each source has the share of its size, so
    that all end their epochs together. A weight of 0 keeps a source at hand that a later change of weights may draw.
    """

    def __init__(self, sources: Mapping[str, TokenSource | tuple[TokenSource, float]]) -> None:
        if not sources:
            raise RecipeError("Mixture: there are no sources", "Name at least one.")
        self.sources: dict[str, TokenSource] = {}
        given: dict[str, float] = {}
        for name, value in sources.items():
            if isinstance(value, tuple):
                self.sources[name], given[name] = value
            else:
                self.sources[name] = value
        if given and len(given) < len(sources):
            missing = ", ".join(f"`{name}`" for name in sources if name not in given)
            raise RecipeError(f"Mixture: {missing} has no weight", "Give each source a weight, or none.")
        self.weights: dict[str, float] | None = checked_weights(given, self.sources) if given else None


def checked_weights(weights: Mapping[str, float], names: Mapping[str, object]) -> dict[str, float]:
    """`weights` in the order of `names`; raises `RecipeError` where they do not fit the sources."""
    unknown = [name for name in weights if name not in names]
    missing = [name for name in names if name not in weights]
    if unknown or missing:
        wrong = f"no source is called `{unknown[0]}`" if unknown else f"`{missing[0]}` has no weight"
        raise RecipeError(f"Mixture: {wrong}", f"Give one weight for each of {', '.join(names)}.")
    for name, weight in weights.items():
        if not isfinite(weight) or weight < 0:
            raise RecipeError(f"Mixture: the weight of `{name}` is {weight}", "Weights are finite and not negative.")
    if not any(weights.values()):
        raise RecipeError("Mixture: all weights are 0", "At least one source needs a weight above 0.")
    return {name: float(weights[name]) for name in names}
