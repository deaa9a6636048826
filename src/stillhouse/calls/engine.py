"""Making calls: in flight once, in bounded number, retried within reason, kept before they count as done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from stillhouse.core.errors import ModelError, RowFault

from .answer import Outcome
from .budget import Purse
from .cache import CallCache, Entry, Kept
from .deployment import Deployment
from .ledger import Ledger
from .repair import Case
from .reply import Garbled, Reply, read_reply
from .request import Request
from .retry import Patience, Retries, TryAgain

T = TypeVar("T")


class Errand(Generic[T]):
    """Work that nobody can lose by walking away.

    Giving it up never wastes a call: what is on the wire comes home and is kept, only then the errand ends.
    """

    __slots__ = ("_given_up", "_on_wire", "holds_slot", "task")

    task: asyncio.Task[T]

    def __init__(self, holds_slot: bool = False) -> None:
        self.holds_slot = holds_slot
        self._on_wire = False
        self._given_up = False

    async def outcome(self) -> T:
        """What the work returns or raises; being cancelled here gives the errand up."""
        try:
            return await asyncio.shield(self.task)
        except asyncio.CancelledError:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Stop as soon as nothing is lost by it."""
        self._given_up = True
        if not self._on_wire:
            self.task.cancel()

    @contextlib.contextmanager
    def on_wire(self) -> Iterator[None]:
        """While a call is paid for and its reply not yet kept."""
        self._on_wire = True
        try:
            yield
        finally:
            self._on_wire = False

    def check(self) -> None:
        """The place to stop at, between two calls."""
        if self._given_up:
            raise asyncio.CancelledError


class Engine:
    """What all steps of a session share: the cache, the purse, and the calls in flight. Lives on one event loop."""

    def __init__(self, cache: CallCache, purse: Purse, patience: Patience) -> None:
        self.cache = cache
        self.purse = purse
        self.flights: dict[bytes, asyncio.Future[None]] = {}
        """Keys on their way. The future is done when the reply is kept or the attempt is over; then one looks again."""
        self._patience = patience
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Callable[[Errand[T]], Coroutine[Any, Any, T]], *, holds_slot: bool = False) -> Errand[T]:
        """Begin an errand; it runs on its own from here."""
        errand: Errand[T] = Errand(holds_slot)
        task = errand.task = asyncio.get_running_loop().create_task(work(errand))
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return errand

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that one nobody waits for any more is not reported as forgotten

    async def drain(self, seconds: float) -> None:
        """Wait for what is in flight, so that its replies are kept; after `seconds` let go of the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def settle(self, deployment: Deployment, case: Case, ledger: Ledger, errand: Errand[Outcome]) -> Outcome:
        """Follow a case to its end, through all requests it leads to."""
        try:
            while True:
                reply, cached = await self._reply(deployment, case.request, ledger, errand)
                found = case.judge(reply, cached=cached)
                if not isinstance(found, Request):
                    return found
                errand.check()
        except RowFault as fault:
            return fault
        finally:
            _leave(deployment, errand)

    def kept(self, key: bytes) -> Reply | None:
        """The reply kept under `key`."""
        found = self.cache.look_up([key]).get(key)
        return None if found is None else self.read(key, found)

    def read(self, key: bytes, found: Kept) -> Reply | None:
        """A kept reply; one that cannot be read is set aside and counts as missing."""
        try:
            return read_reply(*found)
        except Garbled as error:
            self.cache.reject([key], str(error))
            return None

    async def _reply(
        self, deployment: Deployment, request: Request, ledger: Ledger, errand: Errand[Outcome]
    ) -> tuple[Reply, bool]:
        """The reply to one request, and whether it came without a call of ours."""
        while (flight := self.flights.get(request.key)) is not None:
            _leave(deployment, errand)
            await asyncio.shield(flight)
        kept = self.kept(request.key)
        if kept is not None:
            ledger.entry(deployment.name).cached += 1
            return kept, True
        flight = self.flights[request.key] = asyncio.get_running_loop().create_future()
        try:
            return await self._call(deployment, request, ledger, errand), False
        finally:
            del self.flights[request.key]
            flight.set_result(None)

    async def _call(self, deployment: Deployment, request: Request, ledger: Ledger, errand: Errand[Outcome]) -> Reply:
        """Attempts until one succeeds; the slot is given back while waiting between two."""
        retries = Retries(self._patience)
        while True:
            if not errand.holds_slot:
                await deployment.gate.acquire()
                errand.holds_slot = True
            try:
                return await self._attempt(deployment, request, ledger, errand)
            except TryAgain as trouble:
                wait = self._wait(deployment, retries, trouble)
            finally:
                _leave(deployment, errand)
            ledger.entry(deployment.name).retries += 1
            errand.check()
            await asyncio.sleep(wait)

    async def _attempt(
        self, deployment: Deployment, request: Request, ledger: Ledger, errand: Errand[Outcome]
    ) -> Reply:
        estimate = deployment.estimate(request)
        await self.purse.reserve(estimate, deployment.name)
        made, cost = 0, None
        try:
            provider = deployment.provider
            with errand.on_wire():
                started = time.monotonic()
                reply = await provider.ask(request)
                made, cost = 1, deployment.cost(reply.usage)
                deployment.answered(reply.usage)
                ledger.entry(deployment.name).add_reply(reply.usage, cost)
                seconds = time.monotonic() - started
                earlier = await self.cache.put([Entry(request.key, reply.form, reply.wire, request.canonical, seconds)])
                return self.standing(request.key, reply, earlier)
        finally:
            self.purse.settle(estimate, cost, made=made)

    def standing(self, key: bytes, reply: Reply, earlier: dict[bytes, Kept]) -> Reply:
        """The reply that later runs will find: ours, or that of another process which was first."""
        found = earlier.get(key)
        return reply if found is None else self.read(key, found) or reply

    def _wait(self, deployment: Deployment, retries: Retries, trouble: TryAgain) -> float:
        now = asyncio.get_running_loop().time()
        if trouble.cause != "unreachable":
            deployment.silent_since = None
        elif deployment.silent_since is None:
            deployment.silent_since = now
        elif now - deployment.silent_since > self._patience.unreachable:
            raise ModelError(
                f"`{deployment.name}` is down: {trouble.message}, for {now - deployment.silent_since:.0f} s",
                "Every reply so far is kept: run the same command again when it is back.",
                kind="unreachable",
                retryable=True,
            ) from trouble
        wait = retries.wait_after(trouble, deployment.name)
        if trouble.cause == "throttled" and trouble.wait is not None:
            deployment.gate.pause(trouble.wait)  # the limit is the deployment's, so nobody need try before
        return wait


def _leave(deployment: Deployment, errand: Errand[Any]) -> None:
    if errand.holds_slot:
        errand.holds_slot = False
        deployment.gate.release()
