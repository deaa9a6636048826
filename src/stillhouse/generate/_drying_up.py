"""When steps that grow end, as their model has hardly anything new to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ..core.outcome import Row

CALL = "_call"
"""The field of an accepted row that says which call brought it."""


class Patience(Protocol):
    """`patience`: calls that are looked back on; `least`: the share of the rows they ask for that must be new."""

    @property
    def patience(self) -> int: ...

    @property
    def least(self) -> float: ...

    @property
    def per_call(self) -> int: ...


class Lately(NamedTuple):
    """The rows that the latest calls brought, and whether that is enough to go on."""

    rows: int
    enough: bool


def lately(step: Patience, num_calls: int, accepted: Sequence[Row]) -> Lately | None:
    """What the last `patience` calls brought; None where it is too early to tell."""
    # A teacher whose replies are all rubbish is the runner's to stop, with examples: it looks at the first calls.
    patience = step.patience if accepted else max(2 * step.patience, 40)
    if num_calls < patience:
        return None
    recent = 0
    for row in reversed(accepted):
        if row[CALL] < num_calls - step.patience:
            break
        recent += 1
    return Lately(recent, recent >= max(1.0, step.least * step.patience * step.per_call))
