"""Reading the cache alone, and who shares a reply with whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.request import Prompt
from stillhouse.core.errors import RecipeError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.prompt import Prompt as PromptStep
from stillhouse.rows.import_ import Import
from stillhouse.text.schema import Schema
from tests.calls.helpers import asking, prompts, with_service
from tests.calls.server import Act, Call, MisbehavingServer

ALONE = Options(cache_only=True)
WORDS = Schema({"title": "Words", "type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]})


def ask(folder: Path, by: Ask, asked: list[Prompt], **settings: Any) -> list[str]:
    outcomes = with_service(folder, lambda service: service.ask_many(by, asked), **settings)
    return [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]


def test_a_replay_asks_nobody_and_says_the_same(tmp_path: Path) -> None:
    def behave(call: Call) -> Act | None:
        return Act(text="no JSON") if call.schema and call.before == 0 and len(call.body["messages"]) == 1 else None

    asked = [*prompts(["a", "b"]), Prompt("c", WORDS), Prompt("a", sample=1)]
    with MisbehavingServer(lambda messages, schema, sample: f'{{"word": "{sample}"}}', behave=behave) as server:
        by = asking(server, deployment="teacher")
        first = ask(tmp_path, by, asked)
        num_calls = server.num_calls
        again = ask(tmp_path, by, asked, options=ALONE)

    assert len(first) == 4
    assert again == first
    assert server.num_calls == num_calls == 5


def test_a_prompt_that_is_not_kept_stops_a_replay_and_is_shown(tmp_path: Path) -> None:
    with MisbehavingServer() as server:
        ask(tmp_path, asking(server), prompts(["a"]))
        with pytest.raises(RecipeError) as caught:
            ask(tmp_path, asking(server), prompts(["a", "what is new?", "b"]), options=ALONE)
        with pytest.raises(RecipeError, match="cache_only"):
            with_service(tmp_path, lambda service: service.ask(asking(server), "c"), options=ALONE)

    assert "no kept reply to 2 of the prompts" in str(caught.value)
    assert "what is new?" in str(caught.value)
    assert server.num_calls == 1


def test_a_correction_that_was_never_asked_for_stops_a_replay(tmp_path: Path) -> None:
    with MisbehavingServer(lambda messages, schema, sample: "no JSON") as server:
        by = asking(server)
        with_service(tmp_path, lambda service: service.ask_many(by, prompts(["a"])))
        outcomes = with_service(tmp_path, lambda service: service.ask_many(by, prompts(["a"])), options=ALONE)
        assert isinstance(outcomes[0], Answer)
        with pytest.raises(RecipeError, match="asks nobody"):
            with_service(tmp_path, lambda service: service.ask_many(by, [Prompt("a", WORDS)]), options=ALONE)

    assert server.num_calls == 1


def test_a_step_is_made_again_from_the_cache_alone(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "q{n}"}}\n' for n in range(40)))
    source = Import(path=rows, require=())
    with MisbehavingServer() as server:
        settings: dict[str, Any] = {"endpoints": {"t": server.url}, "progress": False, "track": False}
        by = Ask(model="openai/teacher", deployment="t")
        step = PromptStep(rows=source, by=by, template="{{ text }}")
        with Session(tmp_path / "out", **settings) as session:
            first = session.run(step).digest
        renamed = PromptStep(rows=source, by=by, template="{{ text }}", column="other")
        with Session(tmp_path / "out", options=ALONE, **settings) as session:
            assert [row["other"] for row in session.run(renamed)] == [f"reply to q{n}" for n in range(40)]
            assert session.run(step).digest == first
            changed = PromptStep(rows=source, by=by, template="{{ text }}!")
            with pytest.raises(RecipeError, match="asks nobody"):
                session.run(changed)

    assert server.num_calls == 40


def test_steps_that_ask_alike_share_replies_unless_they_draw_their_own(tmp_path: Path) -> None:
    def teacher(messages: list[dict[str, Any]], schema: Any, sample: int) -> str:
        return f"reply {len(server.calls)}"

    with MisbehavingServer(teacher) as server:
        by = asking(server, temperature=1.0)
        asked = [Prompt("a"), Prompt("a", sample=1)]
        shared = ask(tmp_path, by, asked), ask(tmp_path, by, asked)
        own = ask(tmp_path, by.replace(draw="judge"), asked), ask(tmp_path, by.replace(draw="judge"), asked)

    assert shared[0] == shared[1]
    assert own[0] == own[1]
    assert not set(shared[0]) & set(own[0])
    assert server.num_calls == 4


def test_a_draw_counts_in_keys_and_its_absence_changes_none() -> None:
    by = Ask(model="openai/x")
    assert "draw" not in by.identity()
    assert by.structure != by.replace(draw="a").structure != by.replace(draw="b").structure
