"""How far the session is, on stderr: a living view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ..core.events import Bus, Event

REDRAW_SECONDS = 0.2
LINE_SECONDS = 20.0
"""Without a terminal a step tells how far it is this often."""


class Watched(Protocol):
    """What of a session is needed to watch it."""

    @property
    def bus(self) -> Bus: ...


def attach(session: Watched) -> Callable[[], None]:
    """Show the session's progress on stderr; the returned function ends it."""
    view = Progress(sys.stderr)
    leave = session.bus.subscribe(view)
    over = threading.Event()

    def tick() -> None:  # a step that waits for one slow reply says nothing by itself
        while not over.wait(1.0):
            view.tick()

    ticker = threading.Thread(target=tick, name="stillhouse-progress", daemon=True)
    ticker.start()

    def close() -> None:
        leave()
        over.set()
        ticker.join()
        view.close()

    return close


@dataclass
class _Task:
    """One step under way."""

    tag: str
    started: float
    told: float
    done: float = 0.0
    total: float | None = None
    unit: str = "rows"
    first: float | None = None
    """How far it was when it was first heard of: what a resumed step did before must not count as speed."""
    heard: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    metrics: dict[str, float] = field(default_factory=dict)

    def text(self, now: float) -> str:
        """Name, how far, how fast, how long to go, calls and money, loss and tokens a second."""
        parts = [self.tag.partition("/")[0], *self._distance(now)]
        for name, value in self.facts.items():
            if isinstance(value, int | float) and value:
                parts.append(f"{name} {_number(value)}")
        parts += _money(self.calls)
        if "tokens_per_second" in self.metrics:
            parts.append(f"{self.metrics['tokens_per_second']:,.0f} tokens/s")
        if "eval_loss" in self.metrics:
            parts.append(f"held-out loss {self.metrics['eval_loss']:.4g}")
        return "  ".join(parts)

    def _distance(self, now: float) -> list[str]:
        if self.first is None:
            return [duration(now - self.started)]
        parts = [f"{_number(self.done)}{f'/{_number(self.total)}' if self.total else ''} {self.unit}"]
        gone, made = now - self.heard, self.done - self.first
        if gone > 1 and made > 0:
            rate = made / gone
            parts.append(f"{_rate(rate)}/s")
            if self.total and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        return parts


class Progress:
    """A listener that draws. `clock` is for tests."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._living = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._tasks: dict[str, _Task] = {}
        self._drawn = 0.0
        self._num_lines = 0
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            now = self._clock()
            self._take(event.kind, event.data, now)
            if self._living and now - self._drawn >= REDRAW_SECONDS:
                self._draw(now)

    def tick(self) -> None:
        """Tell of time that has passed without an event."""
        with self._lock:
            now = self._clock()
            if self._living:
                self._draw(now)
                return
            for task in self._tasks.values():
                self._tell(task, now)

    def close(self) -> None:
        """Leave the terminal as it was."""
        with self._lock:
            self._wipe()

    def _take(self, kind: str, data: dict[str, Any], now: float) -> None:
        match kind:
            case "step.started":
                self._tasks[data["key"]] = _Task(data["tag"], now, told=now)
                if not self._living:
                    self._say(f"{_name(data)} …")
            case "step.progress":
                self._moved(data, now)
            case "call.done" if data.get("key") in self._tasks:
                numbers = {name: value for name, value in data.items() if isinstance(value, int | float)}
                self._tasks[data["key"]].calls.update(numbers)
            case "metric" if data.get("key") in self._tasks:
                self._tasks[data["key"]].metrics.update(data["metrics"])
            case "step.finished":
                task = self._tasks.pop(data["key"], None)
                calls = _money(task.calls) if task else []
                told = [_name(data), duration(data["seconds"]), *_counted(data.get("counts") or {}), *calls]
                self._say("  ".join(told))
            case "step.failed":
                self._tasks.pop(data["key"], None)
                self._say(f"{_name(data)}  stopped ({data.get('error', 'for an unknown reason')})")
            case "step.waiting":
                self._say(str(data.get("message", "")))
            case "warning":
                self._say(f"warning: {data.get('message', '')}")

    def _moved(self, data: dict[str, Any], now: float) -> None:
        task = self._tasks.setdefault(data["key"], _Task(data["tag"], now, told=now))
        if task.first is None:
            task.first, task.heard = float(data["done"]), now
        task.done, task.total, task.unit = float(data["done"]), data.get("total"), data.get("unit", "rows")
        task.facts = {k: v for k, v in data.items() if k not in ("key", "tag", "done", "total", "unit")}
        if not self._living:
            self._tell(task, now)

    def _tell(self, task: _Task, now: float) -> None:
        if now - task.told >= LINE_SECONDS:
            task.told = now
            self._say(task.text(now))

    def _draw(self, now: float) -> None:
        self._drawn = now
        self._wipe()
        size = shutil.get_terminal_size()
        lines = [task.text(now)[: size.columns - 1] for task in self._tasks.values()][: size.lines - 1]
        self._stream.write("\n".join(lines))
        self._stream.flush()
        self._num_lines = len(lines)

    def _say(self, text: str) -> None:
        self._wipe()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _wipe(self) -> None:
        """Take the living lines away; the cursor stands where the first one began."""
        if self._num_lines:
            up = f"\x1b[{self._num_lines - 1}A" if self._num_lines > 1 else ""
            self._stream.write(f"\r{up}\x1b[J")
            self._stream.flush()
            self._num_lines = 0


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _name(data: dict[str, Any]) -> str:
    return str(data["tag"]).partition("/")[0]


def _money(calls: Counter[str]) -> list[str]:
    """Calls made and found in the cache, and what they cost."""
    parts = []
    if calls["calls"] or calls["cached"]:
        cached = f" ({calls['cached']:,} cached)" if calls["cached"] else ""
        parts.append(f"{calls['calls'] + calls['cached']:,} calls{cached}")
    if calls["retries"]:
        parts.append(f"{calls['retries']:,} retries")
    if calls["cost_usd"]:
        parts.append(f"${calls['cost_usd']:,.4f}")
    return parts


def _counted(counts: dict[str, Any]) -> list[str]:
    words = [
        f"{number:,} {'rows' if name == 'out' else name}"
        for name, number in counts.items()
        if name != "in" and (number or name == "out")
    ]
    return [", ".join(words)] if words else []


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.3g}"


def _number(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(value):,}"
