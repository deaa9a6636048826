"""`Magpie`: what a model writes when it is given the beginning of a user's turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import RecipeError
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.generate.magpie import Magpie
from stillhouse.text.chat import DEFAULT_TEMPLATE
from tests.calls.server import MisbehavingServer
from tests.generate.sums import content
from tests.models.tiny import tiny_model, tiny_tokenizer

PREFIX = "<|im_start|>user\n"


def wild(messages: Any, schema: Any, sample: int) -> Any:
    """A model that goes on from a prefix, and answers in a chat."""
    message = messages[-1]
    if message["role"] == "prefix":
        return f" Instruction {sample} after {message['content']!r}\n"
    return f"The answer to {message['content']!r}."


def magpie(name: str, reply: Any = wild, **fields: Any) -> Magpie:
    script(name, reply)
    return Magpie(**{"by": Ask(model=f"scripted:{name}"), "num": 3, "prefix": PREFIX, **fields})


def test_each_row_is_a_sample_that_goes_on_from_the_prefix(session: Session) -> None:
    made = session.run(magpie("wild", answers=True))
    instruction = f"Instruction 1 after {PREFIX!r}"
    assert content(made)[1] == {"instruction": instruction, "output": f"The answer to {instruction!r}."}
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [2, 2, 2]
    assert session.run(magpie("wild")).columns == ["instruction"]


def test_another_model_may_answer(session: Session) -> None:
    script("chat", lambda messages, schema, sample: "from the chat")
    made = session.run(magpie("wild-2", answers=True, answerer=Ask(model="scripted:chat"), column="input"))
    assert {row["output"] for row in made} == {"from the chat"}
    assert made.columns == ["input", "output"]


def test_what_cannot_be_used_fails_with_its_words(session: Session) -> None:
    def partly(messages: Any, schema: Any, sample: int) -> Any:
        if messages[0]["role"] == "user":
            return scripted_reply(refusal="no") if "Instruction 3" in messages[0]["content"] else "fine"
        return {1: scripted_reply("half", finish="length"), 2: "  "}.get(sample) or f"Instruction {sample}"

    made = session.run(magpie("partly", partly, num=5, answers=True))
    assert content(made) == [{"instruction": f"Instruction {n}", "output": "fine"} for n in (0, 4)]
    assert [(row["kind"], row["message"][:15], row["raw"]) for row in made.failed()] == [
        ("cut", "the reply was c", "half"),
        ("empty", "the model repli", None),
        ("refused", "the answer: no", "Instruction 3"),
    ]


AFTER_USER, AFTER_ANSWER = "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>user\n"
BETWEEN = (AFTER_USER, AFTER_ANSWER)


def test_the_model_goes_on_as_the_user(session: Session) -> None:
    def talkative(messages: Any, schema: Any, sample: int) -> str:
        if messages[0]["role"] == "prefix":
            return f" ask {sample}.{messages[0]['content'].count(AFTER_USER)}\n"
        return f"reply to {messages[-1]['content']} after {len(messages) - 1}"

    asked = script("talk", talkative)
    step = Magpie(
        by=Ask(model="scripted:talk"), num=2, prefix=PREFIX, between=BETWEEN, answers=True, turns=3, column="input"
    )
    made = session.run(step)
    assert content(made)[1] == {
        "input": "ask 1.0",
        "messages": [
            {"role": role, "content": text}
            for turn in range(3)
            for role, text in (("user", f"ask 1.{turn}"), ("assistant", f"reply to ask 1.{turn} after {2 * turn}"))
        ],
        "num_turns": 3,
    }
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [6, 6]
    begun = [str(request.messages[0]["content"]) for request in asked.requests if "ask 1.0" in str(request.messages)]
    second = f"{PREFIX}ask 1.0{AFTER_USER}reply to ask 1.0 after 0{AFTER_ANSWER}"
    assert second in begun
    assert session.plan(step.replace(num=5)).total("calls") == 30


def test_a_conversation_ends_before_a_turn_that_cannot_be_used(session: Session) -> None:
    def partly(messages: Any, schema: Any, sample: int) -> Any:
        if messages[0]["role"] != "prefix":
            return scripted_reply(refusal="no") if "bad" in messages[-1]["content"] else "fine"
        turn = messages[0]["content"].count(AFTER_USER)
        if turn == 0:
            return "bad" if sample == 0 else f"ask {sample}"
        return {1: "  ", 2: scripted_reply("half", finish="length"), 3: "bad"}.get(sample, "more")

    step = magpie("ends", partly, num=5, answers=True, turns=2, between=BETWEEN)
    made = session.run(step)
    assert [(row["instruction"], row["num_turns"], len(row["messages"])) for row in made] == [
        ("ask 1", 1, 2), ("ask 2", 1, 2), ("ask 3", 1, 2), ("ask 4", 2, 4),
    ]  # fmt: skip
    assert [(row["kind"], row["message"]) for row in made.failed()] == [("refused", "turn 1: no")]


def test_one_turn_and_several_begin_with_the_same_calls(session: Session) -> None:
    asked = script("same", wild)
    step = Magpie(by=Ask(model="scripted:same"), num=3, prefix=PREFIX, answers=True)
    session.run(step)
    session.run(step.replace(turns=2, between=BETWEEN))
    assert asked.num_calls == 6 + 6


def test_more_rows_ask_for_the_new_ones_alone(session: Session) -> None:
    asked = script("more", wild)
    step = Magpie(by=Ask(model="scripted:more"), num=4, prefix=PREFIX)
    session.run(step)
    assert len(session.run(step.replace(num=10))) == 10
    assert asked.num_calls == 10


def test_the_template_of_a_local_model_tells_the_prefix(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer")
    folder = tiny_model(tmp_path / "model", tokenizer)
    by = Ask(model=f"local:{folder}", temperature=1.5, max_tokens=20, when_cut="keep")
    with Session(tmp_path / "store", track=False, progress=False) as session:
        made = session.run(Magpie(by=by, num=8))
        again = session.run(Magpie(by=by, num=8, prefix="<|user|>"))
        other = session.run(Magpie(by=by, num=8, system="red cat"))
        (talk,) = session.run(Magpie(by=by.replace(max_tokens=6), num=1, answers=True, turns=2))
    assert "'<|' + message['role'] + '|>'" in DEFAULT_TEMPLATE  # so that the prefix is the one that is given above
    texts = [row["instruction"] for row in made]
    assert len(set(texts)) > 4
    assert [row["instruction"] for row in again] == texts
    assert [row["instruction"] for row in other] != texts
    assert [message["role"] for message in talk["messages"]] == ["user", "assistant"] * talk["num_turns"]


def test_a_model_folder_without_a_chat_template_says_what_to_do(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", tiny_tokenizer(tmp_path / "tokenizer"))
    for file in folder.glob("chat_template*"):
        file.unlink()
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace('"chat_template"', '"no_template"'))
    with (
        Session(tmp_path / "store", track=False, progress=False) as session,
        pytest.raises(RecipeError, match=r"Magpie: .*\n  Give the `prefix` yourself"),
    ):
        session.run(Magpie(by=Ask(model=f"local:{folder}", temperature=1.0), num=2))


def test_a_server_is_asked_for_completions_and_for_answers_by_chat(tmp_path: Path) -> None:
    def teacher(messages: Any, schema: Any, sample: int) -> str:
        return f"{messages[-1]['content']}/{sample}"

    with MisbehavingServer(teacher) as server:
        by = Ask(model="completions/teacher", endpoint=server.url, temperature=1.0, stop=("<|im_end|>",))
        chat = Ask(model="openai/teacher", endpoint=server.url)
        with Session(tmp_path, track=False, progress=False) as session:
            made = session.run(Magpie(by=by, num=3, prefix=PREFIX, answers=True, answerer=chat))
        paths = sorted(call.path for call in server.calls)
    assert content(made) == [{"instruction": f"{PREFIX}/{n}", "output": f"{PREFIX}/{n}/0"} for n in range(3)]
    assert paths == ["/v1/chat/completions"] * 3 + ["/v1/completions"] * 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"by": Ask(model="openai/gpt-x", temperature=1.0)}, r"`openai/gpt-x` is asked by chat .* `DataFromPrompt`"),
        ({"by": Ask(model="vllm:a/b", temperature=1.0), "prefix": None}, "`prefix` is missing"),
        ({"by": Ask(model="completions/a", temperature=1.0), "prefix": None}, "`prefix` is missing"),
        ({"by": Ask(model="completions/a")}, "at temperature 0 they are all the same"),
        ({"by": Ask(model="completions/a", temperature=1.0), "answers": True}, "say in `answerer`"),
        ({"answerer": Ask(model="a/b")}, "no `answers` are wanted"),
        ({"system": "Maths."}, "write the system prompt into the `prefix`"),
        ({"by": Ask(model="scripted:x", system="Maths.")}, "has no place before a prefix"),
        ({"answers": True, "column": "output"}, "call `column` otherwise"),
        ({"num": 0}, "`num`"),
        ({"turns": 2}, "the user goes on after an answer"),
        ({"turns": 2, "answers": True}, "`between` is missing"),
        ({"between": BETWEEN}, "one turn alone"),
        ({"turns": 2, "answers": True, "between": BETWEEN, "column": "messages"}, "is a column of conversations"),
    ],
)
def test_models_that_cannot_be_asked_so_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        magpie("refused", **fields)


def test_it_is_read_back_equal_and_its_calls_are_planned(session: Session) -> None:
    step = magpie("table", num=7, answers=True)
    assert from_table(to_table(step)) == step
    assert session.plan(step).total("calls") == 14
