"""How many calls a step will make, and how many are kept: learnt by going through its first rows and asking nobody."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stillhouse.core.artifact import Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import RowFault

from .answer import Outcome
from .board import Board, Open
from .deployment import Deployment
from .reply import Usage

if TYPE_CHECKING:
    from stillhouse.core.execution import Execution
    from stillhouse.core.plan import Expectation
    from stillhouse.core.session import Session
    from stillhouse.core.step import MapStep

    from .batch.batcher import Batcher

_ROWS = 2000
"""Rows that are gone through; what the others ask is reckoned from these."""
_CHARACTERS_PER_TOKEN = 4
NOT_KEPT = "waiting"
"""How a question ends that only asking would answer."""
_HALF = 0.5  # what a call in a batch job costs, as a share


@dataclass
class Asked:
    """Of one deployment: questions that are kept or in a batch job, and characters of the others, by key."""

    deployment: Deployment
    kept: int = 0
    new: dict[bytes, int] = field(default_factory=dict)


class Counting:
    """What a pass through a step would ask."""

    def __init__(self, batcher: Batcher | None = None) -> None:
        self.asked: dict[str, Asked] = {}
        self._batcher = batcher

    def take(self, board: Board, missing: Sequence[Open], num_prompts: int) -> list[Outcome]:
        """Count a list of prompts of which some are not kept; those have a fault as their outcome."""
        asked = self.asked.setdefault(board.deployment.name, Asked(board.deployment))
        asked.kept += num_prompts - len(missing)
        under_way = self._under_way(board.deployment, missing)
        asked.kept += len(under_way)
        for item in missing:
            board.outcomes[item.place] = RowFault(NOT_KEPT, "nobody is asked for a plan")
            if item.key not in asked.new and item.key not in under_way:
                asked.new[item.key] = len(item.canonical)
        return [outcome for outcome in board.outcomes if outcome is not None]

    def _under_way(self, deployment: Deployment, missing: Sequence[Open]) -> set[bytes]:
        """Those that are in a batch job: it is sent already."""
        batcher = self._batcher
        if batcher is None or not missing or not batcher.takes(deployment):
            return set()
        known = batcher.jobs.known([item.key for item in missing])
        return {key for key, found in known.items() if found.state == "sent"}


def count_calls(session: Session, execution: Execution, step: MapStep, expectation: Expectation) -> Expectation:
    """The expectation of a step with its calls counted, where that can be told without asking or loading a model."""
    folder = session.store.folder / "calls-v1"
    if not folder.is_dir() or not expectation.calls or not session.calls.may_be_counted(step):
        return expectation
    inputs = {execution.book.recipe(child): execution.cached(child) for child in step.inputs()}
    source = inputs.get(execution.book.recipe(step.rows))
    if not isinstance(source, Rows) or not len(source) or any(artifact is None for artifact in inputs.values()):
        return expectation
    with tempfile.TemporaryDirectory(prefix="stillhouse-plan-") as work:
        found = _counted(session, step, {key: made for key, made in inputs.items() if made is not None}, Path(work))
    if found is None:
        return expectation
    scale = max(1.0, len(source) / _ROWS)
    if step.follows_up and any(asked.new for asked in found.asked.values()):
        return _less(expectation, round(scale * sum(asked.kept for asked in found.asked.values())))
    return _expected(session, expectation, found, scale)


def _counted(session: Session, step: MapStep, inputs: Any, work: Path) -> Counting | None:
    """The pass; None where the step needs more than its rows for it."""
    import threading

    from stillhouse.core._gather import pass_through
    from stillhouse.core.step import KeyBook

    calls = session.calls.for_counting()
    context = Context(
        step=step,
        build_key="plan",
        work=work,
        inputs=inputs,
        options=session.options,
        bus=session.bus,
        stop=threading.Event(),
        calls=lambda: calls,
        book=KeyBook(),
        wait=session.wait_for,
    )
    try:
        pass_through(step, context, session.loop, context.get(step.rows), most=_ROWS)
    except Exception:  # what is wrong with the step is told when it runs; a plan is no place to fail
        return None
    found: Counting = calls.counting
    return found


def _less(expectation: Expectation, kept: int) -> Expectation:
    """The step's own estimate less what is kept: some questions rest on replies that are still to come."""
    expected = expectation.calls or 0
    new = max(expected - kept, 1)
    share = new / max(expected, 1)
    return replace(
        expectation,
        calls=new,
        cached_calls=kept,
        tokens_in=round(share * (expectation.tokens_in or 0)),
        tokens_out=round(share * (expectation.tokens_out or 0)),
        cost_usd=None if expectation.cost_usd is None else share * expectation.cost_usd,
    )


def _expected(session: Session, expectation: Expectation, counting: Counting, scale: float) -> Expectation:
    new = kept = tokens_in = tokens_out = 0
    cost: float | None = 0.0
    seconds: float | None = 0.0
    each_out = (expectation.tokens_out or 0) / max(1, expectation.calls or 1)
    for asked in counting.asked.values():
        number = round(scale * len(asked.new))
        prompts = round(scale * sum(asked.new.values()) / _CHARACTERS_PER_TOKEN)
        replies = round(number * each_out)
        new, kept = new + number, kept + round(scale * asked.kept)
        tokens_in, tokens_out = tokens_in + prompts, tokens_out + replies
        paid = asked.deployment.cost(Usage(prompts, replies)) if number else 0.0
        in_jobs = session.calls.in_jobs(asked.deployment)
        cost = None if cost is None or paid is None else cost + paid * (_HALF if in_jobs else 1.0)
        took = session.calls.expected_seconds(asked.deployment, number, prompts + replies)
        seconds = None if seconds is None or took is None or in_jobs else seconds + took
    return replace(
        expectation,
        calls=new,
        cached_calls=kept,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=cost,
        seconds=seconds if seconds is not None else expectation.seconds,
    )
