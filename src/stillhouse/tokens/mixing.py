"""Several sources and how much of each."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import Field

from ..core.artifact import Rows, Tokens
from ..core.errors import RecipeError
from ..core.part import Part
from ..core.plain_sum import plain_sum

if TYPE_CHECKING:
    from ..core.step import Step
    from .source import Source
    from .store import TokenStore

TokenSource: TypeAlias = "Tokens | TokenStore | Path | str | Step[Tokens] | Step[Rows] | Source"
"""Tokens to read: an artifact, an open store or the folder of one; or what makes them, a step or a file of rows."""


class Mixture(Part, tag="tokens.mixture/1"):
    """`Mixture({"web": (web, 0.6), "code": (code, 0.4)})`: sources by name, each with its share of the rows.

    Weights are relative. Without any (`Mixture({"web": web, "code": code})`) each source has the share of its size, so
    that all end their epochs together. A weight of 0 keeps a source at hand that a later change of weights may draw.
    In a recipe file the weights may stand apart: `sources: {web: $web, code: $code}`, `weights: {web: 0.6, code: 0.4}`.
    """

    sources: Mapping[str, Any] = Field(description="what to read, by name: tokens, steps that make them, files of rows")
    weights: Mapping[str, float] | None = Field(None, description="the share of each; without, that of its size")
    policy: Any = Field(None, description="what decides the weights in their place, for instance `ScheduledMix`")
    share: Literal["rows", "tokens"] = Field("rows", description="what the weights are shares of")
    floors: Mapping[str, float] = Field({}, description="the least share of a source, from 0 to 1")
    ceilings: Mapping[str, float] = Field({}, description="the greatest share of a source, from 0 to 1")
    max_epochs: float | Mapping[str, float] | None = Field(
        4.0, description="how often a source may be read; then the others get its share. None: any number of times"
    )
    max_change: float | None = Field(None, gt=0, le=1, description="the most that `set_weights` moves a share at once")

    def __init__(
        self,
        sources: Mapping[str, TokenSource | Mixture | tuple[TokenSource | Mixture, float]],
        weights: Mapping[str, float] | None = None,
        **fields: Any,
    ) -> None:
        if not isinstance(sources, Mapping):
            raise RecipeError(
                f"Mixture: sources are given as `{type(sources).__name__}`",
                'Give each a name: `Mixture({"web": (web, 0.6), "code": (code, 0.4)})`.',
            )
        if not sources:
            raise RecipeError("Mixture: there are no sources", "Name at least one.")
        sources = _flat(sources)
        given = dict(weights or {})
        plain: dict[str, Any] = {}
        for name, value in sources.items():
            if isinstance(value, tuple | list):
                plain[name], given[name] = value
            else:
                plain[name] = value
        if given and (missing := [name for name in sources if name not in given]):
            names = ", ".join(f"`{name}`" for name in missing)
            raise RecipeError(f"Mixture: {names} has no weight", "Give each source a weight, or none.")
        found = checked_weights(given, plain) if given else None
        super().__init__(**{"sources": plain, "weights": found, **fields})

    def identity(self) -> Mapping[str, Any]:
        """The order of the sources counts: it decides between equal remainders."""
        values = {**self.values(), "sources": list(self.sources.items())}
        return {name: list(value.items()) if name == "weights" else value for name, value in values.items()}


def _flat(sources: Mapping[str, Any]) -> dict[str, Any]:
    """The sources with those of inner mixtures in their place, as `outer/inner`; weights multiply."""
    found: dict[str, Any] = {}
    for name, value in sources.items():
        pair = isinstance(value, tuple | list)
        if pair and len(value) != 2:
            raise RecipeError(f"Mixture: `{name}` has {len(value)} parts", "Give a source, or `(source, weight)`.")
        inner, weight = value if pair else (value, None)
        if not isinstance(inner, Mixture):
            found[name] = value
            continue
        if set(inner.model_fields_set) - {"sources", "weights"}:
            raise RecipeError(
                f"Mixture: the mixture `{name}` inside has options of its own", "Give them to the outer one."
            )
        if (weight is None) != (inner.weights is None):
            raise RecipeError(
                f"Mixture: of `{name}` and the sources inside, only one has weights",
                "Give weights on both levels, or on none.",
            )
        whole = plain_sum((inner.weights or {}).values())
        for part, source in inner.sources.items():
            share = None if weight is None or inner.weights is None else weight * inner.weights[part] / whole
            found[f"{name}/{part}"] = source if share is None else (source, share)
    return found


def checked_weights(weights: Mapping[str, float], names: Mapping[str, object]) -> dict[str, float]:
    """`weights` in the order of `names`; raises `RecipeError` where they do not fit the sources."""
    unknown = [name for name in weights if name not in names]
    missing = [name for name in names if name not in weights]
    if unknown or missing:
        wrong = f"no source is called `{unknown[0]}`" if unknown else f"`{missing[0]}` has no weight"
        raise RecipeError(f"Mixture: {wrong}", f"Give one weight for each of {', '.join(names)}.")
    for name, weight in weights.items():
        try:
            fits = isfinite(weight) and weight >= 0
        except TypeError:  # no number at all
            fits = False
        if not fits:
            raise RecipeError(f"Mixture: the weight of `{name}` is {weight!r}", "Weights are finite and not negative.")
    if not any(weights.values()):
        raise RecipeError("Mixture: all weights are 0", "At least one source needs a weight above 0.")
    return {name: float(weights[name]) for name in names}
