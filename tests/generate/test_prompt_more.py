"""`Prompt` with several samples, templates, conversations, and replies as columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.calls.reply import TokenChance, ToolCall, own_reply
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.data_from_prompt import DataFromPrompt
from stillhouse.generate.few_shot import FewShot
from stillhouse.generate.filter_with_prompt import FilterWithPrompt
from stillhouse.generate.prompt import Prompt
from stillhouse.generate.score_with_prompt import RankWithPrompt
from stillhouse.rows.columns import Rename, Select
from stillhouse.rows.import_ import Import
from stillhouse.rows.order import Sort
from stillhouse.rows.transform import Filter
from tests.generate.sums import content

ROWS = Import(data=({"text": "a", "n": 1}, {"text": "b", "n": 2}), require=())
CHATS = Import(
    data=(
        {"chat": [{"role": "user", "content": "hi"}]},
        {"chat": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "ho"}]},
    ),
    require=(),
)
EXAMPLES = Import(data=({"said": "a", "output": "b"},), require=())
SHAPE = {
    "type": "object",
    "properties": {"size": {"type": ["number", "null"]}, "name": {"type": "string"}},
    "required": ["name"],
}


def ask(name: str, **fields: Any) -> Ask:
    return Ask(model=f"scripted:{name}", **fields)


def notes(name: str) -> list[Any]:
    """What the script of this name is asked, filled as it is asked; it replies `seen`."""
    asked: list[Any] = []

    def reply(messages: Any, schema: Any, sample: int) -> str:
        asked.append(messages)
        return "seen"

    script(name, reply)
    return asked


def said(messages: Any) -> str:
    return "|".join(f"{message['role']}: {message['content']}" for message in messages)


def test_samples_are_rows_of_their_own_with_their_own_calls(session: Session) -> None:
    script("samples", lambda messages, schema, sample: f"{messages[-1]['content']} {sample}")
    made = session.run(Prompt(rows=ROWS, by=ask("samples"), template="{{ text }}", samples=3))
    assert [(row["reply"], row["sample"]) for row in made][:4] == [("a 0", 0), ("a 1", 1), ("a 2", 2), ("b 0", 0)]
    (batch,) = made.batches(lineage=True)
    assert len({row["_calls"][0] for row in batch}) == len({row["_id"] for row in batch}) == 6


def test_a_sample_that_cannot_be_used_fails_beside_the_others(session: Session) -> None:
    def reply(messages: Any, schema: Any, sample: int) -> Any:
        if sample == 1:
            return scripted_reply("half a th", finish="length")
        return scripted_reply(refusal="no") if sample == 2 else "fine"

    script("partly", reply)
    made = session.run(Prompt(rows=ROWS, by=ask("partly"), template="{{ text }}", samples=4))
    assert [row["sample"] for row in made] == [0, 3, 0, 3]
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [("cut", "half a th"), ("refused", None)] * 2


def test_equal_samples_are_rows_with_ids_of_their_own(session: Session) -> None:
    script("same", lambda messages, schema, sample: "same")
    made = session.run(Prompt(rows=ROWS, by=ask("same"), template="{{ text }}", samples=2))
    assert len({row["_id"] for row in made}) == 4


def test_more_samples_ask_only_for_those_that_are_new(session: Session) -> None:
    asked = script("more", lambda messages, schema, sample: str(sample))
    session.run(Prompt(rows=ROWS, by=ask("more"), template="{{ text }}", samples=2))
    session.run(Prompt(rows=ROWS, by=ask("more"), template="{{ text }}", samples=3))
    assert asked.num_calls == 6


def test_samples_at_temperature_0_are_refused() -> None:
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same answer"):
        Prompt(rows=ROWS, by=Ask(model="openai/x"), template="{{ n }}", samples=2)
    Prompt(rows=ROWS, by=Ask(model="openai/x", temperature=0.7), template="{{ n }}", samples=2)


def test_each_named_template_makes_a_row_that_says_which(session: Session) -> None:
    script("named", lambda messages, schema, sample: messages[-1]["content"].upper())
    templates = {"math": "sum for {{ text }}", "story": "tale of {{ text }}"}
    made = session.run(Prompt(rows=ROWS, by=ask("named"), template=templates, samples=2))
    found = [(row["template"], row["sample"], row["reply"]) for row in made]
    assert found[1:4] == [("math", 1, "SUM FOR A"), ("story", 0, "TALE OF A"), ("story", 1, "TALE OF A")]
    assert len(found) == 8


def test_the_order_of_templates_counts() -> None:
    keys = {
        Prompt(rows=ROWS, by=ask("x"), template=dict(templates)).recipe_key
        for templates in ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")])
    }
    assert len(keys) == 2


def test_no_two_new_columns_have_one_name(session: Session) -> None:
    with pytest.raises(RecipeError, match="two new columns would be called `sample`"):
        session.run(Prompt(rows=ROWS, by=ask("x"), template="{{ n }}", column="sample", samples=2))


def test_a_system_prompt_is_filled_for_each_row(session: Session) -> None:
    script("systems", lambda messages, schema, sample: said(messages))
    made = session.run(Prompt(rows=ROWS, by=ask("systems"), template="hi", system="You are {{ text }}."))
    assert [row["reply"] for row in made] == ["system: You are a.|user: hi", "system: You are b.|user: hi"]


def test_a_conversation_is_continued(session: Session) -> None:
    script("chats", lambda messages, schema, sample: said(messages))
    made = session.run(Prompt(rows=CHATS, by=ask("chats"), messages="chat"))
    assert [row["reply"] for row in made] == ["user: hi", "system: be kind|user: ho"]
    more = session.run(Prompt(rows=CHATS, by=ask("chats"), messages="chat", template="and now?"))
    assert more.head(1)[0]["reply"] == "user: hi|user: and now?"


def test_what_is_no_conversation_fails_its_row(session: Session) -> None:
    rows = Import(
        data=({"chat": [{"role": "owl", "content": "hu"}]}, {"chat": [{"role": "user", "content": "hi"}]}), require=()
    )
    script("owls", lambda messages, schema, sample: said(messages))
    made = session.run(Prompt(rows=rows, by=ask("owls"), messages="chat"))
    assert [row["reply"] for row in made] == ["user: hi"]
    assert "message 1 has the role 'owl'" in next(iter(made.failed()))["message"]


def test_a_missing_conversation_stops_before_anything_is_asked(session: Session) -> None:
    with pytest.raises(RecipeError, match=r"no column `chats`\n  Did you mean `chat`"):
        session.run(Prompt(rows=CHATS, by=ask("x"), messages="chats"))


def test_two_system_prompts_are_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="two system prompts"):
        Prompt(rows=ROWS, by=ask("x", system="one"), template="hi", system="two")
    script("twice", lambda messages, schema, sample: "")
    with pytest.raises(RecipeError, match="begins with a system message"):
        session.run(Prompt(rows=CHATS, by=ask("twice"), messages="chat", system="another"))


def test_fields_become_columns_whatever_the_first_row_holds(session: Session) -> None:
    """The first row decides nothing: None, then a whole number, then a broken one."""
    rows = Import(data=tuple({"n": n} for n in range(3)), require=())
    sizes = [None, 3, 2.5]
    script(
        "fields", lambda messages, schema, sample: json.dumps({"name": "x", "size": sizes[int(messages[0]["content"])]})
    )
    made = session.run(Prompt(rows=rows, by=ask("fields"), template="{{ n }}", response=SHAPE, unpack=True))
    assert content(made) == [{"n": n, "size": size, "name": "x"} for n, size in enumerate(sizes)]
    turned = Import(data=tuple({"n": n} for n in (1, 2, 0)), require=())
    again = session.run(Prompt(rows=turned, by=ask("fields"), template="{{ n }}", response=SHAPE, unpack=True))
    assert [row["size"] for row in again] == [3, 2.5, None]


def test_a_field_that_a_reply_leaves_out_is_none(session: Session) -> None:
    script("left-out", ['{"name": "x"}'])
    made = session.run(Prompt(rows=ROWS, by=ask("left-out"), template="{{ n }}", response=SHAPE, unpack=True))
    assert content(made)[0] == {"text": "a", "n": 1, "size": None, "name": "x"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unpack": True}, "needs a `response` schema"),
        ({"unpack": True, "response": {"type": "array"}}, "needs a `response` schema"),
        ({"unpack": True, "response": {"properties": {"_a": {}}}}, "`_a` cannot be a column"),
        ({"template": None}, "give a `template`"),
        ({"template": {}}, "names no template"),
        ({"template": {"a": "{{ n "}}, "`template`: the template cannot be read"),
        ({"template": ""}, "`template`: the template is empty"),
        ({"column": "_id"}, "`column`"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Prompt(**{"rows": ROWS, "by": ask("x"), "template": "{{ n }}", **fields})


def test_a_column_of_the_reply_that_is_there_is_not_written_over(session: Session) -> None:
    shape = {"type": "object", "properties": {"text": {"type": "string"}}}
    with pytest.raises(RecipeError, match="have a column `text` already"):
        session.run(Prompt(rows=ROWS, by=ask("x"), template="{{ n }}", response=shape, unpack=True))


def test_a_changed_system_prompt_endpoint_or_template_makes_new_results(tmp_path: Path) -> None:
    asked = script("stale", lambda messages, schema, sample: said(messages))
    with Session(tmp_path, track=False, progress=False) as session:
        first = session.run(Prompt(rows=ROWS, by=ask("stale", system="one"), template="{{ n }}"))
        second = session.run(Prompt(rows=ROWS, by=ask("stale", system="two"), template="{{ n }}"))
        third = session.run(Prompt(rows=ROWS, by=ask("stale", system="two"), template="{{ n }}!"))
    assert [rows.head(1)[0]["reply"] for rows in (first, second, third)] == [
        "system: one|user: 1",
        "system: two|user: 1",
        "system: two|user: 1!",
    ]
    assert asked.num_calls == 6
    keys = {
        Prompt(rows=ROWS, by=Ask(model="a/b", endpoint=url), template="x").recipe_key
        for url in ("http://a", "http://b")
    }
    assert len(keys) == 2


WEATHER = {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "object", "properties": {}}}


def test_what_else_an_answer_holds_becomes_columns_where_it_is_kept(session: Session) -> None:
    def reply(messages: Any, schema: Any, sample: int) -> Any:
        if messages[-1]["content"] == "a":
            return own_reply("half", "length", logprobs=[TokenChance("half", -0.5, (("all", -1.5),))])
        return own_reply("", "tools", tool_calls=[ToolCall("1", "weather", {"place": "Bern"})])

    script("kept", reply)
    by = ask("kept", when_cut="keep", tools=(WEATHER,))
    step = Prompt(rows=ROWS, by=by, template="{{ text }}", keep=("finish", "tool_calls", "logprobs", "reasoning"))
    cut, call = content(session.run(step))
    assert (cut["reply"], cut["reply_finish"], cut["reply_tool_calls"]) == ("half", "length", [])
    assert cut["reply_logprobs"] == [{"token": "half", "logprob": -0.5, "top": [{"token": "all", "logprob": -1.5}]}]
    assert (call["reply"], call["reply_finish"], call["reply_logprobs"]) == ("", "tools", None)
    assert call["reply_tool_calls"] == [{"id": "1", "name": "weather", "arguments": '{"place": "Bern"}'}]


def test_a_tool_that_is_wanted_before_a_structured_reply_leaves_its_columns_empty(session: Session) -> None:
    script("wants", lambda *_: own_reply("", "tools", tool_calls=[ToolCall("1", "weather", {})]))
    by = ask("wants", tools=(WEATHER,))
    (row, _) = content(
        session.run(Prompt(rows=ROWS, by=by, template="{{ text }}", response=SHAPE, unpack=True, keep="tool_calls"))
    )
    assert (row["size"], row["name"], row["reply_tool_calls"][0]["name"]) == (None, None, "weather")


def test_tools_whose_calls_would_be_lost_are_refused() -> None:
    with pytest.raises(RecipeError, match="whose calls have no place here"):
        Prompt(rows=ROWS, by=ask("x", tools=(WEATHER,)), template="{{ text }}")
    Prompt(rows=ROWS, by=ask("x", tools=(WEATHER,), tool_choice="none"), template="{{ text }}")
    with pytest.raises(RecipeError, match="DataFromPrompt: `by`.* whose calls have no place here"):
        DataFromPrompt(by=ask("x", temperature=1, tools=(WEATHER,)), instruction="A word.", num=2)
    with pytest.raises(RecipeError, match="FilterWithPrompt: `by`.* whose calls have no place here"):
        FilterWithPrompt(rows=ROWS, by=ask("x", tools=(WEATHER,)), template="Is {{ text }} a word?")


def test_a_tool_that_is_wanted_though_none_may_be_called_fails_its_row(session: Session) -> None:
    script("offered", lambda *_: own_reply("", "tools", tool_calls=[ToolCall("1", "weather", {})]))
    by = ask("offered", tools=(WEATHER,), tool_choice="none")
    with pytest.raises(ModelError, match="invalid: the output does not follow the schema"):
        session.run(Prompt(rows=ROWS, by=by, template="{{ text }}", response=SHAPE))


def test_images_of_columns_are_shown_before_the_text(session: Session, tmp_path: Path) -> None:
    asked = notes("seer")
    cat, dog = tmp_path / "cat.png", tmp_path / "dog.png"
    cat.write_bytes(b"a cat")
    dog.write_bytes(b"a dog")
    rows = Import(data=({"n": 1, "one": str(cat), "more": [str(dog)]}, {"n": 2, "one": None, "more": []}), require=())
    made = session.run(Prompt(rows=rows, by=ask("seer"), template="What is {{ n }}?", images=("one", "more")))
    assert [row["reply"] for row in made] == ["seen", "seen"]
    (first,), (second,) = sorted(asked, key=lambda messages: "What is 2?" in str(messages))
    assert [part.get("image", part.get("text")) for part in first["content"]] == [str(cat), str(dog), "What is 1?"]
    assert second["content"] == "What is 2?"


def test_images_that_cannot_be_are_told(session: Session) -> None:
    script("blind", lambda *_: "seen")
    with pytest.raises(RecipeError, match="there is no column `photo`"):
        session.run(Prompt(rows=ROWS, by=ask("blind"), template="{{ text }}", images="photo"))
    with pytest.raises(RecipeError, match="`images` are shown with a `template`"):
        Prompt(rows=CHATS, by=ask("blind"), messages="chat", images="photo")
    rows = Import(data=({"photo": ""}, {"photo": "http://h/a.png"}), require=())
    made = session.run(Prompt(rows=rows, by=ask("blind"), template="?", images="photo"))
    assert [row["reply"] for row in made] == ["seen"]
    assert "neither the path or URL of an image" in next(iter(made.failed()))["message"]


def test_parts_of_a_conversation_hold_no_fields_of_other_parts(session: Session) -> None:
    asked = notes("parts")
    parts = [{"type": "image", "image": "http://h/a.png"}, {"type": "text", "text": "What?"}]
    rows = Import(data=({"chat": [{"role": "user", "content": parts}]},), require=())
    session.run(Prompt(rows=rows, by=ask("parts"), messages="chat"))
    assert asked == [[{"role": "user", "content": parts}]]


def test_where_no_rows_are_left_the_steps_behind_have_nothing_to_do(session: Session) -> None:
    script("nobody", lambda *_: "asked")
    none = Select(rows=Filter(rows=ROWS, where=lambda row: False), columns="text")
    asked = Prompt(rows=none, by=ask("nobody"), template="{{ text }}")
    ranked = RankWithPrompt(rows=Rename(rows=asked, names={"text": "said"}), by=ask("nobody"), template="{{ said }}")
    shown = FewShot(rows=Sort(rows=ranked, by="said"), by=ask("nobody"), examples=EXAMPLES, input="said")
    assert [len(session.run(step)) for step in (none, asked, ranked, shown)] == [0, 0, 0, 0]
