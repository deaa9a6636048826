"""`SynthesizeCoT`: reasoning that is kept only where it comes to the known output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import Scripted, script, scripted_reply
from stillhouse.core.errors import ModelError
from stillhouse.core.session import Session
from stillhouse.generate._cot import FIRST_SEEDS
from stillhouse.generate.cot import SynthesizeCoT
from stillhouse.rows.import_ import Import
from tests.generate import teachers
from tests.generate.sums import INSTRUCTION, SEEDS, Sum, by, content


def traces(name: str, rows: Any = SEEDS, **fields: Any) -> SynthesizeCoT:
    asked = by(name) if hasattr(teachers, name) else Ask(model=f"scripted:{name}")
    return SynthesizeCoT(rows=rows, by=asked, instruction=INSTRUCTION, **{"response": Sum, **fields})


def scripted(name: str, function: Any = teachers.reply) -> Scripted:
    return script(name, function)


def test_reasoning_that_comes_to_the_known_output_is_added(session: Session) -> None:
    made = session.run(traces("reply"))
    assert content(made)[0] == {
        "input": "Ann has 3 and gets 4",
        "output": '{"sum": 7}',
        "thinking": "add 3 and 4",
        "verified": True,
    }
    (batch,) = made.batches(lineage=True)
    assert all(len(row["_calls"]) == 1 for row in batch)


def test_a_wrong_output_is_thrown_away_and_asked_for_again(session: Session) -> None:
    made = session.run(traces("late"))
    assert [row["verified"] for row in made] == [True] * 3
    assert content(made)[0]["thinking"] == "add 3 and 4"


def test_only_rows_without_a_trace_are_asked_about_again(session: Session) -> None:
    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        text = teachers.task_input(messages)
        return teachers.answer(f"{text} 1" if text.startswith("Bob") and sample < 2 else text, schema)

    asked = scripted("cot-once", answer)
    session.run(traces("cot-once"))
    assert sorted(request.sample for request in asked.requests) == [0, 0, 0, 1, 2]


def test_a_row_that_never_gets_there_stays_without_thinking(session: Session) -> None:
    made = session.run(traces("wrong"))
    assert next((row["output"], row["thinking"], row["verified"]) for row in made) == ('{"sum": 7}', None, False)
    assert len(made) == 3


def test_a_model_is_not_shown_the_answer_that_it_has_to_find(session: Session) -> None:
    asked = scripted("cot-shown")
    session.run(traces("cot-shown"))
    for request in asked.requests:
        text = str(request.messages[0]["content"])
        total = teachers.total(teachers.task_input([{"content": text}]))
        assert json.dumps({"sum": total}) not in text
        assert text.count("Output: ") == 2


def test_a_row_that_has_thinking_is_not_asked_about(session: Session) -> None:
    asked = scripted("cot-known")
    rows = Import(data=({"input": "1 and 2", "output": {"sum": 3}, "thinking": "easy"},))
    (row,) = session.run(traces("cot-known", rows))
    assert (row["thinking"], row["verified"], asked.num_calls) == ("easy", None, 0)


def test_outputs_are_compared_and_written_by_value(session: Session) -> None:
    rows = Import(data=({"input": "1 and 2", "output": '{ "sum" :3}'}, {"input": "2 and 2", "output": " 4 "}))
    made = content(session.run(traces("reply", rows.replace(data=rows.data[:1]))))  # type: ignore[index]
    assert (made[0]["output"], made[0]["verified"]) == ('{"sum": 3}', True)
    plain = content(session.run(traces("reply", rows.replace(data=rows.data[1:]), response=None)))  # type: ignore[index]
    assert (plain[0]["output"], plain[0]["verified"]) == (" 4 ", True)


def test_a_teacher_of_rubbish_is_stopped_after_the_first_question_to_each_seed(session: Session) -> None:
    asked = scripted("cot-rubbish", lambda messages, schema, sample: "no")
    rows = Import(data=tuple({"input": f"{n} and 1", "output": {"sum": n + 1}} for n in range(16)))
    with pytest.raises(ModelError, match=r"(\d+) of the first \1 rows of `SynthesizeCoT` failed"):
        session.run(traces("cot-rubbish", rows))
    # Each was shown its error once; those of the first piece may have been asked again before the second failed too.
    assert asked.num_calls <= 2 * 16 + 4 * FIRST_SEEDS


def test_a_seed_without_any_usable_reply_fails_with_the_reason(session: Session) -> None:
    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> Any:
        text = teachers.task_input(messages)
        return scripted_reply(refusal="never") if text.startswith("Bob") else teachers.answer(text, schema)

    scripted("cot-refusing", answer)
    made = session.run(traces("cot-refusing"))
    assert [row["verified"] for row in made] == [True, True]
    assert [(row["kind"], row["message"]) for row in made.failed()] == [("refused", "never")]


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (scripted_reply(refusal="never"), "word the instruction otherwise"),
        (scripted_reply("so", "length"), "Raise `max_tokens`"),
        ("no", "Mend the cause"),
    ],
)
def test_what_to_change_is_said_by_what_went_wrong(session: Session, reply: Any, hint: str) -> None:
    scripted("cot-troubled", lambda messages, schema, sample: reply)
    with pytest.raises(ModelError, match=hint):
        session.run(traces("cot-troubled"))


def test_a_seed_that_breaks_the_schema_fails_and_says_why(session: Session) -> None:
    rows = Import(
        data=(
            {"input": "1", "output": {"total": 1}},
            {"input": "2", "output": "two"},
            {"input": "3", "output": {"sum": 3}},
        )
    )
    made = session.run(traces("reply", rows))
    assert len(made) == 1
    assert [(row["kind"], row["message"][:40]) for row in made.failed()] == [
        ("invalid", "the output does not follow the schema: $"),
        ("invalid", "the output is not JSON: Expecting value:"),
    ]
