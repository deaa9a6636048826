"""Shares of map steps, made by several jobs and joined: as if one machine had made them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from stillhouse.core.artifact import Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.options import Options
from stillhouse.core.outcome import Emit, Outcome, Row
from stillhouse.core.retry import Retry
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep, Step
from tests.calls.server import MisbehavingServer
from tests.core.steps import Join, Numbers, Rubbish, Upper


class Widening(MapStep, tag="test.shards_widening/1"):
    """Columns and types that come late: whole numbers first, then broken ones, then one column more."""

    def mapper(self, context: Context) -> Mapper:
        def content(number: int) -> dict[str, object]:
            more = {"late": "x"} if number > 70 else {}
            return {"i": number, "value": number if number < 40 else number / 2, **more}

        return lambda rows: [Emit([content(row["i"])]) for row in rows]


class Headed(MapStep, tag="test.shards_headed/1"):
    """Looks at the first rows of its table."""

    def mapper(self, context: Context) -> Mapper:
        first = [row["i"] for row in context.get(self.rows).head(2)]
        total = len(context.get(self.rows))

        def work(rows: Sequence[Row]) -> Sequence[Outcome]:
            return [Emit([{"i": row["i"], "text": "t", "first": first, "total": total}]) for row in rows]

        return work


def opened(folder: Path) -> Session:
    return Session(folder, options=Options(chunk=16, first_look=4), track=False, progress=False)


class Texted(MapStep, tag="test.shards_texted/1"):
    """Gives rows a `text` again."""

    def mapper(self, context: Context) -> Mapper:
        return lambda rows: [Emit([{**{k: v for k, v in row.items() if k[0] != "_"}, "text": "t"}]) for row in rows]


def graph(count: int) -> Step[Rows]:
    numbers = Numbers(count=count)
    left = Upper(rows=Texted(rows=Widening(rows=Upper(rows=numbers))))
    right = Upper(rows=Headed(rows=numbers), asynchronous=True)
    return Upper(rows=Join(tables=(left, right)))


def same(left: Rows, right: Rows) -> bool:
    files = [[path.read_bytes() for path in rows.paths] for rows in (left, right)]
    asides = [[list(rows.dropped()), list(rows.failed()), rows.record["counts"]] for rows in (left, right)]
    places = [[path.read_bytes() for path in (rows.aside_path("failed"),) if path.exists()] for rows in (left, right)]
    return left.digest == right.digest and files[0] == files[1] and asides[0] == asides[1] and places[0] == places[1]


def one_machine(folder: Path, step: Step[Rows]) -> Rows:
    with opened(folder) as session:
        return session.run(step)


@pytest.mark.parametrize(("count", "of"), [(41, 2), (130, 3), (3, 5), (60, 1)])
def test_joined_shares_equal_the_result_of_one_machine(tmp_path: Path, count: int, of: int) -> None:
    folder = tmp_path
    step = Upper(rows=Texted(rows=Widening(rows=Numbers(count=count))))
    for index in range(of):
        with opened(folder / "store") as session:
            (*_, last) = session.shard(step, index, of)
            assert last.record["counts"]["in"] == count * (index + 1) // of - count * index // of
    with opened(folder / "store") as session:
        rows = session.merge(step, of)
        assert rows is not None
    assert same(rows, one_machine(folder / "one", step))


def test_a_graph_is_shared_out_stage_by_stage_and_jobs_may_have_folders_of_their_own(tmp_path: Path) -> None:
    step = graph(120)
    for index in range(3):
        with opened(tmp_path / f"job-{index}") as session:
            assert len(session.shard(step, index, 3)) == 6
    folders = [tmp_path / f"job-{index}" for index in range(3)]
    with opened(tmp_path / "main") as session:
        assert session.merge(step, 3, folders=folders, rest=False) is None
        assert [rows.record["tag"] for rows in session.shard(step, 0, 2)] == ["test.upper/1"]
        session.shard(step, 1, 2)
        rows = session.merge(step, 2, name="it")
        assert rows is not None
    assert same(rows, one_machine(tmp_path / "one", step))


def test_a_mapper_over_shares_sees_the_whole_table_or_waits_for_it(tmp_path: Path) -> None:
    over_whole = Headed(rows=Numbers(count=20))
    over_shares = Headed(rows=Upper(rows=Numbers(count=40)))
    told: list[str] = []
    for name, step in (("whole", over_whole), ("shares", over_shares)):
        for index in range(2):
            with opened(tmp_path / name) as session:
                session.bus.subscribe(lambda event: told.append(event.data.get("message", "")))
                session.shard(step, index, 2)
        with opened(tmp_path / name) as session:
            rows = session.merge(step, 2)
            assert rows is not None
        assert same(rows, one_machine(tmp_path / f"{name}-one", step))
    assert any("`test.shards_headed` looks at all its rows" in message for message in told)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    step = Upper(rows=Numbers(count=30))
    with opened(tmp_path / "store") as session:
        session.shard(step, 1, 3)
        with pytest.raises(RecipeError, match=r"2 of 3 shards are not there \(1/3, 3/3\)"):
            session.merge(step, 3)
        with pytest.raises(RecipeError, match="is not a session folder"):
            session.merge(step, 3, folders=[tmp_path / "nowhere"])
        with pytest.raises(RecipeError, match="no share 3 of 3"):
            session.shard(step, 3, 3)


def test_shares_of_other_rows_do_not_count(tmp_path: Path) -> None:
    """A job that ran on another version of the table made something else."""
    with opened(tmp_path / "job") as session:
        session.shard(Upper(rows=Numbers(count=30)), 0, 1)
    with opened(tmp_path / "main") as session, pytest.raises(RecipeError, match="1 of 1 shards are not there"):
        session.merge(Upper(rows=Numbers(count=31)), 1, folders=[tmp_path / "job"])


def test_where_all_rows_of_all_shares_failed_there_is_no_result(tmp_path: Path) -> None:
    step = Rubbish(rows=Numbers(count=9))
    with opened(tmp_path / "store") as session:
        for index in range(3):
            session.shard(step, index, 3)
        with pytest.raises(ModelError, match="9 of the first 9 rows of `Rubbish` failed"):
            session.merge(step, 3)


def test_failed_rows_of_a_joined_result_can_be_retried(tmp_path: Path) -> None:
    step = Upper(rows=Numbers(count=60))
    with opened(tmp_path / "store") as session:
        for index in range(2):
            session.shard(step, index, 2)
        rows = session.merge(step, 2)
        assert rows is not None
        assert Retry().num_rows(rows) == rows.record["counts"]["failed"] > 0
        before = [row["_id"] for row in rows]
        again = session.retry(step)
        assert [row["_id"] for row in again] == before


RECIPE = """
nodes:
  seeds: {uses: rows.import, path: seeds.jsonl}
  asked:
    uses: generate.prompt
    rows: $seeds
    template: "{{ input }}"
    by: {uses: calls.ask, model: openai/teacher, endpoint: URL}
  judged:
    uses: generate.prompt
    rows: $asked
    template: "judge {{ input }} {{ reply }}"
    column: verdict
    by: {uses: calls.ask, model: openai/teacher, endpoint: URL}
  clean: {uses: curate.dedup, rows: $judged, columns: [input]}
