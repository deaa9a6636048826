"""Batch jobs over HTTP: submit, leave, come back, collect; nothing lost, nothing paid twice."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel

from stillhouse.calls.answer import Answer
from stillhouse.calls.archive import Archive
from stillhouse.calls.ask import Ask
from stillhouse.calls.batch.jobs import Jobs
from stillhouse.calls.batch.settings import Batching
from stillhouse.calls.budget import Budget
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.prices import Price
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.errors import BudgetError, ModelError, RowFault, Waiting
from stillhouse.core.events import Bus, Event
from stillhouse.core.session import Session
from stillhouse.generate.few_shot import FewShot
from stillhouse.generate.majority_vote import MajorityVote
from stillhouse.generate.prompt import Prompt as PromptStep
from stillhouse.rows.import_ import Import
from stillhouse.text.schema import Schema
from tests.calls.batch_child import Child
from tests.calls.batch_server import Batch, BatchServer, Doing
from tests.calls.helpers import QUICK, prompts, with_service

PRICES = {"teacher": Price(100.0, 100.0)}
"""Of the server's 2,000 tokens for each call: 20 cents, live."""
TEXTS = [f"question {number}" for number in range(10)]


@pytest.fixture(params=["openai", "anthropic"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def teacher(api: str) -> Ask:
    return Ask(model=f"{api}/teacher", deployment="teacher", max_tokens=1000)


def settings(server: BatchServer, batch: Any, **more: Any) -> dict[str, Any]:
    endpoint = Endpoint(server.url)
    return {"endpoints": {"teacher": endpoint}, "prices": PRICES, "batch": batch, **more}


def ask(
    folder: Path,
    server: BatchServer,
    api: str,
    batch: Any = True,
    texts: list[str] = TEXTS,
    events: list[Event] | None = None,
    **more: Any,
) -> list[str]:
    """Texts of answers, kinds of faults; raises `Waiting`."""

    async def work(service: CallService) -> list[str]:
        outcomes = await service.ask_many(teacher(api), prompts(texts))
        return [outcome.text if isinstance(outcome, Answer) else outcome.kind for outcome in outcomes]

    return with_service(folder, work, events, **settings(server, batch, **more))


def ask_until_done(folder: Path, server: BatchServer, api: str, times: int = 10, **more: Any) -> list[str]:
    """The same command again and again."""
    for _ in range(times):
        try:
            return ask(folder, server, api, **more)
        except Waiting:
            server.finish()
    raise AssertionError("it never ends")


REPLIES = [f"reply to {text}" for text in TEXTS]


def test_submit_leave_come_back_collect(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting, match=r"10 requests wait in 1 batch job .*\(0 of 10 done\)") as caught:
            ask(tmp_path, server, api)
        assert "same command" in (caught.value.hint or "")
        with pytest.raises(Waiting):  # not done: nothing is sent again
            ask(tmp_path, server, api)
        assert server.asked == dict.fromkeys(TEXTS, 1)
        server.finish()
        assert ask(tmp_path, server, api) == REPLIES
        assert ask(tmp_path, server, api, batch=False) == REPLIES  # live and batch share the cache
        assert server.live == []
        assert len(server.batches) == 1
    (batch,) = server.batches.values()
    with Archive(tmp_path) as archive:
        calls = list(archive.calls())
        assert {call.key for call in calls} == {line["custom_id"] for line in batch.lines}
        assert {(call.batch, call.cost_usd) for call in calls} == {(True, 0.1)}  # half of the price
        assert [(each.batch, each.calls, each.cost_usd) for each in archive.spending()] == [(True, 10, 1.0)]


def test_jobs_are_cut_at_what_a_provider_takes(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting, match="4 batch jobs"):
            ask(tmp_path, server, api, batch=Batching(job_requests=3))
        assert [len(batch.lines) for batch in server.batches.values()] == [3, 3, 3, 1]
        server.finish()
        assert ask(tmp_path, server, api) == REPLIES
        with pytest.raises(Waiting):
            ask(tmp_path, server, api, batch=Batching(job_bytes=600), texts=["long " * 50 + text for text in TEXTS])
        sizes = [len(batch.lines) for batch in list(server.batches.values())[4:]]
        assert sum(sizes) == 10
        assert max(sizes) <= 2


def test_waiting_is_a_choice(tmp_path: Path, api: str) -> None:
    with BatchServer(done=True) as server:
        assert ask(tmp_path, server, api, batch=Batching(wait=True, poll=0.02)) == REPLIES
        assert server.live == []


def test_waiting_goes_on_when_another_process_collects(tmp_path: Path, api: str) -> None:
    """As `stillhouse batches` does: what the job left is then asked by the one who waits."""

    async def work(service: CallService) -> list[str]:
        task = asyncio.create_task(service.ask_many(teacher(api), prompts(TEXTS)))
        while not any(job.state == "running" for job in service.batcher.jobs.jobs()):  # noqa: ASYNC110 - they are in a file
            await asyncio.sleep(0.01)
        other = CallService(tmp_path, bus=Bus(), batch=Batching(live_up_to=0), credentials=Credentials())
        async with service.batcher._looking:  # so that the other one is first
            server.finish()
            await other.batcher.collect()
            await other.aclose()
        server.done = True
        outcomes = await asyncio.wait_for(task, 60)
        return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]

    with BatchServer(doing=lambda text, tries: "answer" if tries else "expire") as server:
        batch = Batching(wait=True, poll=0.02, live_up_to=0)
        assert with_service(tmp_path, work, **settings(server, batch)) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 2)
        assert server.live == []


