"""`Evolve`: generations of instructions, and what is thrown away on the way."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate._evolve import against_answer, against_wording
from stillhouse.generate.evolve import METHODS, Evolve
from stillhouse.rows.import_ import Import

ROWS = Import(
    data=tuple({"instruction": f"Count to {n}.", "output": "old", "field": f"f{n}"} for n in range(8)),
    require=("instruction",),
)


def inner(text: str, tag: str = "instruction") -> str:
    return str(re.findall(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)[0])


def teacher(messages: Any, schema: Any, sample: int) -> Any:
    """Adds an exclamation word; judges by length; answers with the text."""
    text = messages[-1]["content"]
    title = (schema or {}).get("title")
    if title == "EvolvedInstruction":
        grown = inner(text)
        return json.dumps({"instruction": f"{grown} Then {len(grown)}."})
    if title == "EqualInstructions":
        return json.dumps({"equal": len(inner(text, "first")) >= len(inner(text, "second"))})
    return f"the answer to: {text}"


def evolve(name: str, reply: Any = teacher, **fields: Any) -> Evolve:
    script(name, reply)
    return Evolve(**{"rows": ROWS, "by": Ask(model=f"scripted:{name}"), **fields})


def test_each_generation_grows_from_the_one_before(session: Session) -> None:
    made = session.run(evolve("grown", generations=3, carry=("field",)))
    first = [row for row in made if row["field"] == "f0"]
    assert [row["instruction"] for row in first] == [
        "Count to 0. Then 11.",
        "Count to 0. Then 11. Then 20.",
        "Count to 0. Then 11. Then 20. Then 29.",
    ]
    assert [row["generation"] for row in first] == [1, 2, 3]
    assert made.columns == ["field", "instruction", "method", "generation"]
    assert len(made) == 24
    assert len({row["method"] for row in made}) == len(METHODS)


def test_rows_know_the_original_and_the_calls_of_all_generations(session: Session) -> None:
    made = session.run(evolve("lineage", generations=2))
    (batch,) = made.batches(lineage=True)
    origins = [row["_id"] for row in session.run(ROWS)]
    assert [row["_parents"] for row in batch[:4]] == [[origins[0]], [origins[0]], [origins[1]], [origins[1]]]
    assert [len(row["_calls"]) for row in batch[:2]] == [2, 4]
    assert batch[1]["_calls"][:2] == batch[0]["_calls"]


def test_only_the_last_generation_is_kept_where_said(session: Session) -> None:
    made = session.run(evolve("last", generations=3, keep="last"))
    assert [row["generation"] for row in made] == [3] * 8


def test_what_gained_nothing_is_dropped_and_the_next_generation_starts_from_what_there_was(session: Session) -> None:
    def stubborn(messages: Any, schema: Any, sample: int) -> Any:
        if schema is not None and schema["title"] == "EvolvedInstruction" and sample == 0:
            return json.dumps({"instruction": "Count."})  # shorter: the judge calls it equal
        return teacher(messages, schema, sample)

    made = session.run(evolve("stubborn", stubborn, generations=2))
    assert [row["generation"] for row in made] == [2] * 8
    assert made.head(1)[0]["instruction"] == "Count to 0. Then 11."
    dropped = list(made.dropped())
    assert {(row["reason"], row["detail"]) for row in dropped} == {
        ("nothing is gained: it asks for the same", "Count.")
    }
    assert len(dropped) == 8
    (batch,) = made.batches(lineage=True)
    assert {len(row["_calls"]) for row in batch} == {2}  # those of the generation that came to nothing are not its own


def test_what_speaks_of_the_rewriting_is_dropped_before_anybody_judges(session: Session) -> None:
    def talkative(messages: Any, schema: Any, sample: int) -> Any:
        return json.dumps({"instruction": "Answer the rewritten prompt."})

    asked = script("talkative", talkative)
    made = session.run(Evolve(rows=ROWS, by=Ask(model="scripted:talkative")))
    assert len(made) == 0
    assert {row["reason"] for row in made.dropped()} == {"it speaks of the rewriting: `rewritten prompt`"}
    assert asked.num_calls == 8


def test_answers_are_asked_for_and_throw_out_what_cannot_be_answered(session: Session) -> None:
    def answering(messages: Any, schema: Any, sample: int) -> Any:
        text = messages[-1]["content"]
        if schema is None and "to 3." in text:
            return "Sorry, I cannot help with that."
        return "it is the ..." if schema is None and "to 4." in text else teacher(messages, schema, sample)

    made = session.run(evolve("answering", answering, answers=True))
    assert made.head(1)[0]["output"] == "the answer to: Count to 0. Then 11."
    assert len(made) == 6
    assert [row["reason"] for row in made.dropped()] == ["its answer is an apology", "its answer says nothing"]


def test_a_refused_generation_fails_with_its_reason_and_the_others_stand(session: Session) -> None:
    def prudish(messages: Any, schema: Any, sample: int) -> Any:
        refuses = "to 5." in messages[-1]["content"] and sample == 1
        return scripted_reply(refusal="not that") if refuses else teacher(messages, schema, sample)

    made = session.run(evolve("prudish", prudish, generations=3, carry=("field",)))
    assert [row["generation"] for row in made if row["field"] == "f5"] == [1, 3]
    assert [(row["kind"], row["message"]) for row in made.failed()] == [("refused", "not that")]


def test_no_answer_ends_the_row_and_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    def down(messages: Any, schema: Any, sample: int) -> Any:
        if "to 5." in messages[-1]["content"] and sample >= 1:
            raise RowFault("exhausted", "the provider is in trouble")
        return teacher(messages, schema, sample)

    step = evolve("down", down, generations=4, compare=False)
    with Session(tmp_path, track=False, progress=False) as session:
        made = session.run(step)
    assert len(made) == 7 * 4 + 1
    assert made.unanswered == 1
    mended = script("down", teacher)
    with Session(tmp_path, track=False, progress=False) as session:
        assert len(session.run(step)) == 8 * 4
    assert mended.num_calls == 3


def test_methods_of_ones_own(session: Session) -> None:
    asked = script("own", teacher)
    step = Evolve(rows=ROWS, by=Ask(model="scripted:own"), methods={"polite": "Make it more polite."}, compare=False)
    assert {row["method"] for row in session.run(step)} == {"polite"}
    questions = [str(request.messages[-1]["content"]) for request in asked.requests]
    assert all("Make it more polite." in question and "harder" not in question for question in questions)


def test_another_judge_may_say_whether_something_was_gained(session: Session) -> None:
    judge = script("judge", lambda messages, schema, sample: '{"equal": true}')
    made = session.run(evolve("pupil", judge=Ask(model="scripted:judge")))
    assert len(made) == 0
    assert judge.num_calls == 8


def test_rows_are_the_same_whatever_the_chunks_and_other_for_another_seed(tmp_path: Path) -> None:
    def made(name: str, options: Options, **fields: Any) -> list[Any]:
        with Session(tmp_path / name, track=False, progress=False, options=options) as session:
            found = session.run(evolve("order", generations=2, **fields))
            return [(row["_id"], row["method"]) for row in found]

    whole = made("whole", Options())
    assert made("pieces", Options(chunk=1, first_look=1)) == whole
    assert [method for _, method in made("other", Options(), seed=5)] != [method for _, method in whole]
    assert len(Counter(method for _, method in whole)) > 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ("magic",)}, "`magic` is no method that is known: constraints"),
        ({"methods": ()}, "there are no methods"),
        ({"methods": {"a": " "}}, "`a` does not say"),
        ({"carry": ("output",)}, "`carry` names `output`"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        evolve("refused", **fields)


def test_a_column_that_is_not_there_is_named(session: Session) -> None:
    with pytest.raises(RecipeError, match=r"no column `instructions`\n  Did you mean `instruction`"):
        session.run(evolve("missing", input="instructions"))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("Count to 3.", "count to 3", "the same as before"),
        ("Count.", "...", "it says nothing"),
        ("Count.", "Count the Given Prompt.", "`given prompt`"),
        ("Explain the given prompt.", "Explain the given prompt to a child.", None),
        ("Count to 3.", "Count to 4.", None),
    ],
)
def test_wordings_that_count_against_an_instruction(before: str, after: str, reason: str | None) -> None:
    found = against_wording(before, after)
    assert found is None if reason is None else reason in str(found)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("It is 4.", None),
        ("No.", None),
        ("I'm sorry, but no.", "apology"),
        ("Sorry is a word of " + "many " * 90, None),
        ("?!", "says nothing"),
        ("it is what it is", "says nothing"),
        ("4", None),
    ],
)
def test_answers_that_count_against_an_instruction(answer: str, reason: str | None) -> None:
    found = against_answer(answer)
    assert found is None if reason is None else reason in str(found)
