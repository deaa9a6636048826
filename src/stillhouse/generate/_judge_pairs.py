"""Judging the pairs of a chunk in one go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Outcome, Row
from ..rows.transform import lacks, missing_column
from ._asking import failed, refuse_taken, text_of
from ._judging import Pair, Tally, opinions, settled
from .template import Template

if TYPE_CHECKING:
    from .judge_pairs import JudgePairs

NAME = "JudgePairs"


def judge(step: JudgePairs, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    source, fill, calls = context.get(step.rows), Template(step.instruction), context.calls
    for column in (step.a, step.b):
        if lacks(source, column):
            raise missing_column(NAME, column, source.columns)
    refuse_taken(NAME, source, (step.column, step.evidence), "Give other names in `column` and `evidence`.")
    judges = step.judge

    async def judged(rows: Sequence[Row]) -> list[Outcome]:
        pairs: list[Pair] = []
        outcomes: dict[int, Outcome] = {}
        for place, row in enumerate(rows):
            try:
                pairs.append(Pair(fill(row), text_of(NAME, row, step.a), text_of(NAME, row, step.b)))
            except RowFault as fault:
                outcomes[place] = failed(fault)
        heard = iter(await opinions(calls, judges, pairs))
        for place, row in enumerate(rows):
            if place in outcomes:
                continue
            said = next(heard)
            try:
                winner = settled(said)
            except RowFault as fault:
                outcomes[place] = failed(fault)
                continue
            made = {**row, step.column: winner, step.evidence: [opinion.column() for opinion in said]}
            outcomes[place] = Emit((made,), tuple(key for opinion in said for key in opinion.keys))
        return [outcomes[place] for place in range(len(rows))]

    return judged


def summary(step: JudgePairs, made: Rows) -> Mapping[str, Any]:
    tally = Tally()
    for row in made:
        tally.add(row[step.column], row[step.evidence])
    return tally.facts()
