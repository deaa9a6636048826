"""Sessions: where and how steps are made."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .artifact import Artifact, Rows
from .bill import BillKeeper
from .errors import Interrupted, RecipeError, Waiting
from .events import Bus, Listener
from .execution import INTERRUPTED, Execution
from .lease import Lease
from .names import Names, checked_name
from .options import Options
from .progress import Progress, Watch
from .retry import Retry
from .shards import Join, shared, stage_of, stores_of
from .step import MapStep, Step
from .store import Store

if TYPE_CHECKING:
    import asyncio

    from .definition import Difference
    from .plan import Expectation, Plan

A = TypeVar("A", bound=Artifact)
T = TypeVar("T")

COUNTING = "stillhouse.calls.counting:count_calls"
SERVICE = "stillhouse.calls.service:open_service"
CALL_SETTINGS = "stillhouse.calls.settings:checked"
ENGINE = "stillhouse.engines.engine:open_engine"
AGAIN = "stillhouse.calls.again:asked_again"
CHANGES = "stillhouse.calls.again:check_changes"
TRACKER = "stillhouse.track.listener:attach"
VIEW = "stillhouse.track.progress:attach"


class Handle:
    """A run in the background: `wait()` gives its artifact or raises its error, `progress` tells how far it is."""

    def __init__(self, future: Future[Any], stop: threading.Event, watch: Watch) -> None:
        self._future, self._stop, self._watch = future, stop, watch
        future.add_done_callback(lambda _: watch.end())

    @property
    def done(self) -> bool:
        return self._future.done()

    @property
    def progress(self) -> Progress:
        """Steps done and under way, rows, speed, time to go, calls and money, as they are now; prints as a text."""
        status = "running"
        if self._future.done():
            status = "finished" if self._future.exception() is None else "failed"
        return self._watch.now(status)

    def wait(self, timeout: float | None = None) -> Any:
        """The artifact (or artifacts); raises `TimeoutError` after `timeout` seconds, or the error of the run."""
        return self._future.result(timeout)

    def stop(self) -> None:
        """Ask the run to stop at the next place from which it can go on."""
        self._stop.set()

    def __repr__(self) -> str:
        return f"<Handle {self.progress}>"

    def _repr_html_(self) -> str:
        return self.progress._repr_html_()


class Session:
    """A folder with a store, and the means to fill it: `session.run(step)` makes only what is missing.

    `endpoints` maps a provider or model name to an `Endpoint` (or its URL), `credentials` gives keys (default: the
    environment and `.env`), `budget` stops paid calls cleanly, `concurrency` bounds calls in flight for each model,
    `prices` adds to the price table, `patience` (`calls.retry.Patience`) bounds trying again, `batch` (True or
    `"wait"`) asks in batch jobs of the providers, `engine` maps rows elsewhere (`"ray"`, `"ray://host:10001"`),
    `on_event` sees every event. `options`, `endpoints`, `budget`, `prices` and `patience` are also taken as mappings of
    their fields, a budget as a number of dollars. None of these changes what a result is called.
    """

    def __init__(
        self,
        folder: str | Path = "out",
        *,
        options: Options | Mapping[str, Any] | None = None,
        endpoints: Mapping[str, Any] | None = None,
        credentials: Any = None,
        budget: Any = None,
        concurrency: int | Mapping[str, int] | None = None,
        prices: Mapping[str, Any] | None = None,
        patience: Any = None,
        batch: Any = None,
        engine: Any = None,
        on_event: Listener | None = None,
        progress: bool | None = None,
        track: bool = True,
    ) -> None:
        self.folder = Path(folder)
        self.options = Options.of(options)
        self.bus = Bus()
        self.store = Store(self.folder, warn=lambda message: self.bus.publish("warning", message=message))
        self.bus.subscribe(BillKeeper(self.store))
        self.names = Names(self.store)
        self.heavy = threading.Semaphore(self.options.heavy)
        told = {"endpoints": endpoints, "budget": budget, "concurrency": concurrency, "prices": prices}
        told |= {"patience": patience, "batch": batch}
        if any(each is not None for each in told.values()):
            told = _load(CALL_SETTINGS)(told)
        self._call_settings: dict[str, Any] = {**told, "credentials": credentials}
        self.prices: Mapping[str, Any] = told["prices"] or {}
        self.endpoints: Mapping[str, Any] = told["endpoints"] or {}
        self._live = False
        self.engine: Any = None if engine is None else _load(ENGINE)(engine)
        self._loop_thread: Any = None
        self._service: Any = None
        self._lock = threading.RLock()
        self._stops: set[threading.Event] = set()
        self._background = ThreadPoolExecutor(8, thread_name_prefix="stillhouse-run")
        if on_event is not None:
            self.bus.subscribe(on_event)
        self._closers: list[Callable[[], None]] = []
        if track:
            self._closers.append(_load(TRACKER)(self))
        if progress if progress is not None else sys.stderr.isatty():
            self._closers.append(_load(VIEW)(self))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop on which calls are made; it runs in a thread of its own."""
        with self._lock:
            if self._loop_thread is None:
                from .loop import LoopThread

                self._loop_thread = LoopThread()
            loop: asyncio.AbstractEventLoop = self._loop_thread.loop
            return loop

    @property
    def calls(self) -> Any:
        """The call service (`stillhouse.calls.service`): asks models, caches and counts. Opened when first used."""
        with self._lock:
            if self._service is None:
                self._service = _load(SERVICE)(self, **self._call_settings)
            return self._service

    @contextlib.contextmanager
    def asking_live(self) -> Iterator[None]:
        """Within this no batch jobs are used: a few rows first, to see what comes."""
        self._live = True
        try:
            yield
        finally:
            self._live = False

    def gathers(self, step: Step[Any]) -> bool:
        """Whether a step's questions go into batch jobs of a provider."""
        if self._live:
            return False
        batch = self._call_settings["batch"]
        if batch is None:
            pools = [pool if isinstance(pool, list | tuple) else [pool] for pool in self.endpoints.values()]
            batch = any(getattr(each, "batch", False) for pool in pools for each in pool)
        return bool(batch) and bool(self.calls.gathers(step))

    def count_calls(self, step: Step[Any], execution: Execution, expectation: Expectation) -> Expectation:
        """What a map step is expected to ask, counted by going through its rows."""
        found: Expectation = _load(COUNTING)(self, execution, step, expectation)
        return found

    def calls_for(self, build_key: str) -> Any:
        """The call service as one step sees it: what it asks stands on that step's bill."""
        return self.calls.scope(build_key)

    @property
    def counts_by_step(self) -> bool:
        """Whether the budget has a limit for each step."""
        return getattr(self._call_settings["budget"], "per_step", None) is not None

    def calls_again(self, build_key: str, attempt: int, changes: Mapping[str, Any], kinds: Any) -> Callable[[], Any]:
        """The same for rows that failed and are tried again, as the `attempt`-th time."""
        again: Callable[[], Any] = _load(AGAIN)(lambda: self.calls_for(build_key), attempt, changes, kinds)
        return again

    def bill(self, build_key: str) -> dict[str, Any]:
        """What a step's calls came to, for its record."""
        if self._service is None:
            return {}
        bill = self._service.bill(build_key)
        return {"calls": bill} if bill else {}

    @overload
    def run(self, step: Step[A], *, name: str | None = None) -> A: ...
    @overload
    def run(self, step: Sequence[Step[Any]], *, name: str | None = None) -> list[Artifact]: ...
    def run(self, step: Step[Any] | Sequence[Step[Any]], *, name: str | None = None) -> Any:
        """The artifact of `step` (or of each of several), made if it is missing.

        With `name` the (first) result can be found as `<folder>/<name>`. Raises what the steps raise; everything
        finished is kept, and the same call goes on from there. Rows that got no answer in an earlier run are asked
        again. Ctrl-C raises `Interrupted`.
        """
        return self._run(step, name, threading.Event())

    def start(self, step: Step[Any] | Sequence[Step[Any]], *, name: str | None = None) -> Handle:
        """The same in the background: returns at once, with a handle. Closing the session stops what still runs."""
        stop, watch = threading.Event(), Watch()
        return Handle(self._background.submit(self._run, step, name, stop, None, watch), stop, watch)

    def retry(
        self,
        step: Step[A],
        *,
        only: str | Sequence[str] = "failed",
        asking: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> A:
        """Make a result again where rows failed, asking about those rows alone; then what is made from it.

        `only` names kinds of failure (`cut`, `refused`, `invalid`, …; `failed` is all of them). Rows are asked anew
        even where a refusal or a cut reply was kept; all other rows are taken as they stand. `asking` changes fields of
        the `Ask` for these rows: `{"max_tokens": 4096}`. The result keeps its key, its record says what was retried.
        A killed retry goes on with the same call. Raises as `run` does, but not where the rows fail again.
        """
        changes = dict(asking or {})
        if changes:
            _load(CHANGES)(changes)
        made: A = self._run(step, name, threading.Event(), Retry.of(only, changes))
        return made

    def shard(self, step: Step[Any], index: int, of: int) -> list[Rows]:
        """Map the `index`-th of `of` shares (from 0) of each map step that can be mapped now; for `merge` to join.

        What comes before those steps is made too, or found. A step that looks at a whole table that is shared out is
        left to the merge, with a warning. Jobs may share a folder or have one each.
        """
        from ._feed import NotYet

        if not 0 <= index < of:
            raise RecipeError(f"there is no share {index} of {of}", "They are counted from 0.")
        execution = Execution(self)
        stage = stage_of(execution.missing([step]), execution.book)
        try:
            return self._run([shared(each, stage, index, of) for each in stage], None, threading.Event())  # type: ignore[no-any-return]
        except NotYet:
            return self._shard_by_step(stage, index, of)

    def _shard_by_step(self, stage: Sequence[MapStep], index: int, of: int) -> list[Rows]:
        from ._feed import NotYet

        made: list[Rows] = []
        left: list[MapStep] = []
        for each in stage:
            if each.rows in left:
                left.append(each)
                continue
            try:
                made += self._run([shared(each, stage, index, of)], None, threading.Event())
            except NotYet:
                left.append(each)
                name = each.tag.partition("/")[0]
                self.bus.publish("warning", message=f"`{name}` looks at all its rows: it is made after the merge")
        return made

    def merge(
        self,
        step: Step[A],
        of: int,
        *,
        folders: Sequence[str | Path] = (),
        name: str | None = None,
        rest: bool = True,
    ) -> A | None:
        """Join what `of` jobs made with `shard`, here or in session folders of their own, and make the rest.

        The result equals that of one machine, byte for byte. With `rest=False` it only joins, so that jobs can share
        out the map steps after the next whole step, and returns None. Raises `RecipeError` naming what is missing.
        """
        warn = self.store._warn
        join = Join(of, stores=stores_of(self.store, folders, warn))
        if rest:
            made: A = self._run(step, name, threading.Event(), join=join)
            return made
        execution = Execution(self)
        stage = stage_of(execution.missing([step]), execution.book)
        if stage:
            self._run(stage, None, threading.Event(), join=join)
        return None

    def to_retry(self, step: Step[Any], only: str | Sequence[str] = "failed") -> list[tuple[MapStep, int]]:
        """The steps behind a result that `retry` would make again, with the number of rows that it would ask about."""
        return Execution(self).to_retry([step], Retry.of(only))

    def _run(
        self,
        step: Step[Any] | Sequence[Step[Any]],
        name: str | None,
        stop: threading.Event,
        retry: Retry | None = None,
        watch: Watch | None = None,
        join: Join | None = None,
    ) -> Any:
        leave = None if watch is None else self.bus.subscribe(watch)
        try:
            with Lease(self.store) as lease:
                execution = Execution(self, stop, lease=lease, retry=retry, watch=watch, join=join)
                return self._executed(step, name, stop, execution)
        finally:
            if leave is not None:
                leave()

    def _executed(
        self, step: Step[Any] | Sequence[Step[Any]], name: str | None, stop: threading.Event, execution: Execution
    ) -> Any:
        several = isinstance(step, Sequence) and not isinstance(step, str)
        steps: Sequence[Step[Any]] = step if several else (step,)  # type: ignore[assignment]
        for each in steps:
            if not isinstance(each, Step):
                raise RecipeError(f"only steps can be run, not {each!r:.80}")
        if name is not None:
            checked_name(name)
        self._stops.add(stop)
        started = time.time()
        self.bus.publish("run.started", name=name, steps=[each.tag for each in steps])
        status = "failed"
        try:
            artifacts = execution.run(steps)
            status = "finished"
        except (Interrupted, Waiting):
            status = "interrupted"
            raise
        except KeyboardInterrupt:  # before or after the steps themselves, where it is met as it is
            status = "interrupted"
            raise Interrupted(*INTERRUPTED) from None
        finally:
            self._stops.discard(stop)
            self.bus.publish("run.finished", name=name, status=status, seconds=time.time() - started)
        if name is not None:
            source, _ = execution.source(steps[0])
            self.names.point(name, artifacts[0].key, execution.book.recipe(source))
        return artifacts if several else artifacts[0]

    def plan(self, step: Step[Any] | Sequence[Step[Any]]) -> Plan:
        """What `run` would do: what is cached, what will run and why, and what it may cost. Nothing is spent."""
        from .plan import make_plan

        return make_plan(self, (step,) if isinstance(step, Step) else tuple(step))

    def why(self, step: Step[Any]) -> list[Difference]:
        """The fields in which a step's definition differs from the nearest earlier one of its kind."""
        from .plan import nearest

        return nearest(Execution(self), step).differences

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the call loop from another thread."""
        import asyncio

        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        while True:
            try:
                return future.result(timeout=0.5)
            except FutureTimeout:
                if future.done():
                    raise
            except KeyboardInterrupt:
                future.cancel()
                raise

    def stop(self) -> None:
        """Ask everything that runs to stop where it can be taken up again."""
        for stop in list(self._stops):
            stop.set()

    def close(self) -> None:
        """End the background work and close the call service."""
        self.stop()
        self._background.shutdown(wait=True)
        if self.engine is not None:
            self.engine.close()
        with self._lock:
            if self._service is not None:
                self._service.close()
                self._service = None
            if self._loop_thread is not None:
                self._loop_thread.close()
                self._loop_thread = None
        for closer in self._closers:
            closer()
        self._closers = []

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _load(place: str) -> Any:
    """What a higher package gives the session, by name: the core imports nothing above it."""
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
