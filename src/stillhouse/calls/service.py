"""The call service: what a session offers to steps that ask models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.text.schema import Schema

from .answer import Answer, Outcome
from .ask import Ask
from .board import Board, count_outcomes
from .budget import Budget, Purse
from .cache import CallCache
from .credentials import Credentials
from .deployment import Concurrency, Deployments, Endpoints
from .engine import Engine, Errand, Faults
from .instant import Instant
from .ledger import Ledger, Totals
from .prices import Price, Prices
from .repair import Case
from .request import Message, Prompt, RequestForm, Tool
from .retry import Patience
from .slots import Slots

if TYPE_CHECKING:
    from stillhouse.core.artifact import Model
    from stillhouse.core.events import Bus
    from stillhouse.core.session import Session
    from stillhouse.core.step import Step

    from .embedder import Embedder, Role
    from .embedding import Floats, Vectors

_SLICE = 1024
_DRAIN_SECONDS = 30.0
FOLDER = "calls-v1"


class Calls:
    """Asking models, on one bill: a step's own, or the whole session's."""

    def __init__(self, engine: Engine, deployments: Deployments, ledger: Ledger) -> None:
        self._engine = engine
        self._deployments = deployments
        self.ledger = ledger
        self._faults: Faults | None = None

    async def ask(
        self, by: Ask, messages: str | Sequence[Message], *, schema: Schema | None = None, sample: int = 0
    ) -> Answer:
        """One answer; raises `RowFault` where this question gets none, `ModelError` or `BudgetError` where none do."""
        deployment, form = self._deployments.plan(by, schema)
        deployment.begin()
        case = Case(form, form.request(messages, sample), deployment.price)

        async def work(errand: Errand[Outcome]) -> Outcome:
            return await self._engine.settle(deployment, case, self.ledger, errand, faults=self._faults)

        outcome = await self._engine.start(work).outcome()
        count_outcomes(self.ledger, deployment.name, [outcome])
        if isinstance(outcome, RowFault):
            raise outcome
        return outcome

    async def ask_many(self, by: Ask, prompts: Sequence[Prompt]) -> list[Outcome]:
        """An answer or a `RowFault` for each prompt, in order.

        All keys are looked up in bulk, equal prompts are asked once, and every slot of the deployment is kept busy.
        Raises `ModelError` or `BudgetError` as `ask` does, after the calls on the wire have come home and been kept.
        """
        deployment, _ = self._deployments.plan(by, None)

        def form_of(schema: Schema | None, tools: tuple[Tool, ...]) -> RequestForm:
            return self._deployments.plan(by, schema, tools)[1]

        deployment.begin()
        board = Board(self._engine, deployment, self.ledger, len(prompts), self._faults)
        slots = Slots(board)
        try:
            for start in range(0, len(prompts), _SLICE):
                missing = board.begin(prompts[start : start + _SLICE], form_of, start)
                provider = deployment.in_process if missing else None
                if provider is not None:
                    missing = await Instant(board, provider).answer(missing)
                for item in missing:
                    await slots.send(item)
                await asyncio.sleep(0)  # a long list from the cache must not keep the loop to itself
            await slots.finish()
        except BaseException:
            slots.give_up()
            raise
        return board.complete()

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
    ) -> None:
        limit = budget if isinstance(budget, Budget) else Budget(usd=budget)
        self.cache = CallCache(folder, bus=bus)
        self.purse = Purse(limit, self.cache, lambda message: bus.publish("warning", message=message))
        deployments = Deployments(
            endpoints=endpoints or {},
            credentials=credentials or Credentials.from_environment(),
            concurrency=concurrency,
            prices={name: Price(*price) for name, price in (prices or {}).items()},
            model_path=model_path or _no_models,
            options=options or Options(),
            patience=patience,
            folder=folder,
            bus=bus,
        )
        super().__init__(Engine(self.cache, self.purse, patience or Patience()), deployments, Ledger(bus))
        self._bus = bus
        self._scopes: dict[str, Calls] = {}
        self._loop = loop

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
        if scope is None:
            return {}
        self._on_loop(_as_coroutine(scope.ledger.flush))
        return scope.spent()

    def close(self) -> None:
        """`aclose` from another thread than the loop's."""
        self._on_loop(self.aclose())

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None or not self._loop.is_running():
            asyncio.run(work)
        else:
            asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def aclose(self) -> None:
        """Let calls on the wire come home (for half a minute at most), then close providers and cache."""
        await self._engine.drain(_DRAIN_SECONDS)
        await self._deployments.close()
        for scope in self._scopes.values():
            scope.ledger.flush()
        self.ledger.flush()
        self.cache.close()


def open_service(session: Session, **settings: Any) -> CallService:
    """The call service of a session; `settings` are what `Session(...)` was given for calls, None where it was not."""
    return CallService(
        session.store.folder / FOLDER,
        bus=session.bus,
        options=session.options,
        model_path=lambda step: _path_of(session, step),
        loop=session.loop,
        **settings,
    )


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
