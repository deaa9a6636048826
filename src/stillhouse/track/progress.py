"""How far the session is, on stderr: a living view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ..core.events import Bus, Event
from ..core.progress import StepProgress

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
class _Task(StepProgress):
    """One step under way, and when it was last told of."""

    told: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)

    def text(self, now: float, paces: Iterable[str] = ()) -> str:
        """Name, how far, how fast, how long to go, calls, tokens a second and money, loss, and who holds it up."""
        parts = [self.tag.partition("/")[0], *self._distance(now)]
        for name, value in self.facts.items():
            if isinstance(value, int | float) and value:
                parts.append(f"{name} {_number(value)}")
        parts += _money(self.calls, self.cost_to_come())
        tokens = self.tokens_per_second(now) or self.metrics.get("tokens_per_second")
        if tokens:
            parts.append(f"{tokens:,.0f} tokens/s")
        if "eval_loss" in self.metrics:
            parts.append(f"held-out loss {self.metrics['eval_loss']:.4g}")
        return "  ".join([*parts, *paces])

    def _distance(self, now: float) -> list[str]:
        if self.first is None:
            return [duration(now - self.started)]
        parts = [f"{_number(self.done)}{f'/{_number(self.total)}' if self.total else ''} {self.unit}"]
        rate, left = self.rate(now), self.seconds_left(now)
        if rate is not None:
            parts.append(f"{_rate(rate)}/s")
        if left is not None:
            parts.append(f"{duration(left)} left")
        return parts


class Progress:
    """A listener that draws. `clock` is for tests."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._living = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._tasks: dict[str, _Task] = {}
        self._paces: dict[tuple[str, str], dict[str, Any]] = {}
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
                begun = self._tasks.pop(data.get("recipe_key", ""), None)  # what it did before its rows were all there
                fresh = self._tasks[data["key"]] = _Task(data["tag"], now, told=now)
                if begun is not None:
                    fresh.calls, fresh.asked = begun.calls, begun.asked
                if not self._living:
                    self._say(f"{_name(data)} …")
            case "step.progress":
                self._moved(data, now)
            case "call.done" if data.get("key") in self._tasks:
                self._tasks[data["key"]].called(data, now)
            case "calls.pace":
                self._paces[data["model"], data["endpoint"]] = data
            case "metric" if data.get("key") in self._tasks:
                self._tasks[data["key"]].metrics.update(data["metrics"])
            case "step.finished":
                task = self._tasks.pop(data["key"], None)
                if not self._tasks:
                    self._paces.clear()
                calls = _money(task.calls) if task else []
                told = [_name(data), duration(data["seconds"]), *_counted(data.get("counts") or {}), *calls]
                self._say("  ".join(told))
            case "step.cached":
                self._tasks.pop(data.get("recipe_key", ""), None)
            case "step.failed":
                self._tasks.pop(data["key"], None)
                self._say(f"{_name(data)}  stopped ({data.get('error', 'for an unknown reason')})")
            case "step.waiting":
                self._say(str(data.get("message", "")))
            case "warning":
                self._say(f"warning: {data.get('message', '')}")

    def _moved(self, data: dict[str, Any], now: float) -> None:
        task = self._tasks.setdefault(data["key"], _Task(data["tag"], now, told=now))
        task.moved(data, now)
        if not self._living:
            self._tell(task, now)

    def _tell(self, task: _Task, now: float) -> None:
        if now - task.told >= LINE_SECONDS:
            task.told = now
            self._say(task.text(now, self._held_up()))

    def _held_up(self) -> list[str]:
        """How each endpoint is asked just now, where there is something to tell."""
        return [told for pace in self._paces.values() if (told := pace_text(pace))]

    def _draw(self, now: float) -> None:
        self._drawn = now
        self._wipe()
        size = shutil.get_terminal_size()
        told = [task.text(now) for task in self._tasks.values()]
        told += [f"  {text}" for text in self._held_up() if self._tasks]
        lines = [line[: size.columns - 1] for line in told][: size.lines - 1]
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


def pace_text(pace: Mapping[str, Any]) -> str:
    """How an endpoint is asked: in flight of how many, by the minute of what is allowed, and whether it rests."""
    parts = [f"{pace['in_flight']:,} of {pace['width']:,.0f} in flight"]
    for name, unit in (("rpm", "requests"), ("tpm", "tokens")):
        if pace.get(f"{name}_limit"):
            parts.append(f"{pace[name]:,} of {pace[f'{name}_limit']:,} {unit}/min")
    if pace.get("waiting"):
        parts.append(f"{pace['waiting']:,} waiting")
    if pace.get("down"):
        parts.append("does not answer")
    elif pace.get("paused_until") is not None:
        parts.append("pauses as it was told to")
    return f"{pace['model']}: {', '.join(parts)}"


def _money(calls: Counter[str], to_come: float | None = None) -> list[str]:
    """Calls made and found in the cache, what they cost, and what the rest may cost."""
    parts = []
    if calls["calls"] or calls["cached"]:
        cached = f" ({calls['cached']:,} cached)" if calls["cached"] else ""
        parts.append(f"{calls['calls'] + calls['cached']:,} calls{cached}")
    if calls["retries"]:
        parts.append(f"{calls['retries']:,} retries")
    if calls["cost_usd"]:
        more = f" of about ${calls['cost_usd'] + to_come:,.2f}" if to_come else ""
        parts.append(f"${calls['cost_usd']:,.4f}{more}")
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
