"""Limits on what may be spent, kept before each call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import NamedTuple, Protocol

from stillhouse.core.errors import BudgetError, RecipeError

_LOOK_SECONDS = 1.0  # what other processes spent is looked up this often
_WARN_AT = 0.8
_KEPT = "Every reply is kept: the same command with a larger budget goes on from here."
_SECONDS_OF_DAY = 86_400
_FEW = 4
"""Calls that go out at once where nobody knows what they cost; each one that is billed lets one more."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so much; None sets no limit. Money is in US dollars.

    `usd` and `calls` are those of one run (a session). `per_day` holds for a day (UTC) of the session folder, whoever
    spends it; `per_step` for each step, over all attempts at it.
    """

    usd: float | None = None
    calls: int | None = None
    per_day: float | None = None
    per_step: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is not None and not value >= 0:
                raise RecipeError(f"a budget cannot be negative ({entry.name}={value})")

    @property
    def counts_money(self) -> bool:
        return not (self.usd is None and self.per_day is None and self.per_step is None)


class Spendings(Protocol):
    """What was spent from this folder so far, by all processes: the call cache knows."""

    def spent_usd(self, *, day: int | None = None, step: str | None = None) -> float: ...


@dataclass(slots=True)
class _Looked:
    """What a day or a step had spent when it was looked up, and what this process spent since."""

    usd: float
    at: float
    since: float = 0.0


class _Limit(NamedTuple):
    """One limit on money as it stands."""

    title: str
    usd: float
    spent: float
    out: float
    """On the wire."""
    hint: str = _KEPT


@dataclass(slots=True)
class _Out:
    """Calls on the wire."""

    usd: float = 0.0
    calls: int = 0
    by_step: dict[str, float] = field(default_factory=dict)


class Held:
    """What is put by for calls until they come back; `guess`: nothing bounds what they cost."""

    __slots__ = ("calls", "guess", "name", "step", "usd")

    def __init__(self, usd: float, calls: int, name: str, step: str, guess: bool) -> None:
        self.usd, self.calls, self.name, self.step, self.guess = usd, calls, name, step, guess


class _Guesses:
    """Calls of one deployment whose length nothing bounds."""

    def __init__(self) -> None:
        self.out: set[Held] = set()
        self.billed = 0
        self.dearest = 0.0


class Purse:
    """Spends a budget. A call is admitted when what was spent, what is on the wire and the call itself fit.

    Calls on the wire count with the most that they may cost, so that the limit holds although prices are only known
    afterwards; while some are out, a call that does not fit waits for them before it gives up. Where nothing bounds a
    reply, it counts as the dearest so far, those on the wire too when a dearer one comes, and the first few go nearly
    alone: a burst of them would be paid for before its price is known. Processes beside each other see what the
    others spent a second later, so together they may pass a day's limit by what they have on the wire. `warn` is told
    once when four fifths of a limit are spent.
    """

    def __init__(
        self,
        budget: Budget,
        spendings: Spendings | None = None,
        warn: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.budget = budget
        self.spent_usd = 0.0
        self.num_calls = 0
        self._spendings = spendings
        self._warn = warn
        self._clock = clock
        self._out = _Out()
        self._guesses: dict[str, _Guesses] = {}
        self._promised = _Out()
        """What batch jobs hold: nobody waits for it to come back."""
        self._looked: dict[int | str, _Looked] = {}
        self._warned: set[str] = set()
        self._returned: asyncio.Event | None = None
        self.owing: Callable[[], float] | None = None
        """What batch jobs hold that this run has nothing to do with: it counts towards the day."""
        self._owed = _Looked(0.0, float("-inf"))

    async def reserve(
        self, estimate_usd: float | None, name: str, num_calls: int = 1, *, step: str = "", guess: bool = False
    ) -> Held:
        """Admit calls of `estimate_usd` in all; raises `BudgetError` when they do not fit.

        `guess`: nothing bounds what the call may cost, and the estimate is only that. What is returned goes to
        `settle`.
        """
        if estimate_usd is None and self.budget.counts_money:
            raise _unpriced(name)
        estimate = estimate_usd or 0.0
        guesses = None
        if guess and estimate and self.budget.counts_money:
            guesses = self._guesses.get(name) or self._guesses.setdefault(name, _Guesses())
        while True:
            if guesses is not None:
                estimate = max(estimate, guesses.dearest)
            problem = self._problem(estimate, num_calls, step)
            if problem is None:
                if guesses is None or len(guesses.out) < _FEW + guesses.billed:
                    break
            elif self._out.calls == 0:
                raise problem
            self._returned = self._returned or asyncio.Event()
            await self._returned.wait()
        self._hold(self._out, estimate, num_calls, step)
        held = Held(estimate, num_calls, name, step, guesses is not None)
        if guesses is not None:
            guesses.out.add(held)
        return held

    def settle(self, held: Held, cost_usd: float | None, *, made: int) -> None:
        """Reserved calls have come back: `made` of them were answered, for `cost_usd`."""
        out = self._out
        if held.guess:
            self._learn(held, cost_usd or 0.0, made)
        out.usd -= held.usd
        out.calls -= held.calls
        if held.step in out.by_step:
            out.by_step[held.step] -= held.usd
        if out.calls == 0:
            self._out = _Out()  # rounding must not pile up
        self.spend(cost_usd or 0.0, made, step=held.step)
        if self._returned is not None:
            self._returned.set()
            self._returned = None

    def _learn(self, held: Held, cost_usd: float, made: int) -> None:
        """What is still on the wire may come to as much as this call did."""
        guesses = self._guesses[held.name]
        guesses.out.discard(held)
        guesses.billed += made
        if cost_usd <= guesses.dearest:
            return
        guesses.dearest = cost_usd
        for other in guesses.out:
            if other.usd < cost_usd:
                self._hold(self._out, cost_usd - other.usd, 0, other.step)
                other.usd = cost_usd

    def spend(self, cost_usd: float, num_calls: int, *, step: str = "") -> None:
        """Count what was paid."""
        self.spent_usd += cost_usd
        self.num_calls += num_calls
        for key in (self._today(), step):
            if key in self._looked:
                self._looked[key].since += cost_usd
        if self._warn is not None and cost_usd:
            for limit in self._limits(step):
                if limit.spent >= _WARN_AT * limit.usd and limit.title not in self._warned:
                    self._warned.add(limit.title)
                    self._warn(f"${limit.spent:.2f} of {limit.title} (${limit.usd:g}) are spent")

    def promise(self, estimate_usd: float | None, name: str, num_calls: int, *, step: str = "") -> None:
        """Admit a batch job; raises `BudgetError` when it does not fit, whatever may come back meanwhile."""
        if estimate_usd is None and self.budget.counts_money:
            raise _unpriced(name)
        problem = self._problem(estimate_usd or 0.0, num_calls, step)
        if problem is not None:
            raise problem
        self.hold(estimate_usd, num_calls, step=step)

    def hold(self, estimate_usd: float | None, num_calls: int, *, step: str = "") -> None:
        """A batch job is under way, whoever sent it, and will be paid for: it counts whether it fits or not."""
        self._hold(self._promised, estimate_usd or 0.0, num_calls, step)

    def release(self, estimate_usd: float | None, num_calls: int, *, step: str = "") -> None:
        """A batch job is over; what it cost was told by `spend`."""
        self._hold(self._promised, -(estimate_usd or 0.0), -num_calls, step)

    @staticmethod
    def _hold(out: _Out, usd: float, num_calls: int, step: str) -> None:
        out.usd += usd
        out.calls += num_calls
        out.by_step[step] = out.by_step.get(step, 0.0) + usd

    def room(self) -> int | None:
        """Calls that may still be made, those on the wire counted; None without a limit."""
        if self.budget.calls is None:
            return None
        return max(0, self.budget.calls - self.num_calls - self._out.calls - self._promised.calls)

    def room_usd(self, step: str) -> float | None:
        """Dollars that may still be spent for a step, those that are held counted; None without a limit."""
        return min((limit.usd - limit.spent - limit.out for limit in self._limits(step)), default=None)

    def _limits(self, step: str) -> list[_Limit]:
        budget, found = self.budget, []
        out = self._out.usd + self._promised.usd
        if budget.usd is not None:
            found.append(_Limit("the run's budget", budget.usd, self.spent_usd, out))
        if budget.per_day is not None:
            hint = "It goes on with the same command tomorrow (UTC), or today with a larger `per_day`."
            found.append(
                _Limit("the day's budget", budget.per_day, self._spent(self._today()), out + self._owes(), hint)
            )
        if budget.per_step is not None and step:
            title = f"the budget of the step {step[:8]}"
            out = self._out.by_step.get(step, 0.0) + self._promised.by_step.get(step, 0.0)
            found.append(_Limit(title, budget.per_step, self._spent(step), out))
        return found

    def _problem(self, estimate_usd: float, num_calls: int, step: str) -> BudgetError | None:
        calls = self.budget.calls
        if calls is not None and self.num_calls + self._out.calls + self._promised.calls + num_calls > calls:
            jobs = f" ({self._promised.calls:,} in batch jobs)" if self._promised.calls else ""
            return BudgetError(f"the budget of {calls:,} calls is used up{jobs}", _KEPT)
        if estimate_usd <= 0:
            return None
        for limit in self._limits(step):
            if limit.spent + limit.out + estimate_usd > limit.usd:
                held = self._promised.usd + (self._owed.usd if limit.usd == self.budget.per_day else 0.0)
                jobs = f"${held:.4f} in batch jobs, " if held > 0 else ""
                return BudgetError(
                    f"{limit.title} of ${limit.usd:g} is used up: ${limit.spent:.4f} spent, {jobs}"
                    f"the next call may cost ${estimate_usd:.4f}",
                    limit.hint,
                )
        return None

    def _owes(self) -> float:
        """What jobs of other runs hold."""
        if self.owing is not None and time.monotonic() - self._owed.at > _LOOK_SECONDS:
            self._owed = _Looked(self.owing(), time.monotonic())
        return self._owed.usd

    def _spent(self, key: int | str) -> float:
        """By a step or on a day."""
        looked, now = self._looked.get(key), time.monotonic()
        if self._spendings is None:
            return 0.0 if looked is None else looked.since
        if looked is None or now - looked.at > _LOOK_SECONDS:
            known = self._spendings
            usd = known.spent_usd(day=key) if isinstance(key, int) else known.spent_usd(step=key)
            looked = self._looked[key] = _Looked(usd, now)
        return looked.usd + looked.since

    def _today(self) -> int:
        return int(self._clock() // _SECONDS_OF_DAY)


def _unpriced(name: str) -> BudgetError:
    return BudgetError(
        f"the budget cannot be kept: the price of `{name}` is not known",
        f"Give it: `Session(prices={{{name!r}: Price(prompt=…, reply=…)}})`, in dollars for a million tokens.",
    )
