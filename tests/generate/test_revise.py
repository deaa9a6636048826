"""`Revise`: critique, then a new answer, until it is fine."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.revise import Revise
from stillhouse.rows.import_ import Import
from tests.generate.sums import Sum, content

ROWS = Import(
    data=({"q": "first", "output": "xx"}, {"q": "second", "output": "xxxxx"}, {"q": "third", "output": "xxxx"}),
    require=(),
)


def answer_in(messages: Any) -> str:
    return re.findall(r"<answer>\n(.*?)\n</answer>", messages[0]["content"], re.DOTALL)[0]  # type: ignore[no-any-return]


def editor(messages: Any, schema: Any, sample: int) -> str:
    """Wants five letters, and writes one more each time."""
    answer = answer_in(messages)
    if schema is not None and schema["title"] == "Critique":
        return json.dumps({"critique": f"{5 - len(answer)} letters are missing", "fine": len(answer) >= 5})
    return answer + "x"


def revised(name: str, rows: Any = ROWS, **fields: Any) -> Revise:
    script(name, editor)
    return Revise(rows=rows, by=Ask(model=f"scripted:{name}"), template="Do {{ q }}", standard="five letters", **fields)


def test_an_answer_is_mended_until_it_is_fine_or_the_rounds_are_over(session: Session) -> None:
    made = session.run(revised("revise", rounds=2))
    assert [(row["revised"], row["critiques"]) for row in content(made)] == [
        ("xxxx", ["3 letters are missing", "2 letters are missing"]),
        ("xxxxx", []),
        ("xxxxx", ["1 letters are missing"]),
    ]
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [4, 1, 3]


def test_the_critic_may_be_another_model_and_sees_task_and_standard(session: Session) -> None:
    critic = script("revise-critic", editor)
    writer = script("revise-writer", editor)
    step = revised("revise-other").replace(
        by=Ask(model="scripted:revise-writer"), critic=Ask(model="scripted:revise-critic")
    )
    session.run(step)
    assert (critic.num_calls, writer.num_calls) == (3, 2)
    asked = str(critic.requests[0].messages[0]["content"])
    assert "<task>\nDo first\n</task>" in asked
    assert "five letters" in asked
    assert "<critique>\n3 letters are missing\n</critique>" in str(writer.requests[0].messages[0]["content"])


def test_a_new_answer_may_have_a_schema(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        if schema["title"] == "Critique":
            return json.dumps({"critique": "no JSON", "fine": False})
        return '{"sum":3}' if "first" in messages[0]["content"] else "still none"

    script("revise-json", answer)
    step = revised("revise-any", response=Sum).replace(by=Ask(model="scripted:revise-json"))
    made = session.run(step)
    assert [row["revised"] for row in made] == ['{"sum": 3}']
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [("invalid", "still none")] * 2


def test_what_cannot_be_revised_is_refused_or_fails(session: Session) -> None:
    with pytest.raises(RecipeError, match="Revise: there is no column `text`"):
        session.run(revised("revise", column="text"))
    with pytest.raises(RecipeError, match="`into` is `output`"):
        revised("revise", into="output")
    rows = Import(data=({"q": "a", "output": None}, {"q": "b", "output": "xxxxx"}), require=())
    made = session.run(revised("revise", rows))
    assert [row["message"].partition(" has ")[2] for row in made.failed()] == ["nothing in `output`"]


def test_a_plan_counts_two_calls_a_round(session: Session) -> None:
    session.run(ROWS)
    (planned,) = session.plan(revised("revise", rounds=3)).to_run
    assert planned.expectation.calls == 2 * 3 * 3
