"""How fast an endpoint is asked: limits declared and learnt, shared between processes, and what refusals change."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.pace import GROWS_AFTER, Pace, Size, Turn
from stillhouse.calls.pace_file import SEEN_SECONDS, Member, PaceFile, Shared, own_name
from stillhouse.calls.reply import Usage
from stillhouse.calls.retry import Patience
from stillhouse.calls.service import CallService
from stillhouse.core.events import Event
from tests.calls.helpers import asking, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer

T = TypeVar("T")
SIZE, USAGE = Size(400), Usage(100, 50)


class Clock:
    """A time of day that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def on_a_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


def call(pace: Pace, size: Size = SIZE, usage: Usage = USAGE) -> None:
    """One call that is answered at once."""
    turn = pace.take(size)
    pace.succeeded(turn, usage, size, 0.1)
    pace.give_back(turn)


def until_free(pace: Pace, clock: Clock, size: Size = SIZE) -> None:
    """Let time pass until a call may go."""
    for _ in range(1000):
        wait = pace.seconds(size)
        if wait <= 0:
            return
        assert wait < math.inf
        clock.now += wait
    raise AssertionError("a call never may go")


# requests and tokens


@settings(max_examples=15, deadline=None)
@given(rpm=st.integers(1, 3000))
def test_declared_requests_a_minute_are_kept_and_used(rpm: int) -> None:
    async def run() -> list[float]:
        clock, times = Clock(), list[float]()
        pace = Pace(8, rpm=rpm, clock=clock)
        while clock.now < 1_000_000 + 200 and len(times) < 800:
            until_free(pace, clock)
            times.append(clock.now)
            call(pace)
        pace.leave()
        return times

    times = on_a_loop(run)
    for number, first in enumerate(times):
        assert sum(each < first + 60 - 1e-6 for each in times[number : number + rpm + 1]) <= rpm
    assert len(times) >= 0.95 * rpm * (times[-1] - times[0]) / 60


def test_declared_tokens_a_minute_are_kept_with_what_replies_really_come_to() -> None:
    """Replies are ten times as long as was guessed: that is learnt, and what was too much is waited for."""

    async def run() -> list[tuple[float, int]]:
        clock, used = Clock(), list[tuple[float, int]]()
        pace = Pace(8, tpm=60_000, clock=clock)
        while clock.now < 1_000_000 + 600:
            until_free(pace, clock)
            call(pace, usage=Usage(100, 3000))
            used.append((clock.now, 3100))
        pace.leave()
        return used

    used = on_a_loop(run)
    for first, _ in used:
        assert sum(tokens for at, tokens in used if first <= at < first + 60) <= 60_000 + 3100
    assert sum(tokens for _, tokens in used) >= 0.93 * 600_000


def test_tokens_of_calls_that_failed_come_back() -> None:
    async def run() -> int:
        clock = Clock()
        pace, made = Pace(8, tpm=6000, clock=clock), 0  # for the guess of a call, 400 tokens, four seconds
        for _ in range(100):
            if pace.seconds(Size(400)) > 0:
                break
            turn = pace.take(Size(400))
            pace.failed(turn)
            pace.give_back(turn)
            made += 1
        pace.leave()
        return made

    assert on_a_loop(run) == 100


def test_what_a_server_says_of_its_limits_is_learnt_and_corrected() -> None:
    async def run() -> tuple[float, float, int]:
        clock = Clock()
        pace = Pace(100, clock=clock)

        def told(left: int, reset: str) -> dict[str, str]:
            return {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": str(left),
                "x-ratelimit-reset-requests": reset,
            }

        turn = pace.take(Size(1))
        pace.heard(told(59, "1s"), turn)
        pace.give_back(turn)
        free = 0
        while pace.seconds(Size(1)) == 0 and free < 100:
            call(pace)
            free += 1
        waited = pace.seconds(Size(1))
        clock.now += 5
        until_free(pace, clock, Size(1))
        turn = pace.take(Size(1))
        pace.heard(told(0, "60s"), turn)  # somebody else uses the same key
        pace.give_back(turn)
        clock.now += 0.9
        for _ in range(5):
            if pace.seconds(Size(1)) > 0:
                break
            call(pace)  # what was taken before it was known
        later = pace.seconds(Size(1))
        pace.leave()
        return waited, later, free

    waited, later, free = on_a_loop(run)
    assert free == 59
    assert 0 < waited <= 1
    assert 0 < later <= 2


