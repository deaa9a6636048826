"""Several models asked the same: each is heard, and how they differ is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from ..calls.answer import Answer
from ..calls.ask import Ask
from ..calls.request import Prompt as Question
from ..core.artifact import Rows
from ..core.errors import EXHAUSTED, RowFault
from ._asking import most_passing
from ._scores import Spread


async def heard(calls: Any, panel: Sequence[Ask], asked: Sequence[Question]) -> list[list[Answer | RowFault]]:
    """The answers of each to all questions, in order."""
    if not asked:
        return [[] for _ in panel]
    return [*await asyncio.gather(*(calls.ask_many(by, asked) for by in panel))]


def refuse_unheard(opinions: Sequence[object]) -> None:
    """Raise the `RowFault` of a row on which nobody gave an opinion, or on which one may give it another time."""
    faults = [opinion for opinion in opinions if isinstance(opinion, RowFault)]
    if faults and (len(faults) == len(opinions) or any(fault.kind == EXHAUSTED for fault in faults)):
        raise most_passing(faults)


def between(made: Rows, column: str) -> Mapping[str, Any]:
    """How the judges of a panel differ: for each its own scores, the rows on which it gave none, and how far it lies
    above the mean of all, in the mean; and `apart`, the mean difference of the highest and the lowest score of a row.

    Rows that one judge alone scored tell nothing of both. Reads the column of evidence: a list of `judge`, `score` and
    `fault` for each row.
    """
    spreads: dict[str, Spread] = {}
    above: dict[str, Spread] = {}
    silent: dict[str, int] = {}
    apart = Spread()
    for row in made:
        said = {entry["judge"]: entry["score"] for entry in row[column]}
        scores = [score for score in said.values() if score is not None]
        if len(scores) > 1:
            apart.add(max(scores) - min(scores))
        for judge, score in said.items():
            silent[judge] = silent.get(judge, 0) + (score is None)
            if score is not None:
                spreads.setdefault(judge, Spread()).add(score)
            if score is not None and len(scores) > 1:
                above.setdefault(judge, Spread()).add(score - fmean(scores))
    judges = {
        judge: {
            **(spreads[judge].facts() if judge in spreads else {}),
            "above_the_mean": above[judge].facts()["mean"] if judge in above else None,
            "without_score": number,
        }
        for judge, number in silent.items()
    }
    return {"judges": judges, "apart": apart.facts()["mean"] if apart.number else None}
