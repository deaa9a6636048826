"""What most of several replies say, and how far those who judge agree beyond chance."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from ..core.part import Part
from ..text.normalise import normalise


class Majority(NamedTuple):
    """`winner` is the first reply of the largest group, as it was given; `share` that group's part of all replies."""

    winner: str
    share: float
    votes: int


class Agreement(Part, tag="measure.agreement/1"):
    """Replies agree when they are equal after `normaliser`; the largest group counts from a share of `least` on.

    Without `least` it counts when it is more than half of them: one of two replies says nothing.
    """

    normaliser: str = Field("strip", description="exact, strip, casefold, whitespace, json or number")
    least: float | None = Field(None, gt=0, le=1, description="share of replies that must agree; none: more than half")

    @field_validator("normaliser")
    @classmethod
    def _known(cls, name: str) -> str:
        normalise(name, "")  # raises for an unknown name
        return name

    def __call__(self, replies: Sequence[str]) -> Majority | None:
        """The majority, or None when the largest group is too small."""
        found = majority(replies, self.normaliser)
        return found if self.enough(found.votes, len(replies)) else None

    def enough(self, votes: int, num_replies: int) -> bool:
        """Whether so many equal ones of so many replies count."""
        return 2 * votes > num_replies if self.least is None else votes / num_replies >= self.least


def majority(replies: Sequence[str], normaliser: str = "strip") -> Majority:
    """The largest group of equal replies, of equally large ones the first. Raises ValueError for no replies."""
    if not replies:
        raise ValueError("a majority needs at least one reply")
    groups: dict[str, list[str]] = {}
    for reply in replies:
        groups.setdefault(normalise(normaliser, reply), []).append(reply)
    largest = max(groups.values(), key=len)
    return Majority(largest[0], len(largest) / len(replies), len(largest))


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    weights: Literal["linear", "quadratic"] | None = None,
    *,
    counts: Sequence[int] | None = None,
) -> float:
    """Agreement of two judges on the same items beyond chance (Cohen 1960; weighted: Cohen 1968).

    1 is full agreement, 0 what chance would give. With `weights` the values are numbers, and a disagreement counts by
    their distance or its square. `counts` says how many items each pair of judgements stands for. nan for no items, and
    where chance alone makes both always the same. Raises ValueError when the lengths differ.
    """
    times = [1] * len(first) if counts is None else counts
    if not len(first) == len(second) == len(times):
        raise ValueError(f"{len(first)} judgements against {len(second)}, {len(times)} counts")
    together: Counter[tuple[Hashable, Hashable]] = Counter()
    ours: Counter[Hashable] = Counter()
    theirs: Counter[Hashable] = Counter()
    for one, other, count in zip(first, second, times, strict=True):
        together[one, other] += count
        ours[one] += count
        theirs[other] += count

    def cost(one: Hashable, other: Hashable) -> float:
        if weights is None:
            return float(one != other)
        distance = abs(float(one) - float(other))  # type: ignore[arg-type]
        return distance if weights == "linear" else distance * distance

    observed = sum(cost(one, other) * count for (one, other), count in together.items())
    by_chance = sum(cost(one, other) * count * many for one, count in ours.items() for other, many in theirs.items())
    return math.nan if by_chance == 0 else 1 - observed * sum(times) / by_chance


def fleiss_kappa(counts: Sequence[Sequence[int]], *, times: Sequence[int] | None = None) -> float:
    """Agreement of several judges beyond chance (Fleiss 1971).

    `counts[i][j]` is how many judges put item i into category j; each item has the same number of judges, at least two.
    `times[i]` says how many items line i stands for. nan for no items, and where all judgements fall into one category.
    Raises ValueError for other counts.
    """
    if not counts:
        return math.nan
    num_judges = sum(counts[0])
    if num_judges < 2 or any(sum(row) != num_judges for row in counts):
        raise ValueError("each item needs the same number of judges, at least two")
    weights = [1] * len(counts) if times is None else times
    num_items = sum(weights)
    pairs = num_judges * (num_judges - 1)
    agreed = sum(
        weight * sum(count * (count - 1) for count in row) for row, weight in zip(counts, weights, strict=True)
    ) / (pairs * num_items)
    total = num_judges * num_items
    columns = zip(*counts, strict=True)
    by_chance = sum(
        (sum(count * weight for count, weight in zip(column, weights, strict=True)) / total) ** 2 for column in columns
    )
    return math.nan if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)