def test_a_job_that_another_process_takes_back_is_left_alone(tmp_path: Path) -> None:
    with BatchServer(at=lambda point: 503 if point == "upload before" else None) as server:
        with pytest.raises(ModelError, match="could not be sent"):
            ask(tmp_path, server, "openai")

        async def work(service: CallService) -> None:
            (job,) = service.batcher.jobs.jobs()
            other = Jobs(tmp_path)
            other.undo(job.id)
            other.close()
            await service.batcher._send(job)

        with_service(tmp_path, work, **settings(server, True))
        assert server.batches == {}


def test_an_endpoint_can_say_it_by_itself(tmp_path: Path) -> None:
    with BatchServer() as server:
        places = {"teacher": Endpoint(server.url, batch=True)}
        with pytest.raises(Waiting):
            with_service(tmp_path, lambda service: service.ask(teacher("openai"), "hello"), endpoints=places)
        assert len(server.batches) == 1


TROUBLES: dict[str, Doing] = {
    "question 0": "expire",
    "question 1": "reject",
    "question 2": "lose",
    "question 3": "nameless",
    "question 4": "garble",
    "question 5": "twice",
    "question 6": "refuse",
    "question 7": "break",
    "question 8": "cancel",
}


def test_what_a_job_leaves_is_asked_live_and_faults_are_the_rows(tmp_path: Path, api: str) -> None:
    with BatchServer(doing=lambda text, tries: TROUBLES.get(text, "answer")) as server:
        found = ask_until_done(tmp_path, server, api)
        left = ["question 0", "question 2", "question 3", "question 4", "question 7", "question 8"]
        assert sorted(server.live) == left
        expected = list(REPLIES)
        expected[1], expected[6] = "rejected", "refused"
        assert found == expected
        assert max(server.asked.values()) == 1
        # The refusal is kept. What was rejected is not a reply: the next run asks again, as a live one does.
        with pytest.raises(Waiting, match="1 requests"):
            ask(tmp_path, server, api)
        assert server.asked["question 1"] == 2


def test_much_that_a_job_leaves_goes_into_another_and_at_last_live(tmp_path: Path, api: str) -> None:
    def doing(text: str, tries: int) -> Doing:
        return "expire" if (text < "question 5" and tries < 1) or text == "question 0" else "answer"

    with BatchServer(doing=doing) as server:
        assert ask_until_done(tmp_path, server, api, batch=Batching(live_up_to=0, tries=3)) == REPLIES
        assert server.asked["question 0"] == 3
        assert server.asked["question 1"] == 2
        assert server.asked["question 9"] == 1
        assert server.live == ["question 0"]


def test_a_job_that_is_gone_is_asked_again(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, api, batch=Batching(live_up_to=0))
        server.batches.clear()
        with pytest.raises(Waiting):
            ask(tmp_path, server, api, batch=Batching(live_up_to=0))
        server.finish()
        assert ask(tmp_path, server, api) == REPLIES