def server_with_limit(per_minute: float, at_once: int) -> tuple[Callable[[Call], Act | None], list[float]]:
    """A server's own token bucket, with OpenAI's headers; and the times at which it refused."""
    state = {"level": float(at_once), "at": time.monotonic()}
    refused: list[float] = []

    def behave(call: Call) -> Act | None:
        now = time.monotonic()
        state["level"] = min(at_once, state["level"] + (now - state["at"]) * per_minute / 60)
        state["at"] = now
        allowed = state["level"] >= 1
        state["level"] -= allowed
        headers = {
            "x-ratelimit-limit-requests": str(at_once),
            "x-ratelimit-remaining-requests": str(int(state["level"])),
            "x-ratelimit-reset-requests": f"{(at_once - state['level']) * 60 / per_minute:.3f}s",
        }
        if allowed:
            return Act(text=f"reply to {call.text}", headers=headers)
        refused.append(now)
        return Act(status=429, error={"message": "slow down"}, headers={**headers, "retry-after-ms": "100"})

    return behave, refused


def test_a_server_that_tells_its_limits_is_hardly_ever_refused(tmp_path: Path) -> None:
    behave, refused = server_with_limit(per_minute=1200, at_once=30)
    with MisbehavingServer(behave=behave) as server:
        asked = prompts(f"q{number}" for number in range(90))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(asking(server), asked), concurrency=32)

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert len(refused) <= 30  # without looking at the headers, more often than it is asked


def test_declared_limits_hold_over_http(tmp_path: Path) -> None:
    times: list[float] = []

    def behave(call: Call) -> Act | None:
        times.append(time.monotonic())
        return None

    with MisbehavingServer(behave=behave) as server:
        asked = prompts(f"q{number}" for number in range(30))
        with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), asked),
            endpoints={server.url: Endpoint(server.url, rpm=600)},
        )

    assert len(times) == 30
    assert times[-1] - times[0] >= 1.8  # ten at once, then ten a second


# width


def test_a_burst_of_refusals_narrows_once_and_replies_widen_again() -> None:
    async def run() -> None:
        clock = Clock()
        pace = Pace(64, clock=clock)
        turns = [pace.take(Size(1)) for _ in range(64)]
        clock.now += 1
        for turn in turns:
            pace.throttled(turn, 0.5)
            pace.give_back(turn)
        assert pace.state()["width"] == 48
        assert pace.seconds(Size(1)) == pytest.approx(0.5)
        clock.now += 1
        for _ in range(3 * GROWS_AFTER):
            call(pace)
        assert pace.state()["width"] == 51
        for _ in range(100 * GROWS_AFTER):
            call(pace)
        assert pace.state()["width"] == 64
        for _ in range(100):
            turn = pace.take(Size(1))
            clock.now += 1
            pace.throttled(turn, 0.1)
            pace.give_back(turn)
        assert pace.state()["width"] == 1
        pace.leave()

        alone = Pace(64, alone=60.0, clock=clock)
        turn = alone.take(Size(1))
        alone.throttled(turn, 0.1)
        alone.alive()
        assert alone.state()["width"] == 64  # one call alone says nothing of how many are too many
        alone.leave()

    on_a_loop(run)


