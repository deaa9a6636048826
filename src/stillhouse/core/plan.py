"""What a run would do before it does it: cached, to run and why, calls, tokens, money, memory, time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .artifact import Rows
from .definition import Difference, define, differences
from .execution import Execution, graph
from .step import GrowStep, MapStep, Step

if TYPE_CHECKING:
    from .session import Session


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest earlier record of a kind of step, and how the present definition differs from it."""

    build_key: str | None
    differences: list[Difference]


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a step is expected to take; None where nothing is known. Money in US dollars, time in seconds.

    `rows` is how many rows come out; a step may give it in `expect(rows_in)`.
    """

    rows: int | None = None
    calls: int | None = None
    """Calls that will be made."""
    cached_calls: int | None = None
    """Calls whose replies are kept; None where that was not looked at."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One step of a plan.

    `state` is `cached`, `run`, or `may be cut off`: an input is made again and may come out equal.
    """

    tag: str
    recipe_key: str
    state: str
    rows_in: int | None
    expectation: Expectation
    unfinished: bool
    reasons: list[Difference]
    unanswered: int = 0
    """Rows that got no answer when the step was made before: they are asked again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run in order."""

    steps: list[Planned] = field(default_factory=list)

    @property
    def to_run(self) -> list[Planned]:
        return [step for step in self.steps if step.state != "cached"]

    def total(self, name: str) -> float | None:
        """Sum of one expectation over the steps to run (the most, of memory); None when no step knows it."""
        known = [getattr(step.expectation, name) for step in self.to_run]
        found = [value for value in known if value is not None]
        if known and not found:
            return None
        return max(found, default=0) if name == "memory_bytes" else sum(found)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        total = {name: self.total(name) for name in TOTALS}
        return {"steps": [_step_dict(step) for step in self.steps], "total": total}

    def __str__(self) -> str:
        lines = [_line("step", "state", ("rows", "calls", "tokens", "cost", "time", "memory"))]
        for step in self.steps:
            state = f"{step.state} (begun)" if step.unfinished else step.state
            cells = _cells(partial(getattr, step.expectation))
            lines.append(_line(step.tag, state, (_count(step.rows_in), *cells)))
            lines += [f"    {asked_again(step.unanswered)}"] if step.unanswered else []
            kept = step.expectation.cached_calls
            lines += [f"    {kept:,} more calls are kept or in batch jobs already"] if kept else []
            lines += [f"    {reason}" for reason in step.reasons[:5]]
            if len(step.reasons) > 5:
                lines.append(f"    … and {len(step.reasons) - 5} more fields (`stillhouse why`)")
        calls, tokens, cost, seconds, memory = _cells(self.total)
        what = f"calls {calls}, tokens {tokens}, cost {cost}, time {seconds}, memory {memory}"
        lines.append(f"{len(self.to_run)} of {len(self.steps)} steps to run; {what}")
        return "\n".join(lines)


TOTALS = ("calls", "cached_calls", "tokens_in", "tokens_out", "cost_usd", "seconds", "memory_bytes")


def _line(tag: str, state: str, cells: tuple[str, ...]) -> str:
    widths = (9, 8, 10, 9, 8, 8)
    return " ".join(
        [f"{tag:<28} {state:<16}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))]
    )


def _cells(value_of: Callable[[str], float | None]) -> tuple[str, str, str, str, str]:
    """Calls, tokens, money, time and memory in words."""
    known = [tokens for name in ("tokens_in", "tokens_out") if (tokens := value_of(name)) is not None]
    return (
        _count(value_of("calls")),
        _count(sum(known) if known else None),
        _money(value_of("cost_usd")),
        _time(value_of("seconds")),
        _memory(value_of("memory_bytes")),
    )


def asked_again(unanswered: int) -> str:
    """Why a step that was made before is made again, in words."""
    rows = "1 row" if unanswered == 1 else f"{unanswered:,} rows"
    return f"{rows} got no answer last time: asked again"


def _step_dict(step: Planned) -> dict[str, Any]:
    expectation = {name: getattr(step.expectation, name) for name in Expectation.__slots__}
    reasons = [{"field": reason.field, "before": reason.before, "now": reason.now} for reason in step.reasons]
    fields = {
        name: getattr(step, name) for name in ("tag", "recipe_key", "state", "rows_in", "unfinished", "unanswered")
    }
    return {**fields, "expectation": expectation, "reasons": reasons}


def _count(value: float | None) -> str:
    return "?" if value is None else f"{int(value):,}"


def _money(value: float | None) -> str:
    return "?" if value is None else f"${value:,.2f}"


def _memory(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value / 1e9:.1f} GB" if value >= 1e8 else f"{value / 1e6:.0f} MB"


def _time(value: float | None) -> str:
    if value is None:
        return "?"
    minutes, seconds = divmod(int(value), 60)
    return f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


def make_plan(session: Session, steps: tuple[Step[Any], ...]) -> Plan:
    """The plan of a run. Reads the store and the input files; asks no model, trains nothing."""
    execution = Execution(session)
    missing = execution.missing(steps)
    rebuilt = {execution.book.recipe(step) for step in missing}
    planned: dict[str, Planned] = {}
    earlier = Earlier(execution)
    for step in graph(steps, execution.book):
        key = execution.book.recipe(step)
        expected = _rows_in(step, execution, planned)
        if key not in rebuilt:
            planned[key] = Planned(step.tag, key, "cached", expected, _cached(execution, step), False, [])
            continue
        known = session.store.entry(key)
        under = any(execution.book.recipe(execution.source(child)[0]) in rebuilt for child in step.inputs())
        unanswered = 0 if known is None else int(known.get("unanswered", 0))
        state = "may be cut off" if known is not None and under and not unanswered else "run"
        found = nearest(execution, step, earlier)
        planned[key] = Planned(
            step.tag,
            key,
            state,
            expected,
            _counted(step, execution, session, _expect(step, expected, session, found, unanswered)),
            _begun(execution, step),
            found.differences,
            unanswered,
        )
    return Plan(list(planned.values()))


def _cached(execution: Execution, step: Step[Any]) -> Expectation:
    artifact = execution.cached(step)
    counts = artifact.record.get("counts", {}) if artifact is not None else {}
    return Expectation(
        rows=counts.get("out"), calls=0, tokens_in=0, tokens_out=0, cost_usd=0.0, seconds=0.0, memory_bytes=0
    )


def _rows_in(step: Step[Any], execution: Execution, planned: Mapping[str, Planned]) -> int | None:
    """Rows that the first input gives: known when it is made, else as it expects."""
    for child in step.inputs():
        artifact = execution.cached(child)
        if isinstance(artifact, Rows):
            return len(artifact)
        if artifact is None:
            entry = planned.get(execution.book.recipe(execution.source(child)[0]))
            return entry.expectation.rows if entry is not None else None
    return None


def _expect(step: Step[Any], rows_in: int | None, session: Session, found: Nearest, unanswered: int) -> Expectation:
    """What the step itself says (`expect`), else what the nearest earlier run of its kind took, by rows."""
    own = getattr(step, "expect", None)
    if own is not None:
        expectation: Expectation = own(rows_in, session)
        if unanswered and isinstance(step, MapStep):  # the other rows' replies are kept
            again: Expectation = own(unanswered, session)
            return replace(again, rows=expectation.rows)
        return expectation
    out = rows_in if isinstance(step, MapStep | GrowStep) or type(step).makes() is Rows else None
    artifact = session.store.open(found.build_key) if found.build_key else None
    seconds = None
    if artifact is not None:
        seconds = artifact.record["finished"] - artifact.record["started"]
        before = artifact.record.get("counts", {}).get("in") or artifact.record.get("counts", {}).get("out")
        if before and rows_in:
            seconds *= rows_in / before
    return Expectation(rows=out, seconds=seconds)


def _counted(step: Step[Any], execution: Execution, session: Session, expectation: Expectation) -> Expectation:
    """Calls that are kept are told from those that will be made, where the step's rows are there."""
    if not isinstance(step, MapStep) or not expectation.calls:
        return expectation
    return session.count_calls(step, execution, expectation)