result: $clean
session: {options: {chunk: 8, first_look: 2}, concurrency: 4}
"""


@pytest.mark.dear
def test_real_jobs_of_which_one_is_killed(tmp_path: Path) -> None:
    """Three processes in one folder; the second is killed in the middle and given once more."""
    words = ["one", "two", "red", "blue", "tea", "cup", "sun", "sea"]
    seeds = [{"input": f"{words[n % 8]} {words[n // 8 % 8]} {n}", "output": "x"} for n in range(90)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in seeds))
    environment = {**os.environ, "OPENAI_API_KEY": "k"}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "stillhouse", *words, "--yes", "--quiet"]

    def run(*words: str) -> str:
        done = subprocess.run(command(*words), cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with MisbehavingServer(lambda messages, schema, sample: "ok", latency=0.03) as server:
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace("URL", server.url))
        jobs = [
            subprocess.Popen(command("run", "recipe.yaml", "--shard", f"{number}/3"), cwd=tmp_path, env=environment)
            for number in (1, 2, 3)
        ]
        deadline = time.monotonic() + 100
        mine = [f"judge {row['input']}" for row in seeds[30:60]]
        while sum(text.startswith(tuple(mine)) for text in server.answered) < 5 and jobs[1].poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        jobs[1].send_signal(signal.SIGKILL)
        assert [job.wait(100) for job in jobs] == [0, -signal.SIGKILL, 0]
        run("run", "recipe.yaml", "--shard", "2/3")
        told = json.loads(run("merge", "recipe.yaml", "--shards", "3", "--json"))
        assert server.num_calls <= 180 + 4  # those of the killed job that were on the wire
        calls = server.num_calls
        assert json.loads(run("run", "recipe.yaml", "--json"))["steps_made"] == 0
        assert server.num_calls == calls
        one = json.loads(run("run", "recipe.yaml", "--json", "--folder", "one"))
        assert one["digest"] == told["digest"]
        first, second = (sorted((tmp_path / place["path"]).glob("*.parquet")) for place in (told, one))
        assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not [path for path in (tmp_path / "out" / "names").glob("*.json") if "shard" in path.name]
