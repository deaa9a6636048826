"""`PreferencePairs`: several answers, a judge, and the pairs that follow."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.errors import ModelError, RecipeError, RowFault
from stillhouse.core.lineage import trace
from stillhouse.core.session import Session
from stillhouse.generate.judges import PairJudge
from stillhouse.generate.preference_pairs import PreferencePairs
from stillhouse.generate.rubric import Criterion, Rubric
from stillhouse.measure.number_verifier import NumberVerifier
from stillhouse.rows.import_ import Import
from tests.generate import judges
from tests.generate.judges import by
from tests.generate.sums import content

ONE = Import(data=({"q": "what?"},), require=())
LONGER = PairJudge(by=by("longer"), instruction="Which is better for {{ q }}?")


def answering(name: str, answers: list[str | None]) -> Ask:
    """A model that gives these answers by sample; for None it refuses."""

    def answer(messages: Any, schema: Any, sample: int) -> str:
        said = answers[sample]
        if said is None:
            raise RowFault("refused", "not that one")
        return said

    script(name, answer)
    return Ask(model=f"scripted:{name}")


def pairs(name: str, answers: list[str | None], judge: Any, rows: Any = ONE, **fields: Any) -> PreferencePairs:
    fields = {"samples": len(answers), **fields}
    return PreferencePairs(rows=rows, by=answering(name, answers), template="{{ q }}", judge=judge, **fields)


def test_the_best_and_the_worst_answer_make_a_pair(session: Session) -> None:
    made = session.run(pairs("pref", ["mid size", "s", "the longest of all"], LONGER))
    assert content(made) == [
        {
            "q": "what?",
            "chosen": "the longest of all",
            "rejected": "s",
            "chosen_score": 1.0,
            "rejected_score": 0.0,
            "chosen_by": "scripted:pref",
            "rejected_by": "scripted:pref",
        }
    ]
    facts = made.record["facts"]
    assert (facts["pairs"], facts["mean_margin"], facts["chosen_is_longer"]) == (1, 1.0, 1.0)


def test_behind_a_pair_stand_its_answers_and_what_the_judge_said_of_them(session: Session) -> None:
    made = session.run(pairs("pref-calls", ["mid size", "s", "the longest of all"], LONGER))
    (batch,) = made.batches(lineage=True)
    # Two answers; each compared with the two others in both orders: three comparisons, six calls.
    assert len(batch[0]["_calls"]) == 2 + 6
    assert [ancestor.tag for ancestor in trace(session.store, batch[0]["_id"]).origin.parents] == ["rows.import/1"]


def test_every_two_answers_that_differ_may_make_a_pair(session: Session) -> None:
    made = session.run(pairs("pref-all", ["ccc", "a", "bb", "dd"], LONGER, pairs="all"))
    found = [(row["chosen"], row["rejected"]) for row in made]
    assert found == [("ccc", "bb"), ("ccc", "dd"), ("ccc", "a"), ("bb", "a"), ("dd", "a")]


def test_equal_answers_count_once_and_ties_are_dropped_with_the_evidence(session: Session) -> None:
    same = session.run(pairs("pref-same", ["One", " one ", "ONE"], LONGER))
    (dropped,) = same.dropped()
    assert (dropped["reason"], json.loads(dropped["detail"])) == ("all answers are the same", ["One"])
    tied = session.run(pairs("pref-tied", ["aa", "bb", "aa"], LONGER))
    (dropped,) = tied.dropped()
    assert dropped["reason"] == "no answer is better than another"
    assert json.loads(dropped["detail"]) == [{"answer": "aa", "score": 0.5}, {"answer": "bb", "score": 0.5}]


def test_a_judge_that_goes_by_the_place_makes_no_pairs(session: Session) -> None:
    judge = PairJudge(by=by("first"), instruction="Better?")
    made = session.run(pairs("pref-biased", ["a", "bb", "ccc"], judge, pairs="all"))
    assert len(made) == 0
    assert [row["reason"] for row in made.dropped()] == ["no answer is better than another"]


def test_several_models_answer_and_are_named(session: Session) -> None:
    asks = (answering("pref-a", ["short"]), answering("pref-b", ["a longer one"]))
    step = PreferencePairs(rows=ONE, by=asks, template="{{ q }}", judge=LONGER, samples=1)
    (row,) = content(session.run(step))
    assert (row["chosen_by"], row["rejected_by"]) == ("scripted:pref-b", "scripted:pref-a")
    models = session.run(step).record["facts"]["models"]
    assert models == {"scripted:pref-a": {"chosen": 0, "rejected": 1}, "scripted:pref-b": {"chosen": 1, "rejected": 0}}


def test_a_rubric_scores_each_answer(session: Session) -> None:
    rubric = Rubric(
        by=by("rubric"), criteria=(Criterion(name="clarity", description="?"),), template="{{ q }}\n{{ reply }}"
    )
    made = session.run(pairs("pref-rubric", ["text 2", "text 5", "text 3"], rubric))
    (row,) = content(made)
    assert (row["chosen"], row["rejected"]) == ("text 5", "text 2")
    assert (row["chosen_score"], row["rejected_score"]) == (1.0, 0.25)
    (batch,) = made.batches(lineage=True)
    assert len(batch[0]["_calls"]) == 4
    close = session.run(pairs("pref-margin", ["text 2", "text 3"], rubric, margin=0.25))
    assert [row["reason"] for row in close.dropped()] == ["no answer is better than another"]


def test_a_verifier_parts_right_from_wrong(session: Session) -> None:
    rows = Import(data=({"q": "2 + 2", "output": "4"}, {"q": "3 + 3", "output": "6"}), require=())
    made = session.run(pairs("pref-verified", ["It is 4.", "It is 5.", "4", "5"], NumberVerifier(), rows, pairs="all"))
    assert {(row["chosen"], row["rejected"]) for row in made} == {
        ("It is 4.", "It is 5."),
        ("It is 4.", "5"),
        ("4", "It is 5."),
        ("4", "5"),
    }
    assert {row["q"] for row in made} == {"2 + 2"}
    assert len(list(made.dropped())) == 1

    def brief(row: dict[str, Any], reply: str) -> bool:
        assert row["reply"] == reply
        return len(reply) < 3

    assert len(session.run(pairs("pref-function", ["long", "s"], brief))) == 1


def test_answers_that_cannot_be_used_are_left_out(session: Session) -> None:
    made = session.run(pairs("pref-refused", ["a", None, "bbb"], LONGER))
    assert [(row["chosen"], row["rejected"]) for row in made] == [("bbb", "a")]
    alone = session.run(pairs("pref-alone", ["a", None], LONGER))
    (dropped,) = alone.dropped()
    assert dropped["reason"] == "there are no two answers"
    assert json.loads(dropped["detail"]) == ["a", "refused: not that one"]
    with pytest.raises(ModelError, match="not that one"):
        session.run(pairs("pref-none", [None, None], LONGER))


def test_a_comparison_that_fails_decides_nothing(session: Session) -> None:
    judge = PairJudge(by=by("babbles"), instruction="Better?")
    made = session.run(pairs("pref-babble", ["a puzzle", "a", "bbb"], judge))
    assert [(row["chosen"], row["rejected"]) for row in made] == [("bbb", "a")]
    with pytest.raises(ModelError, match="invalid"):
        session.run(pairs("pref-babbles", ["a puzzle", "puzzles", "my puzzle"], judge))


def test_a_winner_that_lost_to_the_loser_makes_no_pair(session: Session) -> None:
    """a beats b and c, b beats c and d, c beats d, and d beats a."""
    better = {"ab", "ac", "bc", "bd", "cd", "da"}

    def circle(messages: Any, schema: Any, sample: int) -> str:
        first, second = judges.shown(messages)
        return judges.says("first" if first + second in better else "second")

    script("pref-circle", circle)
    judge = PairJudge(by=Ask(model="scripted:pref-circle"), instruction="Better?")
    made = session.run(pairs("pref-circled", ["a", "b", "c", "d"], judge, pairs="all"))
    found = {row["chosen"] + row["rejected"] for row in made}
    assert found <= better
    assert "da" not in found  # d won that one and has no higher score
    assert "ad" not in found


def test_what_makes_no_pairs_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="one answer makes no pair"):
        pairs("pref", ["a"], LONGER)
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same"):
        PreferencePairs(rows=ONE, by=Ask(model="openai/x"), template="{{ q }}", judge=LONGER)
    taken = Import(data=({"q": "x", "chosen": "y"},), require=())
    with pytest.raises(RecipeError, match="have a column `chosen` already"):
        session.run(pairs("pref", ["a", "b"], LONGER, taken))


def test_a_plan_counts_answers_and_comparisons(session: Session) -> None:
    session.run(ONE)
    (planned,) = session.plan(pairs("pref-plan", ["a", "b", "c", "d"], LONGER)).to_run
    assert planned.expectation.calls == 4 + 4 * 3
    rubric = Rubric(by=by("rubric"), criteria=(Criterion(name="x", description="?"),), template="{{ q }}", samples=2)
    (planned,) = session.plan(pairs("pref-plan", ["a", "b"], rubric)).to_run
    assert planned.expectation.calls == 2 + 2 * 2


def test_a_plan_knows_that_a_judge_is_asked_once_the_answers_are_there(tmp_path: Any) -> None:
    def step(count: int) -> PreferencePairs:
        rows = Import(data=tuple({"q": f"question {n}"} for n in range(count)), require=())
        ask = Ask(model="scripted:pref-count")
        return PreferencePairs(rows=rows, by=ask, template="{{ q }}", judge=LONGER, samples=3)

    script("pref-count", lambda messages, schema, sample: "x" * (sample + 1) + messages[0]["content"])
    with Session(tmp_path, progress=False, track=False) as session:
        session.run(step(2))
        session.run(step(6).rows)
        (planned,) = session.plan(step(6)).to_run
        assert (planned.expectation.calls, planned.expectation.cached_calls) == (4 * (3 + 6), 2 * (3 + 6))
        session.run(step(6))
        (again,) = session.plan(step(6).replace(margin=0.1)).to_run
        assert again.expectation.calls == 0


def test_what_was_asked_for_fewer_rows_is_not_asked_again_for_all(tmp_path: Any) -> None:
    questions = tuple({"q": f"question {n}"} for n in range(40))

    def answer(messages: Any, schema: Any, sample: int) -> str:
        number = int(re.findall(r"\d+", messages[0]["content"])[0])
        return "x" * (number * (sample + 1) % 7 + 1)

    asked = script("pref-again", answer)

    def step(count: int) -> PreferencePairs:
        rows, ask = Import(data=questions[:count], require=()), Ask(model="scripted:pref-again")
        return PreferencePairs(rows=rows, by=ask, template="{{ q }}", judge=LONGER, samples=3)

    with Session(tmp_path / "whole", progress=False, track=False) as session:
        whole = session.run(step(40)).digest
    calls = asked.num_calls
    with Session(tmp_path / "grown", progress=False, track=False) as session:
        session.run(step(15))
        assert session.run(step(40)).digest == whole
    assert asked.num_calls == 2 * calls


@settings(max_examples=10)
@given(answers=st.lists(st.text(alphabet="ab", min_size=1, max_size=5), min_size=2, max_size=5))
def test_chosen_answers_are_better_than_rejected_ones(tmp_path: Any, answers: list[str]) -> None:
    with Session(tmp_path / "store", progress=False, track=False) as session:
        rows = Import(data=({"q": f"{answers}"},), require=())
        made = content(session.run(pairs("pref-any", list(answers), LONGER, rows, pairs="all")))
    expected = {(one, other) for one in answers for other in answers if len(one) > len(other)}
    assert {(row["chosen"], row["rejected"]) for row in made} == expected
    assert len(made) == len(expected)
