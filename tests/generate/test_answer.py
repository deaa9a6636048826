"""`Answer`: outputs under a schema, and the vote between several."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.answer import Answer
from stillhouse.generate.cot import SynthesizeCoT
from stillhouse.measure.agreement import Agreement
from tests.generate import teachers
from tests.generate.sums import INSTRUCTION, POLICY, SEEDS, Sum, by, content, inputs

ROWS = inputs("1 and 2", "a puzzle of 5", "30 and 4")


class EvenSum(BaseModel):
    sum: int

    @model_validator(mode="after")
    def _even(self) -> EvenSum:
        if self.sum % 2:
            raise ValueError("the sum is odd")
        return self


def answers(name: str, rows: Any = ROWS, **fields: Any) -> Answer:
    asked = by(name) if hasattr(teachers, name) else Ask(model=f"scripted:{name}")
    return Answer(rows=rows, by=asked, instruction=INSTRUCTION, **{"response": Sum, **fields})


def test_rows_get_thinking_output_and_agreement(session: Session) -> None:
    made = session.run(answers("reply"))
    assert content(made)[0] == {
        "input": "1 and 2",
        "thinking": "add 1 and 2",
        "output": '{"sum": 3}',
        "agreement": 1.0,
    }


def test_without_a_schema_the_output_is_text(session: Session) -> None:
    assert content(session.run(answers("reply", response=None)))[2]["output"] == "34"


def test_the_majority_wins_with_its_own_reasoning(session: Session) -> None:
    made = session.run(answers("wavering", inputs("1 and 2"), samples=3))
    (row,) = content(made)
    assert (row["output"], row["thinking"], row["agreement"]) == ('{"sum": 3}', "try 1", pytest.approx(2 / 3))
    (batch,) = made.batches(lineage=True)
    assert len(batch[0]["_calls"]) == 1


def test_a_row_without_a_majority_is_dropped_with_the_answers_as_evidence(session: Session) -> None:
    made = session.run(answers("wavering", samples=3))
    assert [row["input"] for row in made] == ["1 and 2", "30 and 4"]
    (dropped,) = made.dropped()
    assert dropped["reason"] == "at most 1 of 3 answers agree"
    assert json.loads(dropped["detail"]) == ['{"sum": 5}', '{"sum": 6}', '{"sum": 7}']


def test_one_of_two_answers_is_no_majority(session: Session) -> None:
    made = session.run(answers("wavering", inputs("1 and 2"), samples=2))
    assert len(made) == 0
    assert [row["reason"] for row in made.dropped()] == ["at most 1 of 2 answers agree"]
    assert len(session.run(answers("reply", inputs("1 and 2"), samples=2))) == 1


def test_how_much_agreement_is_enough_is_a_choice(session: Session) -> None:
    strict = session.run(answers("wavering", samples=3, agreement=Agreement(normaliser="json", least=0.9)))
    assert len(strict) == 0
    lax = session.run(answers("wavering", samples=3, agreement=Agreement(normaliser="json", least=0.3)))
    assert len(lax) == 3


def test_replies_that_cannot_be_used_are_votes_for_nobody(session: Session) -> None:
    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        return "rubbish" if sample else teachers.answer(teachers.task_input([messages[0]]), schema)

    script("answer-one", answer)
    made = session.run(answers("answer-one", samples=3))
    assert len(made) == 0
    assert {row["reason"] for row in made.dropped()} == {"at most 1 of 3 answers agree"}


def test_a_row_without_a_usable_reply_fails_with_the_raw_text(session: Session) -> None:
    made = session.run(answers("sometimes_rubbish", samples=2))
    assert [row["input"] for row in made] == ["1 and 2", "30 and 4"]
    (failed,) = made.failed()
    assert (failed["kind"], failed["raw"]) == ("invalid", "As a friendly assistant I would say 0")


def test_the_validators_of_a_model_hold_for_every_row(session: Session) -> None:
    made = session.run(answers("reply", response=EvenSum))
    assert [row["output"] for row in made] == ['{"sum": 34}']
    assert all("the sum is odd" in row["message"] for row in made.failed())


def test_the_question_holds_policy_examples_and_the_input_between_its_marks(session: Session) -> None:
    asked = script("answer-question", teachers.reply)
    examples = SynthesizeCoT(rows=SEEDS, by=by(), instruction=INSTRUCTION, response=Sum)
    session.run(answers("answer-question", policy=POLICY, examples=examples, shown=2))
    text = str(asked.requests[0].messages[0]["content"])
    assert text.endswith("<input>\n1 and 2\n</input>")
    assert "Rules:\n- Only the sum." in text
    assert text.count("\nThinking: ") == 2
    schema = asked.requests[0].schema
    assert schema is not None
    assert (schema.title, schema.form["properties"]["output"]["title"]) == ("ReasonedAnswer", "Sum")


def test_inputs_with_braces_and_marks_reach_the_model_as_they_are(session: Session) -> None:
    asked = script("answer-braces", teachers.reply)
    odd = 'a {b} {{ c }} {% d %} \0 "1" \\ and 2'
    session.run(answers("answer-braces", inputs(odd), response=None))
    assert f"<input>\n{odd}\n</input>" in str(asked.requests[0].messages[0]["content"])


def test_equal_samples_of_a_hosted_model_are_refused() -> None:
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same answer"):
        Answer(rows=ROWS, by=Ask(model="openai/gpt-4o-mini"), instruction="?", samples=3)
    Answer(rows=ROWS, by=Ask(model="openai/gpt-4o-mini", temperature=0.7), instruction="?", samples=3)


def test_a_teacher_of_rubbish_is_stopped_early_with_examples(session: Session) -> None:
    rows = inputs(*(f"{n} and {n}" for n in range(2000)))
    with pytest.raises(ModelError, match=r"rows of `Answer` failed; the first:\n.*As a friendly assistant"):
        session.run(answers("rubbish", rows))


def test_rows_without_an_input_are_refused(session: Session) -> None:
    rows = inputs("a").replace(data=({"question": "1"},), require=())
    with pytest.raises(RecipeError, match="has no text in `input`\n  Its columns are `question`"):
        session.run(answers("reply", rows))


def test_outputs_that_are_there_are_not_written_over(session: Session) -> None:
    with pytest.raises(RecipeError, match="the rows have a column `output` already"):
        session.run(answers("reply", SEEDS))


def test_a_plan_counts_a_call_for_each_sample(session: Session) -> None:
    session.run(ROWS)
    (planned,) = session.plan(answers("reply", samples=4)).to_run
    assert (planned.expectation.calls, planned.expectation.cost_usd) == (12, 0.0)
