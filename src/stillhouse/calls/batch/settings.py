"""How batch jobs are used; nothing here changes what a result is called."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

from stillhouse.core.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Batching:
    """Ask in batch jobs where the provider has them."""

    wait: bool = False
    """Stay until the jobs are done; else the run ends at once and the same command collects them later."""
    poll: float = 30.0
    """Seconds between two looks at the jobs, while waiting."""
    live_up_to: int = 100
    """What a job left unanswered is asked live if it is no more than this, else in another job."""
    tries: int = 3
    """Jobs that a request may be in before it is asked live."""
    job_requests: int | None = None
    """Requests in one job; None takes as many as the provider does."""
    job_bytes: int | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            lowest = 0 if entry.name in ("live_up_to", "poll", "wait") else 1
            if value is not None and value < lowest:
                raise RecipeError(f"`{entry.name}` of batching is {value}, expected at least {lowest}")


BatchOption: TypeAlias = "Batching | bool | str | None"
"""True submits and ends the run, `"wait"` waits for the jobs, False never uses them, None leaves it to endpoints."""


def batching(option: BatchOption) -> Batching | None:
    """What a session was told; None where it uses no batch jobs of its own accord."""
    if isinstance(option, Batching):
        return option
    if option in (None, False):
        return None
    if option is True:
        return Batching()
    if option == "wait":
        return Batching(wait=True)
    raise RecipeError(f"`batch` is {option!r}", 'Write True, "wait", False or Batching(…).')
