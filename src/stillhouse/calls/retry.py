"""What a failed call means, and when it is made again.

Three classes: a `TryAgain` is retried within bounds, a `RowFault` is the end of one row, any other `ModelError` the end
of the step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from stillhouse.core.errors import EXHAUSTED, ModelError, RecipeError, RowFault

from .limits import asked_wait as asked_wait

if TYPE_CHECKING:
    from .reply import Reply

_PROBE_DOUBLINGS = 3  # so that an endpoint that comes back is not noticed late

Cause: TypeAlias = Literal["throttled", "unreachable", "server", "timeout", "reset", "garbled"]


class TryAgain(ModelError):
    """A call that failed in a way that may pass. `wait` is what the provider asked for, in seconds, or None.

    `throttled` (429) and `unreachable` (nobody answers) say nothing about the request and use up none of its attempts.
    """

    def __init__(self, cause: Cause, message: str, *, wait: float | None = None) -> None:
        super().__init__(message, kind=cause, retryable=True)
        self.cause = cause
        self.wait = wait


class OtherModel(ModelError):
    """Another model answers than was asked for; its `reply` is paid for and not taken."""

    def __init__(self, message: str, hint: str, reply: Reply) -> None:
        super().__init__(message, hint, kind="other_model")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of trying again; all times in seconds."""

    attempts: int = 5
    """Calls of one request before its row fails as `exhausted`."""
    first_wait: float = 0.5
    longest_wait: float = 30.0
    throttled: float = 900.0
    """How long one request may be put off by rate limits before the step stops."""
    unreachable: float = 60.0
    """How long nobody may answer at an endpoint before the step stops."""
    alone: float = 2.0
    """How long the first call to an endpoint has it to itself: it may find that nobody lets us in."""
    max_failed: float = 0.5
    """Share of the last `window` requests whose failure stops the step: rows given up, requests not taken."""
    window: int = 50
    hedge: float | None = None
    """Ask a second time where a call takes longer than this share of those so far (0.99); None never does. What comes
    first counts; the other one is given up, and may be paid for all the same."""
    other_model: Literal["tell", "stop"] = "tell"
    """Where a reply over HTTP bears the name of another model than was asked for, or than answered so far in this run:
    a warning, or the end of the run. Such replies (all that are under way may be) then count as paid and are not kept.
    Of a pool, that server is left out. What batch jobs, `litellm/…` and embedders bring is taken as it comes."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.window < 1:
            raise RecipeError("`attempts` and `window` of a `Patience` are at least 1")
        if not 0 <= self.max_failed <= 1 or not (self.hedge is None or 0.5 <= self.hedge < 1):
            raise RecipeError("of a `Patience`, `max_failed` lies between 0 and 1, `hedge` between 0.5 and 1")
        if self.other_model not in ("tell", "stop"):
            raise RecipeError(f"`other_model` of a `Patience` is `{self.other_model}`", "Known: tell, stop.")


class Retries:
    """The history of one request: says how long to wait before the next attempt, or that there is none."""

    __slots__ = ("_failed", "_patience", "_throttles", "_waited")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failed = 0
        self._throttles = 0
        self._waited = 0.0

    def wait_after(self, trouble: TryAgain, who: str, streak: int = 0) -> float:
        """Seconds to wait; raises `RowFault` (attempts used up) or `ModelError` (put off for too long).

        `streak`: pauses of the endpoint that no reply came between.
        """
        if trouble.cause == "unreachable":  # how long in all is counted for the endpoint, not for the request
            return self._jittered(min(streak, _PROBE_DOUBLINGS), trouble)
        if trouble.cause == "throttled":
            wait = self._jittered(max(self._throttles, streak), trouble)
            self._throttles += 1
        else:
            self._failed += 1
            if self._failed >= self._patience.attempts:
                problem = f"{self._failed} attempts failed, the last with: {trouble.message}"
                raise RowFault(EXHAUSTED, problem) from trouble
            wait = self._jittered(self._failed - 1, trouble)
        if trouble.cause == "throttled" or trouble.wait is not None:
            self._put_off(wait, trouble, who)
        return wait

    def _put_off(self, wait: float, trouble: TryAgain, who: str) -> None:
        self._waited += wait
        if self._waited <= self._patience.throttled:
            return
        raise ModelError(
            f"`{who}` puts a request off for {self._waited:.0f} s in all, more than {self._patience.throttled:.0f} s "
            f"({trouble.message})",
            "Lower the concurrency, or come back later: every reply is kept and the same command goes on.",
            kind="throttled",
            retryable=True,
        ) from trouble

    def _jittered(self, exponent: int, trouble: TryAgain) -> float:
        """Full jitter: anything up to a doubling bound. What the provider asks for is obeyed, with a little on top."""
        patience = self._patience
        bound = min(patience.longest_wait, patience.first_wait * 2.0 ** min(exponent, 30))
        if trouble.wait is not None:
            return trouble.wait + random.uniform(0.0, min(bound, 0.1 * trouble.wait + 0.05))
        return random.uniform(0.0, bound)
