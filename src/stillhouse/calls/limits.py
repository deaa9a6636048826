"""Rate limits: what response headers tell of them, and buckets that fill with time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["requests", "tokens", "input", "output"]
"""What is limited: requests, tokens in all, those of prompts, those of replies."""
KINDS: tuple[Kind, ...] = ("requests", "tokens", "input", "output")


class Told(NamedTuple):
    """A limit as a server tells it: its size, what is left of it, and the seconds until all of it is back."""

    size: float
    left: float
    reset: float | None

    @property
    def rate(self) -> float:
        """Units a second. What was used comes back by the reset, whether bit by bit or at the end of a window."""
        used = self.size - self.left
        if self.reset and used > 0:
            return max(used / self.reset, self.size / 86_400)
        return self.size / 60


_MOST_BEHIND = 60.0  # seconds by which clocks of two machines may well differ


class Bucket:
    """Units that come back at `rate` a second, `size` of them at most. Its level may be below 0: a debt."""

    __slots__ = ("at", "level", "rate", "size")

    def __init__(self, rate: float, size: float, level: float, at: float) -> None:
        self.rate, self.size, self.level, self.at = rate, size, level, at

    @classmethod
    def per_minute(cls, limit: float, now: float) -> Bucket:
        """A bucket that lets no more than `limit` pass in any minute, in steps of a second's worth."""
        step = max(1.0, limit / 60)
        return cls((limit - step + 1) / 60, step, step, now)

    def fill(self, now: float) -> None:
        """Add what came back since the last time.

        Those who share it may have clocks that differ: time goes on as the fastest has it, and only once. A clock that
        is far behind was set back; it counts from there, and what is in the bucket stays.
        """
        if self.at - _MOST_BEHIND < now <= self.at:
            return
        gone = min(max(now - self.at, 0.0), 86_400.0)
        self.level = min(self.size, self.level + gone * self.rate)
        self.at = now

    def seconds_until(self, amount: float) -> float:
        """From now until `amount` is there; what is more than the bucket holds is there when it is full."""
        missing = min(amount, self.size) - self.level
        return max(0.0, missing) / self.rate


_OPENAI: Mapping[Kind, str] = {"requests": "requests", "tokens": "tokens"}
_ANTHROPIC: Mapping[Kind, str] = {
    "requests": "requests",
    "tokens": "tokens",
    "input": "input-tokens",
    "output": "output-tokens",
}


def told_limits(headers: Mapping[str, str], now: float) -> dict[Kind, Told]:
    """The limits in OpenAI's headers (`x-ratelimit-limit-requests`) or Anthropic's; `now` is the time of day."""
    found: dict[Kind, Told] = {}
    for kind, name in _OPENAI.items():
        if f"x-ratelimit-limit-{name}" in headers:
            size, left, reset = (headers.get(f"x-ratelimit-{what}-{name}") for what in ("limit", "remaining", "reset"))
            _add(found, kind, size, left, None if reset is None else duration(reset))
    for kind, name in _ANTHROPIC.items():
        if f"anthropic-ratelimit-{name}-limit" in headers:
            size, left, reset = (
                headers.get(f"anthropic-ratelimit-{name}-{what}") for what in ("limit", "remaining", "reset")
            )
            _add(found, kind, size, left, None if reset is None else _until(reset, now))
    return found


def _add(found: dict[Kind, Told], kind: Kind, size: str | None, left: str | None, reset: float | None) -> None:
    whole, rest = number(size), number(left)
    if whole is not None and rest is not None and whole >= 1 and rest <= whole:
        found[kind] = Told(whole, rest, reset)


def has_limits(headers: Mapping[str, str]) -> bool:
    """Whether it is worth reading them: this is asked of every response."""
    return "x-ratelimit-limit-requests" in headers or (
        "anthropic-ratelimit-requests-limit" in headers or "x-ratelimit-limit-tokens" in headers
    )


def asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by the response headers: `retry-after-ms`, `retry-after` (seconds or a date), limit resets."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if after is not None:
        seconds = _seconds(after)
        if seconds is not None:
            return seconds
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - now)
        except (TypeError, ValueError):
            return None
    return _reset(headers, now)


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """The reset of whichever limit has nothing left: `6m0s`, `1.2s`, `20ms` at OpenAI, a time at Anthropic."""
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{name}", ""))
        for name in _OPENAI.values()
        if headers.get(f"x-ratelimit-remaining-{name}") == "0"
    ]
    waits += [
        _until(headers.get(f"anthropic-ratelimit-{name}-reset", ""), now)
        for name in _ANTHROPIC.values()
        if headers.get(f"anthropic-ratelimit-{name}-remaining") == "0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def duration(text: str) -> float | None:
    """Seconds of `1m2.5s` or of a plain number."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)", text)
    if not parts:
        return _seconds(text)
    return sum(float(value) * _UNITS[unit] for value, unit in parts)


def _seconds(text: str | None) -> float | None:
    value = number(text)
    return value if value is not None and value < 1e7 else None  # above, it is a time of day in disguise


def _until(text: str, now: float) -> float | None:
    """Seconds from `now` to a time in RFC 3339."""
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp() - now)
    except ValueError:
        return None


def number(text: str | None) -> float | None:
    """What a header says in digits; None for anything that is no sensible number."""
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e12 else None
