from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.errors import Interrupted, ModelError, RecipeError, StoreError, TrainError
from stillhouse.core.events import Event
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from tests.core.steps import (
    Copied,
    Growth,
    Halves,
    Join,
    Literal,
    Meets,
    Numbers,
    Rubbish,
    Slow,
    Suffix,
    Trained,
    Upper,
)

Opener = Callable[..., Session]


@pytest.fixture
def events() -> list[Event]:
    return []


def tags(events: list[Event], kind: str) -> list[str]:
    return [event.data["tag"] for event in events if event.kind == kind]


def open_session(folder: Path, events: list[Event] | None = None, **settings: Any) -> Session:
    on_event = events.append if events is not None else None
    return Session(folder, on_event=on_event, track=False, progress=False, **settings)


def test_a_map_step_keeps_drops_fails_and_makes(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        source = Numbers(count=700)
        rows = session.run(Upper(rows=source))
        by_number = {row["i"]: row for row in rows}
        ids = {row["i"]: row["_id"] for row in session.run(source)}
        assert by_number[2]["_id"] == ids[2]
        assert by_number[1]["text"] == "XXXXX!"
        assert by_number[1]["_id"] != ids[1]
        dropped = {json.loads(row["row"])["i"]: row for row in rows.dropped()}
        failed = {json.loads(row["row"])["i"]: row for row in rows.failed()}
        assert all(row["reason"] == "a five" and row["_id"] == ids[i] for i, row in dropped.items())
        assert all(row["raw"] == "xxxxx" and row["kind"] == "invalid" for row in failed.values())
        assert len(rows) + len(dropped) + len(failed) == 700
        assert rows.record["counts"] == {"in": 700, "out": len(rows), "dropped": len(dropped), "failed": len(failed)}
        lineage = {row["i"]: row for batch in rows.batches(100, lineage=True) for row in batch}
        assert lineage[1]["_parents"] == [ids[1]]
        assert lineage[1]["_calls"] == ["call-1"]
        assert lineage[2]["_parents"] == []


def test_results_do_not_depend_on_how_they_are_made(tmp_path: Path) -> None:
    digests = set()
    for number, options in enumerate([Options(), Options(chunk=7), Options(chunk=64, first_look=3, workers=1)]):
        with open_session(tmp_path / str(number), options=options) as session:
            digests.add(session.run(Upper(rows=Numbers(count=300))).digest)
            digests.add(session.run(Upper(rows=Numbers(count=300), asynchronous=True)).digest)
    assert len(digests) == 1


def test_a_second_run_makes_nothing(tmp_path: Path, events: list[Event]) -> None:
    step = Copied(rows=Upper(rows=Numbers(count=30)))
    with open_session(tmp_path) as session:
        first = session.run(step)
    with open_session(tmp_path, events) as session:
        assert session.run(step).digest == first.digest
    assert tags(events, "step.started") == []
    assert tags(events, "step.cached") == ["test.copied/1"]


def test_an_input_rebuilt_to_the_same_content_rebuilds_nothing_after_it(tmp_path: Path, events: list[Event]) -> None:
    with open_session(tmp_path) as session:
        session.run(Copied(rows=Numbers(count=3)))
    same = Literal(rows=tuple({"i": i, "text": "xxxxx"} for i in range(3)))
    with open_session(tmp_path, events) as session:
        session.run(Copied(rows=same))
    assert tags(events, "step.started") == ["test.literal/1"]


def test_what_was_built_on_an_older_input_is_not_taken_for_new(tmp_path: Path, events: list[Event]) -> None:
    with open_session(tmp_path) as session:
        step = Copied(rows=Numbers(count=3))
        first = session.run(step)
        numbers = session.run(Numbers(count=3))
        entry = session.store.entry(Numbers(count=3).recipe_key)
        assert entry is not None
        path = next(tmp_path.glob(f"recipes-v1/*/{Numbers(count=3).recipe_key}.json"))
        path.write_text(json.dumps({**entry, "digest": "another"}))
        assert numbers.digest != "another"
    with open_session(tmp_path, events) as session:
        assert session.run(step).digest == first.digest
    assert "test.copied/1" in tags(events, "step.cached")


def test_outputs_of_a_step_are_tables_of_their_own(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        halves = Halves(rows=Numbers(count=9))
        even, odd = session.run([halves.even, halves.odd])
        assert [row["i"] for row in even] == [0, 2, 4, 6, 8]  # type: ignore[attr-defined]
        assert even.digest != odd.digest
        assert [row["i"] for row in session.run(Join(tables=(halves.odd, halves.even)))][:2] == [1, 3]
        with pytest.raises(RecipeError, match="no output `both`"):
            halves.output("both")


def test_independent_branches_run_at_the_same_time(tmp_path: Path) -> None:
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    branches = tuple(Meets(place=str(meeting), number=number, of=3) for number in range(3))
    with open_session(tmp_path / "store") as session:
        assert [row["met"] for row in session.run(Join(tables=branches))] == [3, 3, 3]


def test_a_name_points_to_a_result_and_keeps_its_history(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        session.run(Copied(rows=Numbers(count=1)), name="words")
        session.run(Copied(rows=Numbers(count=2)), name="words")
        assert (tmp_path / "words" / "texts.txt").read_text() == "xxxxx\nxxxxx"
        assert len(session.names.need("words").history) == 2
        with pytest.raises(RecipeError, match="Did you mean `words`"):
            session.names.need("word")
        for bad in ("../out", "a/b", "", ".hidden", "artifacts-v1", "work-v1", "runs", "x" * 200):
            with pytest.raises(RecipeError, match="cannot be a name"):
                session.run(Numbers(count=1), name=bad)
        assert len(session.run(Numbers(count=1), name="orders-v2")) == 1


@pytest.mark.parametrize("window", [1, 3, 8])
def test_a_growth_is_the_same_in_whatever_order_replies_come(tmp_path: Path, window: int) -> None:
    digests, rows = set(), []
    for jitter in (1, 2, 3, 7):
        with open_session(tmp_path / str(jitter)) as session:
            grown = session.run(Growth(rows=Numbers(count=1), window=window, jitter=jitter))
            digests.add(grown.digest)
            rows = list(grown)
    assert len(digests) == 1
    accepted_until: dict[int, int] = {row["call"]: row["before"] + 1 for row in rows}
    for row in rows:
        seen_calls = [call for call in accepted_until if call <= row["call"] - window]
        assert row["saw"] == (accepted_until[max(seen_calls)] if seen_calls else 0)
    assert grown.record["facts"]["stopped"] == "the goal is reached"


def test_a_step_in_a_process_of_its_own_gives_its_folder_facts_and_metrics(tmp_path: Path, events: list[Event]) -> None:
    with open_session(tmp_path, events) as session:
        model = session.run(Trained(rows=Numbers(count=5)))
    assert (model.path / "weights.bin").read_bytes() == bytes(5)
    assert model.record["facts"] == {"rows": 5, "parent": os.getpid()}
    assert [event.data["metrics"]["loss"] for event in events if event.kind == "metric"] == [1.0, 0.5, 1 / 3]


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        ("killed", "ran out of memory"),
        ("error", "loss is not finite\n  Lower"),
        ("crash", "ended with code 1(?s:.*)ValueError: boom"),
    ],
)
def test_a_child_that_fails_says_how(tmp_path: Path, fate: str, message: str) -> None:
    with open_session(tmp_path) as session, pytest.raises(TrainError, match=message):
        session.run(Trained(rows=Numbers(count=1), fate=fate))


def test_a_session_can_be_stopped_and_goes_on(tmp_path: Path, events: list[Event]) -> None:
    log = tmp_path / "log"
    step = Slow(rows=Numbers(count=200), seconds=0.005, log=str(log))
    with open_session(tmp_path / "store", events, options=Options(chunk=10)) as session:
        handle = session.start(step)
        while not any(event.kind == "step.progress" for event in list(events)):
            time.sleep(0.01)
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(20)
        before = log.stat().st_size
        assert before < 200
        rows = session.run(step)
    assert [row["i"] for row in rows] == list(range(200))
    assert log.stat().st_size <= 200 + 8 * 10


def test_a_stop_reaches_a_child(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        handle = session.start(Trained(rows=Numbers(count=1), fate="slow"))
        while not list(tmp_path.glob("work-v1/*/scratch/began")):
            time.sleep(0.02)
        handle.stop()
        with pytest.raises(Interrupted):
            handle.wait(20)


def test_a_step_that_fails_on_every_row_stops_early_with_examples(tmp_path: Path, events: list[Event]) -> None:
    with (
        open_session(tmp_path, events) as session,
        pytest.raises(ModelError, match=r"20 of the first 20 rows.*\n.*row 0 is rubbish: '%\$!'"),
    ):
        session.run(Rubbish(rows=Numbers(count=5000)))


def test_a_damaged_artifact_is_set_aside_and_made_again(tmp_path: Path, events: list[Event]) -> None:
    step = Copied(rows=Numbers(count=3))
    with open_session(tmp_path) as session:
        made = session.run(step)
    (made.path / "texts.txt").write_text("tampered")
    with open_session(tmp_path, events) as session:
        assert (session.run(step).path / "texts.txt").read_text() == "xxxxx\nxxxxx\nxxxxx"
    warnings = [event.data["message"] for event in events if event.kind == "warning"]
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert len(list(tmp_path.glob("set-aside-v1/*/data/texts.txt"))) == 1


def test_a_store_can_be_moved(tmp_path: Path, events: list[Event]) -> None:
    step = Upper(rows=Numbers(count=10))
    with open_session(tmp_path / "here") as session:
        session.run(step, name="rows")
    (tmp_path / "here").rename(tmp_path / "there")
    with open_session(tmp_path / "there", events) as session:
        assert len(list(session.run(step))) > 0
    assert (tmp_path / "there" / "rows").resolve().exists()
    assert tags(events, "step.started") == []


def test_after_an_error_the_same_run_goes_on(tmp_path: Path, events: list[Event]) -> None:
    gate = tmp_path / "gate"
    numbers = Numbers(count=1)
    broken = Copied(rows=numbers, gate=str(gate))
    with open_session(tmp_path / "store", events) as session:
        with pytest.raises(RuntimeError, match="gate"):
            session.run(broken)
        gate.touch()
        assert (session.run(broken).path / "texts.txt").read_text() == "xxxxx"
    assert tags(events, "step.started") == ["test.numbers/1", "test.copied/1", "test.copied/1"]
    assert tags(events, "step.failed") == ["test.copied/1"]


def test_two_sessions_do_not_make_the_same_thing_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    step = Slow(rows=Numbers(count=60), seconds=0.01, log=str(log))
    seen: list[Event] = []
    with open_session(tmp_path / "store", seen) as one, open_session(tmp_path / "store", seen) as two:
        handles = [one.start(step), two.start(step)]
        digests = {handle.wait(60).digest for handle in handles}
    assert len(digests) == 1
    assert log.stat().st_size == 60
    waiting = [event.data["message"] for event in seen if event.kind == "step.waiting"]
    assert any("another session is making `test.slow/1`" in message for message in waiting)


def test_a_session_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    import asyncio

    async def notebook() -> int:
        with open_session(tmp_path) as session:
            return len(session.run(Upper(rows=Numbers(count=50), asynchronous=True)))

    assert asyncio.run(notebook()) > 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="file"):
        open_session(blocked / "store")


def test_only_steps_can_be_run(tmp_path: Path) -> None:
    with open_session(tmp_path) as session, pytest.raises(RecipeError, match="only steps"):
        session.run("seeds.jsonl")  # type: ignore[arg-type]


def test_mixed_types_in_a_column_are_named_with_a_row(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        assert [row["a"] for row in session.run(Literal(rows=({"a": 1}, {"a": 2.5}, {"b": "x"})))] == [1.0, 2.5, None]
        with pytest.raises(RecipeError, match=r"column `a` holds values that do not go together: int .*str"):
            session.run(Literal(rows=({"a": 1}, {"a": "one"})))


def test_equal_rows_have_different_ids_and_order_of_columns_does_not_count(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        ids = [row["_id"] for row in session.run(Literal(rows=({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2})))]
        again = [row["_id"] for row in session.run(Literal(rows=({"b": 2, "a": 1}, {"a": 1, "b": 2})))]
    assert len(set(ids)) == 3
    assert again == ids[:2]


def test_a_listener_that_fails_does_not_harm_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def listener(event: Event) -> None:
        raise ValueError("bad listener")

    with Session(tmp_path, on_event=listener, track=False, progress=False) as session:
        assert len(session.run(Numbers(count=3))) == 3
    assert "bad listener" in capsys.readouterr().err


def test_the_record_tells_how_a_result_came_to_be(tmp_path: Path) -> None:
    with open_session(tmp_path, options=Options(chunk=99)) as session:
        record = session.run(Upper(rows=Numbers(count=5), suffix=Suffix(text="?"))).record
    assert record["tag"] == "test.upper/1"
    assert record["definition"]["suffix"] == {"uses": "test.suffix/1", "text": "?"}
    assert record["options"]["chunk"] == 99
    assert record["environment"]["versions"]["python"].startswith("3.")
    assert record["inputs"][0]["tag"] == "test.numbers/1"
    assert record["finished"] >= record["started"]
    assert {entry["path"] for entry in record["files"]} == {
        "data/rows-00000.parquet",
        "dropped.parquet",
        "failed.parquet",
    }


def test_a_run_in_the_background_can_be_waited_for(tmp_path: Path) -> None:
    with open_session(tmp_path) as session:
        handle = session.start(Upper(rows=Numbers(count=5)))
        assert len(handle.wait(20)) > 0
        assert handle.done
