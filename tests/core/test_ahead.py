"""Map steps that begin while the step before them still runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.artifact import Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import Interrupted, ModelError
from stillhouse.core.journal import Journal
from stillhouse.core.options import Options
from stillhouse.core.outcome import KEEP, Drop, Emit, Fail, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep, Step
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.calls.server import MisbehavingServer
from tests.core.steps import Numbers, Upper

SMALL = Options(chunk=16, first_look=4)
ALONE = SMALL.model_copy(update={"ahead": False})


class Gates:
    """A folder by which a test and its steps know of each other: a gate that is opened, and what each step saw."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    @property
    def opened(self) -> bool:
        return (self.folder / "open").exists()

    def open(self) -> None:
        (self.folder / "open").touch()

    def saw(self, name: str, rows: Sequence[Row]) -> None:
        with open(self.folder / f"{name}.seen", "a") as file:
            file.write("".join(f"{row['i']}\n" for row in rows))

    def seen(self, name: str) -> list[int]:
        path = self.folder / f"{name}.seen"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


class Held(MapStep, tag="test.ahead_held/1"):
    """Copies rows; those from number `hold` on once its gate is open.

    `late`: a column that only they have; `note`: one that holds something only there.
    """

    gate: str
    hold: int
    name: str = "held"
    late: bool = False
    note: bool = False
    fail: int = -1

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in self.values().items() if name != "gate"}

    def mapper(self, context: Context) -> Mapper:
        gates = Gates(self.gate)

        async def work(rows: Sequence[Row]) -> Sequence[Outcome]:
            while rows[-1]["i"] >= self.hold and not gates.opened:  # noqa: ASYNC110 - it waits for a file
                await asyncio.sleep(0.005)
            gates.saw(self.name, rows)
            return [self.outcome(row) for row in rows]

        return work

    def outcome(self, row: Row) -> Outcome:
        if row["i"] == self.fail:
            return Fail("invalid", "not this one")
        more = {"late": row["i"]} if self.late and row["i"] >= self.hold else {}
        note = {"note": "late" if row["i"] >= self.hold else None} if self.note else {}
        return Emit([{"i": row["i"], "by": self.name, **more, **note}])


class Next(MapStep, tag="test.ahead_next/1"):
    """Copies rows, keeps every third as it is, drops every seventh; says in which order it saw them."""

    gate: str
    name: str = "next"
    looks: bool = False
    rubbish: bool = False

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in self.values().items() if name != "gate"}

    def mapper(self, context: Context) -> Mapper:
        gates = Gates(self.gate)
        if self.looks:
            context.get(self.rows).head(3)
        assert "i" in context.get(self.rows).columns

        def outcome(row: Row) -> Outcome:
            if self.rubbish:
                return Fail("invalid", "rubbish")
            if row["i"] % 3 == 0:
                return KEEP
            if row["i"] % 7 == 0:
                return Drop("a seven")
            return Emit([{**row, "next": self.name}], calls=[f"call-{row['i']}"])

        async def work(rows: Sequence[Row]) -> Sequence[Outcome]:
            gates.saw(self.name, rows)
            return [outcome(row) for row in rows]

        return work


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    folder = tmp_path / "gates"
    folder.mkdir()
    return Gates(str(folder))


@pytest.fixture
def gate(gates: Gates) -> str:
    return str(gates.folder)


def opened(folder: Path, options: Options = SMALL) -> Session:
    return Session(folder, options=options, track=False, progress=False)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def made_at_once(folder: Path, step: Step[Rows], gates: Gates) -> Rows:
    """The result without anything ahead."""
    gates.open()
    with opened(folder / "alone", ALONE) as session:
        return session.run(step)


def same(left: Rows, right: Rows) -> bool:
    """Whether two results are equal byte for byte, and count the same."""
    files = [[path.read_bytes() for path in rows.paths] for rows in (left, right)]
    asides = [[list(rows.dropped()), list(rows.failed()), rows.record["counts"]] for rows in (left, right)]
    return left.digest == right.digest and files[0] == files[1] and asides[0] == asides[1]


