"""How far the session is, on stderr: one living line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

from ..core.events import Bus, Event

REDRAW_SECONDS = 0.1
LINE_SECONDS = 30.0
"""Without a terminal a step tells how far it is this often."""


class Watched(Protocol):
    """What of a session is needed to watch it."""

    @property
    def bus(self) -> Bus: ...


def attach(session: Watched) -> Callable[[], None]:
    """Show the session's progress on stderr; the returned function ends it."""
    view = Progress(sys.stderr)
    leave = session.bus.subscribe(view)

    def close() -> None:
        leave()
        view.close()

    return close


@dataclass
class _Task:
    """One step under way."""

    tag: str
    started: float
    done: float = 0.0
    first: float | None = None
    """How far it was when it was first heard of: a resumed step must not count that as speed."""
    heard: float = 0.0
    total: float | None = None
    unit: str = "rows"
    facts: dict[str, Any] = field(default_factory=dict)
    told: float = 0.0

    def text(self, now: float) -> str:
        parts = [
            self.tag.partition("/")[0],
            f"{_number(self.done)}{f'/{_number(self.total)}' if self.total else ''} {self.unit}",
        ]
        gone, made = now - self.heard, self.done - (self.first or 0.0)
        if self.first is not None and gone > 1 and made > 0:
            rate = made / gone
            parts.append(f"{rate:.3g}/s")
            if self.total and self.total > self.done:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        parts += [
            f"{name} {_number(value)}" for name, value in self.facts.items() if isinstance(value, int | float) and value
        ]
        return "  ".join(parts)


class Progress:
    """A listener that draws. `clock` is for tests."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._living = stream.isatty()
        self._tasks: dict[str, _Task] = {}
        self._drawn = 0.0
        self._shown = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            data, now = event.data, self._clock()
            match event.kind:
                case "step.started":
                    self._tasks[data["key"]] = _Task(data["tag"], now, told=now)
                    if not self._living:
                        self._say(f"{data['tag']} …")
                case "step.progress":
                    self._moved(data, now)
                case "step.finished":
                    self._tasks.pop(data["key"], None)
                    self._say(f"{data['tag']}  {duration(data['seconds'])}{_counted(data.get('counts') or {})}")
                case "step.failed":
                    self._tasks.pop(data["key"], None)
                    self._say(f"{data['tag']}  stopped: {data.get('error', '')}")
                case "step.waiting" | "warning":
                    self._say(str(data.get("message", "")))
            if self._living and now - self._drawn >= REDRAW_SECONDS:
                self._draw(now)

    def close(self) -> None:
        """Leave the terminal as it was."""
        with self._lock:
            self._wipe()

    def _moved(self, data: dict[str, Any], now: float) -> None:
        task = self._tasks.setdefault(data["key"], _Task(data["tag"], now, told=now))
        if task.first is None:
            task.first, task.heard = float(data["done"]), now
        task.done, task.total, task.unit = float(data["done"]), data.get("total"), data.get("unit", "rows")
        task.facts = {k: v for k, v in data.items() if k not in ("key", "tag", "done", "total", "unit")}
        if not self._living and now - task.told >= LINE_SECONDS:
            task.told = now
            self._say(task.text(now))

    def _draw(self, now: float) -> None:
        self._drawn = now
        if not self._tasks:
            return
        width = max(20, shutil.get_terminal_size().columns - 1)
        text = "  |  ".join(task.text(now) for task in self._tasks.values())
        self._stream.write("\r\x1b[2K" + text[:width])
        self._stream.flush()
        self._shown = True

    def _say(self, text: str) -> None:
        self._wipe()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def _wipe(self) -> None:
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._shown = False


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _counted(counts: dict[str, Any]) -> str:
    words = [
        f"{number:,} {'rows' if name == 'out' else name}"
        for name, number in counts.items()
        if name != "in" and (number or name == "out")
    ]
    return f"  {', '.join(words)}" if words else ""


def _number(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}"
    return f"{int(value):,}"
