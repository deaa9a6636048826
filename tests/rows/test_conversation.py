from __future__ import annotations

from typing import Any

import pytest

from stillhouse import Import, ModelError, RecipeError, Rows, Session, ToMessages

USER = {"role": "user", "content": "two lattes"}
ASSISTANT = {"role": "assistant", "content": "2 latte"}


def converted(session: Session, *rows: dict[str, Any], **fields: Any) -> Rows:
    return session.run(ToMessages(rows=Import(data=rows, require=()), **fields))


def messages(rows: Rows) -> list[dict[str, Any]]:
    """Of the only row; the fields that a message lacks are left out."""
    (row,) = rows
    return [{key: value for key, value in message.items() if value is not None} for message in row["messages"]]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER, ASSISTANT]},
        {"conversations": [{"from": "human", "value": "two lattes"}, {"from": "gpt", "value": "2 latte"}]},
        {"prompt": "two lattes", "completion": "2 latte"},
        {"prompt": [USER], "completion": [ASSISTANT]},
        {"instruction": "two lattes", "input": "", "output": "2 latte"},
        {"instruction": "two lattes", "output": "2 latte"},
        {"input": "two lattes", "output": "2 latte"},
    ],
    ids=lambda row: " ".join(row),
)
def test_each_form_becomes_the_same_conversation(session: Session, row: dict[str, Any]) -> None:
    made = converted(session, {**row, "topic": "drinks"})
    assert messages(made) == [USER, ASSISTANT]
    assert set(made.columns) == {"messages", "topic"}


def test_an_instruction_stands_before_its_input(session: Session) -> None:
    made = converted(session, {"instruction": "Translate.", "input": "chat", "output": "cat"})
    assert messages(made)[0]["content"] == "Translate.\n\nchat"


def test_a_system_text_comes_first_and_never_twice(session: Session) -> None:
    system = {"role": "system", "content": "You are a till."}
    assert messages(converted(session, {"messages": [USER, ASSISTANT]}, system="You are a till."))[0] == system
    assert (
        messages(converted(session, {"input": "a", "output": "b", "system": "You are a till."}, system="x"))[0]
        == system
    )
    own = {"role": "system", "content": "mine"}
    assert messages(converted(session, {"messages": [own, USER, ASSISTANT]}, system="x")) == [own, USER, ASSISTANT]


@pytest.mark.parametrize(
    ("mode", "last"),
    [
        ("tags", {"role": "assistant", "content": "<think>\ntwo of them\n</think>\n\n2 latte"}),
        ("field", {**ASSISTANT, "thinking": "two of them"}),
        ("drop", ASSISTANT),
    ],
)
def test_thinking_goes_where_it_is_wanted(session: Session, mode: str, last: dict[str, Any]) -> None:
    row = {"input": "two lattes", "output": "2 latte", "thinking": "two of them"}
    made = converted(session, row, thinking=mode)
    assert messages(made)[-1] == last
    assert made.columns == ["messages"]


def test_a_row_that_is_a_conversation_keeps_its_id(session: Session) -> None:
    source = Import(data=[{"messages": [USER, ASSISTANT]}], require=())
    assert [row["_id"] for row in session.run(ToMessages(rows=source))] == [row["_id"] for row in session.run(source)]


def test_every_field_of_a_message_stays(session: Session) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "till", "arguments": "{}"}]}
    tool = {"role": "tool", "content": "ok", "name": "till"}
    assert messages(converted(session, {"messages": [USER, call, tool, ASSISTANT]}, system="x"))[1:] == [
        USER,
        call,
        tool,
        ASSISTANT,
    ]


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ({"messages": [{"role": "boss", "content": "x"}]}, "invalid", "message 1 has the role 'boss'"),
        ({"messages": [USER, {"role": "system", "content": "x"}]}, "invalid", "message 2 is a system message"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "invalid", "message 2 has no content"),
        ({"messages": []}, "empty", "the conversation has no messages"),
        ({"messages": "hello"}, "invalid", "`messages` is not a list of messages"),
        ({"conversations": [{"from": "elf", "value": "x"}]}, "invalid", "message 1 has the role 'elf'"),
        ({"input": "two lattes", "output": "  "}, "empty", "`output` is empty"),
        ({"prompt": 7, "completion": "x"}, "invalid", "`prompt` is not text"),
        ({"messages": [USER], "thinking": "hm"}, "invalid", "the last message is not the assistant's"),
        ({"messages": [], "thinking": "hm"}, "empty", "the conversation has no messages"),
    ],
)
def test_what_is_no_conversation_fails_with_the_reason(
    session: Session, row: dict[str, Any], kind: str, message: str
) -> None:
    with pytest.raises(ModelError) as caught:  # the only row of the table
        converted(session, row)
    assert f"{kind}: " in str(caught.value)
    assert message in str(caught.value)


def test_columns_of_no_form_are_refused_with_the_forms(session: Session) -> None:
    with pytest.raises(RecipeError) as caught:
        converted(session, {"question": "a", "answer": "b"})
    assert "the columns `question`, `answer` are no form of conversation" in str(caught.value)
    assert "`prompt` and `completion`" in str(caught.value)
