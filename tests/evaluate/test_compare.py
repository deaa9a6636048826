"""Comparisons: scores, pairs, flips, errors apart, slices, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq
import pytest

from stillhouse.calls.ask import Ask
from stillhouse.core.errors import RecipeError
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.evaluate.compare import Compare
from stillhouse.evaluate.predict import Predict
from stillhouse.measure.agreement import Agreement
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.intervals import wilson
from stillhouse.measure.json_fields import JsonFields
from stillhouse.measure.paired import mcnemar
from stillhouse.measure.token_f1 import TokenF1
from stillhouse.rows.import_ import Import
from stillhouse.rows.transform import Map

NUM = 40


def held_out(num_rows: int = NUM) -> Import:
    rows = tuple(
        {"input": f"question {i}", "output": json.dumps({"n": i}), "kind": "even" if i % 2 == 0 else "odd"}
        for i in range(num_rows)
    )
    return Import(data=rows)


def replies(right: Sequence[int], num_rows: int = NUM, special: Mapping[str, dict[str, Any]] | None = None) -> Import:
    """Predictions from elsewhere: right for the rows in `right`, by the text of the question."""
    rows = []
    for i in range(num_rows):
        row: dict[str, Any] = {
            "input": f"question {i}",
            "reply": json.dumps({"n": i if i in right else -1}),
            "error": None,
        }
        rows.append({**row, **(special or {}).get(f"row_{i}", {})})
    return Import(data=tuple(rows), require=())


def test_scores_intervals_and_flips_are_those_of_the_replies(session: Session) -> None:
    before, after = replies(range(20)), replies(range(5, 38))
    value = session.run(
        Compare(models={"before": before, "after": after}, on=held_out(), metrics=(ExactMatch(normaliser="json"),))
    ).value
    score = value["scores"]["after"]["exact match (json)"]
    assert score["score"] == pytest.approx(33 / 40)
    assert (score["low"], score["high"]) == pytest.approx(wilson(33, 40))
    assert (score["right"], score["wrong"], score["errors"]) == (33, 7, {})
    (pair,) = value["pairs"]
    assert (pair["before"], pair["after"], pair["num_items"]) == ("before", "after", 40)
    assert (pair["fixed"], pair["broken"], pair["both_right"], pair["both_wrong"]) == (18, 5, 15, 2)
    assert pair["p_value"] == pytest.approx(mcnemar(18, 5))
    assert pair["difference"] == pytest.approx(13 / 40)
    assert pair["low"] < 13 / 40 < pair["high"]
    assert "`after` is better" in pair["sentence"]
    assert [flip["input"] for flip in pair["flips"]["broken"]] == [f"question {i}" for i in range(5)]
    assert pair["flips"]["broken"][0]["before"] == {"text": '{"n": 0}', "error": None}
    assert len(pair["flips"]["fixed"]) == 18
    assert [entry["input"] for entry in value["wrong"]] == [f"question {i}" for i in (0, 1, 2, 3, 4, 38, 39)]


def test_generations_that_went_wrong_are_counted_apart_from_wrong_answers(session: Session) -> None:
    broken: dict[str, dict[str, Any]] = {
        "row_0": {"reply": '{"n": 0}', "error": "cut"},
        "row_1": {"reply": "", "error": "empty"},
        "row_2": {"reply": '{"n": 7}', "error": None},
    }
    value = session.run(
        Compare(
            models={"only": replies(range(NUM), special=broken)},
            on=held_out(),
            metrics=(ExactMatch(normaliser="json"),),
        )
    ).value
    score = value["scores"]["only"]["exact match (json)"]
    assert (score["right"], score["wrong"], score["errors"]) == (37, 1, {"cut": 1, "empty": 1})
    assert score["score"] == pytest.approx(37 / 40)
    assert value["pairs"] == []


def test_rows_without_a_prediction_are_missing_and_not_forgotten(session: Session) -> None:
    value = session.run(Compare(models={"short": replies(range(30), 30)}, on=held_out())).value
    score = value["scores"]["short"]["exact match (strip)"]
    assert (score["num_items"], score["right"], score["errors"]) == (40, 30, {"missing": 10})


def test_rows_without_an_expected_answer_are_left_out_of_the_means(session: Session) -> None:
    rows = tuple({"input": f"question {i}", "output": None if i < 10 else "x"} for i in range(20))
    given = Import(data=tuple({"input": f"question {i}", "reply": "x"} for i in range(20)), require=())
    value = session.run(Compare(models={"m": given}, on=Import(data=rows, require=("input",)))).value
    score = value["scores"]["m"]["exact match (strip)"]
    assert (score["score"], score["num_items"], score["undefined"]) == (1.0, 10, 10)


def test_slices_are_scored_apart_and_corrected_for_looking_often(session: Session) -> None:
    before, after = replies([]), replies([i for i in range(NUM) if i % 2 == 0])
    value = session.run(
        Compare(
            models={"before": before, "after": after},
            on=held_out(),
            metrics=(ExactMatch(normaliser="json"), JsonFields()),
            slices=("kind",),
        )
    ).value
    even, odd = value["slices"]
    assert (even["value"], even["num_items"], even["share"]) == ("even", 20, 0.5)
    assert even["scores"]["after"]["exact match (json)"]["score"] == 1.0
    assert odd["scores"]["after"]["exact match (json)"]["score"] == 0.0
    pair = even["pairs"][0]
    assert pair["p_holm"] == pytest.approx(2 * pair["p_value"])
    assert "not distinguishable" in odd["pairs"][0]["sentence"]


def test_graded_scores_get_a_bootstrap_interval_and_the_permutation_test(session: Session) -> None:
    on = Import(data=tuple({"input": f"q {i}", "output": "red green blue"} for i in range(30)))
    half = Import(data=tuple({"input": f"q {i}", "reply": "red"} for i in range(30)), require=())
    most = Import(
        data=tuple({"input": f"q {i}", "reply": "red green" if i % 3 else "red"} for i in range(30)), require=()
    )
    value = session.run(Compare(models={"a": half, "b": most}, on=on, metrics=(TokenF1(),))).value
    score = value["scores"]["b"]["token F1"]
    assert score["interval"] == "bootstrap"
    assert score["low"] < score["score"] < score["high"]
    assert value["pairs"][0]["test"] == "sign-flip permutation"


def test_predictions_made_in_the_store_find_their_rows_by_lineage(session: Session) -> None:
    from stillhouse.evaluate.neighbour import NearestNeighbour
    from stillhouse.evaluate.novelty import Novelty

    test = Import(data=({"input": "same words", "output": "1"}, {"input": "same words", "output": "1"}))
    seeds = Import(data=({"input": "same words", "output": "1"},))
    answers = NearestNeighbour(rows=seeds, on=test)
    labelled = Novelty(rows=test, against=seeds)
    for on in (test, labelled):
        value = session.run(Compare(models={"nn": answers}, on=on)).value
        assert value["scores"]["nn"]["exact match (strip)"]["right"] == 2


def test_rows_with_columns_of_their_own_show_their_texts(session: Session) -> None:
    test = Import(data=tuple({"question": f"question {i}", "answer": str(i)} for i in range(4)), require=())
    given = Import(data=tuple({"question": f"question {i}", "reply": "1"} for i in range(4)), require=())
    compare = Compare(
        models={"one": given, "two": given}, on=test, metrics=(ExactMatch(column="answer"),), input_column="question"
    )
    value = session.run(compare).value
    assert value["scores"]["two"]["exact match (strip)"]["right"] == 1
    assert [(entry["input"], entry["expected"]) for entry in value["wrong"]] == [
        (f"question {i}", str(i)) for i in (0, 2, 3)
    ]
    asked = Compare(models={"one": Ask(model="scripted:echo")}, on=test, input_column="question").models["one"]
    assert isinstance(asked, Predict)
    assert asked.input_column == "question"


def with_a_no(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": row["messages"], "reply": "no"}


def test_of_messages_the_last_question_is_shown(session: Session) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "how many?"}]
    test = Import(data=({"messages": turns, "output": "2"},), require=())
    answered = Map(rows=test, function=with_a_no)
    for column in ("input", "messages"):
        value = session.run(Compare(models={"a": answered}, on=test, input_column=column)).value
        assert [(entry["input"], entry["expected"]) for entry in value["wrong"]] == [("how many?", "2")]


def test_replies_from_elsewhere_may_be_numbers_and_none_is_an_empty_one(session: Session) -> None:
    test = Import(data=tuple({"input": f"question {i}", "output": i} for i in range(3)), require=())
    given = Import(data=tuple({"input": f"question {i}", "reply": i or None} for i in range(3)), require=())
    value = session.run(Compare(models={"a": given}, on=test, metrics=(ExactMatch(normaliser="json"),))).value
    found = value["scores"]["a"]["exact match (json)"]
    assert (found["right"], found["wrong"], found["errors"]) == (2, 0, {"empty": 1})


def test_predictions_for_other_rows_are_refused(session: Session) -> None:
    other = Import(data=({"input": "something else", "reply": "x"},), require=())
    with pytest.raises(RecipeError, match="1 predictions of `m` belong to no row"):
        session.run(Compare(models={"m": other}, on=held_out()))


def test_two_replies_to_one_row_are_refused(session: Session) -> None:
    twice = Import(data=({"input": "question 1", "reply": "x"}, {"input": "Question 1!", "reply": "y"}), require=())
    with pytest.raises(RecipeError, match="two replies to the item"):
        session.run(Compare(models={"m": twice}, on=held_out()))


def test_what_cannot_be_compared_is_refused_when_it_is_declared() -> None:
    on, given = held_out(), replies([])
    with pytest.raises(RecipeError, match="`after` is `c`, which is none of the models a, b"):
        Compare(models={"a": given, "b": given}, on=on, after="c")
    with pytest.raises(RecipeError, match="different names"):
        Compare(models={"a": given}, on=on, metrics=(ExactMatch(), ExactMatch(column="other")))
    with pytest.raises(RecipeError, match="`Agreement` is no metric"):
        Compare(models={"a": given}, on=on, metrics=(Agreement(),))
    with pytest.raises(RecipeError, match="models"):
        Compare(models={}, on=on)


def test_a_slice_column_needs_to_exist_and_to_have_few_values(session: Session) -> None:
    with pytest.raises(RecipeError, match="names `length`, which the rows do not have"):
        session.run(Compare(models={"a": replies([])}, on=held_out(), slices=("length",)))
    with pytest.raises(RecipeError, match="has 60 values"):
        session.run(Compare(models={"a": replies([], 60)}, on=held_out(60), slices=("input",)))


def key(models: dict[str, Step[Any]], **options: Any) -> str:
    return Compare(models=models, on=held_out(), **options).recipe_key


def test_the_order_of_models_and_the_metric_count_in_the_key() -> None:
    a, b = replies([1]), replies([2])
    assert key({"a": a, "b": b}) == key({"a": a, "b": b}, after="b")
    assert key({"a": a, "b": b}) != key({"b": b, "a": a})
    assert key({"a": a, "b": b}, after="b") != key({"b": b, "a": a}, after="b")
    assert key({"a": a}) != key({"a": a}, metrics=(ExactMatch(normaliser="json"),))
    assert key({"a": a}) == key({"a": a}, max_tokens=7)


def test_every_row_and_model_stands_in_the_items_table(session: Session) -> None:
    report = session.run(
        Compare(models={"before": replies([]), "after": replies([3])}, on=held_out(), slices=("kind",))
    )
    lines = pq.read_table(report.data / "items.parquet").to_pylist()
    assert len(lines) == 2 * NUM
    ids = {row["_id"] for row in session.run(held_out())}
    assert {line["item"] for line in lines} == ids
    (right,) = [line for line in lines if json.loads(line["scores"])["exact match (strip)"] == 1]
    assert (right["model"], right["input"], json.loads(right["slices"])) == ("after", "question 3", {"kind": "odd"})


def test_the_report_prints_as_a_table(session: Session) -> None:
    broken: dict[str, dict[str, Any]] = {"row_39": {"reply": "", "error": "empty"}}
    text = str(
        session.run(
            Compare(
                models={"before": replies([]), "after": replies(range(30), special=broken)},
                on=held_out(),
                slices=("kind",),
            )
        )
    )
    assert "after   75.0 % [59.8, 85.8]" in text
    assert "1 empty" in text
    assert "30 fixed, 0 broken, 0 right in both, 10 in neither" in text
    assert "even  20 (50 %)" in text
    assert max(map(len, text.splitlines())) <= 170
