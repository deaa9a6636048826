"""`SelfInstruct`: new instructions, whatever the order of replies, each unlike all others."""

from __future__ import annotations

import json
import random
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script, scripted_reply
from stillhouse.core.errors import Interrupted, ModelError, RecipeError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.generate.self_instruct import SelfInstruct
from stillhouse.rows.import_ import Import
from stillhouse.text.ngrams import words
from stillhouse.text.rouge import rouge_l
from tests.generate.sums import content

SEEDS = Import(
    data=tuple(
        {"instruction": text, "output": "…"}
        for text in (
            "Name three rivers of Europe and their sources.",
            "Is this review friendly or not? Great coffee, rude staff.",
            "Turn the sentence into the past tense: she sings.",
        )
    ),
    require=("instruction",),
)
VERBS = ("Explain", "List", "Compare", "Translate", "Shorten", "Rhyme", "Judge", "Plan", "Count", "Rename")
THINGS = ("tea", "ice", "bread", "laws", "birds")


def teacher(messages: Any, schema: Any, sample: int) -> Any:
    """Fresh instructions, drawn from the whole request, some of them alike."""
    text = messages[0]["content"]
    rng = random.Random(f"{text} {sample}")
    found = [
        f"{rng.choice(VERBS)} {rng.choice(THINGS)} and {rng.choice(THINGS)} to {rng.choice(THINGS)}"
        for _ in range(int(re.findall(r"Write (\d+) new", text)[0]))
    ]
    if "classification" in json.dumps(schema):
        found = [{"instruction": one, "classification": one.startswith("Judge")} for one in found]  # type: ignore[misc]
    return json.dumps({"instructions": found})


def fixed(*texts: str) -> Any:
    return lambda messages, schema, sample: json.dumps({"instructions": list(texts)})


def grown(name: str, reply: Any = teacher, num: int = 40, **fields: Any) -> SelfInstruct:
    settings = {"latency": fields.pop("latency")} if "latency" in fields else {}
    script(name, reply, **settings)
    by = Ask(model=f"scripted:{name}", deployment=fields.pop("deployment", None), temperature=1.0)
    return SelfInstruct(**{"rows": SEEDS, "by": by, "num": num, **fields})


def test_no_two_instructions_are_alike(session: Session) -> None:
    made = session.run(grown("unlike"))
    texts = [*(row["instruction"] for row in made), *(row["instruction"] for row in session.run(SEEDS))]
    assert len(made) == 40
    assert made.columns == ["instruction"]
    assert made.record["facts"]["stopped"] == "40 new instructions"
    assert max(rouge_l(words(one), words(other)) for one, other in combinations(texts, 2)) < 0.7
    reasons = [row["reason"] for row in made.dropped()]
    assert any(re.fullmatch(r"it is nearly new instruction \d+ \(ROUGE-L [01]\.\d\d\)", reason) for reason in reasons)


def test_the_order_of_replies_changes_nothing(tmp_path: Path) -> None:
    waits = {"quick": None, "slow first": lambda call: 0.05 * (call == 0), "mixed": lambda call: 0.01 * (call * 7 % 5)}
    found = set()
    for name, latency in waits.items():
        with Session(tmp_path / name, track=False, progress=False) as session:
            found.add(session.run(grown(f"order-{name}", latency=latency, deployment="one")).digest)
    assert len(found) == 1


def test_it_goes_on_after_an_interruption_as_if_there_had_been_none(tmp_path: Path) -> None:
    with Session(tmp_path / "whole", track=False, progress=False) as session:
        whole = session.run(grown("whole")).digest

    def stop(event: Event) -> None:
        if event.kind == "step.progress" and event.data.get("calls") == 3:
            session.stop()

    step = grown("whole")
    with Session(tmp_path / "broken", on_event=stop, track=False) as session, pytest.raises(Interrupted):
        session.run(step)
    with Session(tmp_path / "broken", track=False, progress=False) as session:
        assert session.run(step).digest == whole


def test_each_reason_against_an_instruction(session: Session) -> None:
    texts = (
        "Write an ode to salt in four lines",
        "Write an ode to salt in five lines",
        "name three rivers of europe and their sources",
        "Too short",
        "many " * 151,
        "Describe the picture in one sentence",
        "Go to the shop and buy some bread",
        "- and then say hello to all",
        "",
        "  “Why?” asked the owl. Answer it.  ",
    )
    made = session.run(grown("reasons", fixed(*texts), num=4, patience=1))
    assert [row["instruction"] for row in made] == [texts[0], "“Why?” asked the owl. Answer it."]
    seeds = [row["_id"] for row in session.run(SEEDS)]
    assert [row["reason"] for row in made.dropped()][:8] == [
        "it is nearly new instruction 1 (ROUGE-L 0.88)",
        f"it is nearly seed {seeds[0]} (ROUGE-L 1.00)",
        "it has 2 words, outside of 3 to 150",
        "it has 151 words, outside of 3 to 150",
        "it speaks of what is not text: `picture`",
        "it speaks of what is not text: `go to`",
        "it begins with punctuation",
        "it has 0 words, outside of 3 to 150",
    ]


