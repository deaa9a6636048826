"""Rows that failed are tried again where they stand; nobody asks about the others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.calls.again import SAMPLES
from stillhouse.calls.ask import Ask
from stillhouse.calls.endpoint import Endpoint
from stillhouse.calls.providers.scripted import Scripted, script, scripted_reply
from stillhouse.calls.reply import Reply
from stillhouse.calls.request import Prompt as Question
from stillhouse.core.artifact import Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.outcome import Drop, Emit, Fail, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from stillhouse.rows.slices import Skip
from tests.calls.server import Act, Call, MisbehavingServer


def numbers(count: int) -> Import:
    return Import(data=[{"n": str(number)} for number in range(count)], require=("n",))


def asked(count: int, name: str, **fields: Any) -> Prompt:
    return Prompt(rows=numbers(count), template="{{ n }}", by=Ask(model=f"scripted:{name}", **fields))


def opened(folder: Path, **settings: Any) -> Session:
    return Session(folder, track=False, progress=False, options=Options(chunk=8), **settings)


def bad(*numbers: int, finish: Any = "length", until: int = 1) -> Any:
    """A script that cuts the replies to these numbers in the first `until` attempts."""

    def reply(messages: list[dict[str, Any]], schema: object, sample: int) -> str | Reply:
        text = messages[-1]["content"]
        if int(text) in numbers and sample < until * SAMPLES:
            return scripted_reply("half of it", finish)
        return f"reply to {text}"

    return reply


def texts(rows: Rows) -> list[str]:
    return [row["reply"] for row in rows]


def whole(folder: Path, count: int) -> Rows:
    script("never-fails", bad())
    with opened(folder / "whole") as session:
        return session.run(asked(count, "never-fails"))


def test_cut_rows_are_asked_again_and_stand_where_they_would_have_stood(tmp_path: Path) -> None:
    teacher = script("cuts", bad(0, 3, 17, 29))
    step = asked(30, "cuts")
    with opened(tmp_path / "store") as session:
        first = session.run(step, name="answers")
        assert first.record["counts"] == {"in": 30, "out": 26, "dropped": 0, "failed": 4}
        before = teacher.num_calls
        again = session.retry(step, only="cut", name="answers")
    assert texts(again) == texts(whole(tmp_path, 30))
    assert [request.messages[-1]["content"] for request in teacher.requests[before:]] == ["0", "3", "17", "29"]
    assert {request.sample for request in teacher.requests[before:]} == {SAMPLES}
    assert again.key == first.key
    assert again.record["counts"] == {"in": 30, "out": 30, "dropped": 0, "failed": 0}
    (told,) = again.record["retries"]
    assert {name: told[name] for name in ("only", "rows", "mended")} == {"only": ["cut"], "rows": 4, "mended": 4}
    assert not list(again.failed())
    assert again.record["calls"]["total"]["calls"] == 34


def test_a_run_after_a_retry_asks_nothing_and_what_is_made_from_it_is_made_again(tmp_path: Path) -> None:
    teacher = script("cuts-once", bad(5))
    step = Skip(rows=asked(20, "cuts-once"), num=2)
    with opened(tmp_path / "store") as session:
        assert len(session.run(step, name="answers")) == 17
        assert len(session.retry(step, only="cut", name="answers")) == 18
        calls = teacher.num_calls
        assert len(session.run(step)) == 18
        assert teacher.num_calls == calls == 21
    with opened(tmp_path / "store") as session:
        assert len(session.run(step)) == 18
    assert teacher.num_calls == calls


def test_only_the_kinds_that_are_named(tmp_path: Path) -> None:
    refuses, cuts = bad(1, 2, finish="refused"), bad(3, 4)
    teacher = script("both", lambda m, s, n: refuses(m, s, n) if int(m[-1]["content"]) < 3 else cuts(m, s, n))
    step = asked(10, "both")
    with opened(tmp_path / "store") as session:
        session.run(step)
        assert session.to_retry(step, "refused") == [(step, 2)]
        again = session.retry(step, only="refused")
        assert [row["kind"] for row in again.failed()] == ["cut", "cut"]
        assert teacher.num_calls == 12
        assert len(session.retry(step, only=("cut", "refused"))) == 10
        assert session.to_retry(step) == []
        assert len(session.retry(step)) == 10
    assert teacher.num_calls == 14


def test_each_retry_asks_with_a_sample_of_its_own_until_it_helps(tmp_path: Path) -> None:
    teacher = script("stubborn", bad(2, 6, until=3))
    step = asked(10, "stubborn")
    with opened(tmp_path / "store") as session:
        session.run(step)
        made = [session.retry(step, only="cut") for _ in range(3)]
    assert [len(rows) for rows in made] == [8, 8, 10]
    assert [request.sample for request in teacher.requests[10:]] == [SAMPLES * n for n in (1, 1, 2, 2, 3, 3)]
    assert [entry["mended"] for entry in made[-1].record["retries"]] == [0, 0, 2]


def test_the_asking_may_change_for_these_rows_alone(tmp_path: Path) -> None:
    teacher = script("short", bad(4))
    step = asked(10, "short", max_tokens=16)
    with opened(tmp_path / "store") as session:
        session.run(step)
        again = session.retry(step, only="cut", asking={"max_tokens": 4096})
        assert [request.sampling.max_tokens for request in teacher.requests] == [16] * 10 + [4096]
        assert again.record["retries"][0]["asking"] == {"max_tokens": 4096}
        with pytest.raises(RecipeError, match="max_token"):
            session.retry(step, asking={"max_token": 1})


def test_another_model_is_asked_also_in_place_of_a_deployment(tmp_path: Path) -> None:
    with MisbehavingServer(lambda m, s, n: "" if m[-1]["content"] == "3" else "fine") as house:
        other = script("other")
        by = Ask(model="x/small", deployment="house")
        step = Prompt(rows=numbers(5), template="{{ n }}", by=by)
        with opened(tmp_path / "store", endpoints={"house": Endpoint(house.url, model="small")}) as session:
            session.run(step)
            before = house.num_calls
            again = session.retry(step, asking={"model": "scripted:other"})
        assert (house.num_calls, other.num_calls) == (before, 1)
    assert again.record["counts"]["failed"] == 0


def test_replies_that_loop_are_a_kind_of_their_own(tmp_path: Path) -> None:
    def reply(messages: list[dict[str, Any]], schema: object, index: int) -> str:
        return "the same again. " * 100 if messages[-1]["content"] == "3" and not mended else "fine"

    mended: list[bool] = []
    with MisbehavingServer(reply) as server, opened(tmp_path / "store") as session:
        step = Prompt(rows=numbers(5), template="{{ n }}", by=Ask(model="x/m", endpoint=server.url, temperature=0.5))
        assert [row["kind"] for row in session.run(step).failed()] == ["degenerate"]
        mended.append(True)
        assert session.to_retry(step, "degenerate") == [(step, 1)]
        assert session.retry(step, only="degenerate").record["counts"]["failed"] == 0


def test_kinds_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with opened(tmp_path / "store") as session, pytest.raises(RecipeError, match="do not fail as `cutt`"):
        session.retry(asked(3, "never-fails"), only="cutt")


def test_rows_that_fail_again_stop_nothing_and_cost_little(tmp_path: Path) -> None:
    teacher = script("hopeless", bad(*range(100, 200), until=9))
    step = asked(250, "hopeless")
    with opened(tmp_path / "store") as session:
        session.run(step)
        again = session.retry(step)
        assert again.record["counts"]["failed"] == 100
        assert teacher.num_calls == 250 + 20
        session.retry(step)
        assert teacher.num_calls == 250 + 20 + 20
    tried = [int(request.messages[-1]["content"]) for request in teacher.requests[250:]]
    assert tried == list(range(100, 140))  # those that had fewer tries come first


class Several(MapStep, tag="test.retry_several/1"):
    """Three replies to each row; each is a row, a failure of its own, or dropped where it says so."""

    by: Ask

    def mapper(self, context: Context) -> Mapper:
        calls = context.calls

        async def ask(rows: Sequence[Row]) -> list[Outcome]:
            answers = await calls.ask_many(self.by, [Question(row["n"], None, i) for row in rows for i in range(3)])
            return [[one(answer) for answer in answers[3 * at : 3 * at + 3]] for at in range(len(rows))]

        def one(answer: Any) -> Emit | Drop | Fail:
            if isinstance(answer, RowFault):
                return Fail(answer.kind, answer.message)
            return Drop("not wanted") if answer.text == "drop" else Emit([{"text": answer.text}], answer.keys)

        return ask


class Singly(MapStep, tag="test.retry_singly/1"):
    """The same three replies, asked for one after the other."""

    by: Ask

    def mapper(self, context: Context) -> Mapper:
        calls = context.calls

        async def one(text: str, sample: int) -> Emit | Fail:
            try:
                answer = await calls.ask(self.by, text, sample=sample)
            except RowFault as fault:
                return Fail(fault.kind, fault.message)
            return Emit([{"text": answer.text}], answer.keys)

        async def ask(rows: Sequence[Row]) -> list[Outcome]:
            return [[await one(row["n"], sample) for sample in range(3)] for row in rows]

        return ask


def test_of_several_replies_to_a_row_only_the_bad_ones_are_asked_again(tmp_path: Path) -> None:
    def reply(messages: list[dict[str, Any]], schema: object, sample: int) -> str | Reply:
        number = int(messages[-1]["content"])
        if (number, sample) in ((2, 1), (5, 0), (5, 1), (5, 2)):
            return scripted_reply("x", "refused")
        return "drop" if (number, sample) == (2, 2) else f"{number}.{sample % SAMPLES}"

    teacher = script("several", reply)
    step = Several(rows=numbers(8), by=Ask(model="scripted:several"))
    with opened(tmp_path / "store") as session:
        session.run(step)
        assert teacher.num_calls == 24
        again = session.retry(step, only="refused")
    assert teacher.num_calls == 28
    texts = [row["text"] for row in again]
    assert texts == [f"{n}.{i}" for n in range(8) for i in range(3) if (n, i) != (2, 2)]
    assert [row["reason"] for row in again.dropped()] == ["not wanted"]
    assert again.record["counts"] == {"in": 8, "out": 23, "dropped": 1, "failed": 0}


@pytest.mark.parametrize("alone", [True, False])
def test_a_second_retry_keeps_what_the_first_mended(tmp_path: Path, alone: bool) -> None:
    def reply(messages: list[dict[str, Any]], schema: object, sample: int) -> str | Reply:
        attempt, which = divmod(sample, SAMPLES)
        return scripted_reply("x", "refused") if attempt < which else f"{which}, attempt {attempt}"

    teacher = script("slowly", reply)
    by = Ask(model="scripted:slowly")
    step: MapStep = Singly(rows=numbers(1), by=by) if alone else Several(rows=numbers(1), by=by)
    with opened(tmp_path / "store") as session:
        session.run(step)
        session.retry(step, only="refused", asking={"temperature": 0.5})
        assert teacher.num_calls == 5
        again = session.retry(step, only="refused")
    assert teacher.num_calls == 6
    assert [row["text"] for row in again] == ["0, attempt 0", "1, attempt 1", "2, attempt 2"]
    assert again.record["counts"]["failed"] == 0
    shutil.rmtree(tmp_path / "store" / "artifacts-v1")  # made again from the replies that are kept
    replay = Options(chunk=8, cache_only=True)
    with Session(tmp_path / "store", track=False, progress=False, options=replay) as session:
        session.run(step)
        session.retry(step, only="refused", asking={"temperature": 0.5})
        assert session.retry(step, only="refused").digest == again.digest


@given(
    count=st.integers(1, 60),
    first=st.sets(st.integers(0, 59), max_size=20),
    still=st.sets(st.integers(0, 59), max_size=20),
)
def test_any_rows_in_any_order_of_retries(
    tmp_path_factory: pytest.TempPathFactory, count: int, first: set[int], still: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    once, twice = bad(*first), bad(*(first & still), until=2)
    script("any", lambda m, s, n: twice(m, s, n) if int(m[-1]["content"]) in still else once(m, s, n))
    step = asked(count, "any")
    if set(range(count)) <= first:
        return  # a step whose every row failed has no result
    with opened(folder) as session:
        session.run(step)
        rows = session.retry(step)
        expected = [number for number in range(count) if number not in first & still]
        assert texts(rows) == [f"reply to {number}" for number in expected]
        failed = sorted(number for number in first & still if number < count)
        assert [json.loads(row["row"])["n"] for row in rows.failed()] == [str(number) for number in failed]
        rows = session.retry(step)
        assert texts(rows) == [f"reply to {number}" for number in range(count)]
        assert rows.record["counts"]["failed"] == 0


def test_what_was_mended_stays_when_rows_without_an_answer_are_asked_by_the_next_run(tmp_path: Path) -> None:
    down = RowFault("exhausted", "it did not answer")
    teacher = script("patchy", bad(3), failures={7: down})
    step = asked(10, "patchy")
    with opened(tmp_path / "store") as session:
        assert session.run(step).unanswered == 1
        again = session.retry(step, only="cut")
        assert (len(again), again.unanswered) == (9, 1)
    assert teacher.num_calls == 11
    with opened(tmp_path / "store") as session:
        rows = session.run(step)
    assert teacher.num_calls == 12
    assert texts(rows) == [f"reply to {number}" for number in range(10)]


PROGRAM = """
import sys
from stillhouse import Ask, Import, Options, Prompt, Session
folder, url, what = sys.argv[1:]
rows = Import(data=[{"n": str(number)} for number in range(40)], require=("n",))
step = Prompt(rows=rows, template="{{ n }}", by=Ask(model="openai/teacher", endpoint=url))
with Session(folder, track=False, progress=False, options=Options(chunk=8, first_look=2), concurrency=2) as session:
    made = session.run(step, name="it") if what == "run" else session.retry(step, only="cut", name="it")
    print(len(made), made.record["counts"]["failed"])
