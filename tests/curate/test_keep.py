from __future__ import annotations

from typing import Any

import pytest

from stillhouse import Import, Keep, RecipeError, Session
from stillhouse.measure.exact_match import ExactMatch
from stillhouse.measure.function_verifier import FunctionVerifier
from stillhouse.measure.schema_verifier import SchemaVerifier

ROWS = Import(
    data=[
        {"input": "two lattes", "output": {"count": 2}},
        {"input": "a chai", "output": "one chai"},
        {"input": "three teas", "output": {"count": 4}},
    ]
)
COUNTS = {"two": 2, "a": 1, "three": 3}


def right_count(row: dict[str, Any], reply: str) -> bool | str:
    import json

    said = json.loads(reply)["count"]
    wanted = COUNTS[row["input"].split()[0]]
    return said == wanted or f"counted {said}, not {wanted}"


def test_rows_that_a_function_accepts_stay_as_they_are(session: Session) -> None:
    made = session.run(Keep(rows=ROWS, where=right_count))
    source = list(session.run(ROWS))
    assert list(made) == source[:1]
    reasons = {row["_id"]: row["reason"] for row in made.dropped()}
    assert reasons[source[2]["_id"]] == "counted 4, not 3"
    assert reasons[source[1]["_id"]].startswith("JSONDecodeError")


def test_a_verifier_part_is_the_same_as_its_function(session: Session) -> None:
    part = Keep(rows=ROWS, where=FunctionVerifier(function=right_count))
    assert part.recipe_key == Keep(rows=ROWS, where=right_count).recipe_key
    schema = {"type": "object", "required": ["count"]}
    assert len(session.run(Keep(rows=ROWS, where=SchemaVerifier(response=schema)))) == 2


def test_another_column_can_hold_the_reply(session: Session) -> None:
    rows = Import(data=[{"input": "a", "output": "b", "second": None}, {"input": "a", "output": "b", "second": "x"}])
    made = session.run(Keep(rows=rows, where=lambda row, reply: reply == "x", column="second"))
    assert [row["second"] for row in made] == ["x"]
    assert [row["reason"] for row in made.dropped()] == ["there is no reply"]


def test_what_is_no_verifier_is_refused(session: Session) -> None:
    with pytest.raises(RecipeError, match="not a verdict"):
        session.run(Keep(rows=ROWS, where=ExactMatch()))
    with pytest.raises(RecipeError, match="Keep: there is no column `reply`"):
        session.run(Keep(rows=ROWS, where=right_count, column="reply"))
    with pytest.raises(RecipeError, match="`where`"):
        Keep(rows=ROWS, where=3)