def test_rows_go_on_while_the_step_before_still_runs(tmp_path: Path, gates: Gates, gate: str) -> None:
    held = Held(rows=Numbers(count=200), gate=gate, hold=120)
    step = Next(rows=Next(rows=held, gate=gate), gate=gate, name="last")
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("last")) >= 60)
        assert not handle.done
        gates.open()
        rows = handle.wait(60)
        assert sorted(gates.seen("next")) == list(range(200))
        seen = gates.seen("last")
        assert len(set(seen)) == len(session.run(Next(rows=held, gate=gate)))
        # A piece of rows that were only kept has fewer columns than the table, and is mapped again; nothing else is.
        assert all(i % 3 == 0 for i, times in Counter(seen).items() if times > 1)
        assert not [path for path in session.store.work.iterdir() if path.is_dir()]
    assert same(rows, made_at_once(tmp_path, step, gates))


def test_the_first_rows_go_on_while_another_of_the_first_look_is_waited_for(
    tmp_path: Path, gates: Gates, gate: str
) -> None:
    step = Next(rows=Held(rows=Numbers(count=40), gate=gate, hold=3), gate=gate)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: gates.seen("next") == [0, 1])
        assert not handle.done
        gates.open()
        assert same(handle.wait(60), made_at_once(tmp_path, step, gates))


def test_a_column_that_holds_nothing_yet_is_no_other_column(tmp_path: Path, gates: Gates, gate: str) -> None:
    step = Next(rows=Held(rows=Numbers(count=100), gate=gate, hold=60, note=True), gate=gate)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("next")) >= 30)
        gates.open()
        rows = handle.wait(60)
    assert sorted(gates.seen("next")) == list(range(100))  # none was mapped twice
    assert same(rows, made_at_once(tmp_path, step, gates))


def test_a_mapper_that_looks_at_the_whole_table_waits_for_it(tmp_path: Path, gates: Gates, gate: str) -> None:
    step = Next(rows=Held(rows=Numbers(count=100), gate=gate, hold=50), gate=gate, looks=True)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("held")) >= 36)
        time.sleep(0.1)
        assert not gates.seen("next")
        gates.open()
        assert same(handle.wait(60), made_at_once(tmp_path, step, gates))


def test_columns_that_come_late_are_seen_by_all_rows(tmp_path: Path, gates: Gates, gate: str) -> None:
    step = Next(rows=Held(rows=Numbers(count=100), gate=gate, hold=60, late=True), gate=gate)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("next")) >= 30)
        gates.open()
        rows = handle.wait(60)
    assert same(rows, made_at_once(tmp_path, step, gates))
    assert rows.columns == ["i", "by", "late", "next"]


def test_rubbish_ahead_stops_the_step_that_feeds_it(tmp_path: Path, gates: Gates, gate: str) -> None:
    step = Next(rows=Held(rows=Numbers(count=500), gate=gate, hold=100), gate=gate, rubbish=True)
    with opened(tmp_path / "store") as session, pytest.raises(ModelError, match="4 of the first 4 rows of `Next`"):
        session.run(step)
    assert len(gates.seen("held")) < 500


def test_a_step_that_stops_takes_along_those_that_wait_for_its_rows(tmp_path: Path, gates: Gates, gate: str) -> None:
    step = Next(rows=Held(rows=Numbers(count=100), gate=gate, hold=50), gate=gate)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("next")) >= 20)
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(60)
    gates.open()
    with opened(tmp_path / "store") as session:
        rows = session.run(step)
    assert same(rows, made_at_once(tmp_path, step, gates))


def test_rows_that_moved_between_two_attempts_are_made_again(tmp_path: Path, gates: Gates, gate: str) -> None:
    """The first attempt's failure is mended in the second: all rows after it stand one place further."""
    step = Next(rows=Held(rows=Numbers(count=100), gate=gate, hold=50, fail=7), gate=gate)
    with opened(tmp_path / "store") as session:
        handle = session.start(step)
        until(lambda: len(gates.seen("next")) >= 20)
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(60)
        ahead = [path for path in session.store.work.iterdir() if (path / "scratch" / "chunks").is_dir()]
        assert len(ahead) == 2
    gates.open()
    with opened(tmp_path / "store") as session:
        assert same(session.run(step), made_at_once(tmp_path, step, gates))


