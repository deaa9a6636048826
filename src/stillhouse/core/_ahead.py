"""Map steps that begin while the step before them still runs.

The build key of such a step is not known yet, as it holds the digest of rows that are still being made. So its pieces
are kept under its recipe key and move to the build's own journal once that is known, where those stay whose rows are
in the finished table just so (`_feed.still_true`). Whatever becomes of them: replies are in the call cache.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ._chunks import Workers
from ._feed import Feed, Flow, NotYet, SomeRows, mark
from ._map import LOOK_SECONDS, MapRun, Number
from ._occurrence import Arrivals, with_numbers
from .artifact import Artifact
from .bill import FILE, open_bill
from .context import Context
from .errors import Ended, Interrupted
from .found import take_over
from .journal import JOURNAL, Journal, Pieces
from .locks import taken
from .mapped_ahead import write_recipe_key
from .occurrence import asks_apart
from .step import MapStep

if TYPE_CHECKING:
    from .session import Session
    from .store import Store

MakeContext = Callable[[Mapping[str, Artifact], str, Path], Context]
"""A context for the inputs by recipe key, a key to be known by, and a folder to work in."""


def map_ahead(
    step: MapStep,
    rows_key: str,
    recipe_key: str,
    *,
    feed: Feed,
    own_feed: Feed,
    inputs: Mapping[str, Artifact],
    make_context: MakeContext,
    make_workers: Callable[[Context], Workers],
    session: Session,
    stop: threading.Event,
) -> Flow | None:
    """Map the rows of a step that runs, as they come, until it is finished or its mapper has to see all of them.

    Returns where the rows came from, None where nothing was made that could be taken up.

    Raises what the mapper raises, and `Interrupted` when there will be no more rows.
    """
    work = session.store.work_folder(recipe_key)
    work.parent.mkdir(parents=True, exist_ok=True)
    with taken(_lock(work)) as free:
        schema = _first_schema(feed, stop) if free else None
        if schema is None:
            return None
        shutil.rmtree(work / "scratch", ignore_errors=True)  # the bill of an earlier attempt stays
        open_bill(work)
        context = make_context({**inputs, rows_key: SomeRows(schema)}, recipe_key, work)
        pieces = Pieces(context.scratch / "chunks")
        flow = Flow(feed)
        try:
            workers, number = make_workers(context), numbered_as_they_come(step)
            MapRun(step, context, pieces, workers, feed=own_feed, number=number, mark=mark).all(flow)
        except NotYet:
            own_feed.broken = own_feed.broken or bool(own_feed.parts)
            return None
        finally:
            session.bill(recipe_key)  # written down beside the pieces
        return flow


def numbered_as_they_come(step: MapStep) -> Number:
    """Numbers rows that ask the same in the order in which they come."""
    if not asks_apart(step):
        return lambda start, table: table
    arrivals = Arrivals(step)
    return lambda start, table: with_numbers(table, arrivals.of(table))


def take_up(recipe_key: str, flow: Flow | None, context: Context, work: Path, feed: Feed, session: Session) -> bool:
    """Make what was mapped ahead the journal of the build, if it has none; says whether there was anything.

    The bill goes along in any case: it was paid for this step.
    """
    ahead, chunks = session.store.work_folder(recipe_key), context.scratch / "chunks"
    if not ahead.is_dir():
        return False
    with taken(_lock(ahead)) as free:
        if not free:
            return False
        write_recipe_key(work, recipe_key)
        _take_bill(ahead / FILE, work / FILE)
        take_over(ahead, work)
        found = ahead / "scratch" / "chunks"
        usable = flow is not None and not chunks.exists() and found.is_dir()
        if usable and flow is not None:
            starts = flow.true_starts()
            _move(found, chunks, starts)
            feed.renumber(starts, chunks)
        else:
            feed.broken = feed.broken or bool(feed.parts)
        shutil.rmtree(ahead, ignore_errors=True)
    return usable


def _take_bill(found: Path, target: Path) -> None:
    """Append the one bill to the other. What was appended before a kill is known by the file that it came from."""
    if not found.exists():
        return
    known = found.stat()
    source = f"{known.st_ino}-{known.st_mtime_ns}"
    bill = Journal(target)
    num_taken = sum(entry.get("ahead") == source for entry in bill.entries())
    for paid in islice(Journal(found).entries(), num_taken, None):
        bill.append({**paid, "ahead": source})
    bill.close()


def _move(found: Path, chunks: Path, starts: Mapping[int, int]) -> None:
    """Pieces with their journal into another folder, each under its true number."""
    chunks.mkdir(parents=True)
    moved = []
    for entry in Journal(found / JOURNAL).entries():
        start = starts[entry["start"]]
        files = {}
        for name, known in entry["files"].items():
            target = f"{start:012d}.{name.rpartition('.')[2]}"
            os.rename(found / name, chunks / target)
            files[target] = known
        moved.append({**entry, "start": start, "files": files})
    journal = Journal(chunks / JOURNAL)
    for entry in moved:
        journal.append(entry)
    journal.close()


def forget(recipe_key: str, store: Store) -> None:
    """Take away what was mapped ahead and is not needed: the result was there, or has a journal of its own."""
    work = store.work_folder(recipe_key)
    if work.is_dir():
        with taken(_lock(work)) as free:
            if free:
                shutil.rmtree(work, ignore_errors=True)


def _first_schema(feed: Feed, stop: threading.Event) -> pa.Schema | None:
    """Columns and types of the first rows; None where there are none."""
    while not feed.parts and not feed.over:
        feed.wait(LOOK_SECONDS, 0)
        if stop.is_set():
            raise Interrupted("stopped before its rows came")
    if feed.over and feed.made is None:
        raise Ended
    return feed.schema()


def _lock(work: Path) -> Path:
    return work.with_name(f"{work.name}.lock")
