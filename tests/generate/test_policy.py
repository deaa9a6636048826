"""`ExtractPolicy`: what a model says about a task, and what is measured."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.policy import ExtractPolicy, TaskPolicy
from stillhouse.rows.import_ import Import
from stillhouse.rows.slices import Take
from tests.generate import teachers
from tests.generate.sums import INSTRUCTION, POLICY, SEEDS, by


def test_lengths_are_measured_and_the_words_are_the_models(session: Session) -> None:
    found = TaskPolicy(**session.run(POLICY).value)
    lengths = [len(row["input"]) for row in session.run(SEEDS)]
    assert (found.input_length_range.shortest, found.input_length_range.longest) == (min(lengths), max(lengths))
    assert found.output_length_range.shortest == len('{"sum": 7}')
    assert (found.difficulty, found.key_constraints) == ("easy", ["Only the sum."])


def test_the_request_shows_examples_and_asks_for_no_lengths(session: Session) -> None:
    asked = script("policy-request", lambda messages, schema, sample: teachers.policy())
    session.run(ExtractPolicy(rows=SEEDS, by=Ask(model="scripted:policy-request"), instruction=INSTRUCTION))
    (request,) = asked.requests
    text = str(request.messages[0]["content"])
    assert INSTRUCTION in text
    assert "Input: Ann has 3 and gets 4\nOutput: {" in text
    assert request.schema is not None
    assert request.schema.title == "TaskPolicy"
    assert not [name for name in request.schema.form["properties"] if "length" in name]


def test_at_most_so_many_examples_are_shown_from_all_over_the_table(session: Session) -> None:
    asked = script("policy-many", lambda messages, schema, sample: teachers.policy())
    rows = Import(data=tuple({"input": f"input {n}", "output": "x"} for n in range(100)))
    session.run(ExtractPolicy(rows=rows, by=Ask(model="scripted:policy-many"), instruction="?", examples=4))
    text = str(asked.requests[0].messages[0]["content"])
    assert [n for n in range(100) if f"Input: input {n}\n" in text] == [0, 25, 50, 75]


def test_a_reply_that_cannot_be_used_is_asked_for_again(session: Session) -> None:
    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        return teachers.policy() if sample == 2 else "no policy"

    script("policy-third", answer)
    made = session.run(ExtractPolicy(rows=SEEDS, by=Ask(model="scripted:policy-third"), instruction="?"))
    assert made.value["difficulty"] == "easy"


def test_a_model_that_gives_no_policy_is_quoted(session: Session) -> None:
    with pytest.raises(ModelError, match=r"gave no task policy in 3 attempts:\n    invalid.*As a friendly assistant"):
        session.run(ExtractPolicy(rows=SEEDS, by=by("rubbish"), instruction="?"))


def test_an_empty_table_teaches_nothing(session: Session) -> None:
    with pytest.raises(RecipeError, match="there are no rows to learn from"):
        session.run(ExtractPolicy(rows=Take(rows=SEEDS, num=0), by=by(), instruction="?"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (({"question": "a", "output": "b"},), "has no text in `input`\n  Its columns are `question`, `output`"),
        (({"input": "a"},), "has no text in `output`"),
    ],
)
def test_rows_that_are_no_examples_are_refused(session: Session, rows: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        session.run(ExtractPolicy(rows=Import(data=rows, require=()), by=by(), instruction="?"))