def test_what_was_finished_before_is_not_begun_ahead(tmp_path: Path, gates: Gates, gate: str) -> None:
    gates.open()
    held = Held(rows=Numbers(count=60), gate=gate, hold=0)
    step = Next(rows=held, gate=gate)
    with opened(tmp_path / "store") as session:
        first = session.run(step)
        made = session.run(held)
        made.folder.rename(tmp_path / "gone")
    (gates.folder / "next.seen").unlink()
    with opened(tmp_path / "store") as session:
        assert session.run(step).key == first.key
    assert not gates.seen("next")


@pytest.mark.parametrize("workers", [1, 2])
def test_few_workers_are_enough(tmp_path: Path, gates: Gates, gate: str, workers: int) -> None:
    gates.open()
    step: MapStep = Held(rows=Numbers(count=60), gate=gate, hold=0)
    for number in range(5):
        step = Next(rows=step, gate=gate, name=f"n{number}")
    with opened(tmp_path / "store", SMALL.model_copy(update={"workers": workers})) as session:
        assert same(session.run(step), made_at_once(tmp_path, step, gates))


def test_plain_mappers_too(tmp_path: Path) -> None:
    step = Upper(rows=Upper(rows=Upper(rows=Numbers(count=500), asynchronous=True)), asynchronous=True)
    with opened(tmp_path / "store") as session, opened(tmp_path / "alone", ALONE) as alone:
        assert same(session.run(step), alone.run(step))


PROGRAM = """
import sys
from stillhouse import Ask, Import, Options, Prompt, Session
folder, url = sys.argv[1:]
rows = Import(data=[{"n": str(number)} for number in range(300)], require=("n",))
by = Ask(model="openai/teacher", endpoint=url)
first = Prompt(rows=rows, template="{{ n }}", column="one", by=by)
step = Prompt(rows=first, template="judge {{ one }} {{ n }}", column="two", by=by)
with Session(folder, track=False, progress=False, options=Options(chunk=8, first_look=2), concurrency=8) as session:
    made = session.run(step, name="it")
    print(len(made), made.record["calls"]["total"]["calls"])
"""


def test_a_kill_in_the_middle_of_both_asks_nothing_twice(tmp_path: Path) -> None:
    environment = {**os.environ, "OPENAI_API_KEY": "k"}
    with MisbehavingServer(lambda messages, schema, sample: "ok", latency=0.02) as server:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), server.url]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        until(lambda: sum(text.startswith("judge") for text in server.answered) >= 12 or process.poll() is not None)
        assert sum(not text.startswith("judge") for text in server.answered) < 300
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
        assert done.stdout.split()[0] == "300"
        assert server.num_calls <= 600 + 8  # those on the wire when it was killed


def test_a_bill_that_was_taken_up_before_a_kill_is_not_taken_up_twice(tmp_path: Path) -> None:
    rows = Import(data=[{"input": text, "output": ""} for text in ("one", "two")])
    step = Prompt(rows=rows, template="{{ input }}", by=Ask(model="scripted:teacher"))
    script("teacher", failures={number: ModelError("no more", kind="quota") for number in range(2)})
    with opened(tmp_path / "store") as session:
        ahead = session.store.work_folder(step.recipe_key)
        bill = Journal(ahead / "bill.jsonl")
        for _ in range(3):
            bill.append({"model": "m", "calls": 2})
        bill.close()
        os.link(ahead / "bill.jsonl", tmp_path / "aside")
        with pytest.raises(ModelError, match="no more"):
            session.run(step)
    assert not ahead.exists()
    ahead.mkdir()  # as a kill would have left it that came before it was removed
    os.link(tmp_path / "aside", ahead / "bill.jsonl")

    script("teacher")
    with opened(tmp_path / "store") as session:
        made = session.run(step)
    assert made.record["calls"]["models"]["m"]["calls"] == 6
