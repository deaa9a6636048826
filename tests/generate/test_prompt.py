"""`Prompt`: a question for each row, its reply as a column."""

from __future__ import annotations

from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt
from stillhouse.rows.import_ import Import
from tests.generate.sums import Sum, by, content

ROWS = Import(data=tuple({"text": f"row {n}", "n": n} for n in range(5)), require=())
SHAPE = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}, "required": ["a", "b"]}


def test_the_reply_becomes_a_column_and_the_row_knows_its_call(session: Session) -> None:
    made = session.run(Prompt(rows=ROWS, by=by(), template="say {{ text }}"))
    assert content(made)[3] == {"text": "row 3", "n": 3, "reply": "SAY ROW 3"}
    (batch,) = made.batches(lineage=True)
    sources = {row["text"]: row["_id"] for row in session.run(ROWS)}
    assert [row["_parents"] for row in batch] == [[sources[row["text"]]] for row in batch]
    assert len({row["_calls"][0] for row in batch}) == 5


def test_a_structured_reply_is_json_text_in_the_order_of_the_schema(session: Session) -> None:
    script("prompt-json", ['{"a": "é", "b": 1}'])
    made = session.run(Prompt(rows=ROWS, by=Ask(model="scripted:prompt-json"), template="{{ n }}", response=SHAPE))
    assert content(made)[0]["reply"] == '{"b": 1, "a": "é"}'


def test_the_order_of_the_schemas_fields_counts_in_the_key() -> None:
    turned = {**SHAPE, "properties": dict(reversed(list(SHAPE["properties"].items())))}  # type: ignore[attr-defined]
    keys = {
        Prompt(rows=ROWS, by=by(), template="{{ n }}", response=shape).recipe_key
        for shape in (SHAPE, turned, Sum, None)
    }
    assert len(keys) == 4


def test_whatever_shapes_the_reply_counts_in_the_key() -> None:
    base = {"rows": ROWS, "by": by(), "template": "{{ n }}"}
    others: list[dict[str, Any]] = [
        {},
        {"template": "{{ n }}!"},
        {"column": "other"},
        {"by": by(system="be brief")},
        {"by": by(temperature=0.5)},
        {"by": by("wrong")},
    ]
    assert len({Prompt(**{**base, **other}).recipe_key for other in others}) == len(others)


def test_a_reply_that_cannot_be_used_fails_its_row_with_the_raw_text(session: Session) -> None:
    replies = {"0": '{"a": "x", "b": 1}', "1": "no JSON at all", "2": '{"a": 5, "b": 1}', "4": '{"a": "x", "b": 2}'}

    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> Any:
        return replies.get(messages[0]["content"]) or scripted_reply("", refusal="I would rather not")

    script("prompt-mixed", answer)
    made = session.run(Prompt(rows=ROWS, by=Ask(model="scripted:prompt-mixed"), template="{{ n }}", response=SHAPE))
    assert [row["n"] for row in made] == [0, 4]
    failed = {row["row"]: (row["kind"], row["raw"]) for row in made.failed()}
    assert failed == {
        '{"n":1,"text":"row 1"}': ("invalid", "no JSON at all"),
        '{"n":2,"text":"row 2"}': ("invalid", '{"a": 5, "b": 1}'),
        '{"n":3,"text":"row 3"}': ("refused", None),
    }


def test_a_row_that_cannot_be_filled_in_fails_alone(session: Session) -> None:
    rows = Import(data=({"x": {"a": "1"}}, {"x": {"a": None}}, {"x": {"a": "3"}}), require=())
    made = session.run(Prompt(rows=rows, by=by(), template="{{ x.a.upper() }} {{ x.a }}"))
    assert [row["reply"] for row in made] == ["1 1", "3 3"]
    assert len(list(made.failed())) == 1


def test_a_missing_column_stops_before_anything_is_asked(session: Session) -> None:
    asked = script("prompt-unasked")
    with pytest.raises(RecipeError, match=r"has no column `txt`\n  Did you mean `text`"):
        session.run(Prompt(rows=ROWS, by=Ask(model="scripted:prompt-unasked"), template="{{ txt }}"))
    assert asked.num_calls == 0


def test_a_column_that_is_there_is_not_written_over(session: Session) -> None:
    with pytest.raises(RecipeError, match="the rows have a column `text` already"):
        session.run(Prompt(rows=ROWS, by=by(), template="{{ n }}", column="text"))


def test_a_template_that_cannot_be_read_is_refused_when_declared() -> None:
    with pytest.raises(RecipeError, match="`template`: the template cannot be read"):
        Prompt(rows=ROWS, by=by(), template="{{ n ")


def test_a_model_that_answers_rubbish_is_stopped_early_with_examples(session: Session) -> None:
    rows = Import(data=tuple({"n": n} for n in range(3000)), require=())
    with pytest.raises(ModelError, match=r"rows of `Prompt` failed; the first:\n    invalid.*As a friendly assistant"):
        session.run(Prompt(rows=rows, by=by("rubbish"), template="{{ n }}", response=Sum))


def test_a_second_run_asks_nothing_and_a_changed_column_neither(session: Session) -> None:
    asked = script("prompt-again")
    ask = Ask(model="scripted:prompt-again")
    session.run(Prompt(rows=ROWS, by=ask, template="{{ n }}"))
    session.run(Prompt(rows=ROWS, by=ask, template="{{ n }}"))
    other = session.run(Prompt(rows=ROWS, by=ask, template="{{ n }}", column="answer"))
    assert asked.num_calls == 5
    assert other.columns == ["text", "n", "answer"]


def test_a_function_of_the_user_may_refuse_a_row(session: Session) -> None:
    def answer(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        if messages[0]["content"] == "2":
            raise RowFault("refused", "not two", "raw")
        return "fine"

    script("prompt-refuse", answer)
    made = session.run(Prompt(rows=ROWS, by=Ask(model="scripted:prompt-refuse"), template="{{ n }}"))
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [("refused", "raw")]
    assert len(made) == 4


def test_a_plan_says_what_it_will_cost(session: Session, tmp_path: Any) -> None:
    step = Prompt(rows=ROWS, by=Ask(model="openai/gpt-x"), template="x" * 200)
    session.run(ROWS)
    (planned,) = session.plan(step).to_run
    assert (planned.expectation.calls, planned.expectation.tokens_in) == (5, 500)
    assert planned.expectation.cost_usd is None
    with Session(tmp_path / "priced", prices={"openai/gpt-x": (2.0, 4.0)}) as priced:
        priced.run(ROWS)
        (planned,) = priced.plan(step).to_run
    assert planned.expectation.cost_usd == pytest.approx((500 * 2 + 500 * 4) / 1e6)
