"""Kill -9 in the middle of a distillation, with its teacher at the other end of a wire, and the same command again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.orders.teacher import reply
from stillhouse.calls.archive import Archive
from tests.calls.server import Call, MisbehavingServer
from tests.faults.distil_program import CONCURRENCY
from tests.faults.kill import kill_when, run_program
from tests.faults.reached import reached

PROGRAM = "tests/faults/distil_program.py"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an uninterrupted run that asks the teacher in its own process."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_program([PROGRAM, str(folder)]) == 0
    return folder


def identity(call: Call) -> tuple[str, int]:
    return json.dumps(call.body, sort_keys=True), call.sample


def written(folder: Path) -> set[int]:
    """The numbers of the calls whose replies the store holds."""
    path = folder / "calls-v1" / "calls.sqlite"
    if not path.exists():
        return set()
    with Archive(path.parent) as archive:
        wires = [call.wire for call in archive.calls() if call.form == "openai.chat"]  # the student's own are kept too
    return {int(json.loads(wire)["id"].removeprefix("chatcmpl-")) for wire in wires}


def moments(folder: Path, server: MisbehavingServer, draw: random.Random) -> list[Callable[[], bool]]:
    """When to kill: three times among the calls, then between steps that only compute, then in training."""

    def count(pattern: str) -> int:
        return sum(1 for _ in folder.glob(pattern))

    def asked(number: int) -> Callable[[], bool]:
        return lambda: server.num_calls >= number

    def made(number: int) -> Callable[[], bool]:
        return lambda: count("artifacts-v1/*/*/record.json") >= number

    def training(number: int) -> Callable[[], bool]:
        return lambda: count("work-v1/*/scratch/checkpoints/step-*") >= number

    calls = sorted(draw.sample(range(1, 60), 3))
    return [*map(asked, calls), made(draw.randint(9, 17)), training(1)]


@pytest.mark.dear
@pytest.mark.timeout(600)
def test_a_killed_distillation_ends_as_an_uninterrupted_one_and_asks_nothing_twice(whole: Path, tmp_path: Path) -> None:
    draw = random.Random(20)

    def latency(call: Call) -> float:
        return random.Random(call.number).uniform(0.002, 0.05)

    hits = 0
    with MisbehavingServer(reply, latency=latency) as server:
        program = [PROGRAM, str(tmp_path), server.url]
        stands: list[tuple[int, set[int]]] = []
        for moment in moments(tmp_path, server, draw):
            hits += kill_when(program, moment)
            stands.append((server.num_calls, written(tmp_path)))
        assert run_program(program) == 0
        calls = list(server.calls)

    assert hits == 5
    for num_calls, kept in stands:
        assert not {identity(call) for call in calls[num_calls:]} & {identity(calls[number]) for number in kept}
    distinct = len({identity(call) for call in calls})
    assert distinct > 50
    assert len(calls) - distinct <= hits * CONCURRENCY
    assert_equal(reached(tmp_path, "orders"), reached(whole, "orders"))


def assert_equal(found: dict[str, str], expected: dict[str, str]) -> None:
    """Artifact by artifact, file by file."""
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