@pytest.mark.parametrize(
    "point", ["upload before", "upload after", "create before", "create after", "status before", "content before"]
)
@pytest.mark.parametrize("status", [500, 0])
def test_trouble_on_the_way_passes_and_nothing_is_begun_twice(
    tmp_path: Path, api: str, point: str, status: int
) -> None:
    seen: list[str] = []

    def at(place: str) -> int | None:
        seen.append(place)
        return status if place == point and seen.count(place) <= 2 else None

    with BatchServer(at=at) as server:
        assert ask_until_done(tmp_path, server, api) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 1)
        assert server.live == []


def test_a_provider_that_stays_down_stops_the_run_and_loses_nothing(tmp_path: Path, api: str) -> None:
    down = True
    with BatchServer(at=lambda point: 503 if down and point == "create before" else None) as server:
        with pytest.raises(ModelError, match="could not be sent") as caught:
            ask(tmp_path, server, api)
        assert "run the same command again" in (caught.value.hint or "")
        down = False
        assert ask_until_done(tmp_path, server, api) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 1)


def test_a_job_that_may_have_been_begun_is_not_forgotten_when_the_key_is_refused(tmp_path: Path, api: str) -> None:
    torn = refusing = False

    def at(point: str) -> int | None:
        nonlocal torn, refusing
        if point == "create after" and not torn:
            torn = refusing = True
            return 0
        return 401 if refusing and point == "list before" else None

    with BatchServer(at=at) as server:
        with pytest.raises(ModelError, match="refuses the key"):
            ask(tmp_path, server, api)
        refusing = False
        assert ask_until_done(tmp_path, server, api) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 1)


def strangers(server: BatchServer, number: int = 10) -> Batch:
    """A batch that somebody else began with the same account."""
    body = {"model": "teacher", "messages": [{"role": "user", "content": "theirs"}]}
    return server._new("msgbatch", [{"custom_id": f"theirs-{place}", "body": body} for place in range(number)])


def torn(times: int) -> Callable[[str], int | None]:
    """The first attempts to begin a job are torn before it is begun."""
    seen: list[str] = []

    def at(point: str) -> int | None:
        seen.append(point)
        return 0 if point == "create before" and seen.count(point) <= times else None

    return at


def test_a_strangers_batch_of_the_same_size_is_neither_taken_nor_cancelled(tmp_path: Path) -> None:
    events: list[Event] = []

    async def cancel(service: CallService) -> None:
        (job,) = service.batcher.jobs.jobs(only_open=True)
        await service.batcher.cancel(job.id)

    with BatchServer(at=torn(1)) as server:
        theirs = strangers(server)
        with pytest.raises(Waiting):
            ask(tmp_path, server, "anthropic")
        with_service(tmp_path, cancel, events, **settings(server, True))
        assert (theirs.state, len(server.batches)) == ("running", 1)
        assert any("may be somebody else's" in event.data.get("message", "") for event in events)
        server.finish()
        assert ask_until_done(tmp_path, server, "anthropic") == REPLIES
        assert server.asked == {"theirs": 10, **dict.fromkeys(TEXTS, 1)}
        assert server.live == []


def test_a_job_of_ours_is_found_behind_a_strangers_batch(tmp_path: Path) -> None:
    """The stranger's stands in front of it, and is done first."""
    down = True

    def at(point: str) -> int | None:
        if point == "create after" and down:
            return 0
        return 503 if point == "list before" and down else None

    with BatchServer(at=at) as server:
        with pytest.raises(ModelError, match="could not be sent"):
            ask(tmp_path, server, "anthropic")
        down = False
        theirs = strangers(server)
        with pytest.raises(Waiting):
            ask(tmp_path, server, "anthropic")
        theirs.state = "done"
        with pytest.raises(Waiting):
            ask(tmp_path, server, "anthropic")
        server.finish()
        assert ask(tmp_path, server, "anthropic") == REPLIES
        assert server.asked == {"theirs": 10, **dict.fromkeys(TEXTS, 1)}


