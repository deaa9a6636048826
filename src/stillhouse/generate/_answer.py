"""Asking for answers, and the vote between several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import orjson

from ..calls.answer import Answer as Reply
from ..calls.request import Prompt
from ..core.context import Context
from ..core.errors import EXHAUSTED, RecipeError, RowFault
from ..core.outcome import Drop, Emit, Outcome, Row
from ..measure.agreement import majority
from ..text.schema import Schema
from ._prompt import failed, most_passing, refuse_taken
from .output import output_text, reasoned
from .prompts import ANSWER, examples_text, policy_text

if TYPE_CHECKING:
    from .answer import Answer


class Vote(NamedTuple):
    """One usable reply."""

    output: str
    thinking: str
    calls: tuple[str, ...]


def answerer(step: Answer, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls, schema = context.calls, reasoned(step.response)
    refuse_taken(
        "Answer", context.get(step.rows), "output", 'Take it away first: `Select(rows=…, without=("output",))`.'
    )
    policy = policy_text(None if step.policy is None else context.get(step.policy).value)
    examples = examples_text([] if step.examples is None else context.get(step.examples).head(step.shown))
    # Filled once for all rows: what is left to put in is the input.
    filled = ANSWER.format(instruction=step.instruction, policy=policy, examples=examples, input="\0")
    before, _, after = filled.rpartition("\0")

    async def answer(rows: Sequence[Row]) -> list[Outcome]:
        prompts = [
            Prompt(f"{before}{_input(row)}{after}", schema, sample) for row in rows for sample in range(step.samples)
        ]
        replies = await calls.ask_many(step.by, prompts)
        size = step.samples
        return [_outcome(step, row, replies[place * size : (place + 1) * size]) for place, row in enumerate(rows)]

    return answer


def _input(row: Row) -> str:
    value = row.get("input")
    if not isinstance(value, str):
        known = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
        raise RecipeError(
            f"Answer: row {row['_id']} has no text in `input`", f"Its columns are {known}; rename the right one."
        )
    return value


def _outcome(step: Answer, row: Row, replies: Sequence[Reply | RowFault]) -> Outcome:
    votes: list[Vote] = []
    faults: list[RowFault] = []
    for reply in replies:
        try:
            votes.append(_vote(reply, step.response))
        except RowFault as fault:
            faults.append(fault)
    if not votes:
        return failed(most_passing(faults))
    found = majority([vote.output for vote in votes], step.agreement.normaliser)
    share = found.votes / step.samples
    if not step.agreement.enough(found.votes, step.samples):
        if any(fault.kind == EXHAUSTED for fault in faults):  # no verdict before all were heard
            return failed(most_passing(faults))
        evidence = orjson.dumps([*(vote.output for vote in votes), *(str(fault) for fault in faults)]).decode()
        return Drop(f"at most {found.votes} of {step.samples} answers agree", evidence)
    winner = next(vote for vote in votes if vote.output == found.winner)
    made = {**row, "thinking": winner.thinking or None, "output": winner.output, "agreement": share}
    return Emit([made], calls=winner.calls)


def _vote(reply: Reply | RowFault, response: Schema | None) -> Vote:
    """A usable reply; raises the `RowFault` of one that is not."""
    if isinstance(reply, RowFault):
        raise reply
    output = output_text(reply.value["output"], response)
    if not output.strip():
        raise RowFault("empty", "the reply has no output", reply.text)
    return Vote(output, reply.value["thinking"].strip(), reply.keys)
