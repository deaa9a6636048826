"""`Amplify`: new inputs, whatever the order of replies, until there are enough or no more come."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import Scripted, script
from stillhouse.core.errors import Interrupted, ModelError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from tests.generate import teachers
from tests.generate.sums import SEEDS, amplify, content


def scripted(name: str, function: Any, **settings: Any) -> Ask:
    script(name, function, **settings)
    return Ask(model=f"scripted:{name}")


def fixed(*texts: str) -> Any:
    """A teacher that gives the same inputs in every reply."""
    return lambda messages, schema, sample: json.dumps({"inputs": list(texts)})


def test_there_are_as_many_new_inputs_as_wanted_and_all_differ(session: Session) -> None:
    made = session.run(amplify("reply", 20))
    texts = [row["input"] for row in made]
    assert len(texts) == 60 == len(set(texts))
    assert made.columns == ["input"]
    assert made.record["facts"]["stopped"] == "60 new inputs"
    assert not {row["input"] for row in session.run(SEEDS)} & set(texts)


def test_the_order_of_replies_changes_nothing(tmp_path: Any) -> None:
    waits = {
        "quick": None,
        "slow first": lambda call: 0.05 if call == 0 else 0.0,
        "mixed": lambda call: 0.01 * (call * 7 % 5),
    }
    found = []
    for name, latency in waits.items():
        ask = scripted(f"amplify-order-{name}", teachers.reply, latency=latency)
        with Session(tmp_path / name) as session:
            found.append(session.run(amplify(ask.replace(deployment="one"), 15)).digest)
    assert len(set(found)) == 1


def test_it_goes_on_after_an_interruption_as_if_there_had_been_none(tmp_path: Any) -> None:
    ask = scripted("amplify-resume", teachers.reply)
    with Session(tmp_path / "whole") as session:
        whole = session.run(amplify(ask, 15)).digest

    def stop(event: Event) -> None:
        if event.kind == "step.progress" and event.data.get("calls") == 2:
            session.stop()

    with Session(tmp_path / "broken", on_event=stop) as session, pytest.raises(Interrupted):
        session.run(amplify(ask, 15))
    with Session(tmp_path / "broken") as session:
        made = session.run(amplify(ask, 15))
    assert made.digest == whole


def test_duplicates_are_dropped_with_the_reason(session: Session) -> None:
    texts = (
        "Zoe has one hundred and eleven apples and gets nine",
        "zoe has one hundred and eleven apples and gets nine!",
        "Zoe has one hundred and eleven apples and gets nine more",
        "ann has 3, and gets 4.",
    )
    made = session.run(amplify(scripted("amplify-twins", fixed(*texts)), 10, threshold=0.7, patience=3, slack=3))
    assert [row["input"] for row in made] == [texts[0]]
    reasons = [row["reason"] for row in made.dropped()][:3]
    seeds = [row["_id"] for row in session.run(SEEDS)]
    assert reasons == [
        "its words are those of new input 1",
        "it is nearly new input 1 (similarity 0.89)",
        f"its words are those of seed {seeds[0]}",
    ]


def test_inputs_far_longer_or_shorter_than_the_seeds_are_dropped(session: Session) -> None:
    ask = scripted("amplify-lengths", fixed("1", "", "many " * 100, "Kim has 5 and gets 6"))
    made = session.run(amplify(ask, 10, patience=2))
    assert [row["input"] for row in made] == ["Kim has 5 and gets 6"]
    reasons = Counter(re.sub(r"\d+", "n", row["reason"]) for row in made.dropped())
    assert reasons["it has n characters, outside of n to n"] == 2 * reasons["it is empty"] > 0


def test_it_stops_when_nothing_new_comes_and_says_so(session: Session) -> None:
    ask = scripted("amplify-end", fixed("Kim has 5 and gets 6", "Lou has 7, Mia has 8"))
    made = session.run(amplify(ask, 100, patience=4))
    assert len(made) == 2
    facts = made.record["facts"]
    assert facts["stopped"] == "the last 4 calls brought only 2 new inputs of 40: 2 of the 300 wanted"
    assert facts["calls"] == 4


def test_a_trickle_is_too_little(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        return json.dumps({"inputs": [f"Kim has {sample} and gets {sample}", *(["Ann has 3 and gets 4"] * 9)]})

    some = session.run(amplify(scripted("amplify-trickle", answer), 100, patience=4, least=0.2))
    assert "brought only 4 new inputs of 40" in some.record["facts"]["stopped"]
    all_of_them = session.run(amplify(scripted("amplify-trickle", answer), 5, patience=4, least=0.05))
    assert all_of_them.record["facts"]["stopped"] == "15 new inputs"


def test_a_teacher_that_only_repeats_the_seeds_is_an_error(session: Session) -> None:
    ask = scripted("amplify-parrot", fixed("Ann has 3 and gets 4"))
    with pytest.raises(ModelError, match=r"gave no new input in 40 calls:\n    its words are those of seed"):
        session.run(amplify(ask))


def test_calls_on_their_way_are_heard_before_it_gives_up(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        if sample < 36:
            return json.dumps({"inputs": ["Ann has 3 and gets 4"]})
        return teachers.new_inputs(messages, sample)

    made = session.run(amplify(scripted("amplify-late", answer), 5, least=0.01))
    assert len(made) == 15


def test_a_teacher_of_rubbish_is_stopped_with_examples(session: Session) -> None:
    with pytest.raises(ModelError, match=r"rows of `Amplify` failed; the first:\n.*As a friendly assistant"):
        session.run(amplify("rubbish"))


def test_single_replies_of_rubbish_are_failures_with_their_text(session: Session) -> None:
    def answer(messages: Any, schema: Any, sample: int) -> str:
        return "so sorry" if sample % 3 == 0 else teachers.new_inputs(messages, sample)

    made = session.run(amplify(scripted("amplify-some", answer), 10))
    assert len(made) == 30
    failed = list(made.failed())
    assert {(row["kind"], row["raw"]) for row in failed} == {("invalid", "so sorry")}
    assert made.record["facts"]["failed_calls"] == len(failed)


def test_the_parents_of_a_row_are_the_seeds_its_call_was_shown(session: Session) -> None:
    asked = script("amplify-parents", teachers.reply)
    made = session.run(amplify(Ask(model="scripted:amplify-parents"), 10, shown_seeds=2))
    seeds = {row["_id"]: row["input"] for row in session.run(SEEDS)}
    prompts = [str(request.messages[0]["content"]) for request in asked.requests]
    for row in (row for batch in made.batches(lineage=True) for row in batch):
        shown = {seeds[parent] for parent in row["_parents"]}
        assert len(shown) == 2
        assert any(all(json.dumps(text) in prompt for text in shown) for prompt in prompts)
        assert len(row["_calls"]) == 1


def test_calls_show_what_was_accepted_and_vary(session: Session) -> None:
    asked: Scripted = script("amplify-shown", teachers.reply)
    made = session.run(amplify(Ask(model="scripted:amplify-shown"), 20, window=1))
    prompts = [str(request.messages[0]["content"]) for request in asked.requests]
    accepted = [row["input"] for row in made]
    assert not any(text in prompts[0] for text in accepted)
    assert sum(json.dumps(text) in prompts[-1] for text in accepted) == 6
    assert len(set(prompts)) == len(prompts)
    assert "Let some of them need this: large numbers." in prompts[1]
    assert "Let some of them need this: three numbers." in prompts[3]
    assert {request.sample for request in asked.requests} == set(range(len(prompts)))


def test_a_limited_run_makes_one_new_row_for_each_seed(session: Session) -> None:
    made = session.run(amplify("reply", 500).limited(3))
    assert len(made) == 3


def test_another_seed_shows_other_rows(session: Session) -> None:
    one, two = session.run(amplify("reply", 10)), session.run(amplify("reply", 10, seed=1))
    assert content(one) != content(two)


def test_a_plan_expects_the_rows_and_some_waste(session: Session) -> None:
    session.run(SEEDS)
    planned = {entry.tag: entry.expectation for entry in session.plan(amplify("reply", 30)).to_run}
    assert (planned["generate.amplify/1"].rows, planned["generate.amplify/1"].calls) == (90, 10)
    assert planned["generate.extract_policy/1"].calls == 1
