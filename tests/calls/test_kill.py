"""Kill -9 while calls are in flight: what was written is never asked again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stillhouse.calls.archive import Archive
from tests.calls.server import Call, MisbehavingServer

CONCURRENCY = 8
NUM_PROMPTS = 240

_CHILD = f"""
import asyncio, sys
from pathlib import Path
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.request import Prompt
from stillhouse.calls.service import CallService
from stillhouse.core.events import Bus

async def main():
    service = CallService(Path(sys.argv[1]), bus=Bus(), credentials=Credentials(), concurrency={CONCURRENCY})
    by = Ask(model="openai/teacher", endpoint=sys.argv[2], deployment="teacher")
    prompts = [Prompt(f"question {{n}}") for n in range({NUM_PROMPTS})]
    answers = await service.ask_many(by, prompts)
    print("\\n".join(answer.text for answer in answers))
    await service.aclose()

asyncio.run(main())
"""


def start(folder: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _CHILD, str(folder), url], stdout=subprocess.PIPE, text=True)


def kept(folder: Path) -> set[str]:
    """The questions whose replies are committed."""
    path = folder / "calls.sqlite"
    if not path.exists():
        return set()
    with Archive(folder) as archive:
        return {call.reply().text.removeprefix("reply to ") for call in archive.calls()}


@pytest.mark.parametrize("seed", range(3))
def test_after_kill_9_only_calls_in_flight_are_repeated(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    killed = 0
    stands: list[tuple[int, set[str]]] = []
    """At each kill: the calls so far, and the questions whose replies were written."""

    def latency(call: Call) -> float:
        return random.Random(call.number).uniform(0.002, 0.02)

    with MisbehavingServer(latency=latency) as server:
        for _ in range(4):
            before = server.num_calls
            child = start(tmp_path, server.url)
            wanted = before + draw.randint(1, NUM_PROMPTS // 5)
            while server.num_calls < wanted and child.poll() is None:
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
            assert child.stdout is not None
            child.stdout.close()
            while server.in_flight:
                time.sleep(0.005)
            stands.append((server.num_calls, kept(tmp_path)))
            assert server.num_calls - len(stands[-1][1]) <= CONCURRENCY * killed
        last = start(tmp_path, server.url)
        output, _ = last.communicate(timeout=60)

    assert killed == 4
    assert output.split("\n")[:-1] == [f"reply to question {number}" for number in range(NUM_PROMPTS)]
    for num_calls, written in stands:
        assert not {call.text for call in server.calls[num_calls:]} & written
    assert server.num_calls - NUM_PROMPTS <= CONCURRENCY * killed
