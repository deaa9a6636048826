"""Limits on what a session may spend, kept before each call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stillhouse.core.errors import BudgetError, RecipeError


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so many US dollars and so many calls; None sets no limit."""

    usd: float | None = None
    calls: int | None = None

    def __post_init__(self) -> None:
        if (self.usd is not None and self.usd < 0) or (self.calls is not None and self.calls < 0):
            raise RecipeError(f"a budget cannot be negative ({self})")


class Purse:
    """Spends a budget. A call is admitted when what was spent, what is on the wire and the call itself fit.

    Calls on the wire count with an estimate, so that the limit holds although prices are only known afterwards; while
    some are out, a call that does not fit waits for them before it gives up.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.spent_usd = 0.0
        self.num_calls = 0
        self._out_usd = 0.0
        self._out_calls = 0
        self._returned: asyncio.Event | None = None

    async def reserve(self, estimate_usd: float | None, name: str, num_calls: int = 1) -> None:
        """Admit calls of about `estimate_usd` in all; raises `BudgetError` when they do not fit."""
        if self.budget.usd is not None and estimate_usd is None:
            raise BudgetError(
                f"the budget of ${self.budget.usd:g} cannot be kept: the price of `{name}` is not known",
                f"Give it: `Session(prices={{{name!r}: Price(prompt=…, reply=…)}})`, in dollars for a million tokens.",
            )
        while (problem := self._problem(estimate_usd or 0.0, num_calls)) is not None:
            if self._out_calls == 0:
                raise problem
            self._returned = self._returned or asyncio.Event()
            await self._returned.wait()
        self._out_usd += estimate_usd or 0.0
        self._out_calls += num_calls

    def settle(self, estimate_usd: float | None, cost_usd: float | None, *, made: int, num_calls: int = 1) -> None:
        """Reserved calls have come back: `made` of them were answered, for `cost_usd`."""
        self._out_usd -= estimate_usd or 0.0
        self._out_calls -= num_calls
        self.spent_usd += cost_usd or 0.0
        self.num_calls += made
        if self._out_calls == 0:
            self._out_usd = 0.0  # rounding must not pile up
        if self._returned is not None:
            self._returned.set()
            self._returned = None

    def room(self) -> int | None:
        """Calls that may still be made, those on the wire counted; None without a limit."""
        if self.budget.calls is None:
            return None
        return max(0, self.budget.calls - self.num_calls - self._out_calls)

    def _problem(self, estimate_usd: float, num_calls: int) -> BudgetError | None:
        calls, usd = self.budget.calls, self.budget.usd
        if calls is not None and self.num_calls + self._out_calls + num_calls > calls:
            return BudgetError(
                f"the budget of {calls:,} calls is used up",
                "Every reply is kept: the same command with a larger budget goes on from here.",
            )
        if usd is not None and estimate_usd > 0 and self.spent_usd + self._out_usd + estimate_usd > usd:
            return BudgetError(
                f"the budget of ${usd:g} is used up: ${self.spent_usd:.4f} spent, "
                f"the next call would cost about ${estimate_usd:.4f}",
                "Every reply is kept: the same command with a larger budget goes on from here.",
            )
        return None