"""


def test_a_killed_retry_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    again = {"on": False}

    def behave(call: Call) -> Act | None:
        if int(call.text) % 2 and not again["on"]:
            return Act(text="half", finish="length")
        return None

    environment = {**os.environ, "OPENAI_API_KEY": "k"}

    def command(what: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), server.url, what]

    with MisbehavingServer(lambda messages, schema, sample: "ok", behave=behave, latency=0.05) as server:
        subprocess.run(command("run"), check=True, env=environment)
        assert server.num_calls == 40
        again["on"] = True
        process = subprocess.Popen(command("retry"), env=environment, stdout=subprocess.DEVNULL)
        while sum(server.answered.values()) < 48 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = subprocess.run(command("retry"), check=True, env=environment, capture_output=True, text=True)
        assert done.stdout.split() == ["40", "0"]
        assert server.num_calls <= 60 + 2  # those on the wire when it was killed


def test_a_result_that_was_whole_when_its_process_died_is_taken_as_it_is(tmp_path: Path) -> None:
    teacher = script("killed", bad(1))
    step = asked(6, "killed")
    with opened(tmp_path / "store") as session:
        made = session.run(step)
        work = session.store.work_folder(made.key)
        work.mkdir()
        made.folder.rename(work / "result")  # as it stands between the two renames that replace a result
    calls = teacher.num_calls
    with opened(tmp_path / "store") as session:
        assert session.run(step).digest == made.digest
    assert teacher.num_calls == calls


def test_a_step_that_fails_whole_is_no_matter_for_retries(tmp_path: Path) -> None:
    teacher: Scripted = script("all-bad", bad(*range(9), until=9))
    with opened(tmp_path / "store") as session:
        with pytest.raises(ModelError):
            session.run(asked(5, "all-bad"))
        assert session.to_retry(asked(5, "all-bad")) == []
    assert teacher.num_calls == 5
