"""`ToolTraces`: a model with tools; every call is checked and made, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import Scripted, script, scripted_reply
from stillhouse.calls.reply import ToolCall, own_reply
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.generate.tool_tasks import ToolTasks
from stillhouse.generate.tool_traces import ToolTraces
from stillhouse.generate.tools import tool_form
from stillhouse.measure.limits import Limits
from stillhouse.rows.conversation import ToMessages
from stillhouse.rows.import_ import Import
from tests.generate import shop

WEATHER = {
    "name": "weather",
    "description": "The weather of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
}


def wants(*calls: tuple[str, Any], text: str = "") -> Any:
    """A reply that wants tools called."""
    made = [ToolCall(f"odd-{n}", name, arguments) for n, (name, arguments) in enumerate(calls)]
    return own_reply(text, "tools", tool_calls=made)


def traces(name: str, replies: dict[str, list[Any]], **fields: Any) -> tuple[ToolTraces, Scripted]:
    """A step and its model, which replies to each task (row) with what stands there, in turn."""

    def reply(messages: Any, schema: Any, sample: int) -> Any:
        task = next(message["content"] for message in messages if message["role"] == "user")
        turn = sum(message["role"] == "assistant" for message in messages)
        found = replies[task][turn]
        if isinstance(found, Exception):
            raise found
        return found

    asked = script(name, reply)
    rows = Import(data=tuple({"instruction": task, "n": n} for n, task in enumerate(replies)), require=())
    given = {"rows": rows, "by": Ask(model=f"scripted:{name}"), "tools": (shop.price, shop.opening), **fields}
    return ToolTraces(**given), asked


def test_tools_are_called_and_the_model_is_told_what_they_gave(session: Session) -> None:
    step, asked = traces(
        "shop",
        {"two teas": [wants(("price", {"item": "tea", "number": 2}), ("opening", {"day": "sun"})), "5 in all."]},
        system="You keep a shop.",
    )
    (row,) = session.run(step)
    assert row["messages"] == [
        {"role": "system", "content": "You keep a shop.", "tool_calls": None, "tool_call_id": None, "name": None},
        {"role": "user", "content": "two teas", "tool_calls": None, "tool_call_id": None, "name": None},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "price", "arguments": '{"item": "tea", "number": 2}'},
                },
                {"id": "call_2", "type": "function", "function": {"name": "opening", "arguments": '{"day": "sun"}'}},
            ],
            "tool_call_id": None,
            "name": None,
        },
        {
            "role": "tool",
            "content": '{"item": "tea", "total": 5.0}',
            "tool_calls": None,
            "tool_call_id": "call_1",
            "name": "price",
        },
        {"role": "tool", "content": "never", "tool_calls": None, "tool_call_id": "call_2", "name": "opening"},
        {"role": "assistant", "content": "5 in all.", "tool_calls": None, "tool_call_id": None, "name": None},
    ]
    assert [tool["name"] for tool in json.loads(row["tools"])] == ["price", "opening"]
    assert [tool["name"] for tool in asked.requests[0].extras.tools] == ["price", "opening"]
    (batch,) = session.run(step).batches(lineage=True)
    assert len(batch[0]["_calls"]) == 2
    assert len(session.run(ToMessages(rows=step))) == 1


def test_a_tool_is_told_by_its_name_docstring_and_signature() -> None:
    assert tool_form(shop.price) == {
        "name": "price",
        "description": "What some items cost together.\n\nFails for an item that is not sold.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "item": {"type": "string"},
                "number": {"type": "integer", "default": 1, "description": "how many", "minimum": 1},
            },
            "required": ["item"],
        },
    }


MISTAKES = {
    "unknown": [wants(("buy", {})), "so be it"],
    "no object": [wants(("price", "tea")), "so be it"],
    "unfit": [wants(("price", {"item": "tea", "number": "two"})), "so be it"],
    "extra": [wants(("price", {"item": "tea", "colour": "red"})), "so be it"],
    "fails": [wants(("price", {"item": "soap"})), "so be it"],
    "good": [wants(("price", {"item": "ice"})), "3"],
}
REASONS = [
    "there is no tool `buy`: there are price, opening",
    "the arguments of `price` are no JSON object: 'tea'",
    "the arguments of `price` do not follow its schema: $.number: 'two' is not of type 'integer'",
    "the arguments of `price` do not follow its schema: $",
    "`price` failed: KeyError: 'soap'",
]


def test_rows_with_a_mistake_are_dropped_with_the_reason_and_the_trace(session: Session) -> None:
    step, _ = traces("mistakes", MISTAKES)
    made = session.run(step)
    assert [row["instruction"] for row in made] == ["good"]
    dropped = list(made.dropped())
    assert [row["reason"].startswith(reason) for row, reason in zip(dropped, REASONS, strict=True)] == [True] * 5
    assert [message["role"] for message in json.loads(dropped[0]["detail"])] == ["user", "assistant"]


def test_or_the_model_is_told_and_goes_on(session: Session) -> None:
    step, _ = traces("told", MISTAKES, mistakes="tell")
    made = list(session.run(step))
    assert len(made) == 6
    told = [json.loads(row["messages"][2]["content"])["error"] for row in made[:5]]
    assert [text.startswith(reason) for text, reason in zip(told, REASONS, strict=True)] == [True] * 5


def test_tools_that_hang_or_die_are_ended_alone(session: Session) -> None:
    step, _ = traces(
        "hang",
        {
            "sleepy": [wants(("sleepy", {"item": "x"})), "done"],
            "abrupt": [wants(("abrupt", {"item": "x"})), "done"],
            "good": [wants(("opening", {"day": "mon"})), "done"],
        },
        tools=(shop.sleepy, shop.abrupt, shop.opening),
        limits=Limits(seconds=0.5),
    )
    made = session.run(step)
    assert [row["instruction"] for row in made] == ["good"]
    reasons = [row["reason"] for row in made.dropped()]
    assert reasons == [
        "`sleepy` failed: it took longer than 0.5 s",
        "`abrupt` failed: its process ended before it was done",
    ]


def test_a_model_plays_tools_of_which_there_is_only_a_schema(session: Session) -> None:
    def play(messages: Any, schema: Any, sample: int) -> str:
        text = messages[0]["content"]
        called = text.rpartition("It is called with: ")[2]
        return json.dumps({"result": f"rain at {json.loads(called)['place']}, after {text.count(') gave ')}"})

    script("player", play)
    step, _ = traces(
        "played",
        {
            "twice": [wants(("weather", {"place": "Rome"})), wants(("weather", {"place": "Oslo"})), "wet"],
            "unfit": [wants(("weather", {"place": 7})), "wet"],
        },
        tools=(WEATHER,),
        simulator=Ask(model="scripted:player"),
    )
    made = session.run(step)
    (row,) = made
    told = [message["content"] for message in row["messages"] if message["role"] == "tool"]
    assert told == ["rain at Rome, after 0", "rain at Oslo, after 1"]
    (batch,) = made.batches(lineage=True)
    assert len(batch[0]["_calls"]) == 5
    assert [row["reason"] for row in made.dropped()] == [
        "the arguments of `weather` do not follow its schema: $.place: 7 is not of type 'string'"
    ]


def test_rows_without_a_call_or_without_an_answer_are_dropped(session: Session) -> None:
    again = wants(("opening", {"day": "mon"}))
    step, asked = traces("ends", {"chat": ["Hello."], "loop": [again] * 9, "good": [again, "at 8"]}, rounds=3)
    made = session.run(step)
    assert [row["instruction"] for row in made] == ["good"]
    assert [(row["reason"], row["detail"][:6]) for row in made.dropped()] == [
        ("no tool was called", "Hello."),
        ("there is no answer after 3 replies", '[{"rol'),
    ]
    assert asked.num_calls == 1 + 3 + 2
    free, _ = traces("free", {"chat": ["Hello."]}, must_use=False)
    assert next(iter(session.run(free)))["messages"][-1]["content"] == "Hello."


def test_replies_that_cannot_be_used_fail_their_row_with_the_trace(session: Session) -> None:
    call = wants(("opening", {"day": "mon"}))
    step, _ = traces(
        "faults",
        {
            "refused": [call, scripted_reply(refusal="no")],
            "cut": [scripted_reply("half", finish="length")],
            "good": [call, "at 8"],
        },
    )
    made = session.run(step)
    assert len(made) == 1
    refused, cut = made.failed()
    assert (refused["kind"], refused["message"]) == ("refused", "reply 2: no")
    assert [message["role"] for message in json.loads(refused["raw"])] == ["user", "assistant", "tool"]
    assert (cut["kind"], cut["raw"]) == ("cut", "half")


def test_several_traces_of_a_row(session: Session) -> None:
    step, _ = traces("several", {"one": [wants(("opening", {"day": "mon"})), "at 8"], "two": ["no"]}, samples=2)
    made = session.run(step)
    assert [(row["instruction"], row["sample"]) for row in made] == [("one", 0), ("one", 1)]
    assert len(list(made.dropped())) == 2


def test_it_goes_on_where_it_stood(tmp_path: Path) -> None:
    call = wants(("price", {"item": "tea"}))
    step, _ = traces("resumed", {"a": [call, "x"], "b": [call, ModelError("gone", kind="credentials")]})
    with Session(tmp_path, track=False, progress=False) as session, pytest.raises(ModelError, match="gone"):
        session.run(step)
    again, asked = traces("resumed", {"a": [call, "x"], "b": [call, "y"]})
    with Session(tmp_path, track=False, progress=False) as session:
        assert [row["messages"][-1]["content"] for row in session.run(again)] == ["x", "y"]
    assert asked.num_calls <= 2


def test_no_answer_is_asked_for_again_by_the_next_run(tmp_path: Path) -> None:
    call = wants(("price", {"item": "tea"}))
    step, _ = traces("down", {"a": [call, "x"], "b": [call, RowFault("exhausted", "in trouble")]})
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(step).unanswered == 1
    again, asked = traces("down", {"a": [call, "x"], "b": [call, "y"]})
    with Session(tmp_path, track=False, progress=False) as session:
        assert len(session.run(again)) == 2
    assert asked.num_calls == 1


def test_what_a_model_is_told_of_a_tool_counts_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    step, _ = traces("key", {"a": ["x"]})
    before = step.recipe_key
    monkeypatch.setattr(shop.price, "__doc__", "Another docstring.")
    changed, _ = traces("key", {"a": ["x"]})
    assert changed.recipe_key != before


def test_a_recipe_file_names_functions_and_schemas() -> None:
    step, _ = traces("file", {"a": ["x"]}, tools=("tests.generate.shop:price", WEATHER), simulator=Ask(model="a/b"))
    table = to_table(step)
    assert table["nodes"]["tool_traces"]["tools"][0] == "tests.generate.shop:price"
    assert from_table(table) == step
    assert from_table(table).recipe_key == step.recipe_key


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tools": ()}, "`tools`"),
        ({"tools": (shop.untold,)}, "`untold` does not say what its argument `item` is"),
        ({"tools": (shop.many,)}, r"`many` takes `\*items: str`"),
        ({"tools": ("tests.generate.shop:nothing",)}, "has no `nothing`"),
        ({"tools": (shop.price, shop.price)}, "two tools have the name `price`"),
        ({"tools": shop.price}, "expected a list of tools"),
        ({"tools": ({"description": "nameless"},)}, "a tool has no name"),
        ({"tools": (WEATHER,)}, "`weather` is a schema and no function: say in `simulator`"),
        ({"by": Ask(model="a/b", tools=(WEATHER,))}, "has tools of its own"),
        ({"by": Ask(model="openai/x"), "samples": 2}, "at temperature 0"),
    ],
)
def test_tools_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        traces("refused", {"a": ["x"]}, **fields)


def inventive(messages: Any, schema: Any, sample: int) -> Any:
    count = int(messages[0]["content"].partition("Write ")[2].split(" ")[0])
    return json.dumps({"tasks": [f" task {sample}.{n} " for n in range(count + 2)]})


def test_tasks_are_made_for_the_tools_that_were_drawn(session: Session) -> None:
    asked = script("tasks", inventive)
    step = ToolTasks(by=Ask(model="scripted:tasks"), tools=(shop.price, shop.opening, WEATHER), num=23, per_call=4)
    made = session.run(step)
    assert [row["instruction"] for row in made] == [f"task {n // 4}.{n % 4}" for n in range(23)]
    assert {len(row["needs"]) for row in made} == {1, 2}
    assert {name for row in made for name in row["needs"]} == {"price", "opening", "weather"}
    for request in asked.requests:
        (needs,) = {tuple(row["needs"]) for row in made if row["instruction"] == f"task {request.sample}.0"}
        told = [json.loads(line)["name"] for line in str(request.messages[0]["content"]).split("\n") if line[:1] == "{"]
        assert tuple(told) == needs
    assert [row["needs"] for row in session.run(step.replace(seed=1))] != [row["needs"] for row in made]
    assert from_table(to_table(step)) == step
    assert session.plan(step.replace(num=40)).total("calls") == 10


def test_replies_without_tasks_fail_and_tasks_that_would_be_the_same_are_refused(session: Session) -> None:
    def partly(messages: Any, schema: Any, sample: int) -> Any:
        return {0: '{"tasks": [" "]}', 1: scripted_reply(refusal="no")}.get(sample) or inventive(
            messages, schema, sample
        )

    script("no-tasks", partly)
    made = session.run(ToolTasks(by=Ask(model="scripted:no-tasks"), tools=(WEATHER,), num=3, per_call=1))
    assert [row["instruction"] for row in made] == ["task 2.0"]
    assert [row["kind"] for row in made.failed()] == ["empty", "refused"]
    with pytest.raises(RecipeError, match="at temperature 0"):
        ToolTasks(by=Ask(model="openai/x"), tools=(WEATHER,), num=10)
    with pytest.raises(RecipeError, match="call `column` otherwise"):
        ToolTasks(by=Ask(model="scripted:x"), tools=(WEATHER,), num=1, column="needs")


def test_missing_columns_are_named(session: Session) -> None:
    step, _ = traces("missing", {"a": ["x"]}, input="task")
    with pytest.raises(RecipeError, match=r"no column `task`\n  The columns are `instruction`, `n`"):
        session.run(step)
    other, _ = traces("missing", {"a": ["x"]}, system="{{ tone }}")
    with pytest.raises(RecipeError, match="has no column `tone`"):
        session.run(other)
