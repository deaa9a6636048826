"""Marking the rows of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.artifact import Rows
from ..core.context import Context
from ..core.outcome import Emit, Outcome, Row
from ..measure.intervals import wilson
from ..measure.verdict import Verdict
from ..measure.verify import verdicts
from ..rows.transform import lacks, missing_column
from ._asking import refuse_taken

if TYPE_CHECKING:
    from .verify import Verify


def verifying(step: Verify, context: Context) -> Callable[[Sequence[Row]], list[Outcome]]:
    source = context.get(step.rows)
    if lacks(source, step.column):
        raise missing_column("Verify", step.column, source.columns)
    refuse_taken("Verify", source, (step.name, f"{step.name}_reason"), "Give another `name`.")

    def verified(rows: Sequence[Row]) -> list[Outcome]:
        replies = [row[step.column] for row in rows]
        pairs = [(row, _text(reply)) for row, reply in zip(rows, replies, strict=True) if reply is not None]
        said = iter(verdicts(step.where, pairs))
        outcomes: list[Outcome] = []
        for row, reply in zip(rows, replies, strict=True):
            verdict = Verdict(False, "there is no reply") if reply is None else next(said)
            outcomes.append(Emit(({**row, step.name: verdict.accepted, f"{step.name}_reason": verdict.reason},)))
        return outcomes

    return verified


def _text(reply: object) -> str:
    return reply if isinstance(reply, str) else str(reply)


def summary(step: Verify, made: Rows) -> Mapping[str, Any]:
    accepted = total = 0
    for row in made:
        accepted += row[step.name]
        total += 1
    if total == 0:
        return {"accepted": {"rows": 0, "share": None}}
    return {"accepted": {"rows": accepted, "share": accepted / total, **wilson(accepted, total)._asdict()}}
