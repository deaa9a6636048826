"""Asking several times, and counting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ..calls.answer import Answer
from ..calls.request import Prompt as Question
from ..core.context import Context
from ..core.errors import RowFault
from ..core.outcome import Emit, Outcome, Row
from ..text.schema import Schema
from ._asking import failed, refuse_taken
from ._voting import Ballot, Checking, Elected, elected
from .output import output_text
from .template import Template

if TYPE_CHECKING:
    from .majority_vote import MajorityVote

SHARE = "agreement"


def voting(step: MajorityVote, context: Context) -> Callable[[Sequence[Row]], Awaitable[list[Outcome]]]:
    fill, calls, checking = Template(step.template), context.calls, Checking(step.verify)
    refuse_taken(
        "MajorityVote", context.get(step.rows), (step.column, SHARE), "Take it away first: `Select(rows=…, without=…)`."
    )

    async def vote(rows: Sequence[Row]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        places: list[int] = []
        asked: list[Question] = []
        for place, row in enumerate(rows):
            try:
                text = fill(row)
            except RowFault as fault:
                outcomes[place] = failed(fault)
                continue
            places.append(place)
            asked += [Question(text, step.response, sample) for sample in range(step.samples)]
        heard = await asyncio.gather(*(calls.ask_many(by, asked) for by in step.by)) if asked else []
        replies = [
            [_ballot(answers[start + sample], step.response) for answers in heard for sample in range(step.samples)]
            for start in range(0, len(asked), step.samples)
        ]
        sifted = await checking.sifted([rows[place] for place in places], replies)
        for place, (ballots, faults) in zip(places, sifted, strict=True):
            outcomes[place] = _outcome(step, rows[place], ballots, faults)
        return [outcomes[place] for place in range(len(rows))]

    return vote


def _outcome(step: MajorityVote, row: Row, ballots: list[Ballot], faults: list[RowFault]) -> Outcome:
    found = elected(ballots, faults, step.samples * len(step.by), step.agreement)
    if not isinstance(found, Elected):
        return found
    return Emit(({**row, step.column: found.ballot.output, SHARE: found.share},), found.ballot.calls)


def _ballot(answer: Answer | RowFault, response: Schema | None) -> Ballot | RowFault:
    if isinstance(answer, RowFault):
        return answer
    try:
        return Ballot(answer.text if response is None else output_text(answer.value, response), "", answer.keys)
    except RowFault as fault:
        return fault
