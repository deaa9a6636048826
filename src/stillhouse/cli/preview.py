"""The first replies, shown before the rest is paid for."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .output import say, table
from .parser import UsageError

if TYPE_CHECKING:
    from ..core.artifact import Rows
    from ..core.session import Session
    from ..core.step import Step


@dataclass(frozen=True)
class Seen:
    """One asking step of a preview: what it made of a few rows, and what the whole is expected to take."""

    step: str
    rows: int
    failed: int
    calls: int
    cost_usd: float | None
    calls_to_come: int | None
    """Calls of the whole run, those of the preview included."""
    cost_to_come: float | None
    """Money of the whole run: that of the preview, and of what is not kept by then."""

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def preview(session: Session, step: Step[Any], num_rows: int) -> list[Seen]:
    """Take a few rows as far as models are asked and show what came; what is asked here is not asked again later."""
    from ..core.artifact import Rows
    from .limit import limited
    from .money import asking_steps, expected_bill

    short = limited(step, num_rows)
    pairs = zip(asking_steps(short), asking_steps(step), strict=False)
    tables = [(few, all_rows) for few, all_rows in pairs if type(few).makes() is Rows]
    if not tables:
        say("no step of this recipe makes rows by asking a model: there is nothing to preview")
        return []
    bill = expected_bill(session, tables[-1][0], session.plan([few for few, _ in tables]))
    if not bill.free:
        say(f"the preview: {bill}")
    seen = []
    for few, all_rows in tables:
        rows: Rows = session.run(few)
        _show(few, rows, num_rows)
        seen.append(_seen(session, few, all_rows, rows))
    say(_table(seen))
    return seen


def go_on(*, yes: bool) -> bool:
    """Whether the rest is to be made: asked on a terminal; without one only `--yes` says so.

    Raises `UsageError` where the answer is no.
    """
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        say("that was the preview; the same command with `--yes` makes the rest")
        return False
    sys.stderr.write("Go on with the rest? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("nothing more was spent")
    return True


def _show(step: Step[Any], rows: Rows, num_rows: int) -> None:
    from ..rows.preview import preview as as_table

    width = max(60, shutil.get_terminal_size().columns)
    say(f"{step.tag.partition('/')[0]}: {len(rows):,} rows\n{as_table(rows, num_rows, width=width)}")
    for row in list(rows.failed())[:3]:
        raw = "" if row["raw"] is None else f": {row['raw'][:200]!r}"
        say(f"  failed: {row['kind']}: {row['message']}{raw}")
    say("")


def _seen(session: Session, few: Step[Any], all_rows: Step[Any], rows: Rows) -> Seen:
    spent = rows.record.get("calls", {}).get("total", {})
    made, cost = spent.get("calls", 0), None if spent.get("unpriced") else spent.get("cost_usd", 0.0)
    expected = {planned.recipe_key: planned.expectation for planned in session.plan(all_rows).to_run}
    known = expected.get(all_rows.recipe_key)
    calls = None if known is None or known.calls is None else known.calls + (known.cached_calls or 0)
    to_come = None if known is None else known.cost_usd
    if known is not None and known.calls is not None and cost is not None and made:
        # What was seen tells more than what was guessed. What is kept, by this preview or earlier, is not paid again.
        rest = max(0, known.calls - made) if known.cached_calls is None else known.calls
        to_come = cost + cost / made * rest
    failed = rows.record["counts"].get("failed", 0)
    name = few.tag.partition("/")[0]
    return Seen(name, len(rows), failed, made + spent.get("cached", 0), cost, calls, to_come)


def _table(seen: list[Seen]) -> str:
    lines = [
        (one.step, one.rows, one.failed, one.calls, _money(one.cost_usd), one.calls_to_come, _money(one.cost_to_come))
        for one in seen
    ]
    return table(lines, ["previewed", "rows", "failed", "calls", "cost", "calls in all", "cost in all"])


def _money(value: float | None) -> str:
    return "?" if value is None else f"${value:,.4f}"
