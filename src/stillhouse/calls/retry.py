"""What a failed call means, and when it is made again.

Three classes: a `TryAgain` is retried within bounds, a `RowFault` is the end of one row, any other `ModelError` the end
of the step.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal, TypeAlias

from stillhouse.core.errors import EXHAUSTED, ModelError, RowFault

Cause: TypeAlias = Literal["throttled", "unreachable", "server", "timeout", "reset", "garbled"]


class TryAgain(ModelError):
    """A call that failed in a way that may pass. `wait` is what the provider asked for, in seconds, or None.

    `throttled` (429) and `unreachable` (nobody answers) say nothing about the request and use up none of its attempts.
    """

    def __init__(self, cause: Cause, message: str, *, wait: float | None = None) -> None:
        super().__init__(message, kind=cause, retryable=True)
        self.cause = cause
        self.wait = wait


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


class Retries:
    """The history of one request: says how long to wait before the next attempt, or that there is none."""

    __slots__ = ("_failed", "_patience", "_throttles", "_waited")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failed = 0
        self._throttles = 0
        self._waited = 0.0

    def wait_after(self, trouble: TryAgain, who: str) -> float:
        """Seconds to wait; raises `RowFault` (attempts used up) or `ModelError` (put off for too long)."""
        if trouble.cause == "unreachable":
            return self._jittered(2, trouble)  # how long in all is counted for the endpoint, not for the request
        if trouble.cause == "throttled":
            wait = self._jittered(self._throttles, trouble)
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


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the response headers: `retry-after-ms`, `retry-after` (seconds or a date), limit resets."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return max(0.0, milliseconds / 1000)
    after = headers.get("retry-after")
    if after is not None:
        seconds = _number(after)
        if seconds is not None:
            return max(0.0, seconds)
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - now)
        except (TypeError, ValueError):
            return None
    return _reset(headers)


def _reset(headers: Mapping[str, str]) -> float | None:
    """The reset of whichever limit has nothing left, as OpenAI writes it (`6m0s`, `1.2s`, `20ms`)."""
    waits = [
        _duration(headers.get(f"x-ratelimit-reset-{what}", ""))
        for what in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{what}") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def _duration(text: str) -> float | None:
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts:
        return _number(text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e7 else None
