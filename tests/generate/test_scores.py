"""A model's yes or no, numbers and rubrics, and how far they are those of people."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from stillhouse.calls.answer import Answer
from stillhouse.calls.ask import Ask
from stillhouse.calls.providers.scripted import script
from stillhouse.calls.reply import Usage
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.serial import from_table, to_table
from stillhouse.core.session import Session
from stillhouse.generate._calibration import _with_interval, pearson, ranks
from stillhouse.generate._rubric import Scorer
from stillhouse.generate.calibration import Calibrate
from stillhouse.generate.filter_with_prompt import FilterWithPrompt
from stillhouse.generate.rubric import Criterion, JudgeRubric, Rubric
from stillhouse.generate.score_with_prompt import RankWithPrompt, ScoreWithPrompt
from stillhouse.rows.import_ import Import
from tests.generate import judges
from tests.generate.judges import by
from tests.generate.sums import content

NUMBERS = (3, 5, 1, 4, 5, 2)
ROWS = Import(data=tuple({"text": f"text {n}", "place": place} for place, n in enumerate(NUMBERS)), require=())
WITH_PUZZLE = Import(data=({"text": "text 3"}, {"text": "a puzzle"}, {"text": "text 5"}), require=())
CLARITY = Criterion(name="clarity", description="Can it be understood at once?", weight=3)
DEPTH = Criterion(name="depth", description="Does it say why?")


def test_rows_that_the_model_says_yes_to_stay_as_they_are(session: Session) -> None:
    rows = Import(data=tuple({"text": text} for text in ("a soup", "a car", "pea soup", "a puzzle")), require=())
    made = session.run(FilterWithPrompt(rows=rows, by=by("cooking"), template="About cooking? {{ text }}"))
    source = list(session.run(rows))
    assert list(made) == [source[0], source[2]]
    (dropped,) = made.dropped()
    assert (dropped["_id"], dropped["reason"], dropped["detail"]) == (source[1]["_id"], "the model says no", "no food")
    (failed,) = made.failed()
    assert (failed["_id"], failed["kind"], failed["raw"]) == (source[3]["_id"], "invalid", "hm")


def test_a_filter_may_keep_what_the_model_says_no_to(session: Session) -> None:
    rows = Import(data=({"text": "a soup"}, {"text": "a car"}), require=())
    made = session.run(FilterWithPrompt(rows=rows, by=by("cooking"), template="{{ text }}", keep="no"))
    assert [row["text"] for row in made] == ["a car"]
    assert [row["detail"] for row in made.dropped()] == ["it names a soup"]


def test_a_filter_that_keeps_nothing_still_has_its_columns(session: Session) -> None:
    rows = Import(data=({"text": "a car"},), require=())
    made = session.run(FilterWithPrompt(rows=rows, by=by("cooking"), template="{{ text }}"))
    assert (len(made), made.columns) == (0, ["text"])


def test_the_reason_is_asked_for_before_the_answer(session: Session) -> None:
    asked = script("filter-order", [json.dumps({"reason": "r", "answer": "yes"})])
    session.run(FilterWithPrompt(rows=ROWS, by=Ask(model="scripted:filter-order"), template="{{ text }} {braces}"))
    schema = asked.requests[0].schema
    assert schema is not None
    assert list(schema.form["properties"]) == ["reason", "answer"]
    assert str(asked.requests[0].messages[0]["content"]).startswith("text 3 {braces}\n\n")


def test_scores_and_their_reasons_become_columns(session: Session) -> None:
    made = session.run(ScoreWithPrompt(rows=WITH_PUZZLE, by=by("counting"), template="{{ text }}", samples=3))
    assert content(made) == [
        {"text": "text 3", "score": 3.5, "score_reason": "it says 3"},
        {"text": "text 5", "score": 5.5, "score_reason": "it says 5"},
    ]
    assert [row["kind"] for row in made.failed()] == ["refused"]
    assert made.record["facts"]["scores"]["score"] == {"mean": 4.5, "deviation": 1.0, "least": 3.5, "greatest": 5.5}
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [3, 3]


def opinionated(name: str, add: float, *, silent: str = "never") -> Ask:
    """A judge whose scores are the number in the text and `add`, with nothing to say of texts with `silent`."""

    def reply(messages: Any, schema: Any, sample: int) -> str:
        text = messages[0]["content"].partition("\n")[0]
        number = float(text.split()[-1])
        if silent in text:
            return "hm"
        one = {"reason": f"{name} says so", "score": number + add}
        if schema["title"] == "YesOrNo":
            return json.dumps({"reason": name, "answer": "yes" if number + add > 4 else "no"})
        return json.dumps(one if schema["title"] == "Score" else dict.fromkeys(schema["properties"], one))

    script(name, reply)
    return Ask(model=f"scripted:{name}")


def test_the_score_of_a_panel_is_the_mean_and_each_opinion_is_kept(session: Session) -> None:
    panel = [opinionated("mild", 2), opinionated("strict", 0, silent="5")]
    step = ScoreWithPrompt(rows=ROWS, by=panel, template="{{ text }}")
    made = session.run(step)
    rows = content(made)
    assert [row["score"] for row in rows] == [4, 7, 2, 5, 7, 3]
    assert rows[0]["score_judges"] == [
        {"judge": "scripted:mild", "score": 5.0, "reason": "mild says so", "fault": None},
        {"judge": "scripted:strict", "score": 3.0, "reason": "strict says so", "fault": None},
    ]
    silent = rows[1]["score_judges"][1]
    assert silent["score"] is None
    assert silent["fault"].startswith("invalid")
    facts = made.record["facts"]
    assert facts["apart"] == 2
    assert facts["judges"]["scripted:strict"]["without_score"] == 2
    assert facts["judges"]["scripted:strict"]["above_the_mean"] == -1
    assert facts["judges"]["scripted:mild"]["above_the_mean"] == 1
    (batch,) = made.batches(lineage=True)
    assert [len(row["_calls"]) for row in batch] == [2, 1, 2, 2, 1, 2]
    assert step.expect(6, session).calls == 12


def test_models_of_a_panel_may_be_named_and_a_wrong_name_is_told_plainly() -> None:
    fields = {"rows": Import(data=({"text": "a"},), require=()), "template": "{{ text }}"}
    named = FilterWithPrompt(by=["openai/x", "openai/y"], **fields)
    assert named == FilterWithPrompt(by=[Ask(model="openai/x"), Ask(model="openai/y")], **fields)
    with pytest.raises(RecipeError) as caught:
        FilterWithPrompt(by="gpt", **fields)
    assert "`gpt` names no model" in str(caught.value)
    assert "function" not in str(caught.value).replace("python:package.module:function", "")


def test_a_panel_of_one_is_that_one() -> None:
    alone, other = opinionated("alone", 0), Ask(model="a/b")
    steps: list[Any] = [
        ScoreWithPrompt(rows=ROWS, by=alone, template="{{ text }}"),
        FilterWithPrompt(rows=ROWS, by=alone, template="{{ text }}"),
        JudgeRubric(rows=ROWS, by=alone, template="{{ text }}", criteria=(CLARITY,)),
    ]
    for one in steps:
        assert one.replace(by=[alone]).recipe_key == one.recipe_key
        both: Any = from_table(to_table(one.replace(by=[alone, other])))
        assert both.by == (alone, other)
        with pytest.raises(RecipeError, match="stands there twice"):
            one.replace(by=[alone, alone])
        with pytest.raises(RecipeError, match="nobody is asked"):
            one.replace(by=[])


def test_most_of_a_panel_must_say_yes(session: Session) -> None:
    panel = [
        opinionated("low", 0, silent="1"),
        opinionated("middle", 1, silent="1"),
        opinionated("high", 3, silent="1"),
    ]
    made = session.run(FilterWithPrompt(rows=ROWS, by=panel, template="{{ text }}"))
    assert [row["text"] for row in made] == ["text 5", "text 4", "text 5"]
    dropped = {row["reason"] + "|" + row["detail"] for row in made.dropped()}
    assert dropped == {
        "1 of 3 models say yes|scripted:low: no (low)\nscripted:middle: no (middle)\nscripted:high: yes (high)"
    }
    assert [row["kind"] for row in made.failed()] == ["invalid"]


def test_two_that_disagree_keep_nothing_either_way(session: Session) -> None:
    panel = [opinionated("no", -9), opinionated("yes", 9), opinionated("mute", 0, silent="text")]
    for keep in ("yes", "no"):
        made = session.run(FilterWithPrompt(rows=ROWS, by=panel, template="{{ text }}", keep=keep))
        assert len(made) == 0
        assert "scripted:mute: no vote (invalid" in next(iter(made.dropped()))["detail"]


def test_a_rubric_by_a_panel_averages_every_criterion(session: Session) -> None:
    rows = Import(data=({"text": "text 2"}, {"text": "text 3"}), require=())
    panel = (opinionated("kind", 2, silent="3"), opinionated("plain", 0))
    made = session.run(JudgeRubric(rows=rows, by=panel, criteria=(CLARITY, DEPTH), template="{{ text }}"))
    first, second = content(made)
    assert (first["score"], first["score_depth"], second["score_depth"]) == (0.5, 3.0, 3.0)
    assert first["score_judges"][0] == {
        "judge": "scripted:kind", "score": 0.75, "scores": {"clarity": 4.0, "depth": 4.0}, "fault": None,
    }  # fmt: skip
    assert second["score_judges"][0]["scores"] == {"clarity": None, "depth": None}
    assert made.record["facts"]["apart"] == 0.5


def test_a_score_outside_the_scale_is_none(session: Session) -> None:
    with pytest.raises(ModelError, match="invalid"):
        session.run(ScoreWithPrompt(rows=ROWS, by=by("counting"), template="{{ text }}", low=6))


def test_ranked_rows_are_the_scored_ones_in_order(session: Session) -> None:
    ranked = RankWithPrompt(rows=ROWS, by=by("counting"), template="{{ text }}")
    made = session.run(ranked)
    assert [row["place"] for row in made] == [1, 4, 3, 0, 5, 2]  # equal scores stay in their order
    assert session.run(ranked.replace(lowest_first=True)).head(1)[0]["place"] == 2


def test_a_rank_has_a_threshold_and_an_end_and_says_what_fell_off(session: Session) -> None:
    made = session.run(RankWithPrompt(rows=ROWS, by=by("counting"), template="{{ text }}", top=3, least=2))
    assert [(row["place"], row["score"]) for row in made] == [(1, 5.0), (4, 5.0), (3, 4.0)]
    assert sorted((row["reason"], row["detail"]) for row in made.dropped()) == [
        ("it is not among the first 3", "2"),
        ("it is not among the first 3", "3"),
        ("the score is below 2", "1"),
    ]


def test_another_end_of_a_rank_asks_nothing_again(session: Session) -> None:
    asked = script("rank-again", judges.counting)
    step = RankWithPrompt(rows=ROWS, by=Ask(model="scripted:rank-again"), template="{{ text }}")
    planned = session.plan(step).to_run
    assert [each.tag for each in planned] == [
        "rows.import/1",
        "generate.score_with_prompt/1",
        "rows.sort/1",
        "generate.rank_with_prompt/1",
    ]
    for top in (None, 1, 2):
        session.run(step.replace(top=top))
    assert asked.num_calls == len(set(NUMBERS))  # equal questions are asked once
    assert len({step.replace(top=top).recipe_key for top in (None, 1, 2)}) == 3


def test_a_row_without_a_score_failed_and_is_not_ranked(session: Session) -> None:
    made = session.run(RankWithPrompt(rows=WITH_PUZZLE, by=by("counting"), template="{{ text }}"))
    assert [row["score"] for row in made] == [5.0, 3.0]


def test_ranks_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match="`least` is 11, but scores go from 1 to 10"):
        RankWithPrompt(rows=ROWS, by=by("counting"), template="x", least=11)
    with pytest.raises(RecipeError, match="a scale rises"):
        ScoreWithPrompt(rows=ROWS, by=by("counting"), template="x", low=3, high=3)
    with pytest.raises(RecipeError, match="at temperature 0 they are all the same"):
        ScoreWithPrompt(rows=ROWS, by=Ask(model="openai/x"), template="x", samples=2)


def rubric(**fields: Any) -> JudgeRubric:
    return JudgeRubric(rows=ROWS, by=by("rubric"), criteria=(CLARITY, DEPTH), template="{{ text }}", **fields)


def test_each_criterion_has_its_columns_and_the_total_is_their_weighted_mean(session: Session) -> None:
    made = session.run(rubric())
    assert content(made)[1] == {
        "text": "text 5",
        "place": 1,
        "score": pytest.approx((3 * 1.0 + 1 * 0.25) / 4),
        "score_clarity": 5.0,
        "score_clarity_reason": "clarity is 5",
        "score_depth": 2.0,
        "score_depth_reason": "depth is 2",
    }
    assert made.record["facts"]["scores"]["score_depth"]["deviation"] == 0


def test_samples_of_a_rubric_are_averaged(session: Session) -> None:
    made = session.run(rubric(samples=3, column="rubric"))
    first = content(made)[0]
    assert (first["rubric_clarity"], first["rubric_depth"]) == (3.0, 3.0)
    (batch,) = made.batches(lineage=True)
    assert len(batch[0]["_calls"]) == 3


def test_a_rubric_asks_for_reasons_first_and_for_scores_of_its_scale(session: Session) -> None:
    asked = script("rubric-form", judges.rubric)
    wide = Criterion(name="clarity", description="Clear?", low=0, high=10)
    step = JudgeRubric(rows=ROWS, by=Ask(model="scripted:rubric-form"), criteria=(wide,), template="{{ text }}")
    session.run(step)
    schema = asked.requests[0].schema
    assert schema is not None
    assert schema.form["properties"]["clarity"]["properties"] == {
        "reason": {"type": "string"},
        "score": {"type": "integer", "minimum": 0, "maximum": 10},
    }
    assert "- clarity (0 to 10): Clear?" in str(asked.requests[0].messages[0]["content"])


def test_rubrics_that_cannot_be_are_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="two criteria are called `clarity`"):
        rubric().replace(criteria=(CLARITY, CLARITY))
    with pytest.raises(RecipeError, match="a scale rises"):
        Criterion(name="x", description="y", low=5)
    with pytest.raises(RecipeError, match="have a column `text` already"):
        session.run(rubric(column="text"))


def test_a_judge_of_numbers_is_held_against_people(session: Session) -> None:
    labels = {0: 3, 1: 5, 2: 2, 3: 4, 4: 4}
    rows = Import(
        data=tuple({"text": f"text {n}", "human": labels.get(place)} for place, n in enumerate(NUMBERS)), require=()
    )
    scored = ScoreWithPrompt(rows=rows, by=by("counting"), template="{{ text }}")
    report = session.run(Calibrate(rows=scored))
    value = report.value
    judge, human = [3, 5, 1, 4, 5], [3, 5, 2, 4, 4]
    assert (value["rows"], value["without_label"], value["kind"]) == (5, 1, "numbers")
    assert value["spearman"]["value"] == pytest.approx(stats.spearmanr(judge, human).statistic)
    assert value["pearson"]["value"] == pytest.approx(stats.pearsonr(judge, human).statistic)
    assert value["judge_is_higher_by"]["value"] == pytest.approx(0.0)
    assert value["mean_distance"]["value"] == pytest.approx(0.4)
    assert value["same"]["rows"] == 3
    assert "`score` against `human` on 5 rows, 95 % intervals (1 without a value left out)" in str(report)


def test_scales_that_differ_are_brought_together(session: Session) -> None:
    data = tuple({"score": share, "human": 1 + 4 * share} for share in (0.0, 0.25, 0.75, 1.0))
    step = Calibrate(rows=Import(data=data, require=()), human_scale=(1, 5))
    assert session.run(step).value["mean_distance"]["value"] == pytest.approx(0)
    with pytest.raises(RecipeError, match="a scale rises"):
        step.replace(judge_scale=(1, 1))


def test_a_judge_of_pairs_is_held_against_people(session: Session) -> None:
    judge = ["a", "a", "b", "tie", "b", "a"]
    human = ["a", "b", "b", "a", "b", None]
    data = tuple({"winner": one, "human": other} for one, other in zip(judge, human, strict=True))
    report = session.run(Calibrate(rows=Import(data=data, require=()), judge="winner"))
    assert (report.value["kind"], report.value["same"]["rows"]) == ("categories", 3)
    assert {"human": "b", "judge": "a", "rows": 1} in report.value["taken_for"]
    assert "`b` taken for `a` once" in str(report)


def test_a_calibration_without_labels_is_refused(session: Session) -> None:
    rows = Import(data=({"score": 1, "human": None},), require=())
    with pytest.raises(RecipeError, match="no row has a value in `score` and one in `human`"):
        session.run(Calibrate(rows=rows))
    with pytest.raises(RecipeError, match="Calibrate: there is no column `people`"):
        session.run(Calibrate(rows=rows, human="people"))


def test_where_one_side_never_varies_correlations_are_undefined(session: Session) -> None:
    rows = Import(data=tuple({"score": 3, "human": n} for n in range(4)), require=())
    report = session.run(Calibrate(rows=rows))
    assert report.value["pearson"] == {"value": None, "low": None, "high": None}
    assert "undefined: one side never varies" in str(report)


def test_the_interval_of_a_correlation_covers_it_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(7), 0
    for _ in range(60):
        one = generator.normal(size=80)
        other = 0.6 * one + 0.8 * generator.normal(size=80)
        found = _with_interval(one, other, pearson)
        covered += found["low"] <= 0.6 <= found["high"]
    assert 50 <= covered <= 60


@given(values=st.lists(st.integers(-3, 3), min_size=2, max_size=30), seed=st.integers(0, 99))
def test_ranks_and_correlations_are_those_of_scipy(values: list[int], seed: int) -> None:
    one = np.asarray(values, dtype=np.float64)
    other = np.asarray(random.Random(seed).choices(range(4), k=len(values)), dtype=np.float64)
    assert ranks(one).tolist() == stats.rankdata(one).tolist()
    found = pearson(one, other)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(stats.pearsonr(one, other).statistic)


@settings(max_examples=10)
@given(numbers=st.lists(st.integers(1, 9), min_size=1, max_size=12), top=st.integers(1, 12))
def test_a_rank_loses_no_row(tmp_path: Any, numbers: list[int], top: int) -> None:
    rows = Import(data=tuple({"text": f"text {n}", "place": place} for place, n in enumerate(numbers)), require=())
    with Session(tmp_path / "store", progress=False, track=False) as session:
        made = session.run(RankWithPrompt(rows=rows, by=by("counting"), template="{{ text }}", top=top))
        kept = [row["score"] for row in made]
        dropped = [float(row["detail"]) for row in made.dropped()]
    assert kept + dropped == sorted(map(float, numbers), reverse=True)
    assert len(kept) == min(top, len(numbers))


words = st.sampled_from(["soup", "car", "pea soup", "puzzle", "road"])


@settings(max_examples=10)
@given(texts=st.lists(words, min_size=1, max_size=8))
def test_a_filter_and_its_contrary_part_the_rows(tmp_path: Any, texts: list[str]) -> None:
    rows = Import(data=tuple({"text": f"{text} {place}"} for place, text in enumerate(texts)), require=())
    if all(text == "puzzle" for text in texts):
        return
    with Session(tmp_path / "store", progress=False, track=False) as session:
        made = [
            session.run(FilterWithPrompt(rows=rows, by=by("cooking"), template="{{ text }}", keep=keep))
            for keep in ("yes", "no")
        ]
        kept = [{row["_id"] for row in one} for one in made]
        dropped = [{row["_id"] for row in one.dropped()} for one in made]
        failed = [{row["_id"] for row in one.failed()} for one in made]
    assert (kept[0], kept[1]) == (dropped[1], dropped[0])
    assert failed[0] == failed[1]
    assert len(kept[0]) + len(kept[1]) + len(failed[0]) == len(texts)


scales = st.tuples(st.integers(-5, 5), st.integers(1, 9), st.floats(0.1, 10)).map(lambda s: (s[0], s[0] + s[1], s[2]))


@given(scales=st.lists(scales, min_size=1, max_size=4), data=st.data())
def test_the_total_of_a_rubric_lies_between_its_worst_and_its_best_criterion(scales: list[Any], data: Any) -> None:
    criteria = tuple(
        Criterion(name=f"c{place}", description="?", low=low, high=high, weight=weight)
        for place, (low, high, weight) in enumerate(scales)
    )
    scores = {each.name: data.draw(st.integers(each.low, each.high)) for each in criteria}
    value = {name: {"reason": "", "score": score} for name, score in scores.items()}
    answer = Answer("", value, "key", "stop", Usage(0, 0), False, None)
    scored = Scorer(Rubric(by=by("rubric"), criteria=criteria, template="{{ text }}")).scored([answer])
    shares = [each.share(scores[each.name]) for each in criteria]
    assert min(shares) - 1e-9 <= scored.total <= max(shares) + 1e-9
    assert 0 <= scored.total <= 1 + 1e-9
