"""Mixing policies: what decides the weights of a mixture's sources, known before the run begins."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

from pydantic import Field, model_validator

from ..core.errors import RecipeError
from ..core.part import Part
from ..core.plain_sum import plain_sum


class Stage(NamedTuple):
    """From `step` on, these weights are asked for."""

    step: int
    weights: Mapping[str, float]


class Policy(Protocol):
    """What a mixture asks of a policy; a part, since it decides what rows a run sees."""

    def __call__(self, sizes: Mapping[str, float]) -> Sequence[Stage]:
        """The stages of a run, the first at step 0; `sizes` are rows (or tokens, where shares are of tokens)."""
        ...


class Seen(NamedTuple):
    """What an online policy knows of a source: tokens seen so far, and (step, mean loss) in order of steps."""

    tokens: int
    losses: Sequence[tuple[int, float]]


class OnlinePolicy(Protocol):
    """What decides weights while training. It is asked from outside, and its answer goes to `Loader.set_weights`.

    The loader's log keeps the weights, so a run is replayed without the policy.
    """

    def __call__(self, seen: Mapping[str, Seen]) -> Mapping[str, float]:
        """Weights from the next step on."""
        ...


class StaticMix(Part, tag="tokens.static/1"):
    """The same weights all the time; what `Mixture({"web": (web, 0.6), …})` says in short."""

    weights: Mapping[str, float]

    def __init__(self, weights: Mapping[str, float], **fields: Any) -> None:
        super().__init__(**{"weights": weights, **fields})

    def __call__(self, sizes: Mapping[str, float]) -> Sequence[Stage]:
        return [Stage(0, self.weights)]


class NaturalMix(Part, tag="tokens.natural/1"):
    """Each source has the share of its size, so that all end their epochs together."""

    def __call__(self, sizes: Mapping[str, float]) -> Sequence[Stage]:
        return [Stage(0, sizes)]


class TemperatureMix(Part, tag="tokens.temperature/1"):
    """Weights size^(1 / `temperature`): 1 is natural, more lifts small sources, without bound all are equal.

    Conneau et al. 2020 (XLM-R), section 3.1, with α = 1 / `temperature`.
    """

    temperature: float = Field(2.0, gt=0)

    def __call__(self, sizes: Mapping[str, float]) -> Sequence[Stage]:
        largest = max(sizes.values())  # shares of it, so that no power overflows
        return [Stage(0, {name: (size / largest) ** (1 / self.temperature) for name, size in sizes.items()})]


class ScheduledMix(Part, tag="tokens.schedule/1"):
    """`ScheduledMix([(0, {"web": 0.9, "code": 0.1}), (1000, {"web": 0.5, "code": 0.5})])`: weights from steps on.

    With `length`, places are shares of that many steps: `(0.8, {…})`. `linear` leads in a straight line from one point
    to the next, in `pieces` equal pieces (fewer where there are fewer steps); after the last point its weights stay.
    """

    points: tuple[tuple[float, Mapping[str, float]], ...] = Field(min_length=1)
    length: int | None = Field(None, ge=1, description="steps; the points' places are then shares of it")
    between: Literal["stay", "linear"] = Field("stay", description="what holds between two points")
    pieces: int = Field(64, ge=1, le=4096, description="pieces of a line")

    def __init__(self, points: Sequence[tuple[float, Mapping[str, float]]] = (), **fields: Any) -> None:
        super().__init__(**{"points": tuple((place, weights) for place, weights in points), **fields})

    @model_validator(mode="after")
    def _in_order(self) -> "ScheduledMix":
        for place, _ in self.points:
            if self.length is None and place != int(place):
                raise RecipeError(
                    f"ScheduledMix: {place} is not a number of steps", "Give `length` where places are shares of a run."
                )
        steps = self._steps()
        if steps[0] != 0:
            raise RecipeError("ScheduledMix: the first point is not at 0", "Say what holds when the run begins.")
        for before, after in pairwise(steps):
            if after <= before:
                raise RecipeError(
                    f"ScheduledMix: a point at step {after} follows one at step {before}", "Order points by steps."
                )
        for place, weights in self.points:
            if self.length is not None and place > 1:
                raise RecipeError(
                    f"ScheduledMix: the place {place} lies beyond the end", "With `length`, 1 is the end."
                )
            if set(weights) != set(self.points[0][1]):
                raise RecipeError(
                    f"ScheduledMix: the point at {place} names other sources than the first",
                    f"Give a weight for each of {', '.join(self.points[0][1])}; 0 leaves one out.",
                )
        return self

    def __call__(self, sizes: Mapping[str, float]) -> Sequence[Stage]:
        steps, shares = self._steps(), [_shares(weights) for _, weights in self.points]
        stages = [Stage(steps[0], shares[0])]
        for number in range(1, len(steps)):
            first, last = steps[number - 1], steps[number]
            pieces = min(self.pieces, last - first) if self.between == "linear" else 1
            for piece in range(1, pieces):
                done = piece / pieces
                between = {name: w + (shares[number][name] - w) * done for name, w in shares[number - 1].items()}
                stages.append(Stage(first + (last - first) * piece // pieces, between))
            stages.append(Stage(last, shares[number]))
        return stages

    def _steps(self) -> list[int]:
        if self.length is None:
            return [int(place) for place, _ in self.points]
        return [round(place * self.length) for place, _ in self.points]


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    whole = plain_sum(weights.values())
    return {name: weight / whole for name, weight in weights.items()} if whole > 0 else dict(weights)
