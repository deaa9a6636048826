"""Rows that ask the same: each gets a reply of its own where replies may differ, whatever the schedule."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.again import SAMPLES
from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import Scripted, script, scripted_reply
from stillhouse.core._occurrence import Arrivals, numbering, with_numbers
from stillhouse.core._tables import table_bytes
from stillhouse.core.artifact import Rows
from stillhouse.core.context import Context
from stillhouse.core.errors import Interrupted
from stillhouse.core.events import Bus
from stillhouse.core.occurrence import EACH, mapped
from stillhouse.core.options import Options
from stillhouse.core.outcome import Emit, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.shards import shared
from stillhouse.core.step import Mapper, MapStep, Step
from stillhouse.engines._actor import Driver, _Chunk, _Prepared
from stillhouse.generate.evolve import Evolve
from stillhouse.generate.few_shot import FewShot
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import

WARM = Ask(model="scripted:equal", temperature=1.0)
TEMPLATE = "Say {{ text }}"


def teacher(messages: Any, schema: Any, sample: int) -> str:
    del schema
    return f"{messages[-1]['content']} #{sample // EACH}.{sample % EACH}"


@pytest.fixture(autouse=True)
def model() -> Scripted:
    return script("equal", teacher)


def table(*texts: str) -> Step[Rows]:
    return Import(data=tuple({"number": number, "text": text} for number, text in enumerate(texts)), require=())


def opened(folder: Path, **options: Any) -> Session:
    return Session(folder, options=Options(**{"chunk": 4, "first_look": 2, **options}), track=False, progress=False)


def replies(folder: Path, step: Step[Rows], column: str = "reply", **options: Any) -> list[str]:
    with opened(folder, **options) as session:
        return [row[column] for row in session.run(step)]


def test_rows_that_ask_the_same_get_a_reply_each(tmp_path: Path, model: Scripted) -> None:
    step = Prompt(rows=table("a", "b", "a", "a"), by=WARM, template=TEMPLATE)
    assert replies(tmp_path, step) == ["Say a #0.0", "Say b #0.0", "Say a #1.0", "Say a #2.0"]
    assert model.num_calls == 4


def test_samples_of_a_row_are_beside_those_of_the_rows_like_it(tmp_path: Path) -> None:
    step = Prompt(rows=table("a", "a"), by=WARM, template=TEMPLATE, samples=2)
    assert replies(tmp_path, step) == ["Say a #0.0", "Say a #0.1", "Say a #1.0", "Say a #1.1"]


@pytest.mark.parametrize(
    "by",
    [Ask(model="scripted:equal"), Ask(model="scripted:equal", temperature=1.0, when_equal="share")],
    ids=["temperature 0", "share"],
)
def test_one_reply_is_shared_where_it_is_what_was_asked_for(tmp_path: Path, model: Scripted, by: Ask) -> None:
    assert replies(tmp_path, Prompt(rows=table("a", "a"), by=by, template=TEMPLATE)) == ["Say a #0.0"] * 2
    assert model.num_calls == 1


def test_at_temperature_0_a_reply_each_can_be_asked_for(tmp_path: Path) -> None:
    by = Ask(model="scripted:equal", when_equal="apart")
    step = Prompt(rows=table("a", "a"), by=by, template=TEMPLATE)
    assert replies(tmp_path, step) == ["Say a #0.0", "Say a #1.0"]


def test_steps_share_unless_one_names_a_draw(tmp_path: Path, model: Scripted) -> None:
    rows = table("a", "a")
    step = Prompt(rows=rows, by=WARM, template=TEMPLATE)
    first = replies(tmp_path, step)
    assert replies(tmp_path, Prompt(rows=rows, by=WARM, template=TEMPLATE, column="again"), "again") == first
    assert model.num_calls == 2
    replies(tmp_path, Prompt(rows=rows, by=WARM.replace(draw="mine"), template=TEMPLATE))
    assert model.num_calls == 4


def test_what_was_paid_for_before_rows_were_told_apart_is_found(tmp_path: Path, model: Scripted) -> None:
    rows = table("a", "a")
    shared = Prompt(rows=rows, by=WARM.replace(when_equal="share"), template=TEMPLATE)
    apart = Prompt(rows=rows, by=WARM, template=TEMPLATE)
    assert shared.recipe_key != apart.recipe_key
    replies(tmp_path, shared)
    assert replies(tmp_path, apart) == ["Say a #0.0", "Say a #1.0"]
    assert model.num_calls == 2


def test_keys_of_steps_that_share_are_as_they_were() -> None:
    cold = Prompt(rows=table("a"), by=Ask(model="scripted:equal"), template=TEMPLATE)
    assert cold.recipe_key == cold.replace(by=cold.by.replace(when_equal=None)).recipe_key


class Slowed(MapStep, tag="test.occurrence_slowed/1"):
    """Copies rows, the earlier ones later."""

    late: int = 0

    def identity(self) -> dict[str, Any]:
        return {name: value for name, value in self.values().items() if name != "late"}

    def mapper(self, context: Context) -> Mapper:
        async def work(rows: Sequence[Row]) -> list[Outcome]:
            if rows[0]["number"] < self.late:
                await asyncio.sleep(0.05)
            return [Emit([{"number": row["number"], "text": row["text"]}]) for row in rows]

        return work


@settings(max_examples=8)
@given(texts=st.lists(st.sampled_from("abc"), min_size=1, max_size=24), late=st.integers(0, 24))
def test_rows_that_come_out_of_turn_end_as_those_of_a_finished_table(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], late: int
) -> None:
    model = script("equal", teacher)
    folder = tmp_path_factory.mktemp("out_of_turn")

    def step(late: int) -> Prompt:
        return Prompt(rows=Slowed(rows=table(*texts), late=late), by=WARM, template=TEMPLATE)

    streamed = replies(folder / "streamed", step(late))
    assert model.num_calls == len(texts)
    assert streamed == replies(folder / "plain", step(0), ahead=False)
    assert sorted({*streamed}) == sorted(streamed)


def test_a_step_that_was_stopped_goes_on_with_the_same_numbers(tmp_path: Path, model: Scripted) -> None:
    rows = table(*"abab" * 6)
    step = Prompt(rows=rows, by=WARM, template=TEMPLATE)
    whole = replies(tmp_path / "whole", step)

    def stops(messages: Any, schema: Any, sample: int) -> str:
        if again.num_calls == 13:
            handles[0].stop()
        return teacher(messages, schema, sample)

    again, handles = script("equal", stops), []
    with opened(tmp_path / "broken") as session:
        handles.append(session.start(step))
        with pytest.raises(Interrupted):
            handles[0].wait()
    model = script("equal", teacher)
    assert replies(tmp_path / "broken", step) == whole
    assert again.num_calls + model.num_calls == len(whole)
    assert replies(tmp_path / "broken", step.replace(column="other"), "other") == whole
    assert again.num_calls + model.num_calls == len(whole)


def test_a_retry_asks_for_the_row_that_failed(tmp_path: Path) -> None:
    def refuses(messages: Any, schema: Any, sample: int) -> Any:
        return scripted_reply(refusal="no") if sample == EACH else teacher(messages, schema, sample)

    script("equal", refuses)
    step = Prompt(rows=table(*"aaa"), by=WARM, template=TEMPLATE)
    assert replies(tmp_path, step) == ["Say a #0.0", "Say a #2.0"]
    with opened(tmp_path) as session:
        made = session.retry(step, only="refused")
    assert [row["reply"] for row in made] == ["Say a #0.0", "Say a #1.1000000", "Say a #2.0"]


def test_shares_number_rows_as_one_machine_does(tmp_path: Path, model: Scripted) -> None:
    step = Prompt(rows=table(*"aabaab"), by=WARM, template=TEMPLATE)
    whole = replies(tmp_path / "whole", step)
    num_calls = model.num_calls
    with opened(tmp_path / "shared") as session:
        for index in range(3):
            session.shard(step, index, 3)
        made = session.merge(step, 3)
        assert made is not None
    assert [row["reply"] for row in made] == whole
    assert model.num_calls == 2 * num_calls


@pytest.mark.parametrize("shown", [False, True])
def test_a_retry_of_shares_asks_as_one_machine_does(tmp_path: Path, shown: bool) -> None:
    def refuses(messages: Any, schema: Any, sample: int) -> Any:
        number, attempt = sample // EACH, sample % EACH // SAMPLES
        example = messages[-1]["content"].find("o2") > 0 or messages[-1]["content"].find("o0") > 0
        refused = attempt == 0 and (example if shown else number in (0, 2))
        return scripted_reply(refusal="no") if refused else teacher(messages, schema, sample)

    script("equal", refuses)
    rows = table(*"aaaa")
    step: MapStep = Prompt(rows=rows, by=WARM, template=TEMPLATE)
    if shown:
        examples = Import(data=[{"text": f"e{n}", "output": f"o{n}"} for n in range(5)], require=())
        step = FewShot(rows=rows, by=WARM, input="text", examples=examples, choose="round_robin", most=1)
    with opened(tmp_path / "whole", first_look=10) as session:
        session.run(step)
        whole = list(session.retry(step))
    with opened(tmp_path / "shared", first_look=10) as session:
        for index in range(2):
            session.shard(step, index, 2)
            session.retry(shared(step, [step], index, 2))
        made = session.merge(step, 2)
        assert made is not None
    assert len(whole) == 4
    assert list(made) == whole


def test_a_merge_makes_again_what_shares_could_not_know(tmp_path: Path, model: Scripted) -> None:
    first = Prompt(rows=table(*"aabb"), by=Ask(model="scripted:equal"), template="{{ text }}")
    step = Prompt(rows=first, by=WARM, template="Ask {{ text[:1] }}", column="second")
    step = step.replace(template="Ask {{ reply }}")
    whole = replies(tmp_path / "whole", step, "second")
    with opened(tmp_path / "shared") as session:
        for index in range(4):
            session.shard(step, index, 4)
        made = session.merge(step, 4)
        assert made is not None
    assert [row["second"] for row in made] == whole


def test_methods_that_are_drawn_tell_rows_apart(tmp_path: Path) -> None:
    def evolves(messages: Any, schema: Any, sample: int) -> Any:
        del schema
        return orjson.dumps({"instruction": f"{len(messages[-1]['content'])} words, {sample // EACH}"}).decode()

    script("equal", evolves)
    step = Evolve(rows=table(*["Do it well"] * 12), by=WARM, input="text", compare=False)
    with opened(tmp_path) as session:
        made = [(row["method"], row["text"]) for row in session.run(step)]
    assert len({*made}) == 12
    assert min(text.rpartition(" ")[2] for _, text in made) == "0"


@given(values=st.lists(st.integers(0, 4), max_size=60))
def test_numbers_count_equal_rows_in_their_order(values: list[int]) -> None:
    found = numbering(np.asarray(values, np.uint64))
    wanted = [values[:place].count(value) for place, value in enumerate(values)]
    assert (found.of(0, len(values)) or [0] * len(values)) == wanted
    assert (found.of(3, 10) or [0] * 10)[: len(wanted[3:13])] == wanted[3:13]
    assert (found.at([1, 0]) or [0, 0]) == [*reversed(wanted[:2])] or len(values) < 2


def test_a_mapper_sees_rows_of_one_number_together_and_outcomes_keep_their_places() -> None:
    seen = []

    async def mapper(rows: Sequence[Row]) -> list[Any]:
        seen.append([row["n"] for row in rows])
        return [row["n"] for row in rows]

    rows: list[Row] = [{"n": number} for number in range(5)]
    assert asyncio.run(mapped(mapper, rows, [0, 1, 0, 2, 1])) == [0, 1, 2, 3, 4]
    assert sorted(seen) == [[0, 2], [1, 4], [3]]


def test_rows_that_come_are_numbered_by_what_is_asked_about() -> None:
    arrivals = Arrivals(Prompt(rows=table("a"), by=WARM, template=TEMPLATE))
    assert arrivals.of(pa.table({"text": ["a", "b"], "number": [1, 2]})) is None
    assert arrivals.of(pa.table({"text": ["a", "c"], "number": [3, 4]})) == [1, 0]


def test_rows_that_are_mapped_elsewhere_ask_with_their_numbers(tmp_path: Path) -> None:
    step = Prompt(rows=table("a", "a"), by=WARM, template=TEMPLATE)
    with opened(tmp_path) as session:
        source = session.run(step.rows)
    context = Context(
        step=step,
        build_key="there",
        work=tmp_path / "there",
        inputs={step.rows.recipe_key: source},
        options=Options(),
        bus=Bus(),
        stop=threading.Event(),
        calls=Driver,
    )
    given = with_numbers(pa.concat_tables(map(pq.read_table, source.paths)), [0, 1])

    async def asked() -> list[int]:
        chunk = _Chunk("there", _Prepared(step, step.mapper(context), tmp_path), 0, table_bytes(given))
        found: list[int] = []
        while len(found) < 2:
            message = await chunk.next()
            found += [prompt.sample for _, _, (_, prompts), _ in message["asks"] for prompt in prompts]
        chunk.task.cancel()
        return sorted(found)

    assert asyncio.run(asked()) == [0, EACH]
