"""Asking for reasoning until it comes to the known output."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..calls.answer import Answer
from ..calls.request import Prompt
from ..core._map import too_many_failures
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Fail, Outcome, Row
from ..text.schema import Schema
from ._policy import check_task_rows
from ._prompt import failed, most_passing
from .output import output_text, reasoned, same_output, settled_text
from .prompts import ANSWER, examples_text

if TYPE_CHECKING:
    from .cot import SynthesizeCoT


FIRST_SEEDS = 3
"""Where all of so many first seeds or more got nothing usable, no more is asked, in whatever pieces they come."""


class Trace(NamedTuple):
    """Reasoning that came to the right output, and the calls behind it."""

    thinking: str
    calls: tuple[str, ...]


def tracer(step: SynthesizeCoT, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    calls, schema = context.calls, reasoned(step.response)
    shown = context.get(step.rows).head(step.examples + 1)
    met: list[Fail] = []
    worked = begun = False

    async def trace(rows: Sequence[Row]) -> list[Outcome]:
        nonlocal begun, worked
        check_task_rows("SynthesizeCoT", rows)
        outputs = [_settled(row["output"], step.response) for row in rows]
        traces: dict[int, Trace] = {}
        faults: dict[int, list[RowFault]] = defaultdict(list)
        open_places = [
            place
            for place, row in enumerate(rows)
            if not row.get("thinking") and not isinstance(outputs[place], RowFault)
        ]
        for sample in range(step.attempts):
            prompts = [Prompt(_question(step, rows[place], shown), schema, sample) for place in open_places]
            answers = await calls.ask_many(step.by, prompts) if prompts else []
            for place, answer in zip(open_places, answers, strict=True):
                try:
                    found = _trace(answer, str(outputs[place]), step.response)
                except RowFault as fault:
                    faults[place].append(fault)
                    continue
                if found is not None:
                    traces[place] = found
            worked = worked or len(faults) < len(open_places)
            begun = begun or rows[0]["_id"] == shown[0]["_id"]  # else it is a run that was taken up, and had worked
            if sample == 0 and not worked:
                met.extend(failed(fault) for (fault,) in faults.values())
                if begun and len(met) >= FIRST_SEEDS:
                    raise too_many_failures("SynthesizeCoT", len(met), len(met), met[:3])
            open_places = [place for place in open_places if place not in traces]
        for place, own in faults.items():
            if len(own) == step.attempts:
                outputs[place] = most_passing(own)
        return [_outcome(row, outputs[place], traces.get(place)) for place, row in enumerate(rows)]

    return trace


def _settled(output: str, response: Schema | None) -> str | RowFault:
    try:
        return settled_text(output, response)
    except RowFault as fault:
        return fault


def _question(step: SynthesizeCoT, row: Row, shown: Sequence[Row]) -> str:
    others = [other for other in shown if other["_id"] != row["_id"]][: step.examples]
    return ANSWER.format(instruction=step.instruction, policy="", examples=examples_text(others), input=row["input"])


def _trace(answer: Answer | RowFault, output: str, response: Schema | None) -> Trace | None:
    """The reasoning, if it comes to the output; raises the `RowFault` of a reply that cannot be used."""
    if isinstance(answer, RowFault):
        raise answer
    said = output_text(answer.value["output"], response)
    return Trace(answer.value["thinking"].strip(), answer.keys) if same_output(said, output) else None


def _outcome(row: Row, output: str | RowFault, found: Trace | None) -> Outcome:
    if isinstance(output, RowFault):
        return failed(output)
    known = row.get("thinking") or None
    thinking = known if found is None else found.thinking or None
    verified = None if known else found is not None
    made: dict[str, Any] = {**row, "output": output, "thinking": thinking, "verified": verified}
    return Emit([made], calls=() if found is None else found.calls)
