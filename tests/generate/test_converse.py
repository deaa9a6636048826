"""`Converse`: conversations in which a model plays the user."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.converse import Converse
from stillhouse.rows.conversation import ToMessages
from stillhouse.rows.import_ import Import

ROWS = Import(data=tuple({"who": who, "question": f"{who} asks"} for who in ("ann", "bob", "cy")), require=())


def assistant(messages: Any, schema: Any, sample: int) -> Any:
    return f"answer {len(messages)} to {messages[-1]['content']}"


def user(messages: Any, schema: Any, sample: int) -> Any:
    """Says what number its message has; bob goes after two."""
    text = messages[0]["content"]
    number = len(re.findall(r"^user: ", text, re.MULTILINE))
    gone = "You are bob." in text and number == 2
    found = {"message": "" if gone else f"message {number + 1}"}
    return json.dumps({**found, "finished": gone} if "finished" in schema["properties"] else found)


def converse(name: str, **fields: Any) -> Converse:
    script(f"{name}-assistant", fields.pop("assistant", assistant))
    script(f"{name}-user", fields.pop("played", user))
    given = {
        "rows": ROWS,
        "by": Ask(model=f"scripted:{name}-assistant"),
        "user": Ask(model=f"scripted:{name}-user"),
        "scenario": "You are {{ who }}.",
        **fields,
    }
    return Converse(**given)


def said(row: Any, column: str = "messages") -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in row[column]]


def test_both_speak_in_turn(session: Session) -> None:
    made = session.run(converse("turns", opening="{{ question }}", system="Be kind to {{ who }}.", turns=2))
    ann = made.head(1)[0]
    assert said(ann) == [
        ("system", "Be kind to ann."),
        ("user", "ann asks"),
        ("assistant", "answer 2 to ann asks"),
        ("user", "message 2"),
        ("assistant", "answer 4 to message 2"),
    ]
    assert (ann["num_turns"], ann["who"]) == (2, "ann")
    assert len(session.run(ToMessages(rows=converse("turns", turns=1)))) == 3


def test_the_user_begins_where_nothing_opens_and_sees_what_was_said_but_no_system_prompt(session: Session) -> None:
    step = converse("begins", system="a secret", turns=2)
    asked = script("begins-user", user)
    made = session.run(step)
    assert said(made.head(1)[0])[1] == ("user", "message 1")
    questions = [str(request.messages[0]["content"]) for request in asked.requests if "ann" in str(request.messages)]
    assert "what the person says to begin with" in questions[0]
    assert "finished" not in questions[0]
    assert 'user: "message 1"\nassistant: "answer 2 to message 1"' in questions[1]
    assert "a secret" not in "".join(questions)


def test_the_user_goes_when_they_have_what_they_came_for(session: Session) -> None:
    made = session.run(converse("leaves", turns=5))
    assert [row["num_turns"] for row in made] == [5, 2, 5]
    assert said(made.head(2)[1])[-1][0] == "assistant"
    stays = session.run(converse("leaves", turns=3, may_leave=False, rows=Import(data=({"who": "ann"},), require=())))
    assert [row["num_turns"] for row in stays] == [3]


def is_enough(messages: list[dict[str, Any]]) -> bool:
    return "message 3" in messages[-1]["content"]


def breaks(messages: list[dict[str, Any]]) -> bool:
    return bool(1 / (len(messages) - 2))


def says_nothing(messages: list[dict[str, Any]]) -> None:
    return None


def test_a_function_may_say_when_it_is_over(session: Session) -> None:
    made = session.run(converse("until", turns=9, until=is_enough, rows=Import(data=({"who": "ann"},), require=())))
    assert [row["num_turns"] for row in made] == [3]
    assert converse("until", until=is_enough).recipe_key != converse("until").recipe_key
    with pytest.raises(ModelError, match="error: `breaks`: ZeroDivisionError"):
        session.run(converse("breaks", until=breaks))
    with pytest.raises(RecipeError, match="`says_nothing` returned None"):
        session.run(converse("nothing", until=says_nothing))
    with pytest.raises(RecipeError, match="`len` does not take|does not take the messages"):
        converse("odd", until=lambda: True)


def test_rows_know_all_their_calls_in_order(session: Session) -> None:
    made = session.run(converse("calls", turns=2))
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [4, 4, 4]
    assert [row["_parents"] for row in batch] == [[row["_id"]] for row in session.run(ROWS)]


def test_what_cannot_be_used_fails_its_row_with_the_turn_and_what_was_said(session: Session) -> None:
    def strict(messages: Any, schema: Any, sample: int) -> Any:
        if len(messages) == 3 and "bob" in messages[0]["content"]:
            return scripted_reply(refusal="not that")
        if len(messages) == 3 and "cy" in messages[0]["content"]:
            return scripted_reply("half an ans", finish="length")
        return assistant(messages, schema, sample)

    made = session.run(converse("strict", assistant=strict, opening="{{ question }}", turns=3))
    assert [row["who"] for row in made] == ["ann"]
    refused, cut = made.failed()
    assert (refused["kind"], refused["message"]) == ("refused", "turn 2: not that")
    assert [message["role"] for message in json.loads(refused["raw"])] == ["user", "assistant", "user"]
    assert (cut["kind"], cut["raw"]) == ("cut", "half an ans")


def test_a_user_who_says_nothing_or_rubbish_fails_the_row(session: Session) -> None:
    def odd(messages: Any, schema: Any, sample: int) -> Any:
        text = messages[0]["content"]
        if "ann" in text:
            return json.dumps({"message": " "})
        return "Hi there!" if "bob" in text else user(messages, schema, sample)

    made = session.run(converse("odd", played=odd, turns=2))
    assert [row["who"] for row in made] == ["cy"]
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [
        ("empty", '{"message": " "}'),
        ("invalid", "Hi there!"),
    ]


def test_conversations_of_different_rows_are_held_at_the_same_time(tmp_path: Path) -> None:
    rows = Import(data=tuple({"who": f"p{n}"} for n in range(40)), require=())
    step = converse("together", rows=rows, turns=3, opening="{{ who }}")
    asked = script("together-assistant", assistant, latency=lambda call: 0.1 + 0.02 * (call % 3))
    with Session(tmp_path, track=False, progress=False, options=Options(first_look=20)) as session:
        made = session.run(step)
    assert asked.peak_in_flight >= 10
    assert [row["who"] for row in made] == [f"p{n}" for n in range(40)]


def test_what_was_answered_is_not_asked_again_when_it_goes_on(tmp_path: Path) -> None:
    def failing(messages: Any, schema: Any, sample: int) -> Any:
        if len(messages) == 5:
            raise ModelError("the provider is gone", kind="credentials")
        return assistant(messages, schema, sample)

    def seconds(call: int) -> float:  # ann and cy are asked in chunks of their own: none fails before both came so far
        last = [len(request.messages) for request in down.requests].count(5)
        return 2.0 if len(down.requests[call].messages) == 5 and last == 1 else 0.0

    step = converse("again", turns=3, opening="{{ question }}")
    down = script("again-assistant", failing, latency=seconds)
    with Session(tmp_path, track=False, progress=False) as session, pytest.raises(ModelError, match="is gone"):
        session.run(step)
    users, assistants = script("again-user", user), script("again-assistant", assistant)
    with Session(tmp_path, track=False, progress=False) as session:
        assert len(session.run(step)) == 3
    assert assistants.num_calls == 2  # the last answers of ann and cy; bob has gone
    assert users.num_calls <= 2


def test_no_answer_is_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    def down(messages: Any, schema: Any, sample: int) -> Any:
        if "bob" in messages[0]["content"]:
            raise RowFault("exhausted", "in trouble")
        return assistant(messages, schema, sample)

    step = converse("down", assistant=down, opening="{{ question }}", turns=1)
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(step).unanswered == 1
    script("down-assistant", assistant)
    with Session(tmp_path, track=False, progress=False) as session:
        assert len(session.run(step)) == 3


def test_several_conversations_of_a_row_are_rows_of_their_own(session: Session) -> None:
    def moody(messages: Any, schema: Any, sample: int) -> Any:
        if sample == 1:
            return scripted_reply(refusal="no")
        return f"{assistant(messages, schema, sample)} {sample}"

    made = session.run(converse("moody", assistant=moody, opening="{{ question }}", turns=1, samples=3))
    assert [(row["who"], row["sample"]) for row in made][:3] == [("ann", 0), ("ann", 2), ("bob", 0)]
    assert said(made.head(2)[1])[-1] == ("assistant", "answer 1 to ann asks 2")
    assert len(list(made.failed())) == 3
    with pytest.raises(RecipeError, match="at temperature 0"):
        converse("cold", by=Ask(model="openai/x"), user=None, samples=2)
    with pytest.raises(RecipeError, match="at temperature 0"):
        converse("cold", by=Ask(model="openai/x"), user=Ask(model="openai/y"), samples=2)
    converse("warm", by=Ask(model="openai/x"), user=Ask(model="openai/y", temperature=0.7), samples=2)
    converse("warm", by=Ask(model="openai/x", temperature=0.7), user=Ask(model="openai/y"), samples=2)


@pytest.mark.parametrize("field", ["opening", "scenario", "system"])
def test_a_missing_column_names_the_row_and_the_columns(session: Session, field: str) -> None:
    with pytest.raises(RecipeError, match=r"row [0-9a-f]{24} has no column `whom`\n  Did you mean `who`"):
        session.run(converse("missing", **{field: "{{ whom }}"}))


def test_columns_that_are_there_are_not_written_over(session: Session) -> None:
    with pytest.raises(RecipeError, match="have a column `question` already"):
        session.run(converse("taken", column="question"))


def test_a_plan_counts_the_turns_of_both(session: Session) -> None:
    session.run(ROWS)
    assert session.plan(converse("plan", turns=4)).total("calls") == 3 * 8
    assert session.plan(converse("plan", turns=4, opening="{{ who }}")).total("calls") == 3 * 7
