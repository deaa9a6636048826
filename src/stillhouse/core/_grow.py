"""Running a grow step: a window of calls at once, accepted in order, journaled call by call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

from ._map import too_many_failures, with_unanswered
from .context import Context
from .errors import EXHAUSTED, ModelError, RowFault
from .journal import Journal
from .outcome import Drop, Emit, Fail, Row
from .step import Following, Grower, GrowStep
from .writer import RowsWriter


class Prefix(Sequence[Row]):
    """The first `length` rows of a list that goes on growing behind them; nothing is copied."""

    __slots__ = ("_length", "_rows")

    def __init__(self, rows: list[Row], length: int) -> None:
        self._rows, self._length = rows, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self._rows[place] for place in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(index)
        return self._rows[index + self._length if index < 0 else index]

    def __iter__(self) -> Iterator[Row]:
        for place in range(self._length):
            yield self._rows[place]


async def run_grow(step: GrowStep, context: Context) -> dict[str, Any]:
    """Ask and accept until the grower is done; returns the reason and the counts of calls."""
    grower = step.grower(context)
    journal = Journal(context.scratch / "calls.jsonl")
    run = _Growth(step, context, grower, journal)
    try:
        run.restore()
        reason = await run.grow()
    finally:
        await run.cancel()
        journal.close()
    run.writer.close()
    context.note(calls=run.num_accepted, stopped=reason, failed_calls=run.failed_calls)
    counts = with_unanswered({"in": run.num_accepted, **run.writer.counts}, run.unanswered)
    return {"counts": counts, "digest": run.writer.digest}


class _Growth:
    """The state of one growth: accepted rows, how many stood after each call, calls in flight."""

    def __init__(self, step: GrowStep, context: Context, grower: Grower[Any], journal: Journal) -> None:
        self.step, self.context, self.grower, self.journal = step, context, grower, journal
        self.writer: RowsWriter = context.rows()
        self.accepted: list[Row] = []
        self.after: list[int] = []  # after[i]: number of rows accepted from calls 0 … i
        self.failed_calls = 0
        self.unanswered = 0
        """Calls without an answer since the last that brought rows. Earlier ones were made up for: asking them again
        would change what every call after them is shown."""
        self.examples: list[Fail] = []
        self.in_flight: dict[int, asyncio.Task[Any]] = {}

    @property
    def num_accepted(self) -> int:
        return len(self.after)

    def restore(self) -> None:
        """Take up what an earlier attempt accepted."""
        kinds: dict[str, Callable[..., Emit | Drop | Fail]] = {"emit": Emit, "drop": Drop, "fail": Fail}
        entries = list(self.journal.entries())
        calls = [[kinds[kind](**fields) for kind, fields in entry["outcomes"]] for entry in entries]
        final = _num_final(calls)
        self.journal.keep(entries[:final])
        for outcomes in calls[:final]:
            self._take(outcomes)

    async def grow(self) -> str:
        while (reason := self.grower.finished(self.num_accepted, Prefix(self.accepted, len(self.accepted)))) is None:
            self.context.check_stop()
            self._launch()
            call = self.num_accepted
            outcomes = await self._answer(call)
            self._journal(outcomes)
            self._take(outcomes)
            self._watch()
            self.context.progress(len(self.accepted), unit="rows", calls=self.num_accepted)
        return reason

    def _launch(self) -> None:
        for call in range(self.num_accepted, self.num_accepted + self.step.window):
            if call in self.in_flight:
                continue
            last = call - self.step.window
            seen = Prefix(self.accepted, self.after[last] if last >= 0 else 0)
            if call > self.num_accepted and self._is_last(call, seen):
                break
            self.in_flight[call] = asyncio.ensure_future(self.grower.ask(call, seen))

    def _is_last(self, call: int, seen: Sequence[Row]) -> bool:
        """Whether the grower needs no such call by what it sees; what it raises counts when it is its turn."""
        try:
            return self.grower.finished(call, seen) is not None
        except ModelError:
            return True

    async def _answer(self, call: int) -> Sequence[Emit | Drop | Fail]:
        task = self.in_flight.pop(call)
        while not task.done():
            await asyncio.wait([task], timeout=0.2)
            if self.context.stopping:
                task.cancel()
                self.context.check_stop()
        try:
            answer = task.result()
            return self.grower.accept(call, answer, Prefix(self.accepted, len(self.accepted)))
        except RowFault as fault:
            return [Fail(fault.kind, fault.message, fault.raw)]

    def _journal(self, outcomes: Sequence[Emit | Drop | Fail]) -> None:
        listed = [(type(outcome).__name__.lower(), _fields(outcome)) for outcome in outcomes]
        self.journal.append({"call": self.num_accepted, "outcomes": listed})

    def _take(self, outcomes: Sequence[Emit | Drop | Fail]) -> None:
        made = 0
        for outcome in outcomes:
            if isinstance(outcome, Emit):
                for content in outcome.rows:
                    made_id = self.writer.emit(content, tuple(outcome.parents or ()), tuple(outcome.calls))
                    self.accepted.append({"_id": made_id, **content})
                    made += 1
            elif isinstance(outcome, Drop):
                self.writer.drop({"call": len(self.after)}, outcome.reason, outcome.detail)
            else:
                self.writer.fail({"call": len(self.after)}, outcome.kind, outcome.message, outcome.raw)
                self.examples = [*self.examples, outcome][:3]
        if made == 0 and outcomes and all(isinstance(outcome, Fail) for outcome in outcomes):
            self.failed_calls += 1
        self.unanswered = 0 if made else self.unanswered + _is_unanswered(outcomes)
        self.after.append(len(self.accepted))
        if isinstance(self.grower, Following):
            self.grower.took(len(self.after) - 1, outcomes)

    def _watch(self) -> None:
        look = self.context.options.first_look
        if self.failed_calls >= look and self.failed_calls == self.num_accepted:
            raise too_many_failures(type(self.step).__name__, self.failed_calls, self.num_accepted, self.examples)

    async def cancel(self) -> None:
        for task in self.in_flight.values():
            task.cancel()
        await asyncio.gather(*self.in_flight.values(), return_exceptions=True)


def _num_final(calls: Sequence[Sequence[Emit | Drop | Fail]]) -> int:
    """How many calls stay as they are: all up to the first without an answer that none with rows comes after.

    None where all failed: what they failed of may be mended since.
    """
    if all(isinstance(outcome, Fail) for outcomes in calls for outcome in outcomes):
        return 0
    final = len(calls)
    for call in range(len(calls) - 1, -1, -1):
        if any(isinstance(outcome, Emit) for outcome in calls[call]):
            break
        if _is_unanswered(calls[call]):
            final = call
    return final


def _is_unanswered(outcomes: Sequence[Emit | Drop | Fail]) -> bool:
    return any(isinstance(outcome, Fail) and outcome.kind == EXHAUSTED for outcome in outcomes)


def _fields(outcome: Emit | Drop | Fail) -> dict[str, Any]:
    if isinstance(outcome, Emit):
        rows = [dict(row) for row in outcome.rows]
        return {"rows": rows, "calls": list(outcome.calls), "parents": list(outcome.parents or ())}
    return {name: getattr(outcome, name) for name in outcome.__slots__}
