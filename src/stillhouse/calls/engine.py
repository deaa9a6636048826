"""Making calls: in flight once, in bounded number, retried within reason, kept before they count as done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from stillhouse.core.errors import EXHAUSTED, Interrupted, ModelError, RecipeError, RowFault
from stillhouse.core.found import Found

from .answer import Outcome
from .attempts import Attempts, heard
from .budget import Purse
from .cache import CallCache, Entry, Kept, Trouble
from .deployment import Deployment
from .gate import Place
from .hedge import raced
from .ledger import Ledger
from .pace import Size
from .repair import Case
from .reply import Garbled, Reply, read_reply
from .request import Request
from .retry import OtherModel, Patience

if TYPE_CHECKING:
    from .batch.batcher import Batcher

T = TypeVar("T")

Faults: TypeAlias = dict[bytes, RowFault]
"""What requests of a step ended in, by key: an equal one is not made again."""

_COMMIT_SECONDS, _COMMIT_SHARE = 0.003, 0.005
_LANDINGS = 20_000
_LOOK_SECONDS = 5.0
_MOST_FAULTS = 10_000
_SILENT_SECONDS = 2.0
"""How long it is waited for calls on the wire before anybody is told."""


class Errand(Generic[T]):
    """Work that nobody can lose by walking away.

    Giving it up never wastes a call: what is on the wire comes home and is kept, only then the errand ends.
    """

    __slots__ = ("_given_up", "_on_wire", "place", "task")

    task: asyncio.Task[T]

    def __init__(self, place: Place | None = None) -> None:
        self.place = place
        """The turn that it has."""
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

    @property
    def is_on_wire(self) -> bool:
        return self._on_wire

    @contextlib.contextmanager
    def on_wire(self) -> Iterator[None]:
        """While a call is paid for and its reply not yet kept."""
        self._on_wire = True
        try:
            yield
        finally:
            self._on_wire = False

    def leave(self, deployment: Deployment) -> None:
        """Give its turn back, if it has one."""
        if self.place is not None:
            place, self.place = self.place, None
            deployment.gate.release(place)

    def check(self) -> None:
        """The place to stop at, between two calls."""
        if self._given_up:
            raise asyncio.CancelledError


class Engine:
    """What all steps of a session share: the cache, the purse, and the calls in flight. Lives on one event loop."""

    def __init__(self, cache: CallCache, purse: Purse, patience: Patience, *, cache_only: bool = False) -> None:
        self.cache = cache
        self.purse = purse
        self.flights: dict[bytes, asyncio.Future[RowFault | None]] = {}
        """Keys on their way. The future is done when the attempt is over: with the fault that it ended in, or None when
        one should look again."""
        self.patience = patience
        self.cache_only = cache_only
        self.found = Found()
        """What steps find that was paid for before."""
        self.batcher: Batcher | None = None
        """Where questions go into batch jobs."""
        self.landings = Landings()
        self._unkept: list[tuple[Entry, asyncio.Future[dict[bytes, Kept]]]] = []
        self._errands: set[Errand[Any]] = set()
        self._commits: set[asyncio.Task[None]] = set()
        self._closing = False

    def start(self, work: Callable[[Errand[T]], Coroutine[Any, Any, T]], *, place: Place | None = None) -> Errand[T]:
        """Begin an errand; it runs on its own from here. Raises `Interrupted` once the session is being closed."""
        if self._closing:
            raise Interrupted("the session is being closed, and asks nobody any more")
        errand: Errand[T] = Errand(place)
        task = errand.task = asyncio.get_running_loop().create_task(work(errand))
        self._errands.add(errand)

        def over(task: asyncio.Task[T]) -> None:
            self._errands.discard(errand)
            _look(task)

        task.add_done_callback(over)
        return errand

    async def drain(self, seconds: float, tell: Callable[[str], None]) -> None:
        """Begin nothing more and wait for what is on the wire, so that its replies are kept; after `seconds` let go."""
        self._closing = True
        for errand in list(self._errands):
            errand.give_up()
        left, wait = seconds, min(seconds, _SILENT_SECONDS)
        while self._errands and left > 0:
            await asyncio.wait([errand.task for errand in self._errands], timeout=wait)
            number = sum(errand.is_on_wire for errand in self._errands)
            if number and left == seconds:
                tell(
                    f"{number:,} calls are on the wire, and their replies are waited for, {seconds:.0f} s at most "
                    "(Ctrl-C once more gives them up)"
                )
            left -= wait
            wait = left
        while self._errands:
            self.let_go()
            await asyncio.wait([errand.task for errand in self._errands])
        while self._commits:
            await asyncio.wait(self._commits)

    def let_go(self) -> None:
        """Wait for nothing on the wire any more; what has come is still kept."""
        for errand in list(self._errands):
            errand.task.cancel()

    def check_may_ask(self, name: str, requests: Sequence[bytes]) -> None:
        """Raise `RecipeError` where this session only reads the cache; `requests` are canonical and not kept."""
        if self.cache_only and requests:
            raise RecipeError(
                f"`{name}` has no kept reply to {len(requests):,} of the prompts, and this session asks nobody "
                f"(`cache_only`); the first: {requests[0][:300].decode(errors='replace')}",
                "Run it once without `cache_only`. If it was run already, something that shapes replies has changed.",
            )

    async def settle(
        self,
        deployment: Deployment,
        case: Case,
        ledger: Ledger,
        errand: Errand[Outcome],
        *,
        faults: Faults | None = None,
        looked: Look | None = None,
    ) -> Outcome:
        """Follow a case to its end, through all requests it leads to.

        `faults`: what requests of this step ended in for good. `looked`: when the first request was not yet kept.
        """
        try:
            while True:
                reply, cached = await self._reply(deployment, case.request, ledger, errand, faults, looked)
                found = case.judge(reply, cached=cached)
                if not isinstance(found, Request):
                    return found
                errand.check()
                looked = None
        except RowFault as fault:
            return fault
        finally:
            errand.leave(deployment)

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
        self,
        deployment: Deployment,
        request: Request,
        ledger: Ledger,
        errand: Errand[Outcome],
        faults: Faults | None,
        looked: Look | None,
    ) -> tuple[Reply, bool]:
        """The reply to one request, and whether it came without a call of ours."""
        key = request.key
        while (flight := self.flights.get(key)) is not None:
            errand.leave(deployment)
            fault = await asyncio.shield(flight)
            if fault is not None:  # it would end there again
                raise RowFault(fault.kind, fault.message, fault.raw)
            looked = None
        if (
            looked is None
            or self.landings.may_have(key, looked)
            or deployment.gate.was_shared_since(looked.at - _LOOK_SECONDS)
        ):
            kept = self.kept(key)
            if kept is not None:
                ledger.entry(deployment.name).cached += 1
                self.found.note(ledger.step, (key,))
                return kept, True
        if self.cache_only:
            self.check_may_ask(deployment.name, [request.canonical])
        known = None if faults is None else faults.get(key)
        if known is None and looked is not None:
            known = self.landings.fault(key, looked)
        if known is not None:
            raise RowFault(known.kind, known.message, known.raw)
        flight = self.flights[key] = asyncio.get_running_loop().create_future()
        ended: RowFault | None = None
        try:
            return await self._call(deployment, request, ledger, errand), False
        except RowFault as fault:
            ended = fault
            self.landings.note_fault(key, fault)
            if faults is not None and fault.kind != EXHAUSTED and len(faults) < _MOST_FAULTS:
                faults[key] = fault
            raise
        finally:
            del self.flights[key]
            flight.set_result(ended)

    async def _call(self, deployment: Deployment, request: Request, ledger: Ledger, errand: Errand[Outcome]) -> Reply:
        size = Size(len(request.canonical), request.sampling.max_tokens)

        async def attempt(place: Place) -> Reply:
            return await self._attempt(deployment, place, request, ledger, errand)

        return await Attempts(deployment, self.patience, ledger, errand).run(size, attempt)

    async def _attempt(
        self, deployment: Deployment, place: Place, request: Request, ledger: Ledger, errand: Errand[Outcome]
    ) -> Reply:
        name, step = deployment.name, ledger.step
        guess = request.sampling.max_tokens is None
        held = await self.purse.reserve(deployment.most(request), name, step=step, guess=guess)
        made, cost = 0, None
        started = time.monotonic()
        try:
            place.source.ready()
            with errand.on_wire():
                reply, *others = await self._asked(deployment, place, request)
                seconds = time.monotonic() - started
                made, cost = 1, deployment.cost(reply.usage)
                deployment.answered(reply.usage)
                ledger.entry(name).add_reply(reply.usage, cost)
                for other in others:
                    self._count_loser(deployment, request, other, ledger, seconds)
                wire = request.key, reply.form, reply.wire, request.canonical
                earlier = await self._keep(Entry(*wire, seconds, name, step, reply.usage, cost), seconds)
                return self.standing(request.key, reply, earlier)
        except (ModelError, RowFault) as error:
            took = time.monotonic() - started
            if isinstance(error, OtherModel):
                made, cost = 1, deployment.cost(error.reply.usage)
                self._count_untaken(deployment, request, error.reply, ledger, took)
            self.cache.note([Trouble(request.key, name, step, error.kind, error.message, took)])
            raise
        finally:
            self.purse.settle(held, cost, made=made)

    async def _asked(self, deployment: Deployment, place: Place, request: Request) -> list[Reply]:
        """The reply, and that of a second call where both came."""
        hedge = deployment.hedge
        if hedge is None:
            return [await heard(place, place.source.provider.ask(request))]
        return await raced(deployment.gate, hedge, place, lambda place: place.source.provider.ask(request))

    def _count_loser(
        self, deployment: Deployment, request: Request, reply: Reply, ledger: Ledger, seconds: float
    ) -> None:
        """A second reply to the same request."""
        self.purse.spend(deployment.cost(reply.usage) or 0.0, 1, step=ledger.step)
        self._count_untaken(deployment, request, reply, ledger, seconds)

    def _count_untaken(
        self, deployment: Deployment, request: Request, reply: Reply, ledger: Ledger, seconds: float
    ) -> None:
        """A reply that is paid for and not kept; the purse is another's affair."""
        name, step, cost = deployment.name, ledger.step, deployment.cost(reply.usage)
        ledger.entry(name).add_reply(reply.usage, cost)
        self.cache.paid([Entry(request.key, reply.form, b"", b"", seconds, name, step, reply.usage, cost)])

    async def _keep(self, entry: Entry, seconds: float) -> dict[bytes, Kept]:
        """Returns when the reply is committed. Those that come within a moment are committed together: that is most of
        what a commit costs, and the moment is a two-hundredth of a call at most."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[dict[bytes, Kept]] = loop.create_future()
        self._unkept.append((entry, done))
        if len(self._unkept) == 1:
            loop.call_later(min(_COMMIT_SECONDS, _COMMIT_SHARE * seconds), self._begin_commit)
        return await done

    def _begin_commit(self) -> None:
        unkept, self._unkept = self._unkept, []
        task = asyncio.get_running_loop().create_task(self._commit(unkept))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        task.add_done_callback(_look)

    async def _commit(self, unkept: list[tuple[Entry, asyncio.Future[dict[bytes, Kept]]]]) -> None:
        entries = [entry for entry, _ in unkept]
        try:
            earlier = await self.cache.put(entries)
        except BaseException as error:
            for _, done in unkept:
                if not done.done():
                    done.set_exception(error)
            raise
        self.landings.note([entry.key for entry in entries])
        for _, done in unkept:
            if not done.done():
                done.set_result(earlier)

    def standing(self, key: bytes, reply: Reply, earlier: dict[bytes, Kept]) -> Reply:
        """The reply that later runs will find: ours, or that of another process which was first."""
        found = earlier.get(key)
        return reply if found is None else self.read(key, found) or reply


def _look(task: asyncio.Task[Any]) -> None:
    """So that the failure of one that nobody waits for any more is not reported as forgotten."""
    if not task.cancelled():
        task.exception()


class Look(NamedTuple):
    """When a key was looked for in the cache and not found: the landings so far, and the time."""

    number: int
    at: float


class Landings:
    """What became of requests lately: tells whether the reply to one that was looked for may be there by now."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._faults: dict[bytes, tuple[int, RowFault]] = {}
        self._number = 0

    def note(self, keys: Sequence[bytes]) -> None:
        """These are kept now."""
        for key in keys:
            self._number += 1
            self._numbers[key] = self._number
        while len(self._numbers) > _LANDINGS:
            del self._numbers[next(iter(self._numbers))]

    def note_fault(self, key: bytes, fault: RowFault) -> None:
        """This came to nothing."""
        self._number += 1
        self._faults[key] = self._number, fault
        while len(self._faults) > _MOST_FAULTS:
            del self._faults[next(iter(self._faults))]

    def fault(self, key: bytes, looked: Look) -> RowFault | None:
        """What an equal request came to that was under way when this one was looked for."""
        number, fault = self._faults.get(key, (0, None))
        return fault if number > looked.number else None

    def look(self) -> Look:
        return Look(self._number, time.monotonic())

    def may_have(self, key: bytes, looked: Look) -> bool:
        """Whether to look again: it was kept since, or that cannot be told, or another process had time to."""
        if self._number - looked.number > _LANDINGS or time.monotonic() - looked.at > _LOOK_SECONDS:
            return True
        return self._numbers.get(key, 0) > looked.number
