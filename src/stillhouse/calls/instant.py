"""Asking a provider that answers many requests in one go: one call into it and one commit for many, no task each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from stillhouse.core.errors import ModelError, RowFault

from .board import Board, Open
from .cache import Entry, Trouble
from .engine import Errand
from .prices import FREE
from .providers.protocol import Answered, InProcess
from .reply import NO_USAGE, Reply
from .request import Request
from .retry import TryAgain

_COMMIT_SECONDS = 0.1  # a slow function's replies are kept this often


class Instant:
    """One in-process provider at work for a board."""

    def __init__(self, board: Board, provider: InProcess) -> None:
        self._board = board
        self._engine = board.engine
        self._provider = provider

    async def answer(self, missing: list[Open]) -> list[Open]:
        """Ask until every prompt has its outcome; returns those that should be tried again later."""
        troubled: list[Open] = []
        while missing:
            missing = self._board.after_kept(await self._once(missing, troubled))
        return troubled

    async def _once(self, missing: list[Open], troubled: list[Open]) -> list[Open]:
        """Make each request once; returns the prompts to look up again."""
        flights = self._engine.flights
        own: dict[bytes, Open] = {}
        twins: list[Open] = []
        elsewhere: list[Open] = []
        for item in missing:
            if item.key in flights:
                elsewhere.append(item)
            elif own.setdefault(item.key, item) is not item:
                twins.append(item)
        others = {flights[item.key] for item in elsewhere}
        further: list[Open] = []
        if own:
            flight = asyncio.get_running_loop().create_future()
            flights.update(dict.fromkeys(own, flight))
            try:
                await self._ask(list(own.values()), further, troubled)
            finally:
                for key in own:
                    del flights[key]
                flight.set_result(None)
        if others:
            await asyncio.wait(others)
        return further + elsewhere + self._unlike(twins, own, troubled)

    def _unlike(self, twins: list[Open], own: dict[bytes, Open], troubled: list[Open]) -> list[Open]:
        """Twins of a prompt that failed fail with it, as no cache knows of it; the others find the reply kept."""
        rest: list[Open] = []
        in_trouble = {item.key for item in troubled}
        for item in twins:
            outcome = self._board.outcomes[own[item.key].place]
            if isinstance(outcome, RowFault) and own[item.key].case is item.case:
                self._board.outcomes[item.place] = outcome
            elif item.key in in_trouble:
                troubled.append(item)
            else:
                rest.append(item)
        return rest

    async def _ask(self, items: list[Open], further: list[Open], troubled: list[Open]) -> None:
        waiting = [(item, item.request()) for item in items]
        while waiting:
            part = waiting[: self._affordable([request for _, request in waiting])]
            answered = await self._attempt([request for _, request in part])
            for place, outcome in answered:
                self._take(part[place][0], outcome, further, troubled)
            done = {place for place, _ in answered}
            waiting = [entry for place, entry in enumerate(waiting) if place not in done]

    def _affordable(self, requests: Sequence[Request]) -> int:
        """How many of them the budget has room for, one at least: that one is told why it has none."""
        purse, deployment = self._engine.purse, self._board.deployment
        most = len(requests) if (room := purse.room()) is None else min(room, len(requests))
        left = purse.room_usd(self._board.ledger.step)
        if left is not None and deployment.price is not None and deployment.price is not FREE:
            spent = 0.0
            for number, request in enumerate(requests[:most]):
                spent += deployment.estimate(request) or 0.0
                if spent > left:
                    most = number
                    break
        return max(1, most)

    def _take(
        self, item: Open, outcome: Reply | RowFault | ModelError, further: list[Open], troubled: list[Open]
    ) -> None:
        if isinstance(outcome, Reply):
            after = self._board.take(item, outcome, cached=False)
            if after is not None:
                further.append(after)
        elif isinstance(outcome, RowFault):
            self._board.outcomes[item.place] = outcome
        elif isinstance(outcome, TryAgain):
            troubled.append(item)
        else:
            raise outcome

    async def _attempt(self, requests: Sequence[Request]) -> list[Answered]:
        return await self._engine.start(lambda errand: self._kept_attempt(requests, errand)).outcome()

    async def _kept_attempt(self, requests: Sequence[Request], errand: Errand[list[Answered]]) -> list[Answered]:
        """One call into the provider; its replies are counted and kept when this returns."""
        engine, deployment, step = self._engine, self._board.deployment, self._board.ledger.step
        estimate, name = deployment.estimate_all(requests), deployment.name
        held = await engine.purse.reserve(estimate, name, len(requests), step=step)
        made, cost = 0, 0.0
        try:
            with errand.on_wire():
                started = time.monotonic()
                answered = await self._provider.ask_some(requests, _COMMIT_SECONDS)
                each = (time.monotonic() - started) / max(1, len(answered))
                entries, troubles = [], []
                for place, outcome in answered:
                    request = requests[place]
                    if type(outcome) is Reply:
                        usage = outcome.usage
                        wire = request.key, outcome.form, outcome.wire, request.canonical
                        entries.append(Entry(*wire, each, name, step, usage, deployment.cost(usage)))
                    elif isinstance(outcome, ModelError | RowFault):
                        troubles.append(Trouble(request.key, name, step, outcome.kind, outcome.message, each))
                if troubles:
                    engine.cache.note(troubles)
                made = len(entries)
                cost = self._count([reply for _, reply in answered if type(reply) is Reply])
                earlier = await engine.cache.put(entries) if entries else {}
        finally:
            engine.purse.settle(held, cost, made=made)
        if not earlier:
            return answered
        return [
            (place, engine.standing(requests[place].key, reply, earlier) if type(reply) is Reply else reply)
            for place, reply in answered
        ]

    def _count(self, replies: Sequence[Reply]) -> float:
        deployment = self._board.deployment
        totals = self._board.ledger.entry(deployment.name)
        spent = 0.0
        for reply in replies:
            if reply.usage is NO_USAGE:
                totals.calls += 1
                continue
            cost = deployment.cost(reply.usage)
            totals.add_reply(reply.usage, cost)
            deployment.answered(reply.usage)
            spent += cost or 0.0
        return spent
