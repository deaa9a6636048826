"""What all steps that ask have in common: questions and answers keep their places, faults stay with their rows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.calls.request import Prompt as Question
from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.outcome import Emit, Made, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep
from stillhouse.generate._asking import IN_FLIGHT, asked_at_once, sampled, talked_through
from stillhouse.generate.converse import Converse
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.generate.sums import content

ASKED = Ask(model="scripted:asking")


def teacher(messages: Any, schema: Any, sample: int) -> Any:
    text = messages[-1]["content"]
    return scripted_reply(refusal=text) if text.endswith("bad") else text


class AtOnce(MapStep, tag="test.at_once/1"):
    """Asks what stands in `ask`; a row with `unfilled` cannot be filled in, `unread` answers cannot be read."""

    def mapper(self, context: Context) -> Mapper:
        def questions(row: Row) -> list[Question]:
            if row["unfilled"]:
                raise RowFault("invalid", "unfilled")
            return [Question(f"{row['n']} {place} {word}") for place, word in enumerate(row["ask"])]

        def read(row: Row, place: int, answer: Answer) -> Made:
            if answer.text.endswith("unread"):
                raise RowFault("invalid", "unread", answer.text)
            return Emit(({"n": row["n"], "place": place, "text": answer.text},), answer.keys)

        return asked_at_once(context.calls, ASKED, questions, read)


ROW = st.fixed_dictionaries(
    {"ask": st.lists(st.sampled_from(["good", "bad", "unread"]), max_size=4), "unfilled": st.booleans()}
)


@settings(max_examples=15)
@given(rows=st.lists(ROW, min_size=1, max_size=12), chunk=st.integers(1, 5))
def test_each_question_has_its_place_and_its_own_fate(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int
) -> None:
    script("asking", teacher)
    table = Import(
        data=({"n": -1, "ask": ["good"], "unfilled": False}, *({**row, "n": n} for n, row in enumerate(rows))),
        require=(),
    )
    options = Options(chunk=chunk, first_look=20, max_failed=1.0)
    with Session(tmp_path_factory.mktemp("store"), track=False, progress=False, options=options) as session:
        made = session.run(AtOnce(rows=table))
    wanted = [
        (n, place, f"{n} {place} good")
        for n, row in [(-1, {"ask": ["good"], "unfilled": False}), *enumerate(rows)]
        for place, word in enumerate(row["ask"])
        if word == "good" and not row["unfilled"]
    ]
    assert [(row["n"], row["place"], row["text"]) for row in made] == wanted
    failed = [row["message"] for row in made.failed()]
    assert failed == [
        message
        for n, row in enumerate(rows)
        for message in (
            ["unfilled"]
            if row["unfilled"]
            else [
                f"{n} {place} bad" if word == "bad" else "unread"
                for place, word in enumerate(row["ask"])
                if word != "good"
            ]
        )
    ]


def talking(rows: int, one: Any) -> list[Outcome]:
    async def run() -> list[Outcome]:
        return await talked_through(one)([{"_id": str(n), "n": n} for n in range(rows)])

    return asyncio.run(run())


def test_rows_that_talk_keep_their_order_and_only_so_many_talk_at_once() -> None:
    now = most = 0

    async def one(row: Row) -> Outcome:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001 * (row["n"] % 7))
        now -= 1
        if row["n"] % 5 == 0:
            raise RowFault("refused", f"no {row['n']}")
        return Emit(({"n": row["n"]},))

    found = talking(700, one)
    assert most == IN_FLIGHT
    assert [outcome.rows[0]["n"] if isinstance(outcome, Emit) else outcome.message for outcome in found] == [  # type: ignore[union-attr]
        n if n % 5 else f"no {n}" for n in range(700)
    ]


def test_an_error_that_stops_all_stops_the_others() -> None:
    cancelled = []

    async def one(row: Row) -> Outcome:
        if row["n"] == 3:
            await asyncio.sleep(0.01)
            raise ModelError("gone")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(row["n"])
            raise
        return Emit(())

    with pytest.raises(ModelError, match="gone"):
        talking(6, one)
    assert sorted(cancelled) == [0, 1, 2, 4, 5]


def test_samples_of_a_row_that_talks_are_numbered_and_fail_alone() -> None:
    async def one(row: Row, sample: int) -> Made:
        if sample == 1:
            raise RowFault("cut", "half")
        return Emit(({"n": row["n"]},), [f"call-{sample}"])

    (found,) = talking(1, sampled(one, 3))
    assert isinstance(found, list)
    assert [one.rows[0]["sample"] if isinstance(one, Emit) else one.message for one in found] == [0, "half", 2]


def test_rows_of_which_one_reply_failed_are_retried_alone(tmp_path: Any) -> None:
    rows = Import(data=tuple({"n": n} for n in range(4)), require=())
    step = Prompt(rows=rows, by=ASKED, template="{{ n }}", samples=3)

    def partly(messages: Any, schema: Any, sample: int) -> Any:
        text = f"{messages[-1]['content']} {sample}"
        return scripted_reply(refusal="no") if text == "2 1" else text

    script("asking", partly)
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(step).record["counts"]["failed"] == 1
    asked = script("asking", lambda messages, schema, sample: f"{messages[-1]['content']} {sample}")
    with Session(tmp_path, track=False, progress=False) as session:
        made = session.retry(step, only="refused")
    assert [(row["n"], row["sample"]) for row in content(made)] == [
        (n, sample) for n in range(4) for sample in range(3)
    ]
    assert asked.num_calls == 1


def stopping(limit: int) -> Any:
    def until(messages: list[dict[str, Any]]) -> bool:
        return len(messages) >= limit

    return until


def test_values_that_a_function_captures_count_in_the_key() -> None:
    rows = Import(data=({"n": 1},), require=())
    keys = {Converse(rows=rows, by=ASKED, opening="{{ n }}", until=stopping(limit)).recipe_key for limit in (2, 2, 4)}
    assert len(keys) == 2
