"""A distillation in trouble: what it says, that nothing is lost, and that the same call goes on from there."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from examples.orders.teacher import reply
from stillhouse.calls.ask import Ask
from stillhouse.calls.credentials import Credentials
from stillhouse.calls.database import halves
from stillhouse.calls.retry import Patience
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.events import Event
from stillhouse.recipes.distill import distill
from tests.calls.server import Act, Call, MisbehavingServer
from tests.faults.distil_program import CONCURRENCY, ORDERS, make_rows, place, task
from tests.faults.kill import start_program
from tests.faults.reached import reached
from tests.faults.test_kill_distill import identity

PROGRAM = "tests/faults/distil_program.py"
IMPATIENT = Patience(first_wait=0.01, longest_wait=0.05, unreachable=0.3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands behind the rows to train on, made in peace by the teacher in this process."""
    folder = tmp_path_factory.mktemp("whole")
    make_rows(folder)
    return reached(folder, "orders")


def repeated(calls: list[Call]) -> int:
    """Requests that were made before."""
    return len(calls) - len({identity(call) for call in calls})


def test_the_teacher_over_http_gives_the_rows_that_it_gives_in_process(tmp_path: Path, whole: dict[str, str]) -> None:
    with MisbehavingServer(reply) as server:
        make_rows(tmp_path, server.url)
        assert repeated(server.calls) == 0
    assert reached(tmp_path, "orders") == whole


GOOD = [json.loads(line) for line in (ORDERS / "seeds.jsonl").read_text().splitlines()[:6]]
LINES = [json.dumps(row).encode() for row in GOOD]
OTHER_KEYS = [json.dumps({"question": row["input"], "output": row["output"]}).encode() for row in GOOD[:3]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"", "there are no rows in it"),
        (b"\n".join([*LINES, b"{not json", *LINES]), r"line 7"),
        (b"\n".join([LINES[0], b'{"input": "a tea"}']), "line 2 lacks `output`"),
        (b"\n".join([*OTHER_KEYS, *LINES[3:]]), r"line 1 lacks `input`(.|\n)*line 2(.|\n)*line 3"),
        (b"\n".join([*LINES, '{"input": "un café", "output": {}}'.encode("latin-1")]), "UTF-8"),
    ],
    ids=["missing", "empty", "no-json", "no-output", "other-keys", "latin-1"],
)
def test_bad_seeds_are_told_before_the_teacher_is_asked(tmp_path: Path, content: bytes | None, message: str) -> None:
    seeds = tmp_path / "seeds.jsonl"
    if content is not None:
        seeds.write_bytes(content)
    with MisbehavingServer(reply) as server:
        with pytest.raises(RecipeError, match=message) as caught:
            distill(name="orders", output=tmp_path / "out", **{**task(server.url), "seed": seeds}, **place(server.url))
        assert server.num_calls == 0
    assert "seeds.jsonl" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.dear
