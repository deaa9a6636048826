"""Rows of which several things became."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.context import Context
from stillhouse.core.errors import ModelError, RecipeError
from stillhouse.core.options import Options
from stillhouse.core.outcome import Drop, Emit, Fail, Made, Outcome, Row
from stillhouse.core.session import Session
from stillhouse.core.step import Mapper, MapStep
from tests.core.steps import Literal


class Told(MapStep, tag="test.told/1"):
    """What the row says shall become of it: `e` a new row, `d` a drop, `f` a failure, `u` a value no table holds."""

    def mapper(self, context: Context) -> Mapper:
        def outcome(row: Row) -> Outcome:
            made: list[Made] = []
            for place, letter in enumerate(row["told"]):
                if letter == "e":
                    made.append(Emit([{"text": "new"}], calls=[f"call-{place}"]))
                elif letter == "d":
                    made.append(Drop("not wanted", str(place)))
                elif letter == "u":
                    made.append(Emit([{"text": object()}]))
                else:
                    made.append(Fail("invalid", f"failure {place}", "raw"))
            return made

        def told(rows: Sequence[Row]) -> Sequence[Outcome]:
            return [outcome(row) for row in rows]

        return told


def told(session: Session, *rows: str) -> Any:
    return session.run(Told(rows=Literal(rows=tuple({"told": row, "n": n} for n, row in enumerate(rows)))))


def test_each_new_row_has_its_own_call_and_an_id_of_its_own(session: Session) -> None:
    made = told(session, "eedfe")
    (batch,) = made.batches(lineage=True)
    assert [row["_calls"] for row in batch] == [["call-0"], ["call-1"], ["call-4"]]
    assert len({row["_id"] for row in batch}) == 3
    assert len({tuple(row["_parents"]) for row in batch}) == 1
    assert [(row["reason"], row["detail"]) for row in made.dropped()] == [("not wanted", "2")]
    assert [(row["kind"], row["message"], row["raw"]) for row in made.failed()] == [("invalid", "failure 3", "raw")]
    assert made.record["counts"] == {"in": 1, "out": 3, "dropped": 1, "failed": 1}


def test_a_row_may_have_no_outcome_at_all(session: Session) -> None:
    assert len(told(session, "", "e")) == 1


def test_failures_beside_new_rows_do_not_stop_the_step(session: Session) -> None:
    made = told(session, *["efff"] * 200)
    assert made.record["counts"] == {"in": 200, "out": 200, "dropped": 0, "failed": 600}


@pytest.mark.parametrize("row", ["fff", "u", "uf"])
def test_rows_of_which_only_failures_came_stop_the_step(tmp_path: Path, row: str) -> None:
    with (
        Session(tmp_path, track=False, progress=False, options=Options(first_look=5)) as session,
        pytest.raises(ModelError, match="5 of the first 5 rows of `Told` failed"),
    ):
        told(session, *[row] * 200)


def test_drops_are_no_failures(session: Session) -> None:
    assert told(session, *["df"] * 100).record["counts"]["failed"] == 100


def test_what_is_no_outcome_is_refused(session: Session) -> None:
    class Odd(MapStep, tag="test.odd/1"):
        def mapper(self, context: Context) -> Mapper:
            return lambda rows: [[7] for _ in rows]  # type: ignore[list-item]

    with pytest.raises(RecipeError, match="gave 7 for a row"):
        session.run(Odd(rows=Literal(rows=({"a": 1},))))
