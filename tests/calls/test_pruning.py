"""Making the call cache smaller: what goes, what stays, and that living runs do not notice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.archive import Archive
from stillhouse.calls.ask import Ask
from stillhouse.calls.batch.jobs import Gathered, Jobs
from stillhouse.calls.cache import CallCache, Entry, Trouble
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.pruning import Wanted, prune
from stillhouse.calls.request import Prompt as Question
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.events import Bus, Event
from stillhouse.core.journal import Journal
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.core.store import Store
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import


def fill(
    folder: Path, number: int, *, model: str = "m", step: str = "", first: int = 0, size: int = 300
) -> list[bytes]:
    """Calls that nothing in the store names; returns their keys."""
    draw = random.Random(first)
    cache = CallCache(folder / "calls-v1", bus=Bus())
    entries = [
        Entry(draw.randbytes(16), "text", draw.randbytes(size), b"{}", 1.0, model, step, cost_usd=0.5)
        for _ in range(number)
    ]
    asyncio.run(_put(cache, entries))
    cache.close()
    return [entry.key for entry in entries]


async def _put(cache: CallCache, entries: list[Entry]) -> None:
    await cache.put(entries)


def make_older(folder: Path, hours: float, model: str = "") -> None:
    with closing(sqlite3.connect(folder / "calls-v1" / "calls.sqlite")) as writer:
        where = "WHERE model IN (SELECT id FROM words WHERE instr(text, ?))"
        writer.execute(f"UPDATE replies SET made = made - ? {where}", (round(hours * 3.6e6), model))
        writer.commit()


def kept(folder: Path) -> dict[str, int]:
    with Archive(folder / "calls-v1") as archive:
        return {entry["model"]: entry["calls"] for entry in archive.sums()}


def asked_rows(folder: Path, name: str, texts: list[str]) -> None:
    script("teacher", lambda messages, schema, sample: f"reply to {messages[-1]['content']}")
    rows = Import(data=[{"input": text, "output": ""} for text in texts])
    with Session(folder, track=False) as session:
        session.run(Prompt(rows=rows, template="{{ input }}", by=Ask(model="scripted:teacher")), name=name)


def test_age_and_model_say_what_goes_and_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(tmp_path, 10, model="openai/old")
    fill(tmp_path, 5, model="openai/new", first=1)
    make_older(tmp_path, 48, "old")
    wanted = Wanted(older_than=24 * 3600)

    (would,) = prune(store, wanted, dry_run=True)
    assert (would.model, would.calls, would.referenced) == ("openai/old", 10, 0)
    assert kept(tmp_path) == {"openai/old": 10, "openai/new": 5}

    assert prune(store, Wanted(model="new")) == []  # younger than an hour
    prune(store, wanted)
    assert kept(tmp_path) == {"openai/new": 5}
    (went,) = prune(store, Wanted(model="new"), keep_seconds=0.0)
    assert went.calls == 5
    with Archive(tmp_path / "calls-v1") as archive:  # the money stays written down
        assert sum(entry.cost_usd for entry in archive.spending()) == 7.5
    with pytest.raises(RecipeError, match="nothing says"):
        Wanted()


def test_what_rows_name_is_referenced_and_what_is_unfinished_stays(tmp_path: Path) -> None:
    asked_rows(tmp_path, "asked", ["one", "two"])
    fill(tmp_path, 3, model="stray")
    step = "0" * 32
    fill(tmp_path, 4, model="unfinished", step=step, first=1)
    (tmp_path / "work-v1" / step / "scratch").mkdir(parents=True)
    make_older(tmp_path, 48)
    store = Store(tmp_path)

    (stray,) = prune(store, Wanted(unreferenced=True))
    assert (stray.model, stray.calls) == ("stray", 3)
    assert kept(tmp_path) == {"scripted:teacher": 2, "unfinished": 4}

    (rest,) = prune(store, Wanted(older_than=3600.0))
    assert (rest.model, rest.calls, rest.referenced) == ("scripted:teacher", 2, 2)
    assert kept(tmp_path) == {"unfinished": 4}


def test_a_result_with_unanswered_rows_and_what_is_made_from_it_is_unfinished(tmp_path: Path) -> None:
    def answers(messages: Any, schema: object, sample: int) -> str:
        if "3" in messages[-1]["content"] and not well:
            raise RowFault("exhausted", "it did not answer")
        return "fine"

    well = False
    teacher, asking = script("teacher", answers), Ask(model="scripted:teacher")
    rows = Import(data=[{"n": n} for n in range(6)], require=())
    kept_one = Prompt(rows=rows.replace(data=[{"n": 0}]), by=asking, template="{{ n }}", column="apart")
    first = Prompt(rows=rows, by=asking, template="{{ n }}")
    step = Prompt(rows=first, by=asking, template="{{ n }} then", column="then")
    with Session(tmp_path, track=False, progress=False) as session:
        session.run(kept_one)
        assert session.run(first).unanswered == 1
        session.run(step)
        session.run(Prompt(rows=rows.replace(data=[{"n": 9}]), by=asking, template="{{ n }}"))
    make_older(tmp_path, 48)

    prune(Store(tmp_path), Wanted(older_than=3600.0))
    assert kept(tmp_path) == {"scripted:teacher": 10}  # but that of the result that is whole
    well, before = True, teacher.num_calls
    with Session(tmp_path, track=False, progress=False) as session:
        assert len(session.run(step)) == 6
    assert teacher.num_calls - before == 2
    prune(Store(tmp_path), Wanted(older_than=0.0), keep_seconds=-1)
    assert kept(tmp_path) == {}


def test_what_an_unfinished_step_found_stays_whoever_paid_for_it(tmp_path: Path) -> None:
    teacher = script("teacher", lambda messages, schema, sample: "fine")
    asking = Ask(model="scripted:teacher")
    with Session(tmp_path, track=False, progress=False) as session:  # no result comes of it
        session.wait_for(session.calls.ask_many(asking, [Question(text) for text in ("0", "1", "stray")]))
    step = Prompt(rows=Import(data=[{"n": n} for n in range(3)], require=()), by=asking, template="{{ n }}")
    reads = Options(cache_only=True)
    with Session(tmp_path, track=False, progress=False, options=reads) as session, pytest.raises(RecipeError):
        session.run(step)
    make_older(tmp_path, 48)

    prune(Store(tmp_path), Wanted(older_than=3600.0))
    assert kept(tmp_path) == {"scripted:teacher": 2}
    with Session(tmp_path, track=False, progress=False) as session:
        session.run(step)
    assert teacher.num_calls == 4
    assert not [*Store(tmp_path).work.glob("*/found")]


def test_a_size_takes_the_oldest_that_nothing_names_and_gives_the_room_back(tmp_path: Path) -> None:
    asked_rows(tmp_path, "asked", ["one", "two"])
    fill(tmp_path, 400, model="first", size=5000)
    fill(tmp_path, 400, model="second", first=1, size=5000)
    make_older(tmp_path, 48)
    path = tmp_path / "calls-v1" / "calls.sqlite"
    before = path.stat().st_size
    assert before > 4_000_000

    prune(Store(tmp_path), Wanted(max_size=2_500_000))

    found = kept(tmp_path)
    assert (found["scripted:teacher"], found["second"]) == (2, 400)
    assert 0 < found["first"] < 120
    assert path.stat().st_size <= 2_600_000
    assert prune(Store(tmp_path), Wanted(max_size=2_600_000)) == []


def test_a_size_takes_notes_of_failed_attempts_before_replies(tmp_path: Path) -> None:
    fill(tmp_path, 500)
    cache = CallCache(tmp_path / "calls-v1", bus=Bus())
    keys = fill(tmp_path, 20, model="spoilt", size=20_000, first=1)
    cache.forget(keys, "spoilt")
    cache.note([Trouble(key, "m", "", "throttled", "x" * 300, 0.1) for key in keys for _ in range(400)])
    cache.close()
    store, path = Store(tmp_path), tmp_path / "calls-v1" / "calls.sqlite"
    make_older(tmp_path, 48)
    assert path.stat().st_size > 3_000_000

    assert prune(store, Wanted(max_size=1_500_000), keep_seconds=0, dry_run=True) == []
    assert prune(store, Wanted(max_size=1_500_000), keep_seconds=0) == []

    assert path.stat().st_size < 1_700_000
    assert kept(tmp_path) == {"m": 500}
    with Archive(tmp_path / "calls-v1") as archive:
        assert 0 < sum(1 for _ in archive.troubles()) < 8000


_WRITER = """
import asyncio, sys
from pathlib import Path
from stillhouse.calls.cache import CallCache, Entry
from stillhouse.core.events import Bus