def test_words_that_are_allowed_are_allowed(session: Session) -> None:
    made = session.run(grown("allowed", fixed("Describe the picture in one sentence"), num=1, without=()))
    assert len(made) == 1


def test_whether_it_is_a_classification_is_asked_for_where_wanted(session: Session) -> None:
    made = session.run(grown("kinds", classify=True))
    assert made.columns == ["instruction", "classification"]
    assert {row["classification"] for row in made} == {True, False}
    assert all(row["classification"] == row["instruction"].startswith("Judge") for row in made)


def test_a_call_shows_seeds_and_accepted_ones_and_says_what_it_is_about(session: Session) -> None:
    asked = script("shown", teacher)
    step = SelfInstruct(
        rows=SEEDS, by=Ask(model="scripted:shown"), num=30, shown_seeds=2, shown_new=3, about="the sea", window=1
    )
    made = session.run(step)
    seeds = {row["instruction"]: row["_id"] for row in session.run(SEEDS)}
    new = {row["instruction"] for row in made}
    questions = [str(request.messages[0]["content"]) for request in asked.requests]
    listed = [json.loads(line[2:]) for line in questions[3].split("\n") if line.startswith("- ")]
    assert len([text for text in listed if text in seeds]) == 2
    assert len([text for text in listed if text in new]) == 3
    assert all("about this: the sea" in question for question in questions)
    (batch,) = made.batches(lineage=True)
    last = [row for row in batch if len(row["_parents"]) == 2]
    assert len(last) == len(batch)
    assert {parent for row in batch for parent in row["_parents"]} <= set(seeds.values())


def test_a_larger_number_goes_on_with_kept_replies(session: Session) -> None:
    asked = script("larger", teacher)
    step = SelfInstruct(rows=SEEDS, by=Ask(model="scripted:larger"), num=20)
    few = session.run(step)
    before = asked.num_calls
    many = session.run(step.replace(num=90))
    assert content(many)[:20] == content(few)
    assert len({request.key for request in asked.requests}) == asked.num_calls > before


def test_it_stops_when_nothing_new_comes_and_says_so(session: Session) -> None:
    made = session.run(grown("dry", fixed("Sing a song of sixpence", "Bake four and twenty birds"), patience=4))
    assert len(made) == 2
    assert made.record["facts"]["stopped"] == (
        "the last 4 calls brought only 2 new instructions of 32: 2 of the 40 wanted"
    )


def test_a_teacher_that_only_repeats_the_seeds_is_an_error(session: Session) -> None:
    parrot = fixed("Name three rivers of Europe and their sources")
    with pytest.raises(ModelError, match=r"gave no new instruction in 40 calls:\n    it is nearly seed"):
        session.run(grown("parrot", parrot))


def test_rubbish_stops_it_with_examples_and_single_replies_fail_with_their_words(session: Session) -> None:
    with pytest.raises(ModelError, match=r"rows of `SelfInstruct` failed; the first:\n.*As a friendly"):
        session.run(grown("rubbish", lambda messages, schema, sample: "As a friendly assistant"))

    def partly(messages: Any, schema: Any, sample: int) -> Any:
        bad = {1: scripted_reply(refusal="no"), 2: scripted_reply("{", finish="length"), 3: '{"instructions": []}'}
        return bad.get(sample) or teacher(messages, schema, sample)

    made = session.run(grown("partly", partly))
    assert len(made) == 40
    assert [row["kind"] for row in made.failed()] == ["refused", "cut", "empty"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shortest": 9, "longest": 3}, "`shortest` is 9"),
        ({"classify": True, "input": "classification"}, "a column of its own"),
        ({"num": 0}, "`num`"),
    ],
)
def test_fields_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        grown("refused", **fields)


def test_a_column_that_is_not_there_or_holds_no_text_is_named(session: Session) -> None:
    with pytest.raises(RecipeError, match=r"no column `task`\n  The columns are `instruction`, `output`"):
        session.run(grown("missing", input="task"))
    rows = Import(data=({"instruction": "fine"}, {"instruction": None}), require=())
    with pytest.raises(RecipeError, match=r"has nothing in `instruction`\n  Each row needs an instruction"):
        session.run(grown("nothing", rows=rows))


def test_a_plan_says_how_many_calls(session: Session) -> None:
    assert session.plan(grown("plan", num=600)).total("calls") == 100
