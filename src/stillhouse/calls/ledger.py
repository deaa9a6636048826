"""What calls were made and what they cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .reply import Usage

if TYPE_CHECKING:
    from stillhouse.core.events import Bus

_EVENT_SECONDS = 0.1


@dataclass(slots=True)
class Totals:
    """Sums over calls. `cost_usd` covers the priced ones; `unpriced` counts the replies whose price nobody knows."""

    calls: int = 0
    """Requests that a provider answered."""
    cached: int = 0
    """Requests answered without a call: from the cache, or together with an equal one."""
    retries: int = 0
    """Attempts that failed and were made again."""
    failed: int = 0
    """Rows that got no answer."""
    repaired: int = 0
    """Structured replies that had to be mended."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompts, those that the provider had in its own cache."""
    reasoning_tokens: int = 0
    """Of the replies, those that nobody sees."""
    cost_usd: float = 0.0
    unpriced: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def add(self, other: Totals) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_reply(self, usage: Usage, cost_usd: float | None) -> None:
        """Count one answered call."""
        self.calls += 1
        self.prompt_tokens += usage.prompt_tokens
        self.reply_tokens += usage.reply_tokens
        self.cached_tokens += usage.cached_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.cost_usd += cost_usd


class _PaidAlone(Totals):
    """Hands on what was paid, and drops what is only counted."""

    __slots__ = ("_totals",)

    def __init__(self, totals: Totals) -> None:
        super().__init__()
        self._totals = totals

    def add_reply(self, usage: Usage, cost_usd: float | None) -> None:
        self._totals.add_reply(usage, cost_usd)


class Ledger:
    """Totals by model, and their publication: `call.done` events with what was added since, ten a second at most.

    What a ledger publishes is added to its parent's totals too. `facts` stand in each of its events.
    """

    def __init__(self, bus: Bus, parent: Ledger | None = None, **facts: Any) -> None:
        self._bus = bus
        self._parent = parent
        self._facts = facts
        self.step = str(facts.get("key", ""))
        """Build key of the step whose bill this is; empty where it is the session's."""
        self._by_model: dict[str, Totals] = {}
        self._new: dict[str, Totals] = {}
        self._timer: asyncio.TimerHandle | None = None

    def entry(self, model: str) -> Totals:
        """Where to add what `model` did just now; it is published within a tenth of a second."""
        totals = self._new.get(model)
        if totals is None:
            totals = self._new[model] = Totals()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVENT_SECONDS, self.flush)
        return totals

    def warn(self, message: str) -> None:
        """Say what a person should know."""
        self._bus.publish("warning", message=message, **self._facts)

    def flush(self) -> None:
        """Publish what is not published yet."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        fresh, self._new = self._new, {}
        for model, totals in fresh.items():
            self._by_model.setdefault(model, Totals()).add(totals)
            if self._parent is not None:
                self._parent._by_model.setdefault(model, Totals()).add(totals)
        for model, totals in fresh.items():
            self._bus.publish("call.done", model=model, **self._facts, **totals.as_dict())

    def by_model(self, children: Iterable[Ledger] = ()) -> dict[str, Totals]:
        """Totals so far, by the name of the model or deployment; with what `children` have not published yet."""
        summed: dict[str, Totals] = {}
        for source in (self._by_model, self._new, *(child._new for child in children)):
            for model, totals in list(source.items()):
                summed.setdefault(model, Totals()).add(totals)
        return summed

    def total(self) -> Totals:
        """Totals so far, over all models."""
        whole = Totals()
        for totals in self.by_model().values():
            whole.add(totals)
        return whole


class Rehearsal(Ledger):
    """The ledger of a pass whose rows are thrown away: what it pays is paid, what it finds will be found again."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger._bus, **ledger._facts)
        self._paid = ledger

    def entry(self, model: str) -> Totals:
        return _PaidAlone(self._paid.entry(model))