def _begun(execution: Execution, step: Step[Any]) -> bool:
    """Whether an earlier attempt at this very build left work that will be taken up."""
    digests = {}
    for child in step.inputs():
        artifact = execution.cached(child)
        if artifact is None:
            return False
        digests[execution.book.recipe(child)] = artifact.digest
    build_key = execution.book.build(step, lambda child: digests[execution.book.recipe(child)])
    return (execution.store.work_folder(build_key) / "scratch").exists()


class Earlier:
    """The index as it is now, read once, and the definitions of the steps that are held against it."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._entries = dict(execution.store.entries())
        self._present: dict[str, Mapping[str, Any]] = {}

    def of_kind(self, tag: str) -> Iterator[Mapping[str, Any]]:
        """The index entries of a tag, whatever its number."""
        name = tag.partition("/")[0]
        return (entry for entry in self._entries.values() if str(entry.get("tag", "")).partition("/")[0] == name)

    def present(self, step: Step[Any]) -> Mapping[str, Any]:
        """The definition of a step, that of all it is made from being known after this."""
        for each in graph((step,), self._execution.book):
            key = self._execution.book.recipe(each)
            if key not in self._present:
                self._present[key] = define(each, self._execution.book)
        return self._present[self._execution.book.recipe(step)]

    def recall(self, key: str) -> Mapping[str, Any] | None:
        """The definition behind a recipe key."""
        entry = self._entries.get(key)
        return self._present.get(key) or (None if entry is None else entry["definition"])


def nearest(execution: Execution, step: Step[Any], earlier: Earlier | None = None) -> Nearest:
    """The earlier record of the same kind that differs in the fewest fields (of equal ones, the newest)."""
    step, _ = execution.source(step)
    earlier = earlier or Earlier(execution)
    now = earlier.present(step)
    best: tuple[int, float, str, list[Difference]] | None = None
    for entry in earlier.of_kind(step.tag):
        found = differences(entry["definition"], now, earlier.recall)
        rank = (len(found), -float(entry.get("time", 0)), str(entry["build_key"]), found)
        if best is None or rank[:2] < best[:2]:
            best = rank
    return Nearest(None, []) if best is None else Nearest(best[2], best[3])
