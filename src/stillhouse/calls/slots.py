"""Keeping a deployment's slots busy: each prompt starts as soon as one is free; no batch waits for its slowest call."""

from __future__ import annotations

import asyncio

from .answer import Outcome
from .board import Board, Open
from .engine import Errand
from .pace import Size
from .repair import Case

_UNDER_WAY = 4  # prompts for each slot; those beyond the slots wait between two attempts


class Slots:
    """The prompts of one board on their way through the gate of its deployment."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._gate = board.deployment.gate
        self._most = _UNDER_WAY * self._gate.limit
        self._errands: set[Errand[Outcome]] = set()
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None

    async def send(self, item: Open) -> None:
        """Start a prompt when there is a slot for it; raises what stopped an earlier one."""
        while len(self._errands) >= self._most and self._failure is None:
            await self._change()
        await self._check()
        place = None
        if item.key not in self._board.engine.flights:
            place = await self._gate.acquire(Size(len(item.canonical), item.form.sampling.max_tokens))
            if self._failure is not None:
                self._gate.release(place)
                await self._check()
        try:
            errand = self._board.engine.start(lambda errand: self._answer(item, errand), place=place)
        except BaseException:
            if place is not None:
                self._gate.release(place)
            raise
        self._errands.add(errand)
        errand.task.add_done_callback(lambda task: self._over(errand))

    async def finish(self) -> None:
        """Wait until everything that was sent has its outcome."""
        while self._errands and self._failure is None:
            await self._change()
        await self._check()

    def give_up(self) -> None:
        """Stop what waits; calls on the wire come home by themselves and are kept."""
        for errand in self._errands:
            errand.give_up()

    async def _answer(self, item: Open, errand: Errand[Outcome]) -> Outcome:
        board = self._board
        case = item.case or Case(item.form, item.request(), board.deployment.price)
        try:
            outcome = await board.engine.settle(
                board.deployment, case, board.ledger, errand, faults=board.faults, looked=item.looked
            )
        except BaseException as error:
            # Here, and not when the task is seen to be over: the slot it left must not start another call first.
            self._failure = self._failure or error
            raise
        board.outcomes[item.place] = outcome
        return outcome

    def _over(self, errand: Errand[Outcome]) -> None:
        errand.leave(self._board.deployment)  # it may have been given up before it began
        self._errands.discard(errand)
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _check(self) -> None:
        """Raise the first failure, once the calls that are on the wire have come home."""
        if self._failure is None:
            return
        self.give_up()
        if self._errands:
            await asyncio.wait([errand.task for errand in self._errands])
        raise self._failure
