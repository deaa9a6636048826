"""What a session does, written into the experiment store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..core.events import Bus, Event
from ..core.execution import environment
from .compaction import LOOSE_RUNS, compact
from .run import Run, new_id, read_record, status_of

MAX_EVENTS = 500


class Watched(Protocol):
    """What of a session is needed to watch it."""

    @property
    def folder(self) -> Path: ...
    @property
    def bus(self) -> Bus: ...


def attach(session: Watched) -> Callable[[], None]:
    """Record what the session does in its own folder; the returned function ends it."""
    listener = Listener(session.folder)
    leave = session.bus.subscribe(listener)

    def close() -> None:
        leave()
        listener.close()

    return close


class Listener:
    """One run for each `session.run`, and under it one for each step that logs metrics.

    The run of a step that was cut off goes on when the step does, under the session run that took it up.
    Events come from several threads, in any order between steps.
    """

    def __init__(self, store: str | os.PathLike[str]) -> None:
        self._store = Path(store)
        self._lock = threading.Lock()
        self._open: list[Run] = []
        self._steps: dict[str, Run] = {}

    def __call__(self, event: Event) -> None:
        with self._lock:
            data = event.data
            match event.kind:
                case "run.started":
                    self._run_started(data)
                case "run.finished":
                    self._run_finished(data)
                case "metric":
                    self._step_run(data).log(data["metrics"], step=data["step"])
                case "step.finished" | "step.failed" | "step.cached":
                    self._step_ended(event)
                case "warning":
                    self._note_above(event)

    def close(self) -> None:
        """Finish what is open, and keep the files few where many runs have gathered."""
        with self._lock:
            for run in [*self._steps.values(), *self._open]:
                run.finish("interrupted")
            self._steps.clear()
            self._open.clear()
        compact(self._store, at_least=LOOSE_RUNS)

    def _run_started(self, data: dict[str, Any]) -> None:
        run = Run.start(
            self._store,
            kind="session",
            name=data.get("name") or ", ".join(data.get("steps", ())) or None,
            environment=environment(),
            steps=data.get("steps", ()),
            target=data.get("name"),
        )
        self._open.append(run)

    def _run_finished(self, data: dict[str, Any]) -> None:
        for run in reversed(self._open):
            if run.record.get("target") == data.get("name"):
                self._open.remove(run)
                if not self._open:
                    self._finish_steps(data["status"])
                run.finish(data["status"])
                return

    def _finish_steps(self, status: str) -> None:
        """Steps whose end was never told: the run ended over them."""
        for run in self._steps.values():
            run.finish(status)
        self._steps.clear()

    def _step_run(self, data: dict[str, Any]) -> Run:
        key = data["key"]
        if key not in self._steps:
            parent = self._open[-1].id if self._open else None
            id = self._unfinished(key) or f"{new_id()}-{key[:8]}"
            self._steps[key] = Run.start(self._store, id=id, kind="step", name=data["tag"], step_key=key, parent=parent)
        return self._steps[key]

    def _unfinished(self, key: str) -> str | None:
        """The run in which the step was begun and did not end; what it logged past its checkpoint is logged anew."""
        for folder in sorted((self._store / "runs").glob(f"*-{key[:8]}"), reverse=True):
            record = read_record(folder)
            if record is not None and record.get("step_key") == key:
                return None if status_of(folder, record) in ("finished", "running") else folder.name
        return None

    def _step_ended(self, event: Event) -> None:
        self._note_above(event)
        run = self._steps.pop(event.data["key"], None)
        if run is not None:
            failed = event.kind == "step.failed"
            run.finish("failed" if failed else "finished", str(event.data.get("message", "")) if failed else None)

    def _note_above(self, event: Event) -> None:
        """Put what happened into the record of the session run: `events`, the last `MAX_EVENTS` of them."""
        if self._open:
            facts = {name: value for name, value in event.data.items() if name != "facts"}
            events = [*self._open[-1].record.get("events", ()), {"kind": event.kind, "time": event.time, **facts}]
            self._open[-1].note(events=events[-MAX_EVENTS:])
