"""Compaction: fewer files, the same answers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.core.errors import StoreError
from stillhouse.track._compaction import MERGE_AT
from stillhouse.track.compaction import Manifest, compact
from stillhouse.track.query import query
from stillhouse.track.run import Run


def write_run(store: Path, name: str, steps: int = 3, start: int = 0) -> None:
    with Run.start(store, id=name) as run:
        for step in range(start, start + steps):
            run.log({"loss": float(step), "name": name}, step=step)


def everything(store: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for sql in ("SELECT run, metric, step, value, text FROM metrics", "SELECT id, status, config FROM runs"):
        found += query(store, f"{sql} ORDER BY ALL").to_pylist()
    return found


def loose(store: Path) -> list[Path]:
    return list((store / "runs").glob("*/metrics.parquet"))


def test_compaction_leaves_few_files_and_all_answers(tmp_path: Path) -> None:
    for number in range(12):
        write_run(tmp_path, f"run-{number}")
    before = everything(tmp_path)
    assert compact(tmp_path) == 12
    assert everything(tmp_path) == before
    assert loose(tmp_path) == []
    assert compact(tmp_path) == 0


def test_compaction_waits_until_enough_runs_are_loose(tmp_path: Path) -> None:
    for number in range(3):
        write_run(tmp_path, f"run-{number}")
    assert compact(tmp_path, at_least=4) == 0
    assert len(loose(tmp_path)) == 3
    assert compact(tmp_path, at_least=3) == 3


def test_runs_that_live_are_left_alone(tmp_path: Path) -> None:
    write_run(tmp_path, "over")
    living = Run.start(tmp_path, id="living")
    living.log({"loss": 1.0})
    assert compact(tmp_path) == 1
    living.log({"loss": 0.5})
    assert [row["value"] for row in everything(tmp_path) if row.get("run") == "living"] == [1.0, 0.5]
    living.finish()
    assert compact(tmp_path) == 1


def test_a_crashed_run_is_settled_with_what_it_wrote(tmp_path: Path) -> None:
    run = Run.start(tmp_path, id="dead")
    run.log({"loss": 1.0})
    run.note(pid=2**22 + 1, pid_started=None)
    assert compact(tmp_path) == 1
    rows = query(tmp_path, "SELECT status, ended IS NOT NULL AS ended FROM runs").to_pylist()
    assert rows == [{"status": "crashed", "ended": True}]
    assert query(tmp_path, "SELECT value FROM metrics").to_pylist() == [{"value": 1.0}]


def test_a_compacted_run_can_go_on_and_be_compacted_again(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    write_run(tmp_path, "b")
    compact(tmp_path)
    write_run(tmp_path, "a", start=2)
    steps = query(tmp_path, "SELECT step FROM metrics WHERE run = 'a' AND metric = 'loss' ORDER BY step").to_pylist()
    assert [row["step"] for row in steps] == [0, 1, 2, 3, 4]
    before = everything(tmp_path)
    assert compact(tmp_path) == 1
    assert everything(tmp_path) == before


def test_many_compactions_merge_into_one_file(tmp_path: Path) -> None:
    for number in range(MERGE_AT + 1):
        write_run(tmp_path, f"run-{number}")
        compact(tmp_path)
        if number == 2:
            write_run(tmp_path, "run-0", start=3)
    assert len(Manifest.read(tmp_path).parts) < 4
    kept = {path.name for path in (tmp_path / "runs" / ".index").glob("*.parquet")}
    named = {name for part in Manifest.read(tmp_path).parts for name in (part.metrics_name, part.runs_name)}
    assert kept == named
    counts = query(tmp_path, "SELECT run, count(*) AS n FROM metrics GROUP BY run ORDER BY run").to_pylist()
    assert [row["n"] for row in counts] == [12] + [6] * MERGE_AT


def test_a_removed_run_is_gone_from_answers(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    write_run(tmp_path, "b")
    compact(tmp_path)
    shutil.rmtree(tmp_path / "runs" / "a")
    assert {row.get("run", row.get("id")) for row in everything(tmp_path)} == {"b"}


def test_a_manifest_of_a_later_version_is_not_guessed_at(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    compact(tmp_path)
    path = tmp_path / "runs" / ".index" / "manifest.json"
    path.write_text('{"format": 99}')
    with pytest.raises(StoreError, match="format 99"):
        Manifest.read(tmp_path)


ACTIONS = st.lists(st.sampled_from(["a", "b", "c", "compact", "kill"]), max_size=12)


@settings(max_examples=15)
@given(actions=ACTIONS)
def test_any_order_of_writing_and_compacting_keeps_every_value(
    actions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("store")
    expected: dict[tuple[str, int], float] = {}
    for number, action in enumerate(actions):
        if action == "compact":
            compact(store)
            continue
        name = "a" if action == "kill" else action
        run = Run.start(store, id=name)
        for step in (number % 3, number % 3 + 1):
            run.log({"loss": float(number)}, step=step)
            expected[name, step] = float(number)
        if action == "kill":  # as if the process had died: nothing is closed, the record says it ran
            run.note(pid=2**22 + 1, pid_started=None)
            run._ended.set()
            for descriptor in run._files.values():
                os.close(descriptor)
        else:
            run.finish()
    rows = query(store, "SELECT run, step, value FROM metrics").to_pylist()
    assert {(row["run"], row["step"]): row["value"] for row in rows} == expected
    assert len(rows) == len(expected)
