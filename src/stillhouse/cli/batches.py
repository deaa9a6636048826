"""`stillhouse batches`: the batch jobs of a session folder, how far they are, and an end to them."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import TYPE_CHECKING, Any

from ..track.progress import duration
from . import exits
from .calls import _date, _title, _usd
from .opening import open_store
from .output import print_json, say, table
from .parser import Parser, UsageError

if TYPE_CHECKING:
    from ..calls.batch.jobs import Job
    from ..calls.service import CallService
    from ..core.store import Store


def arguments(parser: Parser) -> None:
    parser.in_folder()
    text = "`list` (also without it) or `cancel`"
    parser.add_argument("action", nargs="?", choices=["list", "cancel"], default="list", metavar="ACTION", help=text)
    parser.add_argument("job", nargs="*", metavar="JOB", help="ids of jobs to cancel, or their first digits")
    parser.add_argument("--all", action="store_true", help="also jobs that are over; with `cancel`, every open job")
    parser.add_argument("--offline", action="store_true", help="only what is written down: ask no provider")


def run(arguments: argparse.Namespace) -> int:
    from ..calls.batch.jobs import FILE

    store = open_store(arguments.folder)
    if not (store.folder / "calls-v1" / FILE).exists():
        if arguments.json:
            print_json([])
        else:
            say("there are no batch jobs here")
        return exits.DONE
    if arguments.action == "list" and arguments.job:
        raise UsageError(f"unexpected argument `{arguments.job[0]}`", "`stillhouse batches cancel JOB` ends a job.")
    jobs = asyncio.run(_looked(store, arguments))
    if arguments.json:
        print_json([_as_dict(store, job) for job in jobs])
    elif jobs:
        header = ["job", "state", "done", "of", "kept", "about", "age", "for", "at the provider", "said"]
        print(table([_cells(store, job) for job in jobs], header))
    else:
        say("no batch job is open; `--all` shows those that are over")
    return exits.DONE


async def _looked(store: Store, arguments: argparse.Namespace) -> list[Job]:
    """The jobs to show, after looking at them at their providers, where what is done is collected."""
    from ..calls.service import FOLDER, CallService
    from ..core.events import Bus, Event

    def tell(event: Event) -> None:
        if event.kind in ("step.waiting", "warning"):
            say(str(event.data.get("message", "")))

    bus = Bus()
    bus.subscribe(tell)
    service = CallService(store.folder / FOLDER, bus=bus, batch=True)
    try:
        return await _shown(service, arguments)
    finally:
        await service.aclose()


async def _shown(service: CallService, arguments: argparse.Namespace) -> list[Job]:
    batcher = service.batcher
    if arguments.action == "cancel":
        chosen = _chosen(batcher.jobs.jobs(), arguments)
        return [await batcher.cancel(job.id) for job in chosen]
    if not arguments.offline:
        await batcher.collect()
    return batcher.jobs.jobs(only_open=not arguments.all)


def _chosen(jobs: list[Job], arguments: argparse.Namespace) -> list[Job]:
    if not arguments.job and not arguments.all:
        raise UsageError("nothing says which jobs should end", "Name them, or `--all`.")
    if arguments.all:
        return [job for job in jobs if job.is_open]
    found = []
    for name in arguments.job:
        matching = [job for job in jobs if job.id.startswith(name)]
        if len(matching) != 1:
            what = "no batch job begins" if not matching else f"{len(matching)} batch jobs begin"
            raise UsageError(f"{what} with `{name}`", "`stillhouse batches --all` lists them.")
        found.append(matching[0])
    return found


def _as_dict(store: Store, job: Job) -> dict[str, Any]:
    own = ("route", "path", "file", "strangers", "untold")
    facts = {name: value for name, value in job._asdict().items() if name not in own}
    facts["guessed"] = bool(job.guessed)
    dates = {name: None if facts[name] is None else _date(facts[name]) for name in ("made", "sent", "looked", "ended")}
    return {**facts, **dates, "made_for": _title(store, facts.pop("step")), "estimate_usd": facts.pop("estimate")}


def _cells(store: Store, job: Job) -> tuple[Any, ...]:
    done = job.done + job.failed
    age = duration((job.ended or time.time()) - job.made)
    made_for = _title(store, job.step)
    cost = _usd(job.estimate)
    return (job.id, job.state, done, job.num, job.kept, cost, age, made_for, job.remote, job.message[:60] or None)
