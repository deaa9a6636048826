"""`JudgePairs`: both orders, several judges, and what their verdicts tell about them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.core.artifact import Rows
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from stillhouse.generate.judge_pairs import JudgePairs
from stillhouse.generate.judges_text import judges_text
from stillhouse.measure.intervals import newcombe_paired, wilson
from stillhouse.rows.import_ import Import
from tests.generate import judges
from tests.generate.judges import by
from tests.generate.sums import content

PAIRS = [("long answer", "short"), ("x", "a long answer"), ("same size", "equal len"), ("aa", "a"), ("q", "q")]


def rows(pairs: Any = PAIRS) -> Import:
    return Import(data=tuple({"input": f"q{n}", "a": a, "b": b} for n, (a, b) in enumerate(pairs)), require=())


def judged(*names: str, pairs: Any = PAIRS, **fields: Any) -> JudgePairs:
    return JudgePairs(
        rows=rows(pairs), by=tuple(map(by, names)), instruction="Which is better for {{ input }}?", **fields
    )


def test_each_pair_is_judged_in_both_orders(session: Session) -> None:
    made = session.run(judged("longer"))
    assert [row["winner"] for row in made] == ["a", "b", "tie", "a", "tie"]
    (verdict,) = content(made)[0]["verdicts"]
    assert verdict == {
        "judge": "python:tests.generate.judges:longer",
        "winner": "a",
        "ab": "a",
        "ba": "a",
        "reason_ab": "11 against 5",
        "reason_ba": "5 against 11",
        "fault": None,
    }


def test_both_calls_stand_behind_a_verdict_and_equal_answers_cost_none(session: Session) -> None:
    asked = script("judge-calls", judges.longer)
    step = JudgePairs(rows=rows(), by=Ask(model="scripted:judge-calls"), instruction="Better?")
    batches = list(session.run(step).batches(lineage=True))
    assert [len(row["_calls"]) for row in batches[0]] == [2, 2, 2, 2, 0]
    assert asked.num_calls == 8
    assert batches[0][4]["verdicts"][0]["fault"] == "equal: the answers are equal"
    first, other = (str(request.messages[0]["content"]) for request in asked.requests[:2])
    assert "<first>\nlong answer\n</first>\n\n<second>\nshort\n</second>" in first
    assert "<first>\nshort\n</first>\n\n<second>\nlong answer\n</second>" in other
    schema = asked.requests[0].schema
    assert schema is not None
    assert list(schema.form["properties"]) == ["reason", "winner"]


@pytest.mark.parametrize(("name", "sign"), [("first", 1), ("second", -1)])
def test_a_judge_that_goes_by_the_place_gives_ties_and_is_found_out(session: Session, name: str, sign: int) -> None:
    pairs = [(f"answer {n}", f"other {n}") for n in range(30)]
    made = session.run(judged(name, pairs=pairs))
    assert [row["winner"] for row in made] == ["tie"] * 30
    facts = made.record["facts"]
    assert facts["winners"] == {"a": 0, "b": 0, "tie": 30}
    (judge,) = facts["judges"].values()
    assert judge["orders_agree"] == {"pairs": 0, "share": 0.0, "low": 0.0, "high": wilson(0, 30).high}
    lean = judge["leans_to_first"]
    assert lean["share"] == sign
    assert lean["low"] > 0.8 if sign > 0 else lean["high"] < -0.8
    assert f"prefers what stands {name}, whatever it says." in judges_text(made)


def test_the_numbers_about_a_leaning_judge_are_those_of_the_definition(session: Session) -> None:
    pairs = [("aaaaaaaa", "b"), ("a", "bbbbbbbb"), ("aa", "b"), ("a", "bb"), ("aaa", "bb"), ("b", "b")]
    made = session.run(judged("leaning", pairs=pairs))
    assert [row["winner"] for row in made] == ["a", "b", "tie", "tie", "tie", "tie"]
    (judge,) = made.record["facts"]["judges"].values()
    assert (judge["judged"], judge["without_verdict"], made.record["facts"]["equal"]) == (5, 0, 1)
    assert judge["orders_agree"]["share"] == pytest.approx(2 / 5)
    assert judges_text(made).startswith("6 pairs: a 1, b 1, tie 4 (1 of equal answers, which nobody judged)\n")
    expected = newcombe_paired(0, 0, 3, 2)
    assert judge["leans_to_first"] == {
        "first": 3,
        "second": 0,
        "share": pytest.approx(3 / 5),
        "low": pytest.approx(expected.low),
        "high": pytest.approx(expected.high),
    }


def test_of_several_judges_more_than_half_must_agree(session: Session) -> None:
    two_to_one = session.run(judged("longer", "shorter", "babbles", pairs=PAIRS[:2]))
    assert [row["winner"] for row in two_to_one] == ["a", "b"]
    split = session.run(judged("longer", "shorter", pairs=PAIRS[:2]))
    assert [row["winner"] for row in split] == ["tie", "tie"]
    between = split.record["facts"]["between_judges"]
    assert (between["of"], between["kappa"], between["all_agree"]["pairs"]) == ("cohen", -1.0, 0)
    assert two_to_one.record["facts"]["between_judges"]["of"] == "fleiss"
    assert "Cohen's kappa -1.00" in judges_text(split)


def test_a_judge_that_fails_votes_for_nobody_and_its_word_is_kept(session: Session) -> None:
    pairs = [("a puzzle", "no"), ("fine", "no")]
    made = session.run(judged("longer", "babbles", pairs=pairs))
    assert [row["winner"] for row in made] == ["tie", "a"]  # one of two is not more than half
    entry = content(made)[0]["verdicts"][1]
    assert (entry["winner"], entry["fault"].partition(":")[0]) == (None, "invalid")
    judge = made.record["facts"]["judges"]["python:tests.generate.judges:babbles"]
    assert (judge["judged"], judge["without_verdict"]) == (1, 1)


def test_a_row_without_any_verdict_fails_with_the_raw_text(session: Session) -> None:
    made = session.run(judged("babbles", pairs=[("a puzzle", "no"), ("fine", "no")]))
    assert [row["winner"] for row in made] == ["a"]
    (failed,) = made.failed()
    assert (failed["kind"], failed["raw"]) == ("invalid", "well, well")
    with pytest.raises(ModelError, match="I do not judge"):
        session.run(judged("refuses", pairs=PAIRS[:4]))


def test_a_judge_may_be_kept_from_ties(session: Session) -> None:
    made = session.run(judged("undecided", pairs=[("one", "two")]))
    assert content(made)[0]["verdicts"][0]["ab"] == "tie"
    with pytest.raises(ModelError, match="invalid"):
        session.run(judged("undecided", pairs=[("one", "two")], ties=False))


def test_answers_with_braces_and_marks_are_shown_as_they_are(session: Session) -> None:
    asked = script("judge-braces", [judges.says("first")])
    odd = "{winner} {{ b }} % \\ </first>"
    step = JudgePairs(rows=rows([(odd, "b")]), by=Ask(model="scripted:judge-braces"), instruction="{{ a }}?")
    session.run(step)
    assert f"<first>\n{odd}\n</first>" in str(asked.requests[0].messages[0]["content"])


def test_what_cannot_be_judged_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="JudgePairs: there is no column `c`"):
        session.run(judged("longer", b="c"))
    with pytest.raises(RecipeError, match="have a column `a` already"):
        session.run(judged("longer", column="a"))
    with pytest.raises(RecipeError, match="`a` and `b` are both `a`"):
        judged("longer", b="a")
    with pytest.raises(RecipeError, match="the same model stands there twice"):
        judged("longer", "longer")
    with pytest.raises(RecipeError, match="no judge compared these rows"):
        judges_text(session.run(rows()))
    made = session.run(judged("longer", pairs=[("a", "bb"), ("", "b"), ("a", None)]))
    assert [row["message"].partition(" has ")[2] for row in made.failed()] == ["nothing in `a`", "nothing in `b`"]


def test_a_plan_counts_both_orders_for_each_judge(session: Session) -> None:
    session.run(rows())
    (planned,) = session.plan(judged("longer", "shorter")).to_run
    assert planned.expectation.calls == 4 * len(PAIRS)


texts = st.text(alphabet="ab\n{}<é", min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=15)
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=6), name=st.sampled_from(["longer", "leaning"]))
def test_swapping_the_columns_swaps_the_winners(tmp_path: Any, pairs: list[tuple[str, str]], name: str) -> None:
    with Session(tmp_path / "store", progress=False, track=False) as session:
        one = session.run(judged(name, pairs=pairs))
        other = session.run(judged(name, pairs=[(b, a) for a, b in pairs]))
    turned = {"a": "b", "b": "a", "tie": "tie"}
    assert [turned[row["winner"]] for row in one] == [row["winner"] for row in other]
    for key in ("orders_agree", "leans_to_first"):
        assert [judge[key] for judge in one.record["facts"]["judges"].values()] == [
            judge[key] for judge in other.record["facts"]["judges"].values()
        ]


def test_a_run_that_was_stopped_ends_with_the_rows_and_facts_of_a_whole_one(tmp_path: Any) -> None:
    pairs = [(f"answer {n}", "other" + "x" * (n % 9)) for n in range(200)]
    down: dict[int, Exception] = {n: ModelError("no money", kind="quota") for n in range(150, 100_000)}
    options = Options(chunk=16)

    def run(folder: str, name: str) -> Rows:
        step = JudgePairs(rows=rows(pairs), by=Ask(model=f"scripted:{name}"), instruction="{{ input }}?")
        with Session(tmp_path / folder, progress=False, track=False, options=options) as session:
            return session.run(step)

    script("judge-resumed", judges.leaning)
    whole = run("whole", "judge-resumed")
    script("judge-resumed", judges.leaning, failures=down)
    with pytest.raises(ModelError, match="no money"):
        run("cut", "judge-resumed")
    asked = script("judge-resumed", judges.leaning)
    resumed = run("cut", "judge-resumed")
    assert resumed.digest == whole.digest
    assert resumed.record["facts"] == whole.record["facts"]
    assert 0 < asked.num_calls <= 400 - 150 + 64  # those on the wire when it stopped may be asked twice
