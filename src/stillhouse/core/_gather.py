"""Going through a map step to learn what it asks, where its questions go into batch jobs; nothing of it is kept."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections import deque
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ._map import Whole, numbered
from ._occurrence import without_numbers
from ._tables import arrow_batches, dict_rows
from .artifact import Rows
from .context import Context
from .occurrence import mapped
from .outcome import Outcome
from .step import MapStep

_ROWS = 512  # of one call of the mapper
_AT_ONCE = 4


def gather(
    step: MapStep, context: Context, loop: asyncio.AbstractEventLoop, rows: Rows, whole: Whole | None = None
) -> None:
    """Return when all questions of a step are answered, or will be asked live; raises `Waiting` where jobs take time.

    Rounds: a question that rests on an answer is met when that has come. `context`, `rows` and `whole` as in
    `pass_through`.
    """
    calls = context.calls
    while True:
        context.wait_for(calls.begin_gathering())
        try:
            pass_through(step, context, loop, rows, whole)
        finally:
            gathered = context.wait_for(calls.end_gathering())
        if not gathered.pending:
            return
        context.wait_for(calls.settle_gathered(gathered))


def pass_through(
    step: MapStep,
    context: Context,
    loop: asyncio.AbstractEventLoop,
    rows: Rows,
    whole: Whole | None = None,
    *,
    most: int | None = None,
) -> None:
    """Map all `rows`, or the first `most`, and keep nothing of it.

    `context` is what the mapper sees, and `whole` the table that the rows are a part of, as where they are mapped for
    good: else other questions would be met here than are asked there.
    """
    mapper = step.mapper(context)
    number = numbered(step, rows, whole)
    under_way: deque[concurrent.futures.Future[Any]] = deque()
    try:
        seen = place = 0
        for batch in arrow_batches(rows.paths, _ROWS):
            context.check_stop()
            if most is not None:
                batch = batch.slice(0, most - seen)
                seen += batch.num_rows
                if batch.num_rows == 0:
                    break
            names = [name for name in batch.schema.names if name not in ("_parents", "_calls")]
            taken = number(place, pa.Table.from_batches([batch.select(names)]))
            place += batch.num_rows
            table, numbers = without_numbers(taken)
            found = mapped(mapper, dict_rows(table), numbers)
            if inspect.isawaitable(found):
                under_way.append(asyncio.run_coroutine_threadsafe(_awaited(found), loop))
            while len(under_way) >= _AT_ONCE:
                _wait(under_way.popleft(), context)
        while under_way:
            _wait(under_way.popleft(), context)
    finally:
        for future in under_way:
            future.cancel()


async def _awaited(found: Any) -> Sequence[Outcome]:
    return await found  # type: ignore[no-any-return]


def _wait(future: concurrent.futures.Future[Any], context: Context) -> None:
    while not concurrent.futures.wait([future], timeout=0.2).done:
        context.check_stop()
    future.result()