def test_a_server_that_takes_few_calls_at_once_is_found_out(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        return Act.error_of(429, "too many at once") if server.in_flight > 4 else None

    with MisbehavingServer(behave=behave, latency=0.01) as server:
        asked = prompts(f"q{number}" for number in range(150))
        events: list[Event] = []
        outcomes = with_service(
            tmp_path, lambda service: service.ask_many(asking(server), asked), events, concurrency=32
        )

    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert min(event.data["width"] for event in events if event.kind == "calls.pace") <= 8
    assert server.num_calls <= 150 + 100  # those refused


def test_retry_after_is_obeyed_by_everybody(tmp_path: Path) -> None:
    times: list[float] = []

    def behave(call: Call) -> Act | None:
        times.append(time.monotonic())
        return Act.error_of(429, "slow down", retry_after="1") if call.number == 12 else None

    with MisbehavingServer(behave=behave, latency=0.005) as server:

        async def work(service: CallService) -> None:
            steps = [service.scope(name) for name in "abc"]
            for first in range(3):
                await asyncio.gather(
                    *(
                        step.ask_many(asking(server), prompts(f"{step} {first} {n}" for n in range(20)))
                        for step in steps
                    )
                )

        with_service(tmp_path, work, concurrency=2)

    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert max(gaps) >= 0.9
    stopped = gaps.index(max(gaps))
    assert stopped <= 12 + 2  # at most those that were on the wire came after the refusal


def test_the_state_of_the_limits_is_told(tmp_path: Path) -> None:
    events: list[Event] = []
    with MisbehavingServer(latency=0.3) as server:
        with_service(
            tmp_path,
            lambda service: service.ask_many(asking(server), prompts(f"q{number}" for number in range(12))),
            events,
            endpoints={server.url: Endpoint(server.url, concurrency=3, rpm=6000, tpm=60_000)},
        )

    told = [event.data for event in events if event.kind == "calls.pace"]
    assert told
    json.dumps(told)
    busiest = max(told, key=lambda state: state["in_flight"])
    assert (busiest["endpoint"], busiest["in_flight"], busiest["most"]) == (server.url, 3, 3)
    assert busiest["waiting"] >= 1
    assert 0 < busiest["rpm"] <= 12
    assert busiest["rpm_limit"] is not None


def test_where_nobody_answers_one_call_probes_and_then_all_go_on() -> None:
    async def run() -> None:
        clock = Clock()
        pace = Pace(8, clock=clock)
        turns = [pace.take(SIZE) for _ in range(8)]
        for turn in turns:
            pace.unanswered(1.0)
            pace.give_back(turn)
        assert pace.seconds(SIZE) == pytest.approx(1.0)
        assert pace.streak == 1  # one outage, not eight
        clock.now += 1.5
        assert len(filled(pace, 8)) == 1
        assert pace.seconds(SIZE) == math.inf
        pace.unanswered(2.0)
        pace.in_flight = 0
        assert (pace.streak, pace.silent_seconds) == (2, 1.5)
        clock.now += 2
        (probe,) = filled(pace, 8)
        pace.succeeded(probe, USAGE, SIZE, 0.1)
        pace.give_back(probe)
        assert (pace.streak, pace.silent_seconds) == (0, 0.0)
        assert len(filled(pace, 20)) == 8
        pace.leave()

    on_a_loop(run)


def test_the_first_call_goes_alone_and_the_others_follow_its_answer_or_a_while_later() -> None:
    async def run() -> tuple[int, int, int]:
        pace = Pace(8, alone=0.05)
        first = filled(pace, 8)
        await asyncio.sleep(0.2)
        later = filled(pace, 8)
        pace.begin_again()
        pace.in_flight = 0
        (again,) = filled(pace, 8)
        pace.alive()
        pace.give_back(again)
        after = filled(pace, 20)
        pace.leave()
        return len(first), len(later), len(after)

    assert on_a_loop(run) == (1, 7, 8)


# several processes


def member(path: Path, clock: Clock, width: int = 8, **settings: Any) -> Pace:
    return Pace(width, file=PaceFile(path), clock=clock, **settings)


def filled(pace: Pace, wants: int) -> list[Turn]:
    """As many turns as it gives."""
    turns: list[Turn] = []
    while len(turns) < wants and pace.seconds(Size(1)) <= 0:
        turns.append(pace.take(Size(1)))
    return turns


def test_two_processes_share_the_width_and_what_one_leaves_the_other_takes(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        one, two = member(tmp_path / "pace.json", clock), member(tmp_path / "pace.json", clock)
        ones = filled(one, 20)
        assert len(ones) == 8
        assert filled(two, 20) == []  # it is seen, and gets its share as the first lets go
        two.watch(lambda: None, lambda: 8)
        one.watch(lambda: None, lambda: 8)
        clock.now += 1
        twos: list[Turn] = []
        for _ in range(20):
            clock.now += 1
            if len(ones) > 4:
                one.give_back(ones.pop())
            for pace, turns in ((one, ones), (two, twos)):
                pace._tick()
                turns += filled(pace, 20)
                assert len(ones) + len(twos) <= 8
        assert len(ones) + len(twos) == 8
        assert min(len(ones), len(twos)) >= 3
        for turn in ones:
            one.give_back(turn)
        one.leave()
        clock.now += 1
        two._tick()
        twos += filled(two, 20)
        assert len(twos) == 8
        two.leave()

    on_a_loop(run)


def test_a_process_that_is_gone_leaves_its_share_to_the_others(tmp_path: Path) -> None:
    async def run() -> None:
        clock = Clock()
        gone, stays = member(tmp_path / "pace.json", clock), member(tmp_path / "pace.json", clock)
        assert len(filled(gone, 8)) == 8
        assert filled(stays, 8) == []
        gone._ticker.cancel()  # type: ignore[union-attr]  # kill -9: it says nothing any more
        clock.now += SEEN_SECONDS + 1
        assert len(filled(stays, 8)) == 8
        stays.leave()

    on_a_loop(run)


def test_where_there_are_more_processes_than_calls_at_once_they_take_turns(tmp_path: Path) -> None:
    async def run() -> set[int]:
        clock = Clock()
        paces = [member(tmp_path / "pace.json", clock, width=1) for _ in range(3)]
        for pace in paces:
            pace.watch(lambda: None, lambda: 1)
        served = set()
        for _ in range(40):
            clock.now += 0.5
            holders = []
            for number, pace in enumerate(paces):
                pace._tick()
                if filled(pace, 1):
                    holders.append(number)
            assert len(holders) <= 1
            served.update(holders)
            for number in holders:
                paces[number].in_flight = 0
        for pace in paces:
            pace.leave()
        return served

    assert on_a_loop(run) == {0, 1, 2}


def test_requests_a_minute_are_those_of_all_processes(tmp_path: Path) -> None:
    async def run() -> list[float]:
        clock, times = Clock(), list[float]()
        paces = [member(tmp_path / "pace.json", clock, rpm=120) for _ in range(3)]
        while clock.now < 1_000_000 + 180:
            for pace in paces:
                while pace.seconds(Size(1)) <= 0:
                    call(pace)
                    times.append(clock.now)
            clock.now += 0.05
        for pace in paces:
            pace.leave()
        return times

    times = on_a_loop(run)
    for number, first in enumerate(times):
        assert sum(each < first + 60 - 1e-6 for each in times[number : number + 121]) <= 120
    assert len(times) >= 0.9 * 120 * 3


@pytest.mark.parametrize("skew", [8.0, -8.0, 120.0])
def test_the_width_is_kept_by_machines_whose_clocks_differ(tmp_path: Path, skew: float) -> None:
    async def run() -> None:
        clock, ahead = Clock(), Clock()
        ahead.now += skew
        paces = [member(tmp_path / "pace.json", each) for each in (clock, ahead)]
        turns: list[list[Turn]] = [[], []]
        for pace in paces:
            pace.watch(lambda: None, lambda: 20)
        for step in range(60):
            clock.now += 0.3
            ahead.now += 0.3
            for pace, own in zip(paces, turns, strict=True):
                if own and step % 2:
                    pace.give_back(own.pop())
                pace._tick()
                own += filled(pace, 20)
                assert len(turns[0]) + len(turns[1]) <= 8
        assert min(map(len, turns)) >= 3
        for pace in paces:
            pace.leave()

    on_a_loop(run)


def test_only_a_process_of_this_place_is_known_to_be_dead_at_once() -> None:
    code = "from stillhouse.calls.pace_file import own_name; print(own_name())"
    dead = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    elsewhere = f"{socket.gethostname()}:{dead.split(':')[-2]}:0123abcd"  # the same number in another container
    shared = Shared(members={name: Member(1, 1, 100.0) for name in (dead, elsewhere, own_name())})

    shared.leave_out_gone(100.0)

    assert dead not in shared.members
    assert elsewhere in shared.members
    assert len(shared.members) == 2


def test_a_pause_holds_for_all_processes(tmp_path: Path) -> None:
    async def run() -> tuple[float, float]:
        clock = Clock()
        one, two = member(tmp_path / "pace.json", clock), member(tmp_path / "pace.json", clock)
        turn = one.take(Size(1)) if one.seconds(Size(1)) <= 0 else None
        assert turn is not None
        one.throttled(turn, 30.0)
        one.give_back(turn)
        waits = one.seconds(Size(1)), two.seconds(Size(1))
        one.leave()
        two.leave()
        return waits

    assert min(on_a_loop(run)) == pytest.approx(30.0)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"width": "x"}', b"\xff\xff", b'{"width": null, "opens_at": []}'])
def test_a_torn_file_is_begun_anew(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "pace.json"
    path.write_bytes(text)

    async def run() -> int:
        pace = member(path, Clock(), rpm=60)
        turns = filled(pace, 1)
        pace.leave()
        return len(turns)

    assert on_a_loop(run) == 1
    assert Shared.from_json(path.read_bytes()).buckets.keys() == {"requests"}


def test_a_file_that_cannot_be_had_holds_up_nobody(tmp_path: Path) -> None:
    from filelock import FileLock

    async def run(path: Path) -> int:
        pace = Pace(4, file=PaceFile(path, busy_seconds=0.2))
        until = time.monotonic() + 30
        turns: list[Turn] = []
        while not turns and time.monotonic() < until:
            await asyncio.sleep(0.02)
            turns = filled(pace, 4)
        pace.leave()
        return len(turns)

    with FileLock(tmp_path / "held.lock"):  # as of a process that is stopped
        assert on_a_loop(lambda: run(tmp_path / "held.json")) == 4
    (tmp_path / "folder.lock").mkdir()  # no lock file can be made here
    assert on_a_loop(lambda: run(tmp_path / "folder.json")) == 4


_CHILD = """
import asyncio, sys
from pathlib import Path
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.events import Bus

async def main():
    folder, url, name = sys.argv[1:]
    endpoints = {"teacher": Endpoint(url, concurrency=6)}
    service = CallService(Path(folder), bus=Bus(), credentials=Credentials(), endpoints=endpoints)
    prompts = [Prompt(f"{name} {n}") for n in range(1000)]
    answers = await service.ask_many(Ask(model="openai/teacher", deployment="teacher"), prompts)
    assert all(answer.text for answer in answers)
    await service.aclose()

asyncio.run(main())
"""


def test_real_processes_together_keep_to_the_width_also_when_one_is_killed(tmp_path: Path) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path), server.url, name])

    with MisbehavingServer(latency=0.02) as server:
        one, two = start("one"), start("two")
        asked_by_both = 0
        until = time.monotonic() + 60
        while asked_by_both < 20 and time.monotonic() < until:
            time.sleep(0.01)
            seen = [text.split()[0] for text in server.texts()]
            asked_by_both = min(seen.count("one"), seen.count("two"))
        peak = server.peak_in_flight
        two.kill()
        two.wait()
        assert one.wait(timeout=120) == 0

    assert asked_by_both >= 20
    assert peak <= 6
    assert sum(text.startswith("one") for text in server.texts()) == 1000


def test_patience_that_makes_no_sense_is_refused() -> None:
    for wrong in ({"attempts": 0}, {"max_failed": 1.5}, {"hedge": 1.0}, {"window": 0}):
        with pytest.raises(Exception, match="Patience"):
            Patience(**wrong)


def test_of_two_deployments_at_one_place_the_lower_limit_counts(tmp_path: Path) -> None:
    async def work(service: CallService) -> int:
        for name in ("fast", "slow"):
            await service.ask_many(
                Ask(model="openai/teacher", deployment=name), prompts(f"{name}{n}" for n in range(40))
            )
        (source,) = service._deployments.of(Ask(model="openai/teacher", deployment="fast")).gate.sources
        found = source.pace.state()["rpm_limit"]
        assert isinstance(found, int)
        return found

    with MisbehavingServer() as server:
        endpoints = {"fast": Endpoint(server.url, rpm=6000), "slow": Endpoint(server.url, rpm=600)}
        assert with_service(tmp_path, work, endpoints=endpoints) <= 600
