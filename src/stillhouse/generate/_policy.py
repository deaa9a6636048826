"""Drawing the policy: measuring, choosing what is shown, asking."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..calls.answer import Answer
from ..calls.nearest import unit
from ..core.context import Context
from ..core.errors import ModelError, RecipeError, RowFault, remedy
from ..core.outcome import Row
from ..text.schema import Schema
from .policy import ClusterPolicy, LengthRange, PolicyWords, TaskPolicy
from .prompts import POLICY, examples_text

if TYPE_CHECKING:
    from .policy import ExtractPolicy

SCHEMA = Schema(PolicyWords)
MOST_CLUSTERED = 5000


def write_policy(step: ExtractPolicy, context: Context) -> None:
    rows = list(context.get(step.rows))
    check_task_rows("ExtractPolicy", rows)
    answers, clusters = context.wait_for(_asked(step, context, rows))
    policy = TaskPolicy(
        **answers[0].value,
        input_length_range=length_range([row["input"] for row in rows]),
        output_length_range=length_range([row["output"] for row in rows]),
        clusters=tuple(
            ClusterPolicy(**answer.value, rows=tuple(row["_id"] for row in own))
            for answer, own in zip(answers[1:], clusters, strict=True)
        ),
    )
    found = policy.model_dump(exclude=None if clusters else {"clusters"})
    (context.folder / "report.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    keys = [key for answer in answers for key in answer.keys]
    context.note(calls=keys, rows_shown=min(len(rows), step.examples))
    if step.clusters is not None:
        context.note(clusters=[len(own) for own in clusters] or [len(rows)])


async def _asked(step: ExtractPolicy, context: Context, rows: list[Row]) -> tuple[list[Answer], list[list[Row]]]:
    """The policy of all rows and, where there are several clusters, that of each; with the clusters' rows."""
    clusters = [] if step.clusters is None else await _clustered(step, context, rows)
    asked = [
        _ask(step, context.calls, POLICY.format(instruction=step.instruction, examples=examples_text(shown)))
        for shown in (spread(part, step.examples) for part in (rows, *clusters))
    ]
    return list(await asyncio.gather(*asked)), clusters


async def _clustered(step: ExtractPolicy, context: Context, rows: list[Row]) -> list[list[Row]]:
    """Rows of like inputs, or nothing where they are all alike."""
    from ..measure.clusters import groups

    texts = [row["input"] for row in rows]
    if len(rows) > MOST_CLUSTERED:
        raise RecipeError(
            f"ExtractPolicy: {len(rows):,} rows are too many to be put into clusters",
            f"Take at most {MOST_CLUSTERED:,} of them: they are only shown as examples.",
        )
    vectors = await context.calls.embed(step.embedder, texts)
    found = groups(unit(vectors), None if step.clusters == "auto" else step.clusters)
    if found.silhouette is not None:
        context.note(silhouette=found.silhouette)
    if found.number < 2:
        return []
    return [[row for row, own in zip(rows, found.of_row, strict=True) if own == group] for group in range(found.number)]


async def _ask(step: ExtractPolicy, calls: Any, prompt: str) -> Answer:
    """The first usable answer; the faults of all attempts where there is none."""
    faults: list[RowFault] = []
    for sample in range(step.attempts):
        try:
            answer: Answer = await calls.ask(step.by, prompt, schema=SCHEMA, sample=sample)
            return answer
        except RowFault as fault:
            faults.append(fault)
    shown = "\n".join(
        f"    {fault.kind}: {fault.message}" + (f": {fault.raw[:200]!r}" if fault.raw else "") for fault in faults
    )
    raise ModelError(
        f"`{step.by.name}` gave no task policy in {step.attempts} attempts:\n{shown}",
        remedy([fault.kind for fault in faults]) or "Ask a model that can reply in JSON, or raise `attempts`.",
        kind="rubbish",
    )


def check_task_rows(step: str, rows: Sequence[Row]) -> None:
    """Raise `RecipeError` unless there are rows, all with text in `input` and `output`."""
    if not rows:
        raise RecipeError(f"{step}: there are no rows to learn from", "Give at least one example.")
    for row in rows:
        for name in ("input", "output"):
            if not isinstance(row.get(name), str):
                known = ", ".join(f"`{column}`" for column in row if not column.startswith("_"))
                raise RecipeError(
                    f"{step}: row {row['_id']} has no text in `{name}`",
                    f"Its columns are {known}; rename the right ones.",
                )


def spread(rows: Sequence[Row], number: int) -> list[Row]:
    """At most `number` rows, evenly spaced over the table, in their order."""
    if len(rows) <= number:
        return list(rows)
    return [rows[place * len(rows) // number] for place in range(number)]


def length_range(texts: Sequence[str]) -> LengthRange:
    lengths = [len(text) for text in texts]
    return LengthRange(shortest=min(lengths), longest=max(lengths), mean=round(sum(lengths) / len(lengths), 1))
