"""What a map step says of all its rows, once they are made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.artifact import Rows
from stillhouse.core.errors import ModelError
from stillhouse.core.options import Options
from stillhouse.core.session import Session
from tests.core.steps import Gated, Numbers


class Counted(Gated, tag="test.counted/1"):
    def summary(self, made: Rows) -> Mapping[str, Any]:
        return {"rows": sum(1 for _ in made), "failed": sum(1 for _ in made.failed())}


def test_a_summary_sees_the_rows_of_earlier_attempts_too(tmp_path: Path) -> None:
    step = Counted(rows=Numbers(count=300), gate=str(tmp_path / "gate"), log=str(tmp_path / "log"))
    options = Options(chunk=16, first_look=5)
    with Session(tmp_path / "store", options=options, track=False, progress=False) as session:
        with pytest.raises(ModelError):
            session.run(step)
        (tmp_path / "gate").touch()
        made = session.run(step)
    assert made.record["facts"] == {"rows": 300, "failed": 0}


def test_a_step_that_says_nothing_adds_no_facts(session: Session) -> None:
    from stillhouse.rows.transform import Map

    assert session.run(Map(rows=Numbers(count=3), function=same)).record["facts"] == {}


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row
