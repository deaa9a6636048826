"""What a step is given while it works: its inputs, its folders, and the way to write rows and tell of progress."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .artifact import Artifact
from .errors import Interrupted, RecipeError
from .events import Bus
from .occurrence import Apart, asks_apart
from .options import Options
from .step import KeyBook, MapStep, Step
from .writer import RowsWriter

A = TypeVar("A", bound=Artifact)
T = TypeVar("T")


class Context:
    """One build of one step. Everything in it belongs to the session; the result depends on the inputs alone."""

    def __init__(
        self,
        *,
        step: Step[Any],
        build_key: str,
        work: Path,
        inputs: Mapping[str, Artifact],
        options: Options,
        bus: Bus,
        stop: threading.Event,
        calls: Callable[[], Any] | None = None,
        book: KeyBook | None = None,
        wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
    ) -> None:
        self.step = step
        self.build_key = build_key
        self.options = options
        self.result = work / "result"
        self.scratch = work / "scratch"
        self.facts: dict[str, Any] = {}
        self.digest = ""
        """A whole step may set this to a digest of what it made; without, that of its files is taken."""
        self.writers: dict[str | None, RowsWriter] = {}
        self._inputs = inputs
        self._bus = bus
        self._stop = stop
        self._calls = calls
        self._apart = isinstance(step, MapStep) and asks_apart(step)
        self._wait = wait
        self.book = book or KeyBook()
        self.scratch.mkdir(parents=True, exist_ok=True)

    def get(self, step: Step[A]) -> A:
        """The artifact of an input."""
        key = self.book.recipe(step)
        if key not in self._inputs:
            raise RecipeError(
                f"`{type(self.step).__name__}` asks for `{type(step).__name__}`, which is not among its inputs",
                "Give it to the step as a field.",
            )
        return self._inputs[key]  # type: ignore[return-value]

    def finished(self, tag: str) -> Iterator[Artifact]:
        """What steps of this tag made before in the same store, newest first.

        For work that need not be done again; the result must be the same without it.
        """
        from .artifact import KINDS
        from .store import Store

        store = Store(self.result.parents[2])
        for record in store.records():
            if record["tag"] == tag:
                yield KINDS[record["kind"]](store.artifact_folder(record["build_key"]), record)

    @property
    def inputs(self) -> Mapping[str, Artifact]:
        """The artifacts of all inputs, by recipe key."""
        return self._inputs

    @property
    def folder(self) -> Path:
        """What a whole step writes here becomes the artifact's `data/`. It is empty at the start of every attempt."""
        folder = self.result / "data"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def rows(self, output: str | None = None) -> RowsWriter:
        """The writer of the result's rows, or of one of its outputs; to be closed (or used in a `with` block)."""
        if output not in self.writers:
            if (output or None) not in (self.step.outputs or (None,)):
                raise RecipeError(f"`{type(self.step).__name__}` has no output `{output}`")
            data = self.folder if output is None else self.folder / output
            aside = self.result if output is None else data
            self.writers[output] = RowsWriter(data, self.result.parent / "parts" / (output or "rows"), aside)
        return self.writers[output]

    @property
    def calls(self) -> Any:
        """The call service, for steps that ask models (`stillhouse.calls`)."""
        if self._calls is None:
            raise RecipeError(f"`{type(self.step).__name__}` runs in a process of its own and cannot ask models there")
        return Apart(self._calls()) if self._apart else self._calls()

    def with_calls(self, calls: Callable[[], Any]) -> Context:
        """The same with another call service."""
        other = copy.copy(self)
        other._calls = calls
        return other

    def with_input(self, key: str, artifact: Artifact) -> Context:
        """The same where the input of this recipe key is another artifact."""
        other = copy.copy(self)
        other._inputs = {**self._inputs, key: artifact}
        return other

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, run on the session's call loop: how a whole step asks a model.

        Raises `Interrupted` when the session is asked to stop meanwhile.
        """
        if self._wait is None:
            raise RecipeError(f"`{type(self.step).__name__}` runs in a process of its own and cannot ask models there")
        import asyncio

        async def watched() -> T:
            task = asyncio.ensure_future(work)
            while not task.done():
                await asyncio.wait([task], timeout=0.2)
                if self.stopping and not task.done():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    self.check_stop()
            return task.result()

        found: T = self._wait(watched())
        return found

    def progress(self, done: float, total: float | None = None, unit: str = "rows", **facts: Any) -> None:
        """Tell how far the step is; cheap enough for every chunk or training step."""
        self._bus.publish("step.progress", **self._who(), done=done, total=total, unit=unit, **facts)

    def log(self, step: int, **metrics: float) -> None:
        """Record metrics of a training or evaluation step in the experiment store."""
        self._bus.publish("metric", **self._who(), step=step, metrics=metrics)

    def warn(self, message: str) -> None:
        self._bus.publish("warning", **self._who(), message=message)

    def note(self, **facts: Any) -> None:
        """Put JSON values into the artifact's record, under `facts`."""
        self.facts.update(facts)

    def check_stop(self) -> None:
        """Raise `Interrupted` when the session was asked to stop; call it wherever the work can be taken up again."""
        if self._stop.is_set():
            raise Interrupted("stopped; what was finished is kept", "Run the same command again: it goes on from here.")

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def _who(self) -> dict[str, str]:
        return {"key": self.build_key, "tag": self.step.tag}