def test_two_jobs_of_one_size_that_may_have_been_begun_each_find_their_own(tmp_path: Path) -> None:

    def at(point: str) -> int | None:
        return {"create after": 0, "list before": 503}.get(point)

    texts = [[f"{name} {number}" for number in range(3)] for name in ("one", "two")]
    with BatchServer(at=at) as server:
        with pytest.raises(ModelError, match="could not be sent"):
            ask(tmp_path, server, "anthropic", texts=texts[0])
        server.at = torn(1)  # the second is not begun, and takes the first one's for its own until that is done
        with pytest.raises(Waiting):
            ask(tmp_path, server, "anthropic", texts=texts[1])
        assert len(server.batches) == 1
        for part in texts:
            assert ask_until_done(tmp_path, server, "anthropic", texts=part) == [f"reply to {text}" for text in part]
        assert set(server.asked.values()) == {1}
        assert server.live == []


def test_jobs_of_the_first_format_are_read(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, api)
        with sqlite3.connect(tmp_path / "batches.sqlite") as connection:
            for column in ("guessed", "strangers", "untold"):
                connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
            connection.execute("PRAGMA user_version=1")
        connection.close()
        server.finish()
        assert ask(tmp_path, server, api) == REPLIES


def test_cancelling_a_job_that_was_never_begun_sends_nothing(tmp_path: Path, api: str) -> None:
    with BatchServer(at=torn(5)) as server:
        with pytest.raises(ModelError, match="could not be sent"):
            ask(tmp_path, server, api)

        async def cancel(service: CallService) -> list[str]:
            (job,) = service.batcher.jobs.jobs(only_open=True)
            found = await service.batcher.cancel(job.id)
            return [found.state, *(job.id for job in service.batcher.jobs.jobs(only_open=True))]

        assert with_service(tmp_path, cancel, **settings(server, True)) == ["cancelled"]
        assert server.batches == {}
        assert ask_until_done(tmp_path, server, api) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 1)


def test_a_job_that_was_begun_unnoted_is_found_and_cancelled(tmp_path: Path) -> None:
    down = True

    def at(point: str) -> int | None:
        return {"create after": 0, "list before": 503}.get(point) if down else None

    with BatchServer(at=at) as server:
        with pytest.raises(ModelError, match="could not be sent"):
            ask(tmp_path, server, "openai")
        down = False

        async def cancel(service: CallService) -> str:
            (job,) = service.batcher.jobs.jobs(only_open=True)
            return (await service.batcher.cancel(job.id)).state

        assert with_service(tmp_path, cancel, **settings(server, True)) == "cancelled"
        assert [batch.state for batch in server.batches.values()] == ["cancelled"]


def headed(server: BatchServer) -> list[str]:
    """Points that a request reached without the header `X-Project`; the server then knows nothing of the job."""
    bare: list[str] = []
    passed = server._pass

    def checked(point: str, request: web.Request) -> web.Response | None:
        if "X-Project" not in request.headers:
            bare.append(point)
            return web.json_response({"error": {"message": "no such batch", "type": "not_found"}}, status=404)
        return passed(point, request)

    server._pass = checked  # type: ignore[method-assign]
    return bare


