"""Predictions: answers kept with their rows, generations that went wrong told apart, nothing asked twice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from stillhouse.calls.ask import Ask
from stillhouse.core.errors import RecipeError, RowFault
from stillhouse.core.session import Session
from stillhouse.evaluate.compare import Compare
from stillhouse.evaluate.predict import Predict
from stillhouse.rows.import_ import Import

HERE = f"python:{__name__}"
LOG = "STILLHOUSE_TEST_ASKED"


def reply(messages: list[dict[str, str]], schema: dict[str, Any] | None, sample: int) -> str:
    """Answers with the input in capitals; some inputs make trouble."""
    text = messages[-1]["content"]
    if LOG in os.environ:  # a list here would be part of the function's identity
        with open(os.environ[LOG], "a") as log:
            log.write(f"{text}\n")
    if text == "refuse":
        raise RowFault("refused", "no", "I will not")
    if text == "say nothing":
        return ""
    if text == "give up":
        raise RowFault("exhausted", "the line was dead five times")
    return f"<think>capitals</think>\n{text.upper()}" if text.startswith("think") else text.upper()


ROWS = Import(
    data=tuple({"input": text, "output": text.upper()} for text in ("a", "b", "refuse", "say nothing", "give up"))
)
TEST = Import(data=tuple({"input": f"t{n}", "output": f"T{n}"} for n in range(30)))


def test_replies_stand_beside_their_rows_and_know_their_calls(session: Session) -> None:
    made = session.run(Predict(rows=ROWS, by=Ask(model=f"{HERE}:reply")))
    rows = {row["input"]: row for batch in made.batches(lineage=True) for row in batch}
    assert (rows["a"]["reply"], rows["a"]["output"], rows["a"]["finish"], rows["a"]["error"]) == (
        "A",
        "A",
        "stop",
        None,
    )
    assert len(rows["a"]["_calls"]) == 1
    sources = {row["input"]: row["_id"] for row in session.run(ROWS)}
    assert list(rows["b"]["_parents"]) == [sources["b"]]


def test_a_generation_that_went_wrong_is_a_row_and_a_dead_line_is_a_failure(session: Session) -> None:
    made = session.run(Predict(rows=ROWS, by=Ask(model=f"{HERE}:reply")))
    rows = {row["input"]: row for row in made}
    assert (rows["refuse"]["error"], rows["refuse"]["reply"]) == ("refused", "I will not")
    assert (rows["say nothing"]["error"], rows["say nothing"]["reply"]) == ("empty", "")
    assert "give up" not in rows
    (failed,) = made.failed()
    assert failed["kind"] == "exhausted"


def test_a_model_is_compared_by_name_and_scoring_again_asks_nothing(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "asked"
    monkeypatch.setenv(LOG, str(log))
    value = session.run(Compare(models={"m": f"{HERE}:reply"}, on=TEST)).value
    assert value["scores"]["m"]["exact match (strip)"]["score"] == 1.0
    assert len(log.read_text().split()) == 30
    session.run(Compare(models={"m": f"{HERE}:reply"}, on=TEST, seed=3))
    assert len(log.read_text().split()) == 30


def test_a_failed_row_is_counted_as_a_failed_generation(session: Session) -> None:
    value = session.run(Compare(models={"m": f"{HERE}:reply"}, on=ROWS)).value
    score = value["scores"]["m"]["exact match (strip)"]
    assert (score["right"], score["wrong"]) == (2, 0)
    assert score["errors"] == {"empty": 1, "failed": 1, "refused": 1}


def test_conversations_are_asked_without_their_last_answer(session: Session) -> None:
    messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "HELLO"}]
    rows = Import(data=({"messages": messages, "output": "HELLO"},), require=())
    (row,) = session.run(Predict(rows=rows, by=Ask(model=f"{HERE}:reply"), input_column="messages"))
    assert row["reply"] == "HELLO"


def test_a_missing_or_taken_column_is_refused(session: Session) -> None:
    by = Ask(model=f"{HERE}:reply")
    with pytest.raises(RecipeError, match="no column `question`"):
        session.run(Predict(rows=ROWS, by=by, input_column="question"))
    taken = Import(data=({"input": "a", "output": "A", "reply": "x"},))
    with pytest.raises(RecipeError, match="a column `reply` already"):
        session.run(Predict(rows=taken, by=by))


def test_the_model_counts_in_the_key_and_its_name_may_be_given_short() -> None:
    by_name = Predict(rows=ROWS, by=f"{HERE}:reply")
    assert by_name.recipe_key == Predict(rows=ROWS, by=Ask(model=f"{HERE}:reply")).recipe_key
    assert by_name.recipe_key != Predict(rows=ROWS, by=Ask(model=f"{HERE}:reply", temperature=0.5)).recipe_key


def test_reasoning_is_parted_from_the_reply_where_a_mark_ends_it(session: Session) -> None:
    rows = Import(data=({"input": "think a", "output": "THINK A"}, {"input": "b", "output": "B"}))
    predicted = Predict(rows=rows, by=Ask(model=f"{HERE}:reply"), answer_after="</think>")
    found = [(row["reply"], row["thought"]) for row in session.run(predicted)]
    assert found == [("THINK A", "<think>capitals"), ("B", "")]
    value = session.run(Compare(models={"m": predicted}, on=rows)).value
    assert value["scores"]["m"]["exact match (strip)"]["right"] == 2
