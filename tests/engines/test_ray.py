"""Map steps on a Ray cluster of two nodes, of which one is lost, and whose driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.budget import Budget
from stillhouse.calls.credentials import Credentials
from stillhouse.core.artifact import Rows
from stillhouse.core.errors import BudgetError, Interrupted, ModelError, RecipeError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.engines.ray import RayEngine
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Map
from tests.calls.server import MisbehavingServer
from tests.core.steps import Gated, Numbers, Rubbish
from tests.engines.steps import Mistaken, Spread, strict

pytest.importorskip("ray")
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
SMALL = Options(chunk=16, first_look=4)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine."""
    from ray.cluster_utils import Cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        import ray

        ray.shutdown()
        made.shutdown()
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


@pytest.fixture(scope="module")
def engine(cluster: Any) -> Iterator[RayEngine]:
    """A connection that the tests of one process share: each new one takes seconds."""
    import ray

    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    yield RayEngine(cluster.address)
    ray.shutdown()


def opened(folder: Path, engine: RayEngine | None, **settings: Any) -> Session:
    settings.setdefault("credentials", Credentials({"OPENAI_API_KEY": "k"}))
    return Session(folder, engine=engine, options=SMALL, track=False, progress=False, **settings)


def same(left: Rows, right: Rows) -> bool:
    files = [[path.read_bytes() for path in rows.paths] for rows in (left, right)]
    asides = [[list(rows.dropped()), list(rows.failed()), rows.record["counts"]] for rows in (left, right)]
    return left.digest == right.digest and files[0] == files[1] and asides[0] == asides[1]


def test_rows_are_mapped_on_both_nodes_and_the_result_is_that_of_this_machine(
    tmp_path: Path, engine: RayEngine
) -> None:
    step = Map(rows=Spread(rows=Numbers(count=300), log=str(tmp_path / "log"), seconds=0.005), function=strict)
    with opened(tmp_path / "ray", engine) as session:
        there = session.run(step)
    workers = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(workers) == 2
    assert str(os.getpid()) not in workers
    with opened(tmp_path / "here", None) as session:
        assert same(there, session.run(step))


def asked(server: MisbehavingServer, count: int) -> Step[Rows]:
    by = Ask(model="openai/teacher", endpoint=server.url)
    rows = Import(data=[{"n": str(number)} for number in range(count)], require=("n",))
    first = Prompt(rows=rows, template="answer {{ n }}", column="answer", by=by)
    return Prompt(rows=first, template="judge {{ answer }} {{ n }}", column="verdict", by=by)


def test_limits_on_calls_hold_over_all_actors(tmp_path: Path, engine: RayEngine) -> None:
    with MisbehavingServer(lambda messages, schema, sample: "ok", latency=0.02) as server:
        step = asked(server, 60)
        with (
            opened(tmp_path / "s", engine, budget=Budget(calls=25), concurrency=3) as session,
            pytest.raises(BudgetError, match="25 calls"),
        ):
            session.run(step)
        assert server.num_calls <= 25
        assert server.peak_in_flight <= 3
        with opened(tmp_path / "s", engine, concurrency=3) as session:
            rows = session.run(step)
        assert server.num_calls == 120
        assert rows.record["calls"]["total"]["calls"] == 60
    assert max(server.texts().values()) == 1


def test_errors_come_home_as_they_are(tmp_path: Path, engine: RayEngine) -> None:
    with opened(tmp_path / "s", engine) as session:
        with pytest.raises(ModelError, match="4 of the first 4 rows of `Rubbish`"):
            session.run(Rubbish(rows=Numbers(count=50)))
        with pytest.raises(RecipeError, match="the rows have a column `i` already"):
            session.run(Prompt(rows=Numbers(count=5), template="x", column="i", by=Ask(model="scripted:none")))


def test_what_cannot_travel_is_mapped_here_and_said(tmp_path: Path, engine: RayEngine) -> None:
    told: list[str] = []
    step = Map(rows=Numbers(count=20), function=lambda row: {"i": row["i"] + 1})
    with opened(
        tmp_path / "s", engine, on_event=lambda event: told.append(str(event.data.get("message", "")))
    ) as session:
        assert [row["i"] for row in session.run(step)][:3] == [1, 2, 3]
    assert any("it is mapped on this machine" in message for message in told)


def test_rows_that_failed_are_made_when_the_cause_is_mended(tmp_path: Path, engine: RayEngine) -> None:
    step = Gated(rows=Numbers(count=100), gate=str(tmp_path / "gate"), log=str(tmp_path / "log"), opens=60)
    (tmp_path / "gate").touch()
    with opened(tmp_path / "s", engine) as session:
        assert len(session.run(step)) == 100