def test_a_file_of_200_megabytes_is_imported_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    text = "a flat white and two scones " * 70
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f'{{"input": "{number} {text}", "output": "{number}"}}\n' for number in range(101_000))
    assert path.stat().st_size > 200e6
    program = (  # the peak of this program alone: `ru_maxrss` begins with that of the process that forked it
        "import re, sys\n"
        "from pathlib import Path\n"
        "from stillhouse import Import, Session\n"
        "with Session(sys.argv[1], progress=False, track=False) as session:\n"
        "    rows = session.run(Import(path=sys.argv[2]))\n"
        "print(len(rows), re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, peak = map(int, done.stdout.split())
    assert count == 101_000
    assert peak * 1024 < 450e6  # it is about 300, of which the libraries are 100


def test_a_missing_key_and_an_unknown_model_are_named(tmp_path: Path) -> None:
    hosted = {**task(), "teacher": Ask(model="openai/gpt-4o-mini")}
    message = r"`OPENAI_API_KEY` is not set\n  Set it with `export OPENAI_API_KEY="
    with pytest.raises(ModelError, match=message) as caught:
        distill(name="orders", output=tmp_path, **hosted, **place(), credentials=Credentials())
    assert caught.value.kind == "credentials"

    def behave(call: Call) -> Act:
        return Act.error_of(404, "The model `it` does not exist", "model_not_found")

    with MisbehavingServer(reply, behave=behave) as server:
        with pytest.raises(ModelError, match="knows no such model .*The model `it` does not exist"):
            make_rows(tmp_path, server.url)
        assert server.num_calls <= CONCURRENCY
        server.behave = None
        make_rows(tmp_path, server.url)


def test_a_teacher_that_goes_down_is_named_and_asked_on_when_it_is_back(tmp_path: Path, whole: dict[str, str]) -> None:
    down: list[str] = []

    def watch(event: Event) -> None:
        if not down and server.num_calls >= 30:
            down.append(server.url)
            server.stop()

    with MisbehavingServer(reply, latency=0.005) as server:
        with pytest.raises(ModelError, match="`orders-teacher` is down: nobody answers at http") as caught:
            make_rows(tmp_path, server.url, patience=IMPATIENT, on_event=watch)
        assert "run the same command again when it is back" in str(caught.value)
        answered = server.num_calls
        assert answered >= 30
        server.restart()
        make_rows(tmp_path, server.url)
        assert repeated(server.calls) <= CONCURRENCY  # on the wire when it went down
    assert reached(tmp_path, "orders") == whole


def test_a_teacher_of_rubbish_stops_the_run_early_with_what_it_said(tmp_path: Path, whole: dict[str, str]) -> None:
    with MisbehavingServer(reply, behave=lambda call: Act(text="I would rather talk about the weather.")) as server:
        with pytest.raises(ModelError, match="I would rather talk about the weather"):
            make_rows(tmp_path, server.url)
        assert server.num_calls < 60
        # Of the questions with the policy's rules, those with an input are the ones of `Answer`.
        marks = ("Rules:", "<input>")
        server.behave = lambda call: Act(text="{}") if all(mark in str(call.body) for mark in marks) else None
        with pytest.raises(ModelError, match=r"rows of `Answer` failed; the first:\n    invalid: ") as caught:
            make_rows(tmp_path / "later", server.url)
        assert caught.value.kind == "rubbish"
        server.behave = None
        make_rows(tmp_path / "well", server.url)
    assert reached(tmp_path / "well", "orders") == whole


def test_ctrl_c_says_how_to_go_on_and_loses_nothing(tmp_path: Path, whole: dict[str, str]) -> None:
    with MisbehavingServer(reply, latency=0.02) as server:
        words = [PROGRAM, str(tmp_path), server.url, "rows"]
        program = start_program(words, stderr=subprocess.PIPE)
        server.wait_for(40)
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=120)
        assert program.returncode == 1
        assert errors.decode().rstrip().splitlines()[-2:] == [
            "stillhouse.core.errors.Interrupted: interrupted; what was finished is kept",
            "  Run the same command again: it goes on from here.",
        ]
        assert start_program(words).wait() == 0
        assert repeated(server.calls) == 0  # what was on the wire came home and was kept
    assert reached(tmp_path, "orders") == whole


def test_two_programs_on_one_folder_share_the_work(tmp_path: Path, whole: dict[str, str]) -> None:
    met = threading.Event()
    with MisbehavingServer(reply, latency=lambda call: 0.002 if met.is_set() else 1.0) as server:
        words = [PROGRAM, str(tmp_path), server.url, "rows"]
        first = start_program(words, stdout=subprocess.PIPE)
        server.wait_for(1)
        second = start_program(words, stdout=subprocess.PIPE)
        assert second.stdout is not None
        said = second.stdout.readline().decode()
        met.set()
        for program in (first, second):
            program.communicate(timeout=120)
        assert (first.returncode, second.returncode) == (0, 0)
        assert repeated(server.calls) == 0
    assert "another session is making `" in said
    assert reached(tmp_path, "orders") == whole


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def test_everything_that_was_damaged_is_set_aside_and_made_again(tmp_path: Path, whole: dict[str, str]) -> None:
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if event.kind == "warning":
            warnings.append(event.data["message"])

    with MisbehavingServer(reply) as server:
        rows = make_rows(tmp_path, server.url)
        needed = {row["_calls"][0] for batch in rows.batches(lineage=True) for row in batch if row["_calls"]}
        asked = server.num_calls
        damaged = [
            next(iter(sorted((path.parent / "data").rglob("*.*"))))
            for path in tmp_path.glob("artifacts-v1/*/*/record.json")
        ]
        for path in damaged:
            flip(path)
        spoil_replies(tmp_path, sorted(needed)[:3])
        make_rows(tmp_path, server.url, on_event=listen)
        assert server.num_calls == asked + 3
    assert len(list((tmp_path / "set-aside-v1").iterdir())) == len(damaged)
    assert sum("is damaged" in message for message in warnings) == len(damaged)
    assert any("kept replies in" in message and "wrong checksum" in message for message in warnings)
    assert reached(tmp_path, "orders") == whole


def spoil_replies(folder: Path, keys: Sequence[str]) -> None:
    """Flip a bit in kept replies."""
    connection = sqlite3.connect(folder / "calls-v1" / "calls.sqlite")
    for key in keys:
        pair = halves(bytes.fromhex(key))
        (body,) = connection.execute("SELECT body FROM replies WHERE head = ? AND tail = ?", pair).fetchone()
        spoiled = bytearray(body)
        spoiled[len(spoiled) // 2] ^= 1
        connection.execute("UPDATE replies SET body = ? WHERE head = ? AND tail = ?", (bytes(spoiled), *pair))
    connection.commit()
    connection.close()