def test_headers_of_an_endpoint_go_along_when_a_later_run_collects(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        bare = headed(server)
        more = {"endpoints": {"teacher": Endpoint(server.url, headers={"X-Project": "ours"})}}

        async def work(service: CallService) -> int:
            outcomes = await service.ask_many(teacher(api), prompts(TEXTS))
            return len([outcome for outcome in outcomes if isinstance(outcome, Answer)])

        with pytest.raises(Waiting):
            with_service(tmp_path, work, **{**settings(server, True), **more})
        server.finish()

        events: list[Event] = []
        with_service(tmp_path, look, events, batch=True)  # as `stillhouse batches`, which knows no headers
        assert any("headers" in event.data.get("message", "") for event in events)
        assert with_service(tmp_path, work, **{**settings(server, True), **more}) == 10
        assert bare == []
        assert server.asked == dict.fromkeys(TEXTS, 1)
        assert "ours" not in (tmp_path / "batches.sqlite").read_bytes().decode("latin-1")


def test_headers_of_every_endpoint_of_a_step_go_along(tmp_path: Path) -> None:
    """Also of one that is asked after another."""
    with BatchServer() as server:
        bare = headed(server)

        asks = tuple(Ask(model=f"openai/{name}", deployment=name, max_tokens=1000) for name in ("one", "two"))
        places = {name: Endpoint(server.url, headers={"X-Project": name}) for name in ("one", "two")}
        prices = dict.fromkeys(places, PRICES["teacher"])
        rows = Import(data=[{"input": f"row {n}", "output": str(n)} for n in range(4)])
        both = MajorityVote(rows=rows, template="{{ input }}", by=asks, samples=1)
        for _ in range(2):
            with session(tmp_path, server, True, endpoints=places, prices=prices) as opened:
                try:
                    made = opened.run(both)
                except Waiting:
                    server.finish()
        assert len(made) == 4
        assert bare == []


def test_a_job_that_is_refused_outright_does_not_stand_in_the_way(tmp_path: Path, api: str) -> None:
    refusing = True
    with BatchServer(at=lambda point: 401 if refusing and point == "create before" else None) as server:
        with pytest.raises(ModelError, match="refuses the key"):
            ask(tmp_path, server, api)
        refusing = False
        with pytest.raises(Waiting, match="2 requests wait in 1 batch job"):
            ask(tmp_path, server, api, texts=["other", "another"])
        assert server.asked == {"other": 1, "another": 1}


def test_a_server_without_batch_jobs_says_what_to_do(tmp_path: Path) -> None:
    with BatchServer(at=lambda point: 404) as server, pytest.raises(ModelError, match="knows no batch jobs") as caught:
        ask(tmp_path, server, "openai")
    assert "batch=False" in (caught.value.hint or "")


def test_a_job_that_is_not_taken_stops_the_run_with_the_providers_words(tmp_path: Path) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, "openai")
        (batch,) = server.batches.values()
        batch.state, batch.error = "failed", ("invalid_model", "there is no such model")
        with pytest.raises(ModelError, match="there is no such model"):
            ask(tmp_path, server, "openai")
        assert ask_until_done(tmp_path, server, "openai") == REPLIES  # after it is mended


async def look(service: CallService) -> None:
    """As `stillhouse batches` does."""
    await service.batcher.collect()


def test_a_job_that_is_not_taken_stops_its_run_whoever_looked_first(tmp_path: Path) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, "openai")
        (batch,) = server.batches.values()
        batch.state, batch.error = "failed", ("invalid_model", "there is no such model")
        with_service(tmp_path, look, batch=True)
        with pytest.raises(ModelError, match="there is no such model"):
            ask(tmp_path, server, "openai")
        assert len(server.batches) == 1  # not sent again before it is mended
        assert ask_until_done(tmp_path, server, "openai") == REPLIES


def test_of_steps_beside_each_other_that_whose_job_is_not_taken_stops(tmp_path: Path) -> None:
    """Whichever of them looks at the jobs."""
    steps = [step("openai"), step("openai", template="other {{ input }}")]
    for taken in (0, 1):
        with BatchServer() as server:
            with session(tmp_path / str(taken), server) as opened, pytest.raises(Waiting):
                opened.run(steps)
            batch = list(server.batches.values())[1 - taken]
            batch.state, batch.error = "failed", ("invalid_model", "there is no such model")
            with session(tmp_path / str(taken), server) as opened, pytest.raises(ModelError, match="no such model"):
                opened.run(steps)
            assert len(server.batches) == 2


def test_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, "openai")
        (batch,) = server.batches.values()
        batch.state, batch.error = "failed", ("token_limit_exceeded", "Enqueued token limit reached")
        with pytest.raises(Waiting):
            ask(tmp_path, server, "openai")
        assert ask_until_done(tmp_path, server, "openai") == REPLIES


