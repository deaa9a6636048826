"""What a run would do before it does it: cached, to run and why, calls, tokens, money, memory, time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .artifact import Rows
from .definition import Difference, define, differences
from .execution import Execution
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
        """Sum of one expectation over the steps to run; None when no step knows it."""
        known = [getattr(step.expectation, name) for step in self.to_run]
        found = [value for value in known if value is not None]
        return sum(found) if found else None

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        names = ("calls", "tokens_in", "tokens_out", "cost_usd", "seconds")
        return {"steps": [_step_dict(step) for step in self.steps], "total": {name: self.total(name) for name in names}}

    def __str__(self) -> str:
        lines = [f"{'step':<28} {'state':<16} {'rows':>9} {'calls':>8} {'cost':>9} {'time':>8}"]
        for step in self.steps:
            expect = step.expectation
            cells = (_count(step.rows_in), _count(expect.calls), _money(expect.cost_usd), _time(expect.seconds))
            state = f"{step.state} (begun)" if step.unfinished else step.state
            lines.append(f"{step.tag:<28} {state:<16} {cells[0]:>9} {cells[1]:>8} {cells[2]:>9} {cells[3]:>8}")
            lines += [f"    {asked_again(step.unanswered)}"] if step.unanswered else []
            lines += [f"    {reason}" for reason in step.reasons[:5]]
            if len(step.reasons) > 5:
                lines.append(f"    … and {len(step.reasons) - 5} more fields (`stillhouse why`)")
        calls, cost, seconds = self.total("calls"), self.total("cost_usd"), self.total("seconds")
        what = f"calls {_count(calls)}, cost {_money(cost)}, time {_time(seconds)}"
        lines.append(f"{len(self.to_run)} of {len(self.steps)} steps to run; {what}")
        return "\n".join(lines)


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
    for step in _in_order(steps, execution):
        key = execution.book.recipe(step)
        expected = _rows_in(step, execution, planned)
        if key not in rebuilt:
            planned[key] = Planned(step.tag, key, "cached", expected, _cached(execution, step), False, [])
            continue
        known = session.store.entry(key)
        under = any(execution.book.recipe(execution.source(child)[0]) in rebuilt for child in step.inputs())
        unanswered = 0 if known is None else int(known.get("unanswered", 0))
        state = "may be cut off" if known is not None and under and not unanswered else "run"
        found = nearest(execution, step)
        planned[key] = Planned(
            step.tag,
            key,
            state,
            expected,
            _expect(step, expected, session, found, unanswered),
            _begun(execution, step),
            found.differences,
            unanswered,
        )
    return Plan(list(planned.values()))


def _in_order(steps: tuple[Step[Any], ...], execution: Execution) -> Iterator[Step[Any]]:
    seen: set[str] = set()

    def visit(step: Step[Any]) -> Iterator[Step[Any]]:
        step, _ = execution.source(step)
        key = execution.book.recipe(step)
        if key in seen:
            return
        seen.add(key)
        for child in step.inputs():
            yield from visit(child)
        yield step

    for step in steps:
        yield from visit(step)


def _cached(execution: Execution, step: Step[Any]) -> Expectation:
    artifact = execution.cached(step)
    counts = artifact.record.get("counts", {}) if artifact is not None else {}
    return Expectation(rows=counts.get("out"), calls=0, cost_usd=0.0, seconds=0.0)


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


def nearest(execution: Execution, step: Step[Any]) -> Nearest:
    """The earlier record of the same kind that differs in the fewest fields (of equal ones, the newest)."""
    step, _ = execution.source(step)
    store = execution.store
    now = define(step, execution.book)
    name = step.tag.partition("/")[0]
    definitions = {execution.book.recipe(step): now}
    for child in _in_order((step,), execution):
        definitions[execution.book.recipe(child)] = define(child, execution.book)

    def recall(key: str) -> Mapping[str, Any] | None:
        if key in definitions:
            return definitions[key]
        entry = store.entry(key)
        return None if entry is None else entry["definition"]

    best: tuple[int, float, str, list[Difference]] | None = None
    for _, entry in store.entries():
        if str(entry.get("tag", "")).partition("/")[0] != name:
            continue
        found = differences(entry["definition"], now, recall)
        rank = (len(found), -float(entry.get("time", 0)), str(entry["build_key"]), found)
        if best is None or rank[:2] < best[:2]:
            best = rank
    return Nearest(None, []) if best is None else Nearest(best[2], best[3])