def pids(log: Path) -> set[str]:
    return {line.split()[0] for line in log.read_text().splitlines()}


def test_who_ends_leaves_the_actors_to_others(tmp_path: Path, engine: RayEngine) -> None:
    def spread(count: int) -> Spread:
        return Spread(rows=Numbers(count=count), log=str(tmp_path / str(count)))

    with opened(tmp_path / "one", engine) as one, opened(tmp_path / "two", RayEngine(engine.address)) as two:
        one.run(spread(100))
        two.run(spread(101))
        one.close()
        two.run(spread(102))
    assert pids(tmp_path / "100") | pids(tmp_path / "101") >= pids(tmp_path / "102")


@pytest.fixture
def joined(engine: RayEngine) -> Iterator[Any]:
    """The actors, with no session that could end them."""
    from stillhouse.engines import _ray

    cluster = _ray.join(engine)
    yield cluster
    _ray.leave(cluster)


def held(cluster: Any) -> list[tuple[int, int]]:
    """Chunks and mappers that each actor has."""
    import ray

    asked = [each.__ray_call__.remote(lambda self: (len(self._chunks), len(self._mappers))) for each in cluster._load]
    found: list[tuple[int, int]] = ray.get(asked)
    return found


def test_actors_keep_nothing_of_a_step_that_ended_in_an_error(tmp_path: Path, engine: RayEngine, joined: Any) -> None:
    with opened(tmp_path / "s", engine) as session:
        with pytest.raises(AttributeError, match="sing"):
            session.run(Mistaken(rows=Numbers(count=50)))
        assert held(joined) == [(0, 0)] * len(joined._load)
        assert len(session.run(Map(rows=Numbers(count=4), function=strict))) == 4
    assert held(joined) == [(0, 0)] * len(joined._load)
    assert set(joined._load.values()) == {0}


def test_who_is_cancelled_while_waiting_for_an_actor_has_none(joined: Any) -> None:
    import asyncio

    from stillhouse.engines._ray import RayWorkers

    async def cancelled() -> None:
        workers = RayWorkers.__new__(RayWorkers)  # what it maps does not matter: it does not come to that
        workers._cluster = joined
        with joined._lock:
            waiting = asyncio.ensure_future(workers._taken())
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(cancelled())  # ends when its threads have ended
    assert set(joined._load.values()) == {0}


def test_a_step_that_waits_for_room_in_the_cluster_can_be_stopped(tmp_path: Path, engine: RayEngine) -> None:
    greedy = RayEngine(engine.address, actors=1, num_gpus=64.0)
    with opened(tmp_path / "s", greedy) as session:
        handle = session.start(Map(rows=Numbers(count=4), function=strict))
        with pytest.raises(TimeoutError):
            handle.wait(2.0)
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(60.0)


PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from stillhouse.calls.credentials import Credentials
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from tests.engines.test_ray import asked
folder, url, address = sys.argv[1:]
class Server:
    pass
Server.url = url
with Session(
    folder, engine="ray:" + address, options=Options(chunk=8, first_look=4), track=False, progress=False,
    concurrency=4, credentials=Credentials({{"OPENAI_API_KEY": "k"}}),
) as session:
    made = session.run(asked(Server, 150), name="it")
    print("made", len(made), made.digest)
"""


def driver(folder: Path, server: MisbehavingServer, cluster: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(folder), server.url, cluster.address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lost_node_and_a_killed_driver_pay_nothing_twice(tmp_path: Path, cluster: Any) -> None:
    """First the driver dies, then, in its second run, the node that has one of the two actors."""
    with MisbehavingServer(lambda messages, schema, sample: "ok", latency=0.1) as server:
        process = driver(tmp_path / "s", server, cluster)
        until(lambda: sum(server.answered.values()) >= 60, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        first = server.num_calls
        assert first < 250
        lost = cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        process = driver(tmp_path / "s", server, cluster)
        until(lambda: sum(server.answered.values()) >= first + 40, process)
        cluster.remove_node(lost, allow_graceful=False)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert server.num_calls <= 300 + 4  # those of the killed driver that were on the wire
        written = [text for text, number in server.texts().items() if number > 1]
        assert len(written) <= 4
        (told,) = [line.split() for line in out.splitlines() if line.startswith("made ")]  # Ray prints there too
        with opened(tmp_path / "here", None, concurrency=16) as session:
            assert ["made", "150", session.run(asked(server, 150)).digest] == told
