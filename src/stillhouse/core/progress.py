"""How far a run is: measured from the events that its steps publish."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .events import Event

COUNTED = ("calls", "cached", "retries", "failed", "prompt_tokens", "reply_tokens", "cost_usd")


@dataclass
class StepProgress:
    """One step under way."""

    tag: str
    started: float
    done: float = 0.0
    total: float | None = None
    unit: str = "rows"
    first: float | None = None
    """How far it was when it was first heard of: what a resumed step did before must not count as speed."""
    heard: float = 0.0
    asked: float | None = None
    """When it was first heard of its calls."""
    facts: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def moved(self, data: Mapping[str, Any], now: float) -> None:
        """Take a `step.progress` event."""
        if self.first is None:
            self.first, self.heard = float(data["done"]), now
        self.done, self.total, self.unit = float(data["done"]), data.get("total"), data.get("unit", "rows")
        self.facts = {k: v for k, v in data.items() if k not in ("key", "tag", "done", "total", "unit")}

    def called(self, data: Mapping[str, Any], now: float) -> None:
        """Take a `call.done` event."""
        self.asked = now if self.asked is None else self.asked
        self.calls.update({name: data[name] for name in COUNTED if isinstance(data.get(name), int | float)})

    def rate(self, now: float) -> float | None:
        """Rows (or what it counts) a second; None before that can be told."""
        gone, made = now - self.heard, self.done - (self.first or 0.0)
        return made / gone if self.first is not None and gone > 1 and made > 0 else None

    def seconds_left(self, now: float) -> float | None:
        rate = self.rate(now)
        return (self.total - self.done) / rate if rate and self.total and self.total > self.done else None

    def tokens_per_second(self, now: float) -> float | None:
        """Tokens sent and received, from its first calls on."""
        tokens, gone = self.calls["prompt_tokens"] + self.calls["reply_tokens"], now - (self.asked or now)
        return tokens / gone if tokens and gone > 1 else None

    def cost_to_come(self) -> float | None:
        """Dollars for what is left, if it costs as much a row as until now."""
        made, spent = self.done - (self.first or 0.0), self.calls["cost_usd"]
        return spent / made * (self.total - self.done) if spent and made > 0 and self.total else None


@dataclass(frozen=True)
class Progress:
    """How far a run is at one moment. Rows are those of the steps under way; money is that of the whole run."""

    steps_done: int
    steps_total: int | None
    """Steps to make; None before it is known which."""
    steps: tuple[Mapping[str, Any], ...]
    """Those under way: `step`, `done`, `total`, `unit`, `rate` (a second), `seconds_left`, `calls`, `cost_usd`, …"""
    calls: int
    cached: int
    cost_usd: float
    seconds: float
    status: str
    """`running`, `finished` or `failed`."""

    def __str__(self) -> str:
        of = "" if self.steps_total is None else f" of {self.steps_total}"
        lines = [f"{self.status}: {self.steps_done}{of} steps, {self.calls:,} calls, ${self.cost_usd:,.4f}"]
        for step in self.steps:
            total = "" if step["total"] is None else f"/{step['total']:,.0f}"
            rate = "" if step["rate"] is None else f", {step['rate']:,.3g}/s"
            left = "" if step["seconds_left"] is None else f", {step['seconds_left']:,.0f} s left"
            lines.append(f"  {step['step']}: {step['done']:,.0f}{total} {step['unit']}{rate}{left}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(str(self))}</pre>"


class Watch:
    """Listens to the steps of one run; `keys` are theirs, and may grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.keys: set[str] = set()
        self.steps_total: int | None = None
        self._clock = clock
        self._began = clock()
        self._ended: float | None = None
        self._steps: dict[str, StepProgress] = {}
        self._over: Counter[str] = Counter()
        self._num_done = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        key = event.data.get("key")
        if key not in self.keys:
            return
        with self._lock:
            now, data = self._clock(), event.data
            if event.kind in ("step.finished", "step.failed", "step.cached"):
                gone = self._steps.pop(key, None)
                self._over.update(gone.calls if gone else {})
                self._num_done += event.kind != "step.failed"
                return
            if event.kind not in ("step.started", "step.progress", "call.done"):
                return
            ahead = self._steps.pop(data.get("recipe_key", ""), None)  # as it was known before its rows were there
            step = self._steps.setdefault(key, StepProgress(data.get("tag", ""), now))
            if ahead is not None:
                step.calls, step.asked = ahead.calls, ahead.asked
            step.tag = step.tag or data.get("tag", "")
            if event.kind == "step.progress":
                step.moved(data, now)
            elif event.kind == "call.done":
                step.called(data, now)

    def end(self) -> None:
        self._ended = self._clock()

    def now(self, status: str) -> Progress:
        """The present state."""
        with self._lock:
            now = self._ended or self._clock()
            calls = Counter(self._over)
            for step in self._steps.values():
                calls.update(step.calls)
            return Progress(
                steps_done=self._num_done,
                steps_total=self.steps_total,
                steps=tuple(_told(step, now) for step in self._steps.values()) if status == "running" else (),
                calls=calls["calls"],
                cached=calls["cached"],
                cost_usd=float(calls["cost_usd"]),
                seconds=now - self._began,
                status=status,
            )


def _told(step: StepProgress, now: float) -> dict[str, Any]:
    return {
        "step": step.tag.partition("/")[0],
        "done": step.done,
        "total": step.total,
        "unit": step.unit,
        "rate": step.rate(now),
        "seconds_left": step.seconds_left(now),
        "tokens_per_second": step.tokens_per_second(now),
        "calls": step.calls["calls"],
        "cached": step.calls["cached"],
        "cost_usd": float(step.calls["cost_usd"]),
        "failed": step.facts.get("failed", 0),
    }
