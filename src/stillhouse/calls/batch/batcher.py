"""The same questions in batch jobs: gathered first, sent together, collected into the call cache by the same keys.

A step is gone through once without keeping anything, to learn what it asks (a gathering). What the cache does not know
is written down and sent as jobs; when all of it has come, the step runs as ever and finds its replies in the cache.
Questions that rest on replies (repairs, a second question about an answer) are gathered in the next round.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stillhouse.core.errors import ModelError, RowFault, Waiting
from stillhouse.core.keys import digest_of
from stillhouse.core.locks import taken

from ..board import Board, Open
from ..budget import Purse
from ..cache import CallCache, Entry
from ..credentials import Credentials
from ..deployment import Deployment
from ..endpoint import Endpoint
from ..ledger import Ledger, Rehearsal
from ..prices import Price
from ..providers.http import HttpProvider
from ..reply import Reply
from ..retry import Patience, TryAgain
from .api import BatchApi, Result, Sent, batch_api, has_batches, lines_of
from .jobs import Gathered, Job, Jobs
from .settings import Batching

if TYPE_CHECKING:
    from stillhouse.core.events import Bus

T = TypeVar("T")

WAITING = "waiting"
"""Kind of the fault that a question has until its job is collected; it is in no result."""
_ATTEMPTS = 5
_TOGETHER = 500  # results of one commit


@dataclass
class Gathering:
    """One time through a step, or one list of questions: what of it is not answered yet."""

    ledger: Ledger
    step: str
    pending: set[bytes] = field(default_factory=set)
    faults: dict[bytes, RowFault] = field(default_factory=dict)
    """What requests ended in for good in their job."""


class Batcher:
    """The batch jobs of a session's folder. Lives on the loop of the call service."""

    def __init__(
        self,
        folder: Path,
        settings: Batching,
        *,
        everywhere: bool,
        cache: CallCache,
        purse: Purse,
        patience: Patience,
        credentials: Credentials,
        bus: Bus,
        ledger_of: Callable[[str], Ledger],
    ) -> None:
        self.jobs = Jobs(folder)
        self.settings = settings
        self._everywhere = everywhere
        self._cache = cache
        self._purse = purse
        self._patience = patience
        self._credentials = credentials
        self._bus = bus
        self._ledger_of = ledger_of
        self._session = uuid.uuid4().hex
        self._endpoints: dict[str, tuple[str, Endpoint]] = {}
        """Routes that this session asks, with the headers of their endpoints, which are not written down."""
        self._apis: dict[tuple[str, bool], BatchApi] = {}
        """By route, and whether its endpoint is this session's or as it was written down."""
        self._full: dict[str, float] = {}
        """Places that take no more for now, and until when."""
        self._held: dict[str, Job] = {}
        """Jobs whose estimates the purse holds: all that are under way, whichever run sent them."""
        self._looking = asyncio.Lock()
        self._looked = 0.0
        self._told: set[str] = set()
        self._hold_open()

    def takes(self, deployment: Deployment) -> bool:
        """Whether this deployment is asked in batch jobs."""
        endpoint = deployment.gate.sources[0].endpoint
        if endpoint is None or not (self._everywhere or endpoint.batch):
            return False
        if has_batches(endpoint):
            self._endpoints[_route_of(deployment, endpoint)] = (deployment.name, endpoint)
            return True
        if deployment.name not in self._told:
            self._told.add(deployment.name)
            message = f"`{deployment.name}` has no batch jobs that we know: it is asked live"
            self._bus.publish("warning", message=message)
        return False

    async def close(self) -> None:
        for api in self._apis.values():
            await api.close()
        self.jobs.close()

    # gathering

    async def begin(self, ledger: Ledger) -> Gathering:
        """A gathering for the step whose ledger it is; what has come meanwhile is collected before."""
        await self.collect(ledger.step)
        return Gathering(Rehearsal(ledger), ledger.step)

    def register(self, board: Board, items: Sequence[Open], gathering: Gathering) -> list[Open]:
        """Write down what is to be asked; returns what is to be asked live after all."""
        deployment = board.deployment
        route, place, provider = self._route(deployment)
        discount = self._api(route).discount
        known = self.jobs.known([item.key for item in items])
        live: list[Open] = []
        fresh: dict[bytes, Gathered] = {}
        for item in items:
            found = known.get(item.key)
            if found is not None and found.state == "live":
                live.append(item)
                continue
            if found is not None and found.state == "fault":
                fault = RowFault(found.kind or "rejected", found.message or "", found.raw)
                gathering.faults[item.key] = board.outcomes[item.place] = fault
                continue
            gathering.pending.add(item.key)
            board.outcomes[item.place] = RowFault(WAITING, "its batch job is not done yet")
            if (found is None or found.state == "new") and item.key not in fresh:
                request = item.request()
                body, path = provider.dialect.body(request), urlsplit(provider.dialect.url(request)).path
                estimate = deployment.estimate(request)
                cost = None if estimate is None else discount * estimate
                fresh[item.key] = Gathered(item.key, path, item.canonical, body, cost)
        if fresh:
            self.jobs.add(route, place, gathering.step, self._session, list(fresh.values()))
        return live

    def done(self, gathering: Gathering) -> None:
        """Nothing of it is waited for any more: faults are told to the run, the next one may ask again."""
        self.jobs.forget(gathering.faults)

    def _route(self, deployment: Deployment) -> tuple[str, Mapping[str, Any], HttpProvider]:
        """Where a deployment is asked: its digest, what is written of it, and who renders its requests."""
        source = deployment.gate.sources[0]
        endpoint, provider = source.endpoint, source.provider
        assert endpoint is not None
        assert isinstance(provider, HttpProvider)
        facts = asdict(replace(endpoint, headers={}))  # they may hold secrets
        price = None if deployment.price is None else list(deployment.price)
        place = {"name": deployment.name, "endpoint": facts, "price": price, "headers": sorted(endpoint.headers)}
        return _route_of(deployment, endpoint), place, provider

    def _api(self, route: str) -> BatchApi:
        known = self._endpoints.get(route)
        key = (route, known is not None)
        if key not in self._apis:
            if (lacking := self._lacking(route)) is not None:
                raise lacking
            place = self.jobs.place(route) if known is None else {}
            name, endpoint = known or (str(place["name"]), Endpoint(**place["endpoint"]))
            self._apis[key] = batch_api(name, endpoint, self._credentials)
        return self._apis[key]

    def _lacking(self, route: str) -> ModelError | None:
        """What to say where headers of the endpoint are needed that only the run itself knows."""
        place = {} if route in self._endpoints else self.jobs.place(route)
        names = place.get("headers")
        if not names:
            return None
        headers = ", ".join(f"`{name}`" for name in names)
        return ModelError(
            f"the endpoint of `{place['name']}` has headers ({headers}), which are not written down",
            "The command that sent the job looks at it and collects it.",
        )

    # sending

    async def settle(self, gathering: Gathering) -> None:
        """Send what is gathered, then wait for it, or raise `Waiting`."""
        await self._send_all()
        while self.settings.wait:
            await asyncio.sleep(self.settings.poll)
            await self.collect(gathering.step)
            self.jobs.claim(gathering.pending, self._session)  # another process may have collected what held them
            await self._send_all()
            known = self.jobs.known(list(gathering.pending))
            if not any(found.state in ("sent", "new") for found in known.values()):
                return
        holding = {found.job for found in self.jobs.known(list(gathering.pending)).values()}
        jobs = [job for job in self.jobs.jobs(only_open=True) if job.id in holding]
        what = "1 batch job" if len(jobs) == 1 else f"{len(jobs):,} batch jobs"
        done, num = sum(job.done + job.failed for job in jobs), sum(job.num for job in jobs)
        where = f"in {what} at the provider ({done:,} of {num:,} done)" if jobs else "to be sent in a batch job"
        raise Waiting(
            f"{len(gathering.pending):,} requests wait {where}",
            "Come back with the same command: it collects them and goes on. `stillhouse batches` shows them all.",
        )

    async def _send_all(self) -> None:
        """Cut jobs of what this session gathered, and send those that nobody noted as sent."""
        routes = {route for route, _ in self._apis if self._full.get(route, 0.0) <= time.monotonic()}
        for route in sorted(routes):
            while (job := self._cut(route)) is not None:
                await self._send(job)
        for job in self.jobs.jobs(only_open=True):
            if job.state == "written" and job.route in routes:
                await self._send(job)

    def _cut(self, route: str) -> Job | None:
        api, settings = self._api(route), self.settings
        most = min(api.max_requests, settings.job_requests or api.max_requests)
        size = min(api.max_bytes, settings.job_bytes or api.max_bytes)
        return self.jobs.cut(route, self._session, most, size, around=len(api.line("0" * 32, "/" * 40, b"")))

    async def _send(self, job: Job) -> None:
        """Begin a job once, whatever it is killed at: one that may have been begun is looked for before."""
        with taken(self._lock(job)) as free:
            found = self.jobs.find(job.id)
            if not free or found is None or found.state != "written":
                return
            job = found
            lines = self.jobs.folder / f"batch-{job.id}.jsonl"
            try:
                self._promise(job)
                await self._tried(lambda: self._begun(job.id, lines))
            except (ModelError, RowFault) as error:
                if self.jobs.job(job.id).sent is None:
                    self._let_go(job)
                    if not isinstance(error, TryAgain):
                        self.jobs.undo(job.id)
                raise _stopping(error, "the batch job could not be sent") from None
            finally:
                lines.unlink(missing_ok=True)
        job = self.jobs.job(job.id)
        self._tell(job, f"{job.num:,} requests are sent as batch job {job.id} ({job.remote})")

    def _promise(self, job: Job) -> None:
        """Put by what a job may cost. Raises `BudgetError`; it is then as if it had not been cut."""
        self._hold_open()
        if job.id in self._held:  # it may have been begun, so it counts already
            return
        name = str(self.jobs.place(job.route)["name"])
        try:
            self._purse.promise(job.estimate, name, job.num, step=job.step)
        except BaseException:
            self.jobs.undo(job.id)
            raise
        self._held[job.id] = job

    def _hold_open(self) -> None:
        """Put by what every job that may have been begun may cost; let go what others have collected."""
        still = {job.id: job for job in self.jobs.jobs(only_open=True)}
        for job in list(self._held.values()):
            if job.id not in still:
                self._let_go(job)
        for job in still.values():
            if job.sent is not None and job.id not in self._held:
                self._purse.hold(job.estimate, job.num, step=job.step)
                self._held[job.id] = job

    async def _begun(self, number: str, lines: Path) -> None:
        job = self.jobs.job(number)
        api = self._api(job.route)
        sent = Sent(job.id, job.sent or time.time(), job.num)
        if job.sent is not None and await self._found(job, api):
            return
        self._write_lines(job, api, lines)
        if not job.file:
            job = self.jobs.note(job.id, file=await api.upload(sent, lines))
        if job.sent is None:
            job = self.jobs.note(job.id, sent=sent.since)
        try:
            remote = await api.create(sent, job.file, job.path, lines)
        except (ModelError, RowFault) as error:
            if not isinstance(error, TryAgain):  # a plain no: nothing was begun, and what was not sure was looked for
                self.jobs.note(job.id, sent=None)
            raise
        self.jobs.note(job.id, remote=remote, state="running")

    async def _found(self, job: Job, api: BatchApi) -> bool:
        """Whether the provider has a job that may be this one, begun without our having noted it."""
        others = {other.remote for other in self.jobs.jobs() if other.remote is not None and not other.guessed}
        sent = Sent(job.id, job.sent or 0.0, job.num)
        remote = await api.find(sent, frozenset({*others, *job.strangers.split()}))
        if remote is not None:
            self.jobs.note(job.id, remote=remote, state="running", guessed=not api.marks)
        return remote is not None

    def _write_lines(self, job: Job, api: BatchApi, lines: Path) -> None:
        with open(lines, "wb") as file:
            for key, body in self.jobs.bodies(job.id):
                file.write(api.line(key.hex(), job.path, body))

    # collecting

    async def collect(self, step: str | None = None) -> None:
        """Look at all jobs that are open once, and keep what they answered.

        Raises `ModelError` where a job of this step was not taken, or its requests were refused for good, whichever
        process met it.
        """
        async with self._looking:
            if time.monotonic() - self._looked >= min(1.0, self.settings.poll):
                await self._look(step)
        if step is not None:
            self._stop(step)

    async def _look(self, step: str | None) -> None:
        stopping: ModelError | None = None
        for job in self.jobs.jobs(only_open=True):
            if job.state != "running":
                continue
            if (lacking := self._lacking(job.route)) is not None:
                if job.id not in self._told:
                    self._told.add(job.id)
                    self._tell(job, f"batch job {job.id} is not looked at: {lacking.message}")
                continue
            try:
                await self._collect(job)
            except TryAgain as error:
                self._tell(job, f"batch job {job.id} cannot be looked at ({error.message}): the next look may")
            except ModelError as error:
                if job.step == step:
                    stopping = stopping or error
                self._tell(job, f"batch job {job.id}: {error.message}")
        self._hold_open()
        self._looked = time.monotonic()
        if stopping is not None:
            raise stopping

    def _stop(self, step: str) -> None:
        """Tell a step once why its jobs came to nothing: it would send them again."""
        if found := self.jobs.untold(step):
            for job in found:
                self.jobs.note(job.id, untold="")
            message, _, hint = found[0].untold.partition("\n")
            raise ModelError(message, hint or None)

    async def _collect(self, job: Job) -> None:
        with taken(self._lock(job)) as free:
            if not free or self.jobs.job(job.id).state != "running":
                return
            assert job.remote is not None
            remote, api = job.remote, self._api(job.route)
            status = await self._tried(lambda: api.status(remote))
            if status is None and job.guessed:
                self._not_ours(job)
                return
            if status is None:
                self._finish(job, "failed", "the provider does not know it any more")
                return
            self.jobs.note(job.id, done=status.done, failed=status.failed, looked=time.time(), message=status.message)
            if status.state == "running":
                self._bus.publish("batch.progress", id=job.id, done=status.done, failed=status.failed, num=job.num)
            elif status.state in ("later", "failed"):
                failed = status.state == "failed"
                what = f"the provider does not take the batch job ({status.message})"
                hint = "Change what it says, and run the same command again; nothing was asked and nothing is paid."
                self.jobs.again(job.id, status.message, f"{what}\n{hint}" if failed else "")
                self._let_go(job)
                if failed:
                    self._tell(job, f"batch job {job.id}: {what}")
                    return
                self._full[job.route] = time.monotonic() + self.settings.poll
                self._tell(job, f"the provider has too much in its queue ({status.message}): batch job {job.id} waits")
            else:
                results = self.jobs.folder / f"batch-{job.id}.results"
                try:
                    await self._tried(lambda: api.fetch(status, results))
                    if job.guessed and not self._is_ours(job, api, results):
                        self._not_ours(job)
                        return
                    if (stopping := await self._keep(job, api, results)) is not None:
                        self.jobs.note(job.id, untold=f"{stopping.message}\n{stopping.hint or ''}")
                        self._tell(job, f"batch job {job.id}: {stopping.message}")
                finally:
                    results.unlink(missing_ok=True)
                self._finish(job, "cancelled" if "cancel" in status.message else "ended", status.message)

    def _is_ours(self, job: Job, api: BatchApi, results: Path) -> bool:
        """Whether any of the results has an id of this job."""
        found = filter(None, map(api.result, lines_of(results)))
        while part := list(islice(found, _TOGETHER)):
            keys = [key for result in part if (key := _key(result.key)) is not None]
            if keys and self.jobs.waiting(job.id, keys):
                self.jobs.note(job.id, guessed=0)
                return True
        return False

    def _not_ours(self, job: Job) -> None:
        """Look further, and begin it where there is none."""
        strangers = f"{job.strangers} {job.remote}".strip()
        self.jobs.note(job.id, remote=None, state="written", guessed=0, strangers=strangers, done=0, failed=0)
        self._tell(job, f"batch job {job.id} is not `{job.remote}`, which is somebody else's: it is looked for again")

    async def _keep(self, job: Job, api: BatchApi, results: Path) -> ModelError | None:
        """Put all results where they belong; the first error that no request will pass."""
        stopping: ModelError | None = None
        found = filter(None, map(api.result, lines_of(results)))
        while part := list(islice(found, _TOGETHER)):
            answered = await self._keep_some(job, api, part)
            stopping = stopping or answered
        return stopping

    async def _keep_some(self, job: Job, api: BatchApi, part: Sequence[Result]) -> ModelError | None:
        outcomes = {key: result.outcome for result in part if (key := _key(result.key)) is not None}
        waiting = self.jobs.waiting(job.id, list(outcomes)) if outcomes else {}
        place = self.jobs.place(job.route)
        name = str(place["name"])
        price = None if place["price"] is None else Price(*place["price"])
        entries: list[Entry] = []
        faults: dict[bytes, RowFault] = {}
        stopping: ModelError | None = None
        for key, (canonical, step) in waiting.items():
            outcome = outcomes[key]
            if isinstance(outcome, Reply):
                cost = None if price is None else api.discount * price.cost(outcome.usage)
                wire = (key, outcome.form, outcome.wire, canonical)
                entries.append(Entry(*wire, 0.0, name, step, outcome.usage, cost, batch=True))
            elif isinstance(outcome, RowFault):
                faults[key] = outcome
            elif isinstance(outcome, ModelError) and not isinstance(outcome, TryAgain):
                stopping = stopping or outcome
        if entries:
            await self._cache.put(entries)
        self.jobs.settle(job.id, [entry.key for entry in entries], faults)
        self._bill(entries)
        return stopping

    def _bill(self, entries: Sequence[Entry]) -> None:
        """What was paid, on the bill of the step that wanted it; the step will find as many replies kept."""
        paid: dict[str, list[float]] = {}
        for entry in entries:
            totals = self._ledger_of(entry.step).entry(entry.model)
            totals.add_reply(entry.usage, entry.cost_usd)
            totals.cached -= 1
            paid.setdefault(entry.step, []).append(entry.cost_usd or 0.0)
        for step, costs in paid.items():  # at once: the purse may look up in between what is committed already
            self._purse.spend(sum(costs), len(costs), step=step)

    def _finish(self, job: Job, state: str, message: str) -> None:
        settings = self.settings
        left = self.jobs.finish(
            job.id, state, message, live_up_to=settings.live_up_to, tries=settings.tries, session=self._session
        )
        self._let_go(job)
        self._lock(job).unlink(missing_ok=True)  # nobody who holds another finds anything to do
        kept = self.jobs.job(job.id).kept
        rest = f"; {left:,} without an answer are asked again" if left else ""
        self._tell(job, f"batch job {job.id}: {kept:,} of {job.num:,} replies are kept{rest}")

    def _let_go(self, job: Job) -> None:
        if job.id in self._held:
            self._held.pop(job.id)
            self._purse.release(job.estimate, job.num, step=job.step)

    async def cancel(self, number: str) -> Job:
        """Have a job end; what was answered by then is collected as ever."""
        job = self.jobs.job(number)
        if job.state == "written":
            job = await self._found_or_undone(job)
        if job.guessed and job.is_open:
            message = (
                f"batch job {job.id} is not cancelled: it may be `{job.remote}` at the provider, but that may be "
                "somebody else's, which shows when it is done"
            )
            self._tell(job, message)
            return job
        if job.remote is not None and job.is_open:
            remote, api = job.remote, self._api(job.route)
            await self._tried(lambda: api.cancel(remote))
            await self._collect(job)
        return self.jobs.find(number) or job

    async def _found_or_undone(self, job: Job) -> Job:
        """A job that nobody noted as begun, as it is at the provider; where it is not there, it is taken back."""
        with taken(self._lock(job)) as free:
            if not free:
                raise ModelError(f"batch job {job.id} is just being sent", "Cancel it in a moment.", retryable=True)
            found = self.jobs.find(job.id)
            if found is not None and found.state != "written":
                return found
            if found is not None:
                job = found
                try:
                    if job.sent is not None and await self._tried(lambda: self._found(job, self._api(job.route))):
                        return self.jobs.job(job.id)
                except (ModelError, RowFault) as error:
                    raise _stopping(error, f"batch job {job.id} could not be looked for") from None
                self.jobs.undo(job.id)
                self._let_go(job)
            self._lock(job).unlink(missing_ok=True)
            return job._replace(state="cancelled")

    async def _tried(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns, after some attempts where another may help."""
        patience = self._patience
        for attempt in range(_ATTEMPTS):
            try:
                return await work()
            except TryAgain as trouble:
                if attempt == _ATTEMPTS - 1:
                    raise
                bound = min(patience.longest_wait, patience.first_wait * 2.0**attempt)
                await asyncio.sleep(bound * random.uniform(0.5, 1.0) if trouble.wait is None else trouble.wait)
        raise AssertionError

    def _lock(self, job: Job) -> Path:
        return self.jobs.folder / f"batch-{job.id}.lock"

    def _tell(self, job: Job, message: str) -> None:
        facts = {"id": job.id, "state": job.state, "num": job.num, "step": job.step}
        self._bus.publish("step.waiting", message=message, **facts)


def _route_of(deployment: Deployment, endpoint: Endpoint) -> str:
    return digest_of(["batch", deployment.name, endpoint.url, endpoint.api or "openai", deployment.model])[:32]


def _key(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _stopping(error: ModelError | RowFault, what: str) -> ModelError:
    """An error about a whole job: what would be a fault of one row is one of the run."""
    if isinstance(error, TryAgain):
        hint = "Nothing is lost or sent twice: run the same command again."
        return ModelError(f"{what}: {error.message}", hint, kind=error.kind, retryable=True)
    if isinstance(error, RowFault):
        return ModelError(f"{what}: {error.message}")
    return error
