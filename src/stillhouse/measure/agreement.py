"""Self-consistency: what most of several replies to one question say."""

from collections.abc import Sequence
from typing import NamedTuple

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

    normaliser: str = Field("strip", description="exact, strip, casefold, whitespace or json")
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
