"""Drawing the policy: measuring, choosing what is shown, asking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ..calls.answer import Answer
from ..core.context import Context
from ..core.errors import ModelError, RecipeError, RowFault, remedy
from ..core.outcome import Row
from ..text.schema import Schema
from .policy import LengthRange, PolicyWords, TaskPolicy
from .prompts import POLICY, examples_text

if TYPE_CHECKING:
    from .policy import ExtractPolicy

SCHEMA = Schema(PolicyWords)


def write_policy(step: ExtractPolicy, context: Context) -> None:
    rows = list(context.get(step.rows))
    check_task_rows("ExtractPolicy", rows)
    prompt = POLICY.format(instruction=step.instruction, examples=examples_text(spread(rows, step.examples)))
    answer = context.wait_for(_ask(step, context.calls, prompt))
    policy = TaskPolicy(
        **answer.value,
        input_length_range=length_range([row["input"] for row in rows]),
        output_length_range=length_range([row["output"] for row in rows]),
    )
    data = orjson.dumps(policy.model_dump(), option=orjson.OPT_INDENT_2)
    (context.folder / "report.json").write_bytes(data)
    context.note(calls=list(answer.keys), rows_shown=min(len(rows), step.examples))


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