def test_a_budget_is_kept_before_anything_is_sent(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(BudgetError, match="the run's budget"):
            ask(tmp_path, server, api, budget=Budget(usd=0.1))
        with pytest.raises(BudgetError, match="9 calls"):
            ask(tmp_path, server, api, budget=Budget(calls=9))
        assert server.batches == {}
        # Two jobs fit, the third does not: what was sent is collected by the next run.
        with pytest.raises(BudgetError, match=r"7 calls is used up \(6 in batch jobs\)"):
            ask(tmp_path, server, api, batch=Batching(job_requests=3), budget=Budget(calls=7))
        assert [len(batch.lines) for batch in server.batches.values()] == [3, 3]
        assert ask_until_done(tmp_path, server, api, budget=Budget(calls=10)) == REPLIES
        assert server.asked == dict.fromkeys(TEXTS, 1)


def test_what_was_collected_counts_against_a_days_budget(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        ask_until_done(tmp_path, server, api)
        with pytest.raises(BudgetError, match=r"the day's budget of \$1.02"):
            ask(tmp_path, server, api, texts=["another"], budget=Budget(per_day=1.02))


def spent(folder: Path) -> dict[bool, tuple[int, float]]:
    """Calls and dollars, those of jobs under True."""
    with Archive(folder) as archive:
        return {each.batch: (each.calls, round(each.cost_usd, 6)) for each in archive.spending()}


def test_what_was_asked_live_meanwhile_is_paid_for_in_the_job_too(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, api)
        assert ask(tmp_path, server, api, batch=False, texts=TEXTS[:4]) == REPLIES[:4]
        server.finish()
        with pytest.raises(BudgetError, match=r"\$1\.8000 spent"):
            ask(tmp_path, server, api, texts=[*TEXTS, "another"], budget=Budget(per_day=1.81))
        assert ask(tmp_path, server, api) == REPLIES
    assert spent(tmp_path) == {False: (4, 0.8), True: (10, 1.0)}


def test_a_live_run_counts_open_jobs_towards_the_day(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path, server, api)
        with pytest.raises(BudgetError, match=r"the day's budget of \$0\.6 .* in batch jobs"):
            ask(tmp_path, server, api, batch=False, texts=["another"], budget=Budget(per_day=0.6))
        assert ask(tmp_path, server, api, batch=False, texts=["another"], budget=Budget(usd=0.6)) == [
            "reply to another"
        ]


def test_jobs_of_earlier_runs_count_until_they_are_collected(tmp_path: Path, api: str) -> None:
    """Ten requests of a job are estimated at 50 cents and cost a dollar."""
    sets = [[f"question {run}-{number}" for number in range(10)] for run in range(3)]
    with BatchServer() as server:
        for limit in (Budget(per_day=0.9), Budget(usd=0.9)):
            with pytest.raises(Waiting):
                ask(tmp_path, server, api, texts=sets[0], budget=limit)
            for texts in sets[1:]:
                with pytest.raises(BudgetError, match=r"\$0\.0000 spent, \$0\.5\d+ in batch jobs"):
                    ask(tmp_path, server, api, texts=texts, budget=limit)
        assert len(server.batches) == 1
        # Another process that looks at the jobs and goes: what came counts as spent from then on.
        server.finish()
        with pytest.raises(BudgetError, match=r"\$1\.0000 spent"):
            ask(tmp_path, server, api, texts=sets[1], budget=Budget(per_day=1.1))
        ask(tmp_path, server, api, texts=sets[0], budget=Budget(per_day=1.1))
        with pytest.raises(Waiting):
            ask(tmp_path, server, api, texts=sets[1], budget=Budget(per_day=1.6))


class Count(BaseModel):
    """A structured reply."""

    words: int


def test_a_reply_that_does_not_follow_the_schema_is_mended_in_a_second_round(tmp_path: Path, api: str) -> None:
    def reply(text: str) -> str:
        return '{"words": 2}' if "cannot be used" in text or text != "question 3" else '{"words": "two"}'

    schema = Schema(Count)

    async def work(service: CallService) -> list[Any]:
        outcomes = await service.ask_many(teacher(api), [Prompt(text, schema) for text in TEXTS])
        assert not any(isinstance(outcome, RowFault) for outcome in outcomes)
        return [(outcome.value["words"], outcome.repaired) for outcome in outcomes if isinstance(outcome, Answer)]

    with BatchServer(reply) as server:
        for count in (10, 1):
            with pytest.raises(Waiting, match=f"{count} requests"):
                with_service(tmp_path, work, **settings(server, True))
            server.finish()
        found = with_service(tmp_path, work, **settings(server, True))
        assert found[3] == (2, "asked")
        assert found[:3] == [(2, "no")] * 3
        assert [len(batch.lines) for batch in server.batches.values()] == [10, 1]


def test_a_job_asks_what_a_live_call_would(tmp_path: Path, api: str) -> None:
    bodies: list[Any] = []
    with BatchServer() as server:
        with pytest.raises(Waiting):
            ask(tmp_path / "batch", server, api, texts=["hello"])
        (batch,) = server.batches.values()
        name = "_chat_answer" if api == "openai" else "_message"
        original = getattr(server, name)

        def noted(body: Any, doing: str = "answer") -> Any:
            bodies.append(body)
            return original(body, doing)

        setattr(server, name, noted)
        ask(tmp_path / "live", server, api, batch=False, texts=["hello"])
    assert bodies == [batch.lines[0]["body"]]


# Steps


def step(api: str, number: int = 40, template: str = "{{ input }}") -> PromptStep:
    rows = Import(data=[{"input": f"row {n}", "output": str(n)} for n in range(number)])
    return PromptStep(rows=rows, template=template, by=teacher(api))


def session(folder: Path, server: BatchServer, batch: Any = True, **more: Any) -> Session:
    return Session(folder, track=False, credentials=Credentials(), patience=QUICK, **settings(server, batch, **more))


def run_until_done(folder: Path, server: BatchServer, steps: Any, batch: Any = True, times: int = 10) -> Any:
    for _ in range(times):
        with session(folder, server, batch) as opened:
            try:
                return opened.run(steps, name="made")
            except Waiting:
                server.finish()
    raise AssertionError("it never ends")


def test_a_step_is_asked_as_one_job_and_comes_out_as_live(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with session(tmp_path / "batch", server) as opened, pytest.raises(Waiting, match="40 requests"):
            opened.run(step(api))
        assert len(server.batches) == 1
        made = run_until_done(tmp_path / "batch", server, step(api))
        assert server.live == []
        with session(tmp_path / "live", server, batch=None) as opened:
            live = opened.run(step(api))
        assert (made.digest, made.key) == (live.digest, live.key)
        bill, dear = made.record["calls"]["total"], live.record["calls"]["total"]
        assert (bill["calls"], bill["cached"], bill["failed"]) == (40, 0, 0)
        assert bill["cost_usd"] == pytest.approx(dear["cost_usd"] / 2)


def test_a_step_whose_every_request_fails_says_so(tmp_path: Path, api: str) -> None:
    with BatchServer(doing=lambda text, tries: "reject") as server, pytest.raises(ModelError, match="this cannot be"):
        run_until_done(tmp_path, server, step(api))


def test_rows_whose_requests_were_rejected_are_failed_rows(tmp_path: Path, api: str) -> None:
    with BatchServer(doing=lambda text, tries: "reject" if text == "row 7" else "answer") as server:
        made = run_until_done(tmp_path, server, step(api))
        assert len(made) == 39
        assert [row["kind"] for row in made.failed()] == ["rejected"]


def test_steps_beside_each_other_wait_together_and_those_behind_ask_when_they_can(tmp_path: Path, api: str) -> None:
    first, second = step(api), step(api, template="other {{ input }}")
    behind = PromptStep(rows=first, template="about {{ reply }}", by=teacher(api), column="more")
    with BatchServer() as server:
        with session(tmp_path, server) as opened, pytest.raises(Waiting):
            opened.run([behind, second])
        assert len(server.batches) == 2
        made, _ = run_until_done(tmp_path, server, [behind, second])
        assert len(server.batches) == 3
        assert len(made) == 40
        assert set(server.asked.values()) == {1}
        assert server.live == []


def test_shares_put_into_jobs_what_they_ask_and_nothing_else(tmp_path: Path) -> None:
    by = teacher("openai").replace(temperature=1.0)
    equal = PromptStep(rows=Import(data=[{"input": "roll"}] * 4, require=()), template="{{ input }}", by=by)
    shown = Import(data=[{"input": f"e{n}", "output": f"o{n}"} for n in range(3)], require=())
    rows = Import(data=[{"input": f"in {n}"} for n in range(4)], require=())
    turns = FewShot(rows=rows, by=by, examples=shown, choose="round_robin", most=1)
    with BatchServer() as server:
        for step in (equal, turns):
            for index in range(2):
                with session(tmp_path, server) as opened, pytest.raises(Waiting):
                    opened.shard(step, index, 2)
                server.finish()
                with session(tmp_path, server) as opened:
                    opened.shard(step, index, 2)
        assert (sum(server.asked.values()), server.live) == (8, [])


def test_what_another_steps_job_holds_is_waited_for_and_told(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        with session(tmp_path, server) as opened, pytest.raises(Waiting):
            opened.run(step(api))
        other = step(api, 5).model_copy(update={"column": "other"})
        with session(tmp_path, server) as opened, pytest.raises(Waiting, match=r"5 requests wait in 1 batch job .*40"):
            opened.run(other)
        assert len(server.batches) == 1


def test_a_live_run_beside_open_jobs_is_warned(tmp_path: Path) -> None:
    events: list[Event] = []
    with BatchServer() as server:
        with session(tmp_path, server) as opened, pytest.raises(Waiting):
            opened.run(step("openai"))
        with session(tmp_path, server, batch=None, on_event=events.append) as opened:
            opened.run(step("openai"))
    assert any("paid for twice" in event.data.get("message", "") for event in events)


POINTS = [f"{what} {when}" for what in ("upload", "create", "status", "content") for when in ("before", "after")]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_nothing_is_paid_twice_and_nothing_lost(tmp_path: Path, api: str, point: str) -> None:
    if (api, point.split()[0]) == ("anthropic", "upload"):
        point = point.replace("upload", "create")  # it uploads nothing by itself
    child: Child | None = None

    def at(place: str) -> int | None:
        if place == point and child is not None:
            child.kill()
        return None

    with BatchServer(at=at) as server:
        if point.split()[0] in ("status", "content"):
            with session(tmp_path, server) as opened, pytest.raises(Waiting):
                opened.run(step(api))
            server.finish()
        child = Child(tmp_path, server.url, api)
        child.go()
        assert child.outcome() == ("", -signal.SIGKILL)
        made = run_until_done(tmp_path, server, step(api))
        assert len(made) == 40
        assert set(server.asked.values()) == {1}
        assert len(server.asked) == 40
        assert server.live == []
    jobs = Jobs(tmp_path / "calls-v1")
    assert not [job for job in jobs.jobs() if job.is_open]
    assert jobs.steps_under_way() == set()
    jobs.close()
    with Archive(tmp_path / "calls-v1") as archive:
        assert [(each.calls, round(each.cost_usd, 6)) for each in archive.spending()] == [(40, 4.0)]


@pytest.mark.parametrize("beside", [0, 15])
@pytest.mark.parametrize("moment", ["put", "settle", "finish"])
def test_killed_while_it_collects_nothing_is_paid_twice_and_nothing_lost(
    tmp_path: Path, moment: str, beside: int
) -> None:
    """The process ends after the replies are committed, after they are settled, before the job is over.

    `beside`: so many of them were asked live while the job was open.
    """
    with BatchServer() as server:
        with session(tmp_path, server) as opened, pytest.raises(Waiting):
            opened.run(step("openai"))
        if beside:
            with session(tmp_path, server, batch=None) as opened:
                opened.run(step("openai", beside))
        server.finish()
        child = Child(tmp_path, server.url, "openai", moment)
        child.go()
        assert child.outcome() == ("", -signal.SIGKILL)
        made = run_until_done(tmp_path, server, step("openai"))
        assert len(made) == 40
        assert set(server.asked.values()) == {1}
        assert len(server.live) == beside
    live = {False: (beside, 0.2 * beside)} if beside else {}
    assert spent(tmp_path / "calls-v1") == {**live, True: (40, 4.0)}


def test_two_processes_that_ask_the_same_send_it_once(tmp_path: Path, api: str) -> None:
    with BatchServer() as server:
        for _ in range(2):
            both = [Child(tmp_path, server.url, api) for _ in range(2)]
            for child in both:
                child.go()
            outcomes = [child.outcome() for child in both]
            server.finish()
        assert outcomes == [("made 40", 0)] * 2
        assert set(server.asked.values()) == {1}
