"""Votes between replies, and the verifiers that look at them first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.retry import TryAgain
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.session import Session
from stillhouse.generate.answer import Answer
from stillhouse.generate.majority_vote import MajorityVote
from stillhouse.generate.verify import Verify
from stillhouse.measure.agreement import Agreement
from stillhouse.measure.code_verifier import CodeVerifier
from stillhouse.measure.intervals import wilson
from stillhouse.measure.limits import Limits
from stillhouse.measure.number_verifier import NumberVerifier
from stillhouse.measure.text_verifiers import RegexVerifier
from stillhouse.rows.import_ import Import
from tests.generate import teachers
from tests.generate.sums import INSTRUCTION, Sum, by, content, inputs

QUESTIONS = Import(data=({"q": "5 and 7"}, {"q": "a puzzle"}, {"q": "1 and 1"}), require=())
NUMBER = Agreement(normaliser="number")


def talk(messages: Any, schema: Any, sample: int) -> str:
    """Comes to the sum in words of its own, to another one in sample 1; of puzzles it says another thing each time."""
    text = messages[0]["content"]
    if "puzzle" in text:
        return f"perhaps {sample}"
    total = teachers.total(text) + (sample == 1)
    return [f"That is {total}.", f"The answer is {total:,}", f"{total}.0, I think"][sample % 3]


def vote(name: str, rows: Any = QUESTIONS, **fields: Any) -> MajorityVote:
    fields = {"samples": 3, "agreement": NUMBER, **fields}
    return MajorityVote(rows=rows, by=Ask(model=f"scripted:{name}"), template="{{ q }}?", **fields)


def test_replies_that_come_to_the_same_number_agree(session: Session) -> None:
    script("vote", talk)
    made = session.run(vote("vote"))
    assert content(made) == [
        {"q": "5 and 7", "reply": "That is 12.", "agreement": pytest.approx(2 / 3)},
        {"q": "1 and 1", "reply": "That is 2.", "agreement": pytest.approx(2 / 3)},
    ]
    (dropped,) = made.dropped()
    assert dropped["reason"] == "at most 1 of 3 answers agree"
    assert json.loads(dropped["detail"]) == ["perhaps 0", "perhaps 1", "perhaps 2"]
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [1, 1]


def test_several_models_vote_together(session: Session) -> None:
    for name, said in (("vote-a", "yes"), ("vote-b", "YES "), ("vote-c", "no")):
        script(name, [said])
    asks = tuple(Ask(model=f"scripted:{name}") for name in ("vote-c", "vote-a", "vote-b"))
    step = MajorityVote(
        rows=QUESTIONS, by=asks, template="{{ q }}", samples=1, agreement=Agreement(normaliser="casefold")
    )
    assert content(session.run(step))[0] == {"q": "5 and 7", "reply": "yes", "agreement": pytest.approx(2 / 3)}
    twice = session.plan(step.replace(samples=2)).to_run[0].expectation
    assert (twice.calls, twice.cached_calls) == (3 * 3, 3 * 3)  # the first samples are kept


def test_structured_replies_are_compared_as_json_and_written_in_the_order_of_the_schema(session: Session) -> None:
    replies = ['{"sum": 3}', '{"sum":3.0}', '{"sum": 4}']
    script("vote-json", lambda messages, schema, sample: replies[sample])
    made = session.run(vote("vote-json", response=Sum, agreement=Agreement(normaliser="json")))
    assert content(made)[0]["reply"] == '{"sum": 3}'


def test_what_a_verifier_rejects_is_a_vote_for_nobody(session: Session) -> None:
    script("vote-verified", talk)
    made = session.run(vote("vote-verified", verify=RegexVerifier(pattern="is")))
    assert [row["q"] for row in made] == []  # of three one is rejected, and the other two differ
    reasons = {row["reason"] for row in made.dropped()}
    assert reasons == {"at most 1 of 3 answers agree", "the verifier accepts no answer"}
    lax = session.run(vote("vote-verified", verify=RegexVerifier(pattern="is"), agreement=NUMBER.replace(least=0.3)))
    assert [row["reply"] for row in lax] == ["That is 12.", "That is 2."]


def test_a_vote_is_open_until_all_were_heard(session: Session) -> None:
    failures = {n: TryAgain("server", "boom") for n in range(1, 30)}
    script("vote-open", lambda messages, schema, sample: "yes", failures=failures)
    one = Import(data=({"q": "x"},), require=())
    with pytest.raises(ModelError):  # the only row failed: it got no answer
        session.run(vote("vote-open", one))


def test_rows_of_which_no_reply_is_usable_fail(session: Session) -> None:
    script(
        "vote-rubbish",
        lambda messages, schema, sample: "rubbish" if "puzzle" in messages[0]["content"] else '{"sum": 1}',
    )
    made = session.run(vote("vote-rubbish", response=Sum))
    (failed,) = made.failed()
    assert (failed["kind"], failed["raw"]) == ("invalid", "rubbish")


def test_votes_that_cannot_be_are_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same answer"):
        MajorityVote(rows=QUESTIONS, by=Ask(model="openai/x"), template="x")
    with pytest.raises(RecipeError, match="have a column `q` already"):
        session.run(vote("vote", column="q"))


@settings(max_examples=10)
@given(said=st.lists(st.sampled_from("abc"), min_size=1, max_size=6))
def test_the_winner_has_more_than_half_or_there_is_none(tmp_path: Any, said: list[str]) -> None:
    script("vote-any", lambda messages, schema, sample: said[sample])
    one = Import(data=({"q": f"{said}"},), require=())
    with Session(tmp_path / "store", progress=False, track=False) as session:
        made = session.run(vote("vote-any", one, samples=len(said), agreement=Agreement()))
        rows = content(made)
    most = max(set(said), key=said.count)
    if 2 * said.count(most) > len(said):
        assert (rows[0]["reply"], rows[0]["agreement"]) == (most, said.count(most) / len(said))
    else:
        assert rows == []


def test_answers_are_checked_before_they_are_counted(session: Session) -> None:
    def right(row: dict[str, Any], output: str) -> bool | str:
        return json.loads(output)["sum"] == teachers.total(row["input"]) or f"{output} is no sum of {row['input']}"

    rows = inputs("1 and 2", "a puzzle of 5")
    wavering = by("wavering")
    fields: dict[str, Any] = {"instruction": INSTRUCTION, "response": Sum, "verify": right}
    made = session.run(Answer(rows=rows, by=wavering, samples=3, agreement=Agreement(least=0.3), **fields))
    assert [(row["input"], row["output"]) for row in made] == [
        ("1 and 2", '{"sum": 3}'),
        ("a puzzle of 5", '{"sum": 5}'),
    ]
    once = session.run(Answer(rows=rows, by=by("wrong"), **fields))
    assert len(once) == 0
    dropped = list(once.dropped())
    assert [row["reason"] for row in dropped] == ["the verifier accepts no answer"] * 2
    assert 'rejected: {"sum": 4} is no sum of 1 and 2' in json.loads(dropped[0]["detail"])[0]


def test_a_verifier_leaves_the_key_of_an_answer_without_one_as_it_was() -> None:
    plain = Answer(rows=inputs("1"), by=by(), instruction="?")
    assert plain.recipe_key == Answer(rows=inputs("1"), by=by(), instruction="?", verify=None).recipe_key
    checked = plain.replace(verify=NumberVerifier())
    assert checked.recipe_key != plain.recipe_key


def test_every_row_is_marked_by_a_verifier(session: Session) -> None:
    rows = Import(data=({"a": 2, "r": "it is 2"}, {"a": 3, "r": "it is 4"}, {"a": 1, "r": None}), require=())
    made = session.run(Verify(rows=rows, where=NumberVerifier(column="a"), column="r"))
    assert [(row["verified"], row["verified_reason"]) for row in made] == [
        (True, None),
        (False, "it comes to 4, not 3"),
        (False, "there is no reply"),
    ]
    assert made.record["facts"]["accepted"] == {"rows": 1, "share": pytest.approx(1 / 3), **wilson(1, 3)._asdict()}
    with pytest.raises(RecipeError, match="Verify: there is no column `output`"):
        session.run(Verify(rows=rows, where=NumberVerifier()))


def test_replies_are_run_while_other_rows_are_asked(session: Session) -> None:
    codes = ["print(1)", "print(2)", "print(1) # one"]
    script("vote-code", lambda messages, schema, sample: codes[sample])
    rows = Import(data=({"q": "print one", "wanted": "1"},), require=())
    verify = CodeVerifier(stdout="wanted", limits=Limits(seconds=60))
    made = session.run(vote("vote-code", rows, verify=verify, agreement=Agreement(least=0.3)))
    assert [row["reply"] for row in made] == ["print(1)"]
