"""The call service: what a session offers to steps that ask models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.events import Bus
from stillhouse.core.found import Found
from stillhouse.core.options import Options
from stillhouse.core.sent import all_sent
from stillhouse.text.schema import Schema

from .answer import Answer, Outcome
from .ask import Ask, ask_of
from .batch.settings import Batching, BatchOption, batching
from .board import Board, count_outcomes, not_json
from .budget import Budget, Purse
from .cache import CallCache
from .credentials import Credentials
from .deployment import Concurrency, Deployment, Deployments, Endpoints
from .endpoint import Endpoint
from .engine import Engine, Errand, Faults
from .instant import Instant
from .ledger import Ledger, Totals
from .prices import Price, Prices
from .repair import Case
from .request import Message, Prompt, RequestForm, Tool, prompts_of
from .retry import Patience
from .slots import Slots

if TYPE_CHECKING:
    from stillhouse.core.artifact import Model
    from stillhouse.core.session import Session
    from stillhouse.core.step import Step

    from .batch.batcher import Batcher, Gathering
    from .batch.jobs import Jobs
    from .counting import Counting
    from .embedder import Embedder, Role
    from .embedding import Floats, Vectors

_SLICE = 1024
_DRAIN_SECONDS = 30.0
"""How long what is asked in this process is waited for at the end."""
FOLDER = "calls-v1"
JOBS = "batches.sqlite"


class Calls:
    """Asking models, on one bill: a step's own, or the whole session's."""

    def __init__(self, engine: Engine, deployments: Deployments, ledger: Ledger) -> None:
        self._engine = engine
        self._deployments = deployments
        self.ledger = ledger
        self._faults: Faults | None = None
        self._gathering: Gathering | None = None
        self.counting: Counting | None = None
        """Where nobody is asked: what would be."""

    async def ask(
        self, by: Ask | str, messages: str | Sequence[Message], *, schema: Schema | None = None, sample: int = 0
    ) -> Answer:
        """One answer; raises `RowFault` where this question gets none, `ModelError` or `BudgetError` where none do.

        `by` may be the name of a model.
        """
        by = ask_of(by)
        deployment, form = self._deployments.plan(by, schema)
        if self.counting is not None or self._gathering is not None or self._in_jobs(deployment):
            (outcome,) = await self.ask_many(by, [Prompt(messages, schema, sample)])
            if isinstance(outcome, RowFault):
                raise outcome
            return outcome
        deployment.begin()
        deployment.warn_if_unpriced(self.ledger.warn)
        try:
            case = Case(form, form.request(messages, sample), deployment.price)
        except orjson.JSONEncodeError as error:
            raise not_json(error) from None

        async def work(errand: Errand[Outcome]) -> Outcome:
            return await self._engine.settle(deployment, case, self.ledger, errand, faults=self._faults)

        outcome = await self._engine.start(work).outcome()
        count_outcomes(self.ledger, deployment.name, [outcome])
        if isinstance(outcome, RowFault):
            raise outcome
        return outcome

    async def ask_many(self, by: Ask | str, prompts: Sequence[Prompt | str]) -> list[Outcome]:
        """An answer or a `RowFault` for each prompt, in order. A text is a prompt of one message.

        All keys are looked up in bulk, equal prompts are asked once, and every slot of the deployment is kept busy.
        Raises `ModelError` or `BudgetError` as `ask` does, after the calls on the wire have come home and been kept.
        """
        by, asked = ask_of(by), prompts_of(prompts)
        deployment, _ = self._deployments.plan(by, None)
        if self._gathering is not None:
            return await self._ask_many(by, deployment, asked, self._gathering)
        batcher = self._engine.batcher
        while batcher is not None and self.counting is None and self._in_jobs(deployment):
            gathering = await batcher.begin(self.ledger)
            outcomes = await self._ask_many(by, deployment, asked, gathering)
            if not gathering.pending:
                batcher.done(gathering)
                return outcomes
            await batcher.settle(gathering)
        return await self._ask_many(by, deployment, asked, None)

    def _in_jobs(self, deployment: Deployment) -> bool:
        """Whether what is asked here, by no map step, goes into batch jobs."""
        batcher = self._engine.batcher
        return batcher is not None and not self.ledger.step and batcher.takes(deployment)

    async def _ask_many(
        self, by: Ask, deployment: Deployment, prompts: Sequence[Prompt], gathering: Gathering | None
    ) -> list[Outcome]:
        batcher = self._engine.batcher
        if batcher is None or not batcher.takes(deployment):
            gathering = None
        counting = self.counting

        def form_of(schema: Schema | None, tools: tuple[Tool, ...]) -> RequestForm:
            return self._deployments.plan(by, schema, tools)[1]

        deployment.begin()
        ledger = self.ledger if gathering is None else gathering.ledger
        if counting is not None:
            board = Board(self._engine, deployment, ledger, len(prompts), self._faults)
            return counting.take(board, board.begin(prompts, form_of, 0), len(prompts))
        board = Board(self._engine, deployment, ledger, len(prompts), self._faults)
        slots = Slots(board)
        try:
            for start in range(0, len(prompts), _SLICE):
                missing = board.begin(prompts[start : start + _SLICE], form_of, start)
                if missing:
                    deployment.warn_if_unpriced(ledger.warn)
                if missing and gathering is not None and batcher is not None:
                    missing = batcher.register(board, missing, gathering)
                provider = deployment.in_process if missing else None
                if provider is not None:
                    missing = await Instant(board, provider).answer(missing)
                for item in missing:
                    await slots.send(item)
                await asyncio.sleep(0)  # a long list from the cache must not keep the loop to itself
            all_sent()
            await slots.finish()
        except BaseException:
            slots.give_up()
            raise
        return board.complete()

    # A map step whose questions go into batch jobs is gone through to learn them (`core._gather`).

    async def begin_gathering(self) -> None:
        """What is asked from here on is gathered; first, what came of earlier jobs is collected."""
        assert self._engine.batcher is not None
        self._gathering = await self._engine.batcher.begin(self.ledger)

    async def end_gathering(self) -> Gathering:
        """What was gathered; where nothing of it is waited for, its faults are known to the run."""
        assert self._engine.batcher is not None
        assert self._gathering is not None
        gathering, self._gathering = self._gathering, None
        if not gathering.pending:
            if self._faults is not None:
                self._faults.update(gathering.faults)
            self._engine.batcher.done(gathering)
        return gathering

    async def settle_gathered(self, gathering: Gathering) -> None:
        """Send it, and wait or raise `Waiting`."""
        assert self._engine.batcher is not None
        await self._engine.batcher.settle(gathering)

    async def embed(self, by: Embedder, texts: Sequence[str], role: Role = "document") -> Floats:
        """The vectors of `texts`: float32, one row each; raises `RowFault` where one of them can have none."""
        found = await self.vectors(by, texts, role)
        for _, fault in sorted(found.faults.items()):
            raise fault
        return found.array

    async def vectors(self, by: Embedder, texts: Sequence[str], role: Role = "document") -> Vectors:
        """The same with a fault for each text that can have no vector, and the calls behind the others.

        What is kept is looked up; the rest is asked in batches that are in flight together.
        """
        from .embed import vectors_of  # numpy enters there

        return await vectors_of(self._engine, self._deployments, self.ledger, by, texts, role)

    def spent(self) -> dict[str, Any]:
        """Totals in all and by model, as JSON values; empty when nothing was asked."""
        models = self._by_model()
        if not models:
            return {}
        total = Totals()
        for totals in models.values():
            total.add(totals)
        return {"total": total.as_dict(), "models": {name: totals.as_dict() for name, totals in models.items()}}

    def _by_model(self) -> dict[str, Totals]:
        return self.ledger.by_model()


class CallService(Calls):
    """The calls of a session: cache in `folder`, providers, slots, budget and ledger. Lives on one event loop.

    `endpoints`: servers by deployment id, name or URL. `concurrency`: calls at once for each deployment, or by name.
    `model_path`: the folder of the model that a step made. Two processes may use one folder at the same time. `loop` is
    the event loop it lives on, where `bill` and `close` are called from other threads.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bus: Bus,
        endpoints: Endpoints | None = None,
        credentials: Credentials | None = None,
        budget: Budget | float | None = None,
        concurrency: Concurrency = None,
        prices: Prices | None = None,
        model_path: Callable[[Step[Model]], Path] | None = None,
        options: Options | None = None,
        patience: Patience | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        batch: BatchOption = None,
        after: Callable[[], None] | None = None,
        work_of: Callable[[str], Path] | None = None,
    ) -> None:
        limit = budget if isinstance(budget, Budget) else Budget(usd=budget)
        credentials = credentials or Credentials.from_environment()
        self.cache = CallCache(folder, bus=bus)
        self.purse = Purse(limit, self.cache, lambda message: bus.publish("warning", message=message))
        deployments = Deployments(
            endpoints=endpoints or {},
            credentials=credentials,
            concurrency=concurrency,
            prices={name: Price(*price) for name, price in (prices or {}).items()},
            model_path=model_path or _no_models,
            options=options or Options(),
            patience=patience,
            folder=folder,
            bus=bus,
        )
        reads_only = options is not None and options.cache_only
        engine = Engine(self.cache, self.purse, patience or Patience(), cache_only=reads_only)
        engine.found = Found(work_of)
        super().__init__(engine, deployments, Ledger(bus))
        self._bus = bus
        self._after = after
        self._scopes: dict[str, Calls] = {}
        self._live_jobs: Jobs | None = None
        self._loop = loop

        if not reads_only:
            self._open_jobs(folder, batch, endpoints or {}, credentials, patience or Patience())

    def _open_jobs(
        self, folder: Path, option: BatchOption, endpoints: Endpoints, credentials: Credentials, patience: Patience
    ) -> None:
        """Batch jobs, where they are used; where not, say that what is under way would be paid for twice."""
        chosen = batching(option)
        if chosen is not None or (option is not False and _any_in_jobs(endpoints)):
            from .batch.batcher import Batcher

            self._engine.batcher = Batcher(
                folder,
                chosen or Batching(),
                everywhere=chosen is not None,
                cache=self.cache,
                purse=self.purse,
                patience=patience,
                credentials=credentials,
                bus=self._bus,
                ledger_of=lambda step: self.scope(step).ledger if step else self.ledger,
            )
        elif (folder / JOBS).exists():
            from .batch.jobs import Jobs

            jobs = self._live_jobs = Jobs(folder)
            self.purse.owing = jobs.owing_usd
            number = sum(job.num for job in jobs.jobs(only_open=True))
            if number:
                message = (
                    f"batch jobs with {number:,} requests are under way: what is asked live meanwhile is paid for "
                    "twice; `--batch` collects them, `stillhouse batches` shows and cancels them"
                )
                self._bus.publish("warning", message=message)

    # For plans (`counting.py`).

    def for_counting(self) -> Calls:
        """A service that asks nobody and counts what it would ask; its ledger is read by nobody."""
        from .counting import Counting

        calls = Calls(self._engine, self._deployments, Ledger(Bus(), key="plan"))
        calls.counting = Counting(self._engine.batcher)
        return calls

    def may_be_counted(self, step: Step[Any]) -> bool:
        """Whether a step asks models, and its rows can be gone through without loading or paying anything."""
        from stillhouse.core.node import children
        from stillhouse.core.step import Step as AnyStep

        from .embedder import Embedder

        def embeds(node: Any) -> bool:
            return any(
                isinstance(child, Embedder) or (not isinstance(child, AnyStep) and embeds(child))
                for child in children(node)
            )

        return any(True for _ in _asks(step)) and not embeds(step)

    def in_jobs(self, deployment: Deployment) -> bool:
        """Whether a map step asks this deployment in batch jobs."""
        return self._engine.batcher is not None and self._engine.batcher.takes(deployment)

    def expected_seconds(self, deployment: Deployment, calls: int, tokens: int) -> float | None:
        """How long calls will take at the limits that are known; None where nothing was asked there yet."""
        if not calls:
            return 0.0
        each = self.cache.mean_seconds(deployment.name)
        if each is None:
            return None
        gate = deployment.gate
        found = [calls * each / max(1, gate.limit)]
        places = [source.endpoint for source in gate.sources if source.endpoint is not None]
        if places and all(place.rpm for place in places):
            found.append(60.0 * calls / sum(place.rpm or 0.0 for place in places))
        if places and all(place.tpm for place in places):
            found.append(60.0 * tokens / sum(place.tpm or 0.0 for place in places))
        return max(found)

    @property
    def batcher(self) -> Batcher:
        """The batch jobs of a service that was opened with them."""
        assert self._engine.batcher is not None
        return self._engine.batcher

    def gathers(self, step: Step[Any]) -> bool:
        """Whether a step asks models whose calls go into batch jobs."""
        batcher = self._engine.batcher
        if batcher is None:
            return False
        taken = [batcher.takes(self._deployments.of(by)) for by in _asks(step)]  # of each, it learns the headers so
        return any(taken)

    def scope(self, key: str) -> Calls:
        """The service as the step with this key sees it: what it asks stands on that step's bill, and in its events."""
        if key not in self._scopes:
            ledger = Ledger(self._bus, self.ledger, key=key)
            scope = self._scopes[key] = Calls(self._engine, self._deployments, ledger)
            scope._faults = {}
        return self._scopes[key]

    def _by_model(self) -> dict[str, Totals]:
        return self.ledger.by_model([scope.ledger for scope in list(self._scopes.values())])

    def bill(self, key: str) -> dict[str, Any]:
        """What the step with this key spent, once it is over; its events are out when this returns."""
        scope = self._scopes.pop(key, None)
        self._engine.found.forget(key)
        if scope is None:
            return {}
        self._on_loop(_as_coroutine(scope.ledger.flush))
        return scope.spent()

    def close(self) -> None:
        """`aclose` from another thread than the loop's; Ctrl-C meanwhile gives up what is on the wire."""
        self._on_loop(self.aclose())

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None or not self._loop.is_running():
            asyncio.run(work)
            return
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result()
        except KeyboardInterrupt:
            self._loop.call_soon_threadsafe(self._engine.let_go)
            future.result()
            raise

    async def aclose(self) -> None:
        """Let calls on the wire come home, as long as their endpoints allow them, then close providers and cache."""
        seconds = max(_DRAIN_SECONDS, self._deployments.longest_call)
        await self._engine.drain(seconds, lambda message: self._bus.publish("warning", message=message))
        if self._engine.batcher is not None:
            await self._engine.batcher.close()
        await self._deployments.close()
        for scope in self._scopes.values():
            scope.ledger.flush()
        self.ledger.flush()
        self._engine.found.close()
        self.cache.close()
        if self._live_jobs is not None:
            self._live_jobs.close()
        if self._after is not None:
            self._after()


