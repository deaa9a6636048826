"""Asking for answers, and the vote between several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..calls.answer import Answer as Reply
from ..calls.request import Prompt
from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.outcome import Emit, Outcome, Row
from ..text.schema import Schema
from ._coverage import CLUSTER
from ._prompt import refuse_taken
from ._voting import Ballot, Checking, Elected, elected
from .output import output_text, reasoned
from .prompts import ANSWER, examples_text, policy_text

if TYPE_CHECKING:
    from .answer import Answer


def answerer(step: Answer, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls, schema = context.calls, reasoned(step.response)
    refuse_taken(
        "Answer", context.get(step.rows), "output", 'Take it away first: `Select(rows=…, without=("output",))`.'
    )
    policy = {} if step.policy is None else context.get(step.policy).value
    examples = examples_text([] if step.examples is None else context.get(step.examples).head(step.shown))
    # Filled once for all rows, and once for those of each cluster: what is left to put in is the input.
    frames = [
        ANSWER.format(instruction=step.instruction, policy=policy_text(own or None), examples=examples, input="\0")
        for own in (policy, *policy.get("clusters", ()))
    ]
    around = [frame.rpartition("\0") for frame in frames]
    checking = Checking(step.verify)

    def asked(row: Row) -> str:
        number = row.get(CLUSTER)
        own = number if isinstance(number, int) and 0 < number < len(around) else 0
        before, _, after = around[own]
        return f"{before}{_input(row)}{after}"

    async def answer(rows: Sequence[Row]) -> list[Outcome]:
        prompts = [Prompt(asked(row), schema, sample) for row in rows for sample in range(step.samples)]
        replies = await calls.ask_many(step.by, prompts)
        ballots = [_ballot(reply, step.response) for reply in replies]
        size = step.samples
        sifted = await checking.sifted(rows, [ballots[start : start + size] for start in range(0, len(ballots), size)])
        return [_outcome(step, row, *one) for row, one in zip(rows, sifted, strict=True)]

    return answer


def _input(row: Row) -> str:
    value = row.get("input")
    if not isinstance(value, str):
        known = ", ".join(f"`{name}`" for name in row if not name.startswith("_"))
        raise RecipeError(
            f"Answer: row {row['_id']} has no text in `input`", f"Its columns are {known}; rename the right one."
        )
    return value


def _outcome(step: Answer, row: Row, ballots: list[Ballot], faults: list[RowFault]) -> Outcome:
    found = elected(ballots, faults, step.samples, step.agreement)
    if not isinstance(found, Elected):
        return found
    winner = found.ballot
    made = {**row, "thinking": winner.thinking or None, "output": winner.output, "agreement": found.share}
    return Emit([made], calls=winner.calls)


def _ballot(reply: Reply | RowFault, response: Schema | None) -> Ballot | RowFault:
    """A usable reply, or the fault of one that is not."""
    if isinstance(reply, RowFault):
        return reply
    try:
        output = output_text(reply.value["output"], response)
    except RowFault as fault:
        return fault
    if not output.strip():
        return RowFault("empty", "the reply has no output", reply.text)
    return Ballot(output, reply.value["thinking"].strip(), reply.keys)
