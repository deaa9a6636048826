"""Making what is missing: which steps must run, in which order, which at once, each under its lock."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .artifact import Artifact, Rows
from .bill import open_bill, summed_bill, whole_bill
from .context import Context
from .definition import define
from .errors import EXHAUSTED, Ended, Interrupted, RecipeError, StillhouseError, StoreError, Waiting
from .lease import Lease
from .progress import Watch
from .retry import Retry
from .shards import Join, Share, share_of, stage_of
from .step import GrowStep, KeyBook, MapStep, Output, Step
from .store import Known, Store, disk_error, disk_trouble
from .travel import packed

if TYPE_CHECKING:
    from ._chunks import Workers
    from ._feed import Feed, Flow
    from ._map import Whole
    from .session import Session

WAIT_SECONDS = 0.2
INTERRUPTED = ("interrupted; what was finished is kept", "Run the same command again: it goes on from here.")


class Execution:
    """One run of a graph of steps in a session.

    A result with unanswered rows that was finished before the run began counts as unfinished, and so does what was made
    from it: it is made again, which asks for those rows alone. `as_they_are` takes such results as finished.
    `retry` makes results anew where rows failed in the ways that it means; `join` joins what array jobs made.
    """

    def __init__(
        self,
        session: Session,
        stop: threading.Event | None = None,
        *,
        as_they_are: bool = False,
        lease: Lease | None = None,
        retry: Retry | None = None,
        watch: Watch | None = None,
        join: Join | None = None,
    ) -> None:
        self.session = session
        self.store: Store = session.store
        self.book = KeyBook()
        self.stop = stop or threading.Event()
        self._began = time.time()
        self._as_they_are = as_they_are or (retry is not None and retry.leaves_unanswered)
        self._lease = lease
        self._retry = retry
        self._retried: set[str] = set()
        self._watch = watch or Watch()
        self._join = join
        self._feeds: dict[str, Feed] = {}
        self._flows: dict[str, Flow | None] = {}
        self._lock = threading.Lock()
        self._made: dict[str, Artifact] = {}
        self._consistent: dict[str, bool] = {}

    def source(self, step: Step[Any]) -> tuple[Step[Any], str | None]:
        """The step that is built for `step`, and which of its outputs is meant."""
        return (step.of, step.name) if isinstance(step, Output) else (step, None)

    def cached(self, step: Step[Any]) -> Artifact | None:
        """The finished artifact of a step's present definition, if the store has it and nothing under it changed."""
        step, output = self.source(step)
        key = self.book.recipe(step)
        if key not in self._made:
            known = self.store.recall(key)
            if known is None or not self.consistent(key):
                return None
            self._use(known.build_key)
            artifact = self.store.open(known.build_key)
            if artifact is None:
                return None
            self._made[key] = artifact
        made = self._made[key]
        return made if output is None else self.store.output(made, output)

    def _use(self, build_key: str) -> None:
        if self._lease is not None and self.store.has(build_key):
            self._lease.add(build_key)

    def consistent(self, key: str) -> bool:
        """Whether a recipe's result is final and its inputs still are what their recipes lead to, all the way up."""
        if key not in self._consistent:
            entry = self.store.entry(key)
            self._consistent[key] = (
                entry is not None
                and key not in self._retried
                and (self._as_they_are or not entry.get("unanswered"))
                and all(self._same(*fields) for fields in entry["inputs"])
            )
        return self._consistent[key]

    def _same(self, key: str, output: str | None, digest: str) -> bool:
        known = self.store.recall(key)
        return known is not None and known.digest_of(output) == digest and self.consistent(key)

    def missing(self, steps: Sequence[Step[Any]]) -> list[Step[Any]]:
        """The steps that have to be built for `steps`, inputs first; what only cached steps need is not looked at.

        Raises `RecipeError` for a step that runs in a process of its own and cannot get there.
        """
        order: dict[str, Step[Any]] = {}
        seen: set[str] = set()

        def visit(step: Step[Any]) -> None:
            step, _ = self.source(step)
            key = self.book.recipe(step)
            if key in seen:
                return
            seen.add(key)
            if self.cached(step) is not None:
                return
            for child in step.inputs():
                visit(child)
            if step.isolated:
                packed(step, self.book)
            order[key] = step

        for step in steps:
            visit(step)
        return list(order.values())

    def to_retry(self, steps: Sequence[Step[Any]], retry: Retry) -> list[tuple[MapStep, int]]:
        """The map steps behind `steps` of which rows failed in the ways that are meant, with how many."""
        looking = Execution(self.session, as_they_are=True)
        found: list[tuple[MapStep, int]] = []
        for step in graph(steps, self.book):
            artifact = looking.cached(step) if isinstance(step, MapStep) else None
            number = 0 if artifact is None else retry.num_rows(artifact)
            if number:
                assert isinstance(step, MapStep)
                found.append((step, number))
        return found

    def run(self, steps: Sequence[Step[Any]]) -> list[Artifact]:
        """The artifacts of `steps`; builds what is missing, independent branches at the same time."""
        if self._retry is not None:
            self._retried = {self.book.recipe(step) for step, _ in self.to_retry(steps, self._retry)}
        missing = self.missing(steps)
        todo = {self.book.recipe(step): step for step in missing}
        if self._join is not None:
            self._join.stage = stage_of(missing, self.book)
        for step in steps:
            source, _ = self.source(step)
            if self.book.recipe(source) not in todo:
                self.session.bus.publish("step.cached", key=self._made[self.book.recipe(source)].key, tag=source.tag)
        needs = {
            key: {self.book.recipe(self.source(child)[0]) for child in step.inputs()} & set(todo)
            for key, step in todo.items()
        }
        self._watch.steps_total = len(todo)
        if todo:
            self._run_graph(todo, needs)
        return [self.artifact(step) for step in steps]

    def artifact(self, step: Step[Any]) -> Artifact:
        """The artifact of a step that this run built or found."""
        source, output = self.source(step)
        made = self._made[self.book.recipe(source)]
        return made if output is None else self.store.output(made, output)

    def _run_graph(self, todo: Mapping[str, Step[Any]], needs: Mapping[str, set[str]]) -> None:
        waiting = dict(todo)
        running: dict[Future[Artifact], str] = {}
        early: set[str] = set()
        first_error: BaseException | None = None
        waited: Waiting | None = None
        workers = self.session.options.workers
        for step in todo.values():
            if isinstance(step, MapStep) and workers > 1 and self._may_take(step) and needs[self.book.recipe(step)]:
                self._feed(self.book.recipe(step.rows)).wanted = True
        with (
            ThreadPoolExecutor(workers, thread_name_prefix="stillhouse-step") as pool,
            ThreadPoolExecutor(workers, thread_name_prefix="stillhouse-ahead") as ahead_pool,
        ):
            while waiting or running:
                if first_error is None:
                    for key in [key for key in waiting if needs[key] <= set(self._made)]:
                        running[pool.submit(self._build, waiting.pop(key))] = key
                    for key, step in list(waiting.items()):
                        if (
                            isinstance(step, MapStep)
                            and len(early & set(running.values())) < workers - 1
                            and self._may_begin(step, needs[key], running)
                        ):
                            running[ahead_pool.submit(self._build_ahead, step)] = key
                            early.add(key)
                            del waiting[key]
                if not running:
                    break
                try:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    self.stop.set()
                    first_error = first_error or Interrupted(*INTERRUPTED)
                    continue
                for future in done:
                    key = running.pop(future)
                    error = future.exception()
                    if error is None:
                        self._made[key] = future.result()
                    elif isinstance(error, Waiting):  # the others may go on, and wait at the same time
                        waited = waited or error
                    elif isinstance(error, Ended):
                        pass
                    elif first_error is None or (
                        isinstance(first_error, Interrupted) and not isinstance(error, Interrupted)
                    ):
                        first_error = error
                        self.stop.set()
                        if isinstance(error, RecipeError):
                            error.step = todo[key].structure
                    made = self._made.get(key)
                    self._feed(key).finish(made if isinstance(made, Rows) else None)
        stopped = first_error or waited
        if stopped is not None:
            raise stopped

    def _feed(self, key: str) -> Feed:
        """What a step has made so far, for those that take it."""
        from ._feed import Feed

        with self._lock:
            return self._feeds.setdefault(key, Feed())

    def _may_take(self, step: MapStep) -> bool:
        """Whether a step may take rows of a step that still runs.

        Not where its recipe was finished before: the rows may come out as they were, and it would have worked for
        nothing.
        """
        ahead = self.session.options.ahead and isinstance(step.rows, MapStep) and self._join is None
        if self.session.counts_by_step:  # what is asked ahead would stand under another key
            return False
        return ahead and self.store.entry(self.book.recipe(step)) is None

    def _may_begin(self, step: MapStep, needs: set[str], running: Mapping[Future[Artifact], str]) -> bool:
        """Whether the step whose rows it takes runs, and all else that it needs is there."""
        before = self.book.recipe(step.rows)
        others = {self.book.recipe(self.source(child)[0]) for child in step.inputs() if child != step.rows}
        return (
            before in running.values()
            and before not in others
            and needs - {before} <= set(self._made)
            and self._may_take(step)
            and not self.session.gathers(step)  # it asks all at once, or nothing
        )

    def _build_ahead(self, step: MapStep) -> Artifact:
        """Map rows as the step before makes them; once it is finished, build on what was mapped."""
        from ._ahead import forget, map_ahead

        before = self.book.recipe(step.rows)
        self._watch.keys.add(self.book.recipe(step))
        feed = self._feed(before)
        others = {self.book.recipe(child): self.artifact(child) for child in step.inputs() if child != step.rows}

        def make_context(inputs: Mapping[str, Artifact], key: str, work: Path) -> Context:
            return self._context(step, key, work, inputs)

        self._flows[self.book.recipe(step)] = map_ahead(
            step,
            before,
            self.book.recipe(step),
            feed=feed,
            own_feed=self._feed(self.book.recipe(step)),
            inputs=others,
            make_context=make_context,
            make_workers=lambda context: self._workers(step, context),
            session=self.session,
            stop=self.stop,
        )
        while not feed.over:
            feed.wait(WAIT_SECONDS, len(feed.parts))
        if feed.made is None:
            raise Ended
        made = self._build(step)
        forget(self.book.recipe(step), self.store)
        return made

    def _build(self, step: Step[Any]) -> Artifact:
        inputs = [(child, self.artifact(child)) for child in step.inputs()]
        digests = {self.book.recipe(child): artifact.digest for child, artifact in inputs}
        build_key = self.book.build(step, lambda child: digests[self.book.recipe(child)])
        recipe_key = self.book.recipe(step)
        with self._locked(step, build_key) as lock:
            self._use(build_key)
            self._watch.keys.update((build_key, recipe_key))
            found = self.store.open(build_key) or self.store.recover(build_key)
            again = found is not None and self._again(found, recipe_key)
            if found is not None and not again:
                self.session.bus.publish("step.cached", key=build_key, tag=step.tag, recipe_key=recipe_key)
            else:
                found = self._make(step, build_key, dict(inputs), lock, earlier=found)
            self._remember(step, recipe_key, found, inputs)
        return found

    def _again(self, found: Artifact, recipe_key: str) -> bool:
        """Whether what stands there is made again: rows of it are retried, or got no answer in an earlier run."""
        if found.record["finished"] >= self._began:
            return False
        return recipe_key in self._retried or (found.unanswered > 0 and not self._as_they_are)

    def _remember(
        self, step: Step[Any], recipe_key: str, artifact: Artifact, inputs: Sequence[tuple[Step[Any], Artifact]]
    ) -> None:
        outputs = {name: entry["digest"] for name, entry in artifact.record.get("outputs", {}).items()}
        known = Known(artifact.key, artifact.digest, outputs)
        listed = []
        for child, made in inputs:
            source, output = self.source(child)
            listed.append([self.book.recipe(source), output, made.digest])
        fields = {"tag": step.tag, "inputs": listed, "definition": define(step, self.book), "time": time.time()}
        if artifact.unanswered:
            fields["unanswered"] = artifact.unanswered
        self.store.remember(recipe_key, known, fields)

    @contextlib.contextmanager
    def _locked(self, step: Step[Any], build_key: str) -> Iterator[int]:
        """Only one process builds a key; another waits, says so, and then finds the result. Gives the lock's file."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.store.work / f"{build_key}.lock")
        told = False
        while True:
            try:
                lock.acquire(timeout=0 if not told else WAIT_SECONDS)
                break
            except Timeout:
                if not told:
                    message = f"another session is making `{step.tag}` ({build_key[:8]}); waiting for it"
                    self.session.bus.publish("step.waiting", key=build_key, tag=step.tag, message=message)
                    told = True
                if self.stop.is_set():
                    raise Interrupted("stopped while waiting for another session") from None
            except OSError as error:
                raise disk_error(error, self.store.work) from error
        try:
            yield lock._context.lock_file_fd or -1
        finally:
            lock.release()

    def _make(
        self,
        step: Step[Any],
        build_key: str,
        inputs: Mapping[Step[Any], Artifact],
        lock: int,
        *,
        earlier: Artifact | None,
    ) -> Artifact:
        """Make the result; `earlier` is the one whose place it takes."""
        bus = self.session.bus
        work = self.store.work_folder(build_key)
        started, cpu = time.time(), time.process_time()
        bus.publish("step.started", key=build_key, tag=step.tag, recipe_key=self.book.recipe(step))
        try:
            shutil.rmtree(work / "result", ignore_errors=True)
            shutil.rmtree(work / "parts", ignore_errors=True)
            context = self._context(
                step, build_key, work, {self.book.recipe(child): artifact for child, artifact in inputs.items()}
            )
            self.session.bill(build_key)  # that of an earlier attempt in this session: it is written down
            open_bill(work)
            self.store.begin_work(build_key, [artifact.key for artifact in inputs.values()])
            made = self._perform(step, context, work, inputs, lock, earlier)
            record = self._record(step, build_key, inputs, context, made)
            record |= {"started": started, "finished": time.time(), "cpu_seconds": round(time.process_time() - cpu, 3)}
            record |= whole_bill(self.session.bill(build_key), work)
            if earlier is not None and "retries" in record:
                record |= summed_bill([earlier.record, record])
            if self._lease is not None:
                self._lease.add(build_key)
            artifact = self.store.finish(build_key, work / "result", record, replace=earlier is not None)
        except BaseException as error:
            _tidy(work)
            bus.publish("step.failed", key=build_key, tag=step.tag, error=type(error).__name__, message=str(error))
            trouble = None if isinstance(error, StillhouseError) else disk_trouble(error, work)
            if trouble is not None:
                raise trouble from error
            raise
        shutil.rmtree(work, ignore_errors=True)
        counts = artifact.record.get("counts", {})
        bus.publish(
            "step.finished",
            key=build_key,
            tag=step.tag,
            seconds=record["finished"] - started,
            counts=counts,
            facts=context.facts,
        )
        return artifact

    def _context(self, step: Step[Any], build_key: str, work: Path, inputs: Mapping[str, Artifact]) -> Context:
        try:
            return Context(
                step=step,
                build_key=build_key,
                work=work,
                inputs=inputs,
                options=self.session.options,
                bus=self.session.bus,
                stop=self.stop,
                calls=lambda: self.session.calls_for(build_key),
                book=self.book,
                wait=self.session.wait_for,
            )
        except OSError as error:
            raise disk_error(error, work) from error

    def _perform(
        self,
        step: Step[Any],
        context: Context,
        work: Path,
        inputs: Mapping[Step[Any], Artifact],
        lock: int,
        earlier: Artifact | None,
    ) -> dict[str, Any]:
        """Run the step in its shape; what it returns goes into the record."""
        retry = self._retry_of(step, earlier)
        if retry is not None and isinstance(step, MapStep) and isinstance(earlier, Rows):
            from ._retry import run_retry

            def calls_again(attempt: int, changes: Mapping[str, Any], kinds: Any) -> Callable[[], Any]:
                return self.session.calls_again(context.build_key, attempt, changes, kinds)

            seen, whole = self._seen(step, context), self._whole(step)
            return run_retry(step, context, self.session.loop, earlier, retry, calls_again, seen=seen, whole=whole)
        if isinstance(step, MapStep):
            from ._ahead import take_up
            from ._map import run_map

            digests = {self.book.recipe(child): artifact.digest for child, artifact in inputs.items()}
            parts = (
                None if self._join is None else self._join.parts_of(step, context.get(step.rows), digests, self.book)
            )
            if parts is not None:
                from ._join import run_join

                return run_join(step, context, parts)

            if self.session.gathers(step):
                from ._gather import gather

                rows = context.get(step.rows)
                gather(step, self._seen(step, context), self.session.loop, rows, self._whole(step))
            recipe_key = self.book.recipe(step)
            feed = self._feed(recipe_key)
            worked = take_up(recipe_key, self._flows.get(recipe_key), context, work, feed, self.session)
            return run_map(
                step,
                context,
                self.session.loop,
                workers=self._workers(step, context),
                feed=feed,
                worked=worked,
                part=share_of(step) is not None,
                whole=self._whole(step),
            )
        if isinstance(step, GrowStep):
            from ._grow import run_grow

            return self.session.wait_for(run_grow(step, context))
        if step.isolated:
            from .child import run_in_child

            places = {}
            for child, artifact in inputs.items():
                places[self.book.recipe(child)] = (str(artifact.folder.resolve()), self.source(child)[1])
            with self.session.heavy:
                context.facts.update(run_in_child(context, work, places, self.session.bus, lock))
        else:
            step.run(context)
        return self._collected(step, context)

    def _whole(self, step: MapStep) -> Whole | None:
        """The table that the rows of a step are a share of; None where they are all of theirs.

        What follows in a chain of shares does not know the rows of the others: a merge looks whether that matters.
        """
        share = step.rows
        if not isinstance(share, Share):
            return None
        from ._map import Whole

        whole = Execution(self.session, as_they_are=True).cached(share.rows)
        return Whole(whole, len(whole) * share.index // share.of) if isinstance(whole, Rows) else None

    def _seen(self, step: MapStep, context: Context) -> Context:
        """The context that a mapper is made with, whoever maps.

        A mapper over a share sees the whole table that the share is of, as on one machine; where that is made of
        shares itself, it sees its columns.
        """
        share = share_of(step)
        if share is None or self.book.recipe(step.rows) not in context.inputs:
            return context
        from ._feed import SomeRows

        whole = Execution(self.session, as_they_are=True).cached(share.rows) if step.rows is share else None
        return context.with_input(self.book.recipe(step.rows), whole or SomeRows(context.get(step.rows).schema))

    def _workers(self, step: MapStep, context: Context) -> Workers:
        """Who maps a step."""
        from ._chunks import Here

        context = self._seen(step, context)
        engine = self.session.engine
        if engine is not None:
            try:
                found: Workers = engine.workers(step, context, self.session.loop)
                return found
            except RecipeError as error:
                if "runs in a process of its own" not in error.message:
                    raise
                context.warn(f"{error.message}; it is mapped on this machine")
        return Here(step, context, self.session.loop)

    def _retry_of(self, step: Step[Any], earlier: Artifact | None) -> Retry | None:
        """What is to be tried again of the earlier result; None where the step runs from its beginning.

        Where rows were mended by a retry before, a run that asks for those without an answer must leave them so.
        """
        if earlier is None:
            return None
        if self.book.recipe(step) in self._retried:
            return self._retry
        return Retry(frozenset({EXHAUSTED})) if earlier.record.get("retries") else None

    def _collected(self, step: Step[Any], context: Context) -> dict[str, Any]:
        """What a whole step made: the counts and digests of its writers."""
        unclosed = [name for name, writer in context.writers.items() if not writer.digest]
        for name in unclosed:
            context.writers[name].close()
        if step.outputs:
            for name in step.outputs:
                if name not in context.writers:
                    context.rows(name).close()
            outputs: dict[str, dict[str, Any]] = {}
            for name in step.outputs:
                outputs[name] = {**context.writers[name].counts, "digest": context.writers[name].digest}
            totals = {key: sum(entry[key] for entry in outputs.values()) for key in ("out", "dropped", "failed")}
            return {"outputs": outputs, "counts": totals, "digest": ""}
        if None in context.writers:
            return {"counts": dict(context.writers[None].counts), "digest": context.writers[None].digest}
        if type(step).makes().kind == "Rows":
            raise StoreError(
                f"`{type(step).__name__}` finished without writing rows", "Open `context.rows()`, even for none."
            )
        context.folder.mkdir(parents=True, exist_ok=True)
        return {"digest": context.digest} if context.digest else {}

    def _record(
        self,
        step: Step[Any],
        build_key: str,
        inputs: Mapping[Step[Any], Artifact],
        context: Context,
        made: Mapping[str, Any],
    ) -> dict[str, Any]:
        return {
            "kind": type(step).makes().kind,
            "tag": step.tag,
            "build_key": build_key,
            "recipe_key": self.book.recipe(step),
            "definition": define(step, self.book),
            "inputs": [
                {
                    "build_key": artifact.key,
                    "output": self.source(child)[1],
                    "digest": artifact.digest,
                    "tag": self.source(child)[0].tag,
                }
                for child, artifact in inputs.items()
            ],
            "facts": context.facts,
            "options": self.session.options.model_dump(),
            "environment": environment(),
            **made,
        }


def graph(steps: Sequence[Step[Any]], book: KeyBook) -> Iterator[Step[Any]]:
    """All steps behind `steps` and they themselves, inputs first, each once; outputs of a step as the step."""
    seen: set[str] = set()

    def visit(step: Step[Any]) -> Iterator[Step[Any]]:
        step = step.of if isinstance(step, Output) else step
        key = book.recipe(step)
        if key in seen:
            return
        seen.add(key)
        for child in step.inputs():
            yield from visit(child)
        yield step

    for step in steps:
        yield from visit(step)


def _tidy(work: Path) -> None:
    """Take away what the next attempt would: a full disk needs the room. What was journaled stays."""
    shutil.rmtree(work / "result", ignore_errors=True)
    shutil.rmtree(work / "parts", ignore_errors=True)
    with contextlib.suppress(OSError):  # not empty: there is something to take up again
        (work / "scratch").rmdir()
        if [path.name for path in work.iterdir()] == ["inputs.json"]:
            (work / "inputs.json").unlink()
        work.rmdir()


@cache
def environment() -> dict[str, Any]:
    """Versions, machine and the state of the working folder's git, for records."""
    from importlib import metadata

    versions = {"python": platform.python_version()}
    for name in ("stillhouse", "pyarrow", "numpy", "torch", "transformers", "tokenizers", "peft"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "git": _git(),
    }


def _git() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