def open_service(session: Session, **settings: Any) -> CallService:
    """The call service of a session; `settings` are what `Session(...)` was given for calls, None where it was not."""
    return CallService(
        session.store.folder / FOLDER,
        bus=session.bus,
        options=session.options,
        model_path=lambda step: _path_of(session, step),
        loop=session.loop,
        after=partial(_keep_to_size, session),
        work_of=session.store.work_folder,
        **settings,
    )


def _keep_to_size(session: Session) -> None:
    """Take the oldest replies that nothing names where the cache has grown beyond what the session allows."""
    most = session.options.call_cache_bytes
    if most is None:
        return
    from .pruning import Wanted, prune

    gone = prune(session.store, Wanted(max_size=most))
    if gone:
        number = sum(entry.calls for entry in gone)
        message = f"the call cache had grown beyond {most:,} bytes: its {number:,} oldest unused replies are removed"
        session.bus.publish("warning", message=message)


def _any_in_jobs(endpoints: Endpoints) -> bool:
    found = [each for pool in endpoints.values() for each in (pool if isinstance(pool, list | tuple) else [pool])]
    return any(isinstance(each, Endpoint) and each.batch for each in found)


def _asks(step: Step[Any]) -> Iterator[Ask]:
    """The models that a step itself asks, not those of its inputs."""
    from stillhouse.core.node import children
    from stillhouse.core.step import Step as AnyStep

    def visit(node: Any) -> Iterator[Ask]:
        for child in children(node):
            if isinstance(child, Ask):
                yield child
            elif not isinstance(child, AnyStep):
                yield from visit(child)

    yield from visit(step)


async def _as_coroutine(work: Callable[[], None]) -> None:
    work()


def _path_of(session: Session, step: Step[Model]) -> Path:
    from stillhouse.core.execution import Execution

    found = Execution(session, as_they_are=True).cached(step)
    if found is None:
        raise RecipeError(f"the model of `{type(step).__name__}` is asked before it is made", "Run it first.")
    return found.data


def _no_models(step: Step[Model]) -> Path:
    raise RecipeError(f"`{type(step).__name__}` can only be asked within a session, which knows where its model is")
