"""What is drawn from a text (its instruction, its persona), related personas, and what they would write."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.backtranslate import Backtranslate
from stillhouse.generate.personas import PERSONA_KINDS, PersonaPrompt, PersonaToPersona, TextToPersona
from stillhouse.rows.import_ import Import
from tests.generate.sums import content

TEXTS = Import(data=({"text": "Boil the water.\nWait.", "src": 1}, {"text": "Ice is cold.", "src": 2}), require=())
PERSONAS = Import(data=({"persona": "a nurse"}, {"persona": "a judge"}), require=())


def ask(name: str) -> Ask:
    return Ask(model=f"scripted:{name}")


def inner(messages: Any, tag: str) -> str:
    return str(re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", messages[0]["content"], re.DOTALL)[0])


def drawn(messages: Any, schema: Any, sample: int) -> str:
    (field,) = schema["properties"]
    return json.dumps({field: f" {field} of {inner(messages, 'text')!r} {sample} "})


@pytest.mark.parametrize(("kind", "field"), [(Backtranslate, "instruction"), (TextToPersona, "persona")])
def test_one_thing_is_drawn_from_each_text(session: Session, kind: Any, field: str) -> None:
    script(f"drawn-{field}", drawn)
    made = session.run(kind(rows=TEXTS, by=ask(f"drawn-{field}")))
    assert content(made) == [
        {"text": "Boil the water.\nWait.", "src": 1, field: f"{field} of 'Boil the water.\\nWait.' 0"},
        {"text": "Ice is cold.", "src": 2, field: f"{field} of 'Ice is cold.' 0"},
    ]
    (batch,) = made.batches(lineage=True)
    assert [row["_parents"] for row in batch] == [[row["_id"]] for row in session.run(TEXTS)]
    twice = session.run(kind(rows=TEXTS, by=ask(f"drawn-{field}"), samples=2, column="found"))
    assert [(row["found"][-1], row["sample"]) for row in twice] == [("0", 0), ("1", 1)] * 2


@pytest.mark.parametrize(("kind", "field"), [(Backtranslate, "instruction"), (TextToPersona, "persona")])
def test_replies_that_cannot_be_used_fail_with_their_words(session: Session, kind: Any, field: str) -> None:
    texts = Import(
        data=tuple({"text": text} for text in ("refused", "cut", "blank", "rubbish", "", "good")), require=()
    )

    def reply(messages: Any, schema: Any, sample: int) -> Any:
        text = inner(messages, "text")
        replies = {
            "refused": scripted_reply(refusal="no"),
            "cut": scripted_reply('{"instr', finish="length"),
            "blank": json.dumps({field: " "}),
            "good": json.dumps({field: "fine"}),
        }
        return replies.get(text, "I would say so")

    script(f"failing-{field}", reply)
    made = session.run(kind(rows=texts, by=ask(f"failing-{field}")))
    assert content(made) == [{"text": "good", field: "fine"}]
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [
        ("refused", None),
        ("cut", '{"instr'),
        ("empty", json.dumps({field: " "})),
        ("invalid", "I would say so"),
        ("invalid", None),
    ]


def related(messages: Any, schema: Any, sample: int) -> str:
    persona = inner(messages, "persona")
    number = int(re.findall(r"Name (\d+) other", messages[-1]["content"])[0])
    people = [{"relation": f"friend {n}", "persona": f"friend {n} of {persona}"} for n in range(number + 1)]
    return json.dumps({"personas": people})


def test_related_personas_are_rows_whose_parent_is_the_persona(session: Session) -> None:
    script("related", related)
    near = PersonaToPersona(rows=PERSONAS, by=ask("related"), each=2)
    made = session.run(near)
    assert content(made) == [
        {"persona": f"friend {n} of {who}", "relation": f"friend {n}"} for who in ("a nurse", "a judge") for n in (0, 1)
    ]
    far = session.run(PersonaToPersona(rows=near, by=ask("related"), each=3))
    assert far.head(1)[0]["persona"] == "friend 0 of friend 0 of a nurse"
    assert len(far) == 12
    (batch,) = far.batches(lineage=True)
    assert {row["_parents"][0] for row in batch} == {row["_id"] for row in made}


def test_a_reply_that_names_nobody_fails(session: Session) -> None:
    script("nobody", ['{"personas": []}', related([{"content": "Name 3 other <persona>\nx\n</persona>"}], None, 0)])
    made = session.run(PersonaToPersona(rows=PERSONAS, by=ask("nobody")))
    assert len(made) == 3
    assert [(row["kind"], row["raw"]) for row in made.failed()] == [("empty", '{"personas": []}')]


def test_every_persona_is_asked_for_every_kind(session: Session) -> None:
    def reply(messages: Any, schema: Any, sample: int) -> str:
        first, *_ = messages[-1]["content"].split("\n")
        return json.dumps({"text": f"{inner(messages, 'persona')}: {first} {sample}"})

    script("kinds", reply)
    step = PersonaPrompt(rows=PERSONAS, by=ask("kinds"), kinds=("math", "tool"), samples=2)
    made = content(session.run(step))
    assert [(row["persona"], row["kind"], row["sample"]) for row in made] == [
        (who, kind, sample) for who in ("a nurse", "a judge") for kind in ("math", "tool") for sample in (0, 1)
    ]
    assert made[1]["text"] == f"a nurse: {PERSONA_KINDS['math']} 1"
    own = PersonaPrompt(rows=PERSONAS, by=ask("kinds"), kinds={"haiku": "Write a haiku on {{ persona }}."})
    assert content(session.run(own))[1]["text"] == "a judge: Write a haiku on a judge. 0"


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ((), "there are no kinds"),
        (("maths",), "`maths` is none of instruction, knowledge"),
        ({"a": "{{ b"}, "the template cannot be read"),
    ],
)
def test_kinds_that_are_not_known_are_refused(kinds: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        PersonaPrompt(rows=PERSONAS, by=ask("x"), kinds=kinds)


@pytest.mark.parametrize("kind", [Backtranslate, TextToPersona, PersonaToPersona, PersonaPrompt])
def test_a_column_that_is_not_there_is_named(session: Session, kind: Any) -> None:
    with pytest.raises(RecipeError, match=rf"{kind.__name__}: there is no column `texts`"):
        session.run(kind(rows=TEXTS, by=ask("x"), input="texts"))


@pytest.mark.parametrize("kind", [Backtranslate, TextToPersona, PersonaPrompt])
def test_samples_at_temperature_0_are_refused(kind: Any) -> None:
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same"):
        kind(rows=TEXTS, by=Ask(model="openai/x"), samples=2)


def test_a_missing_field_of_a_template_names_the_columns(session: Session) -> None:
    with pytest.raises(RecipeError, match=r"has no column `job`\n  The columns are `persona`"):
        session.run(PersonaPrompt(rows=PERSONAS, by=ask("x"), kinds={"a": "{{ job }}"}))


def test_rubbish_stops_the_step_with_examples(session: Session) -> None:
    script("all-rubbish", ["As a friendly assistant"])
    with pytest.raises(ModelError, match=r"2 of the first 2 rows of `Backtranslate` failed.*\n.*As a friendly"):
        session.run(Backtranslate(rows=TEXTS, by=ask("all-rubbish")))
