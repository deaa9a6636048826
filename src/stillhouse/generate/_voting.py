"""Putting replies to the vote, after a verifier has seen them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from ..core.errors import EXHAUSTED, RowFault
from ..core.outcome import Drop, Fail
from ..core.part import Part
from ..measure.agreement import Agreement, majority
from ..measure.verdict import Verdict
from ..measure.verify import verdicts
from ._asking import failed, most_passing

REJECTED = "rejected"


class Ballot(NamedTuple):
    """One usable reply: what is compared, what came with it, and the calls behind it."""

    output: str
    thinking: str
    calls: tuple[str, ...]


class Elected(NamedTuple):
    """The first reply of the largest group, and the group's share of all replies that were asked for."""

    ballot: Ballot
    share: float


def elected(
    ballots: Sequence[Ballot], faults: Sequence[RowFault], num_asked: int, agreement: Agreement
) -> Elected | Drop | Fail:
    """Who wins, or why nobody does. Replies that cannot be used, or that a verifier rejected, are votes for nobody.

    Without agreement nothing is said before all were heard: a row that got no answer fails, and is asked again.
    """
    unheard = any(fault.kind == EXHAUSTED for fault in faults)
    rejected = [fault for fault in faults if fault.kind == REJECTED]
    if not ballots:
        if rejected and not unheard:
            return Drop("the verifier accepts no answer", _evidence(ballots, faults))
        return failed(most_passing([fault for fault in faults if fault.kind != REJECTED]))
    found = majority([ballot.output for ballot in ballots], agreement.normaliser)
    if not agreement.enough(found.votes, num_asked):
        if unheard:
            return failed(most_passing(faults))
        return Drop(f"at most {found.votes} of {num_asked} answers agree", _evidence(ballots, faults))
    winner = next(ballot for ballot in ballots if ballot.output == found.winner)
    return Elected(winner, found.votes / num_asked)


def _evidence(ballots: Sequence[Ballot], faults: Sequence[RowFault]) -> str:
    return orjson.dumps([*(ballot.output for ballot in ballots), *(str(fault) for fault in faults)]).decode()


class Checking:
    """A verifier beside the event loop: in a thread of its own, one set of replies at a time."""

    def __init__(self, verifier: Part | None) -> None:
        self._verifier = verifier
        self._lock = asyncio.Lock()

    async def verdicts(self, pairs: Sequence[tuple[Mapping[str, Any], str]]) -> list[Verdict]:
        """What it says of each; all are accepted where there is none."""
        if self._verifier is None:
            return [Verdict(True)] * len(pairs)
        if not pairs:
            return []
        async with self._lock:  # a user's function need not be safe for threads
            return await asyncio.to_thread(verdicts, self._verifier, pairs)

    async def sifted(
        self, rows: Sequence[Mapping[str, Any]], heard: Sequence[Sequence[Ballot | RowFault]]
    ) -> list[tuple[list[Ballot], list[RowFault]]]:
        """For each row its replies that are accepted, and the faults of the others."""
        pairs = [
            (row, each.output)
            for row, replies in zip(rows, heard, strict=True)
            for each in replies
            if isinstance(each, Ballot)
        ]
        said = iter(await self.verdicts(pairs))
        found: list[tuple[list[Ballot], list[RowFault]]] = []
        for replies in heard:
            ballots: list[Ballot] = []
            faults: list[RowFault] = []
            for each in replies:
                if isinstance(each, RowFault):
                    faults.append(each)
                    continue
                verdict = next(said)
                if verdict.accepted:
                    ballots.append(each)
                else:
                    reason = verdict.reason or "the verifier said no"
                    faults.append(RowFault(REJECTED, f"{reason} in {each.output}", each.output))
            found.append((ballots, faults))
        return found
