"""One request's way to a reply: its turns, its attempts, and what a failed one means for all that wait behind it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stillhouse.core.errors import EXHAUSTED, ModelError, RowFault

from .gate import Place
from .ledger import Ledger
from .pace import Size
from .reply import Usage
from .retry import Patience, Retries, TryAgain
from .source import Doubt, Source

if TYPE_CHECKING:
    from .deployment import Deployment
    from .engine import Errand

T = TypeVar("T")


_MANY_REFUSALS = 6
_OTHERS = 2
"""Requests by which it is found out whether a refusal is meant for all: one may be as unlucky as the first."""


class _Answered(Protocol):
    @property
    def usage(self) -> Usage: ...


A = TypeVar("A", bound=_Answered)


async def heard(place: Place, call: Coroutine[Any, Any, A]) -> A:
    """What a call to a provider returns or raises; its source learns from either."""
    source, turn, size = place
    started = asyncio.get_running_loop().time()
    try:
        reply = await call
    except TryAgain as trouble:
        source.heard(turn)
        if trouble.cause not in ("throttled", "unreachable"):
            source.pace.alive()
        if trouble.cause != "throttled":
            source.pace.failed(turn)
        raise
    except RowFault:
        source.heard(turn)
        source.pace.alive()
        source.pace.failed(turn)
        raise
    except BaseException:
        source.heard(turn)
        source.pace.failed(turn)
        raise
    source.heard(turn)
    source.pace.succeeded(turn, reply.usage, size, asyncio.get_running_loop().time() - started)
    return reply


class Attempts:
    """Attempts at one request until one succeeds; the turn is given back while waiting between two.

    A refusal that stands (a wrong key, an unknown model, a quota that is used up) ends them for all: at once where
    nothing was ever answered, else when it is repeated and two others, one after the other and alone, are refused too.
    Where one of them is answered, it was meant for its row. Of a pool, only that endpoint is left out. `for_one`:
    whether the request is for one row, so that its end says something of how many rows fail.
    """

    def __init__(
        self,
        deployment: Deployment,
        patience: Patience,
        ledger: Ledger,
        errand: Errand[Any],
        *,
        for_one: bool = True,
    ) -> None:
        self._for_one = for_one
        self._deployment = deployment
        self._patience = patience
        self._ledger = ledger
        self._errand = errand
        self._retries = Retries(patience)
        self._others_are_answered = False
        """Whether one was after this request had been refused."""

    async def run(self, size: Size, attempt: Callable[[Place], Awaitable[T]]) -> T:
        """What `attempt` returns; raises `RowFault` for this request alone, or the `ModelError` that ends all."""
        deployment, errand = self._deployment, self._errand
        again = False
        while True:
            place = errand.place
            if place is None:
                place = errand.place = await deployment.gate.acquire(size, first=again)
            try:
                found = await self._confirmed(place, attempt)
            except TryAgain as trouble:
                wait = self._after(place, trouble)
            except _Elsewhere:
                wait = 0.0
            except RowFault as fault:
                self._ended(fault)
                raise
            else:
                deployment.breaker.count(False)
                return found
            finally:
                errand.leave(deployment)
            self._ledger.entry(deployment.name).retries += 1
            errand.check()
            again = True
            if wait:
                await asyncio.sleep(wait)

    async def _confirmed(self, place: Place, attempt: Callable[[Place], Awaitable[T]]) -> T:
        """One attempt; where it is refused for good, it is found out for whom."""
        source = place.source
        try:
            found = await attempt(place)
        except TryAgain:
            raise
        except RowFault:
            self._answered(place)
            raise
        except ModelError as refusal:
            return await self._refused(place, attempt, refusal)
        if source.doubt is not None or source.suspect:
            self._answered(place)
        return found

    @staticmethod
    def _answered(place: Place) -> None:
        source = place.source
        source.suspect = False
        if source.doubt is not None and source.doubt.turn is place.turn:
            source.doubt.heard(True)

    async def _refused(self, place: Place, attempt: Callable[[Place], Awaitable[T]], refusal: ModelError) -> T:
        """Raises what a refusal means for this request; returns its reply where it is taken after all."""
        source = place.source
        doubt = source.doubt
        if source.closed_by is None:
            # Others need not be asked whether it is meant for all where a reply says itself who answers.
            if not source.doubted or not source.pace.answered or refusal.kind == "other_model":
                self._close(source, refusal)
            elif self._others_are_answered:
                raise self._for_this_row(refusal)
            elif doubt is not None:  # another request is finding out
                doubt.joined = True
                if doubt.turn is place.turn:
                    doubt.heard(False)
                self._others_are_answered = await asyncio.shield(doubt.over)
            else:
                return await self._find_out(place, attempt, refusal)
        self._raise_if_over(source, refusal)
        raise _Elsewhere from None

    async def _find_out(self, place: Place, attempt: Callable[[Place], Awaitable[T]], refusal: ModelError) -> T:
        """Ask once more, then see whether others are refused too, while nobody else is let in."""
        source = place.source
        doubt = source.doubt = Doubt()
        try:
            with source.pace.to_itself():
                await asyncio.sleep(random.uniform(0.5, 1.0) * self._patience.first_wait)
                try:
                    found = await attempt(place)
                except (TryAgain, RowFault):
                    raise
                except ModelError as again:
                    refusal = again
                else:
                    self._others_are_answered = True
                    return found
                answered = await self._others(source, doubt)
                if answered:
                    self._others_are_answered = True
                    raise self._for_this_row(refusal)
                if answered is False:
                    self._close(source, refusal)
        finally:
            source.doubt = None
            doubt.over.set_result(self._others_are_answered)
        self._raise_if_over(source, refusal)
        raise _Elsewhere from None

    async def _others(self, source: Source, doubt: Doubt) -> bool | None:
        """Whether another request is answered; None where that cannot be told.

        Where no other one waits, a request that is refused alone says little: only the next one to be refused ends all.
        """
        gate = self._deployment.gate
        for _ in range(_OTHERS):
            doubt.ask(gate.lend(source))
            if doubt.turn is None:
                alone = not any(each is not source and each.closed_by is None for each in gate.sources)
                answered = alone and not doubt.joined and not source.suspect
                source.suspect = True
                return answered
            if (found := await doubt.answer) is not False:
                return found
        return False

    def _for_this_row(self, refusal: ModelError) -> RowFault:
        return RowFault("rejected", f"{refusal.message}; other requests were answered")

    def _raise_if_over(self, source: Source, refusal: ModelError) -> None:
        if source.closed_by is not None and self._deployment.gate.failure is not None:
            raise refusal

    def _close(self, source: Source, refusal: ModelError) -> None:
        """Leave out a source; with the last one, end everything."""
        if source.closed_by is not None:
            return
        source.closed_by = refusal
        gate = self._deployment.gate
        if all(each.closed_by is not None for each in gate.sources):
            gate.shut_for_good(refusal)
        else:
            self._ledger.warn(f"`{source.name}` is left out of `{self._deployment.name}`: {refusal.message}")
            gate.serve()

    def _after(self, place: Place, trouble: TryAgain) -> float:
        """Seconds that this request waits by itself; what all have to wait for is told to the source's pace."""
        pace, name = place.source.pace, self._deployment.name
        if trouble.cause == "unreachable":
            pace.unanswered(self._retries.wait_after(trouble, name, pace.streak))
            self._stop_if_nobody_is_there(trouble)
            return 0.0
        try:
            wait = self._retries.wait_after(trouble, name, pace.streak)
        except RowFault as fault:
            self._ended(fault)
            raise
        except ModelError as error:
            self._close(place.source, error)
            if self._deployment.gate.failure is not None:
                raise
            return 0.0
        if trouble.cause == "throttled":
            pace.throttled(place.turn, wait)
            if pace.streak == _MANY_REFUSALS:
                self._ledger.warn(
                    f"`{place.source.name}` has refused us {pace.streak} times with no reply between "
                    f"({trouble.message}); it is asked on, at longer and longer intervals"
                )
            return 0.0
        if trouble.wait is not None:
            pace.pause(wait)
            return 0.0
        return wait

    def _stop_if_nobody_is_there(self, trouble: TryAgain) -> None:
        name, gate = self._deployment.name, self._deployment.gate
        seconds = min((each.pace.silent_seconds for each in gate.sources if each.closed_by is None), default=0.0)
        if seconds > self._patience.unreachable:
            error = ModelError(
                f"`{name}` is down: {trouble.message}, for {seconds:.0f} s",
                "Every reply so far is kept: run the same command again when it is back.",
                kind="unreachable",
                retryable=True,
            )
            gate.shut_for_good(error)
            raise error from trouble

    def _ended(self, fault: RowFault) -> None:
        """Count a request that came to nothing; too many of them end all."""
        if not self._for_one:
            return
        deployment = self._deployment
        deployment.breaker.count(fault.kind in (EXHAUSTED, "rejected"))
        error = deployment.breaker.broken(deployment.name, fault.message)
        if error is not None:
            deployment.gate.shut_for_good(error)
            raise error from fault


class _Elsewhere(Exception):
    """This source is left out, or let us in after all: the request looks for a turn again."""