async def main():
    cache = CallCache(Path(sys.argv[1]), bus=Bus())
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(600):
        key = b"living" + n.to_bytes(10)
        await cache.put([Entry(key, "text", b"reply %d" % n, b"{}", 0.0, "living")])
        assert cache.look_up([key])[key][1] == b"reply %d" % n
        if n == 100:
            print("going", flush=True)
    cache.close()

asyncio.run(main())
"""


def test_pruning_beside_a_living_run_loses_none_of_its_replies(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(tmp_path, 3000, model="old", size=1000)
    make_older(tmp_path, 48)
    folder = str(tmp_path / "calls-v1")
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    writer.stdin.write("go\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "going\n"
    prune(store, Wanted(older_than=24 * 3600))
    writer.communicate(timeout=120)
    assert writer.returncode == 0
    assert kept(tmp_path) == {"living": 600}


_PRUNER = """
import sys
from pathlib import Path
from stillhouse.calls.pruning import Wanted, prune
from stillhouse.core.store import Store
print("ready", flush=True)
prune(Store(Path(sys.argv[1])), Wanted(older_than=3600.0))
"""


def test_pruning_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    Store(tmp_path)
    fill(tmp_path, 4000, model="old", size=1000)
    make_older(tmp_path, 48)
    young = fill(tmp_path, 100, model="young", first=1)
    for delay in (0.0, 0.02, 0.05, 0.1, 0.2):
        child = subprocess.Popen([sys.executable, "-c", _PRUNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(delay)
        child.kill()
        child.communicate()
    with closing(sqlite3.connect(tmp_path / "calls-v1" / "calls.sqlite")) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    cache = CallCache(tmp_path / "calls-v1", bus=Bus())
    assert len(cache.look_up(young)) == 100
    cache.close()
    prune(Store(tmp_path), Wanted(older_than=3600.0))
    assert kept(tmp_path) == {"young": 100}


def test_a_session_keeps_the_cache_to_a_size(tmp_path: Path) -> None:
    asked_rows(tmp_path, "asked", ["one", "two"])
    fill(tmp_path, 400, model="stray", size=5000)
    make_older(tmp_path, 48)
    events: list[Event] = []
    options = Options.model_validate({"call_cache_bytes": "500kB"})
    with Session(tmp_path, track=False, options=options, on_event=events.append) as session:
        _ = session.calls
    found = kept(tmp_path)
    assert found["scripted:teacher"] == 2
    assert found.get("stray", 0) < 100
    assert any("had grown beyond 500,000 bytes" in event.data.get("message", "") for event in events)


def test_calls_of_steps_in_batch_jobs_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    step = "1" * 32
    fill(tmp_path, 5, step=step)
    fill(tmp_path, 5, model="other", first=1)
    make_older(tmp_path, 48)
    jobs = Jobs(tmp_path / "calls-v1")
    jobs.add("route", {}, step, "session", [Gathered(b"k" * 16, "/v1", b"{}", b"{}", None)])
    assert jobs.cut("route", "session", 10, 1000, 0) is not None
    jobs.close()
    prune(store, Wanted(unreferenced=True))
    assert kept(tmp_path) == {"m": 5}


def test_replies_asked_for_before_the_build_key_was_known_belong_to_the_step(tmp_path: Path) -> None:
    rows = Import(data=[{"input": text, "output": ""} for text in ("one", "two")])
    step = Prompt(rows=rows, template="{{ input }}", by=Ask(model="scripted:teacher"))
    fill(tmp_path, 3, model="ahead", step=step.recipe_key)
    ahead = Store(tmp_path).work_folder(step.recipe_key)
    bill = Journal(ahead / "bill.jsonl")
    bill.append({"model": "ahead", "calls": 3})
    bill.close()
    script("teacher", failures={0: ModelError("no more", kind="quota"), 1: ModelError("no more", kind="quota")})

    with Session(tmp_path, track=False) as session, pytest.raises(ModelError, match="no more"):
        session.run(step)
    assert not ahead.exists()  # taken up by the build, which is unfinished
    assert prune(Store(tmp_path), Wanted(older_than=0.0), keep_seconds=0) == []

    script("teacher")
    with Session(tmp_path, track=False) as session:
        session.run(step, name="asked")
    assert prune(Store(tmp_path), Wanted(unreferenced=True), keep_seconds=0) == []
    found = prune(Store(tmp_path), Wanted(older_than=0.0), keep_seconds=0, dry_run=True)
    assert [(entry.model, entry.calls, entry.referenced) for entry in found if entry.model == "ahead"] == [
        ("ahead", 3, 3)
    ]
