"""Rows from one instruction, with attributes or without, and an instruction applied to a column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.generate.attributed import DataFromAttributedPrompt
from stillhouse.generate.data_from_prompt import DataFromPrompt
from stillhouse.generate.process import ProcessWithPrompt
from stillhouse.rows.grid import Grid
from stillhouse.rows.import_ import Import
from tests.generate.sums import content

SHAPE = {
    "type": "object",
    "properties": {"question": {"type": "string"}, "level": {"type": ["integer", "null"]}},
    "required": ["question", "level"],
}
ATTRIBUTES = {"length": ("short", "long"), "topic": ("tea", "ice")}


def ask(name: str, **fields: Any) -> Ask:
    return Ask(model=f"scripted:{name}", **fields)


def last(messages: Any) -> str:
    return str(messages[-1]["content"])


def test_each_row_is_a_sample_of_its_own(session: Session) -> None:
    asked = script("many", lambda messages, schema, sample: f"question {sample}")
    step = DataFromPrompt(by=ask("many"), instruction="Write a question.", num=100)
    made = session.run(step)
    assert content(made) == [{"text": f"question {number}"} for number in range(100)]
    assert {request.messages[0]["content"] for request in asked.requests} == {"Write a question."}
    assert len({row["_calls"][0] for row in next(made.batches(lineage=True))}) == 100


def test_equal_replies_are_rows_with_ids_of_their_own(session: Session) -> None:
    script("alike", lambda messages, schema, sample: "the same")
    made = session.run(DataFromPrompt(by=ask("alike"), instruction="Write.", num=10))
    assert len({row["_id"] for row in made}) == 10


def test_more_rows_ask_for_the_new_ones_alone(session: Session) -> None:
    asked = script("grown", lambda messages, schema, sample: f"{sample}")
    few = session.run(DataFromPrompt(by=ask("grown"), instruction="Write.", num=10))
    many = session.run(DataFromPrompt(by=ask("grown"), instruction="Write.", num=25))
    assert asked.num_calls == 25
    assert [row["text"] for row in many][:10] == [row["text"] for row in few]


def test_replies_become_columns_and_the_number_may_be_told(session: Session) -> None:
    def reply(messages: Any, schema: Any, sample: int) -> str:
        return json.dumps({"question": last(messages), "level": None if sample == 0 else sample})

    script("told", reply)
    step = DataFromPrompt(by=ask("told"), instruction="{{ number }}?", num=3, response=SHAPE, unpack=True)
    assert content(session.run(step)) == [
        {"question": "0?", "level": None},
        {"question": "1?", "level": 1},
        {"question": "2?", "level": 2},
    ]


def test_what_cannot_be_used_fails_with_its_words(session: Session) -> None:
    replies: dict[int, Any] = {
        1: scripted_reply(refusal="no"),
        2: scripted_reply("half", finish="length"),
        3: "no JSON",
    }
    good = json.dumps({"question": "fine?", "level": 1})
    script("mixed", lambda messages, schema, sample: replies.get(sample, good))
    made = session.run(DataFromPrompt(by=ask("mixed"), instruction="Write.", num=5, response=SHAPE))
    assert [row["text"] for row in made] == [good, good]
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [
        ("refused", None),
        ("cut", "half"),
        ("invalid", "no JSON"),
    ]


def test_a_teacher_that_replies_rubbish_is_stopped_after_twenty_rows(session: Session) -> None:
    asked = script("useless", lambda messages, schema, sample: f"rubbish {sample}")
    with pytest.raises(ModelError, match="20 of the first 20 rows of `DataFromPrompt` failed"):
        session.run(DataFromPrompt(by=ask("useless"), instruction="Write.", num=5000, response=SHAPE))
    assert asked.num_calls <= 40


def test_at_temperature_0_all_rows_would_be_one(session: Session) -> None:
    with pytest.raises(RecipeError, match="`num` is 5, but at temperature 0 they are all the same answer"):
        DataFromPrompt(by=Ask(model="openai/x"), instruction="Write.", num=5)
    DataFromPrompt(by=Ask(model="openai/x"), instruction="Write.", num=1)


def test_a_step_that_makes_its_rows_is_read_back_equal_and_replaced(session: Session) -> None:
    step = DataFromPrompt(by=ask("x"), instruction="Write.", num=5)
    assert from_table(to_table(step)) == step
    assert step.replace(num=7) == DataFromPrompt(by=ask("x"), instruction="Write.", num=7)
    other = DataFromAttributedPrompt(by=ask("x"), instruction="{{ a }}", attributes={"a": [1, 2]})
    assert from_table(to_table(other)) == other
    assert other.replace(attributes={"a": [3]}).recipe_key != other.recipe_key


def test_every_combination_is_asked_for_and_stands_in_columns(session: Session) -> None:
    script("reviews", lambda messages, schema, sample: f"{last(messages)} {sample}")
    step = DataFromAttributedPrompt(
        by=ask("reviews"), instruction="A {{ length }} text on {{ topic }}.", attributes=ATTRIBUTES, each=2
    )
    made = content(session.run(step))
    assert made[2] == {"length": "short", "topic": "ice", "text": "A short text on ice. 0", "sample": 0}
    assert [(row["length"], row["topic"], row["sample"]) for row in made] == [
        (length, topic, sample) for length in ("short", "long") for topic in ("tea", "ice") for sample in (0, 1)
    ]


def test_combinations_as_a_list_as_rows_and_as_a_product_are_asked_alike(session: Session) -> None:
    asked = script("ways", lambda messages, schema, sample: last(messages))
    combinations = [{"length": length, "topic": topic} for length in ("short", "long") for topic in ("tea", "ice")]
    fields = {"by": ask("ways"), "instruction": "{{ length }} {{ topic }}"}
    ways = [
        DataFromAttributedPrompt(attributes=ATTRIBUTES, **fields),
        DataFromAttributedPrompt(attributes=combinations, **fields),
        DataFromAttributedPrompt(rows=Import(data=tuple(combinations), require=()), **fields),
        DataFromAttributedPrompt(rows=Grid(attributes=ATTRIBUTES, num=4), **fields),
    ]
    made = [content(session.run(way)) for way in ways]
    assert made[0] == made[1] == made[2] == made[3]
    assert asked.num_calls == 4


def test_an_attribute_that_no_combination_has_is_named_with_those_that_exist(session: Session) -> None:
    step = DataFromAttributedPrompt(by=ask("x"), instruction="{{ lenght }}", attributes=ATTRIBUTES)
    with pytest.raises(RecipeError, match=r"has no column `lenght`\n  Did you mean `length`\? The columns are"):
        session.run(step)


@pytest.mark.parametrize(
    ("instruction", "attributes", "unseen"),
    [
        ("A {length} text on {topic}.", ATTRIBUTES, "length"),
        ("A {{ length }} text.", ATTRIBUTES, "topic"),
        ("A text.", [{"length": "short", "topic": "tea"}], "length"),
    ],
)
def test_an_attribute_that_the_model_is_not_told_is_refused(instruction: str, attributes: Any, unseen: str) -> None:
    with pytest.raises(RecipeError, match=f"does not show `{unseen}`.*write `{{{{ {unseen} }}}}`"):
        DataFromAttributedPrompt(by=ask("x"), instruction=instruction, attributes=attributes)


def test_a_combination_may_hold_what_only_the_reader_is_told() -> None:
    combinations = [{"length": "short", "note": "for the classifier"}]
    told = DataFromAttributedPrompt(by=ask("x"), instruction="A {{ length }} text.", attributes=combinations)
    assert "note" in str(told.attributes)
    one_value = {"length": ["short", "long"], "language": ["en"]}  # a label that is right whatever the model is told
    labelled = DataFromAttributedPrompt(by=ask("x"), instruction="A {{ length }} text.", attributes=one_value)
    assert "language" in str(labelled.attributes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give `attributes`"),
        ({"attributes": {}}, "give `attributes`"),
        ({"attributes": {"a": "short"}}, "`a` is 'short', expected its values"),
        ({"attributes": {"a": []}}, "`a` has no values"),
        ({"attributes": {"a": [1]}, "each": 0}, "`each`"),
    ],
)
def test_attributes_that_make_no_rows_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        DataFromAttributedPrompt(by=ask("x"), instruction="{{ a }}", **fields)


def test_a_column_called_like_an_attribute_is_refused(session: Session) -> None:
    step = DataFromAttributedPrompt(
        by=ask("x"), instruction="{{ length }} {{ topic }}", attributes=ATTRIBUTES, column="topic"
    )
    with pytest.raises(RecipeError, match="DataFromAttributedPrompt: the rows have a column `topic` already"):
        session.run(step)


def test_plans_know_the_calls_before_anything_is_made(tmp_path: Path) -> None:
    by = Ask(model="openai/x", temperature=1.0)
    with Session(tmp_path, track=False, progress=False) as session:
        plan = session.plan(DataFromPrompt(by=by, instruction="Write.", num=300))
        assert plan.total("calls") == 300
        step = DataFromAttributedPrompt(by=by, instruction="{{ length }} {{ topic }}", attributes=ATTRIBUTES, each=3)
        assert session.plan(step).total("calls") == 12


def test_an_instruction_is_applied_to_a_column(session: Session) -> None:
    rows = Import(data=({"text": "tea is hot", "tone": "dry"}, {"text": "ice", "tone": "wet"}), require=())
    script("process", lambda messages, schema, sample: last(messages))
    made = session.run(ProcessWithPrompt(rows=rows, by=ask("process"), instruction="Make it {{ tone }}."))
    assert [row["reply"] for row in made] == [
        "Input: tea is hot\n\nInstruction: Make it dry.",
        "Input: ice\n\nInstruction: Make it wet.",
    ]
    (batch,) = made.batches(lineage=True)
    assert [row["_parents"] for row in batch] == [[row["_id"]] for row in session.run(rows)]


def test_labels_and_what_stands_between_can_be_set(session: Session) -> None:
    rows = Import(data=({"body": "tea"},), require=())
    script("labels", lambda messages, schema, sample: last(messages))
    step = ProcessWithPrompt(
        rows=rows,
        by=ask("labels"),
        instruction="Shout.",
        input="body",
        input_label="",
        instruction_label="Do:",
        separator="\n",
        column="loud",
    )
    assert content(session.run(step)) == [{"body": "tea", "loud": "tea\nDo: Shout."}]


def test_rows_without_text_fail_alone_and_nothing_is_asked_about_them(session: Session) -> None:
    rows = Import(data=({"text": "tea"}, {"text": None}, {"text": "  "}), require=())
    asked = script("texts", lambda messages, schema, sample: "fine")
    made = session.run(ProcessWithPrompt(rows=rows, by=ask("texts"), instruction="Shout."))
    assert len(made) == 1
    assert [row["kind"] for row in made.failed()] == ["invalid", "invalid"]
    assert "has nothing in `text`" in next(iter(made.failed()))["message"]
    assert asked.num_calls == 1


def test_what_is_no_text_is_shown_as_json(session: Session) -> None:
    rows = Import(data=({"text": {"b": [1, None]}}, {"text": {"b": []}}), require=())
    script("shown", lambda messages, schema, sample: last(messages))
    made = session.run(ProcessWithPrompt(rows=rows, by=ask("shown"), instruction="Add up."))
    assert made.head(1)[0]["reply"] == 'Input: {"b": [1, null]}\n\nInstruction: Add up.'


def test_a_column_that_is_not_there_is_named_before_anything_is_asked(session: Session) -> None:
    rows = Import(data=({"body": "tea"},), require=())
    with pytest.raises(RecipeError, match=r"no column `bodi`\n  Did you mean `body`"):
        session.run(ProcessWithPrompt(rows=rows, by=ask("x"), instruction="Shout.", input="bodi"))
    with pytest.raises(RecipeError, match=r"no column `tone`\n  The columns are `body`"):
        session.run(ProcessWithPrompt(rows=rows, by=ask("x"), instruction="{{ tone }}", input="body"))
