from __future__ import annotations

from pathlib import Path

import pytest

from stillhouse.core.collect import collect, garbage
from stillhouse.core.errors import RecipeError
from stillhouse.core.lineage import trace
from stillhouse.core.session import Session
from tests.core.steps import Copied, Halves, Numbers, Trained, Upper


def test_a_row_is_walked_back_to_its_source_and_forward_to_models(tmp_path: Path) -> None:
    with Session(tmp_path, track=False, progress=False) as session:
        halves = Halves(rows=Numbers(count=12))
        upper = Upper(rows=halves.odd)
        rows = {row["i"]: row for row in session.run(upper)}
        session.run(Trained(rows=upper))
        source = {row["i"]: row["_id"] for row in session.run(Numbers(count=12))}
        found = trace(session.store, rows[1]["_id"])
        assert found.origin.tag == "test.upper/1"
        assert found.origin.calls == ("call-1",)
        (parent,) = found.origin.parents
        assert (parent.row["_id"], parent.tag) == (source[1], "test.numbers/1")
        assert parent.parents == []
        assert [user["kind"] for user in found.used_by] == ["Model"]
        forward = trace(session.store, source[1][:8])
        assert [child.row["_id"] for child in forward.children] == [rows[1]["_id"]]
        assert [user["kind"] for user in forward.used_by] == ["Model"]


def test_a_row_that_is_not_there_or_too_short_is_explained(tmp_path: Path) -> None:
    with Session(tmp_path, track=False, progress=False) as session:
        session.run(Numbers(count=3))
        with pytest.raises(RecipeError, match="no row begins"):
            trace(session.store, "ffffffffffff")
        with pytest.raises(RecipeError, match="too short"):
            trace(session.store, "ab")


def test_garbage_is_what_no_name_or_pin_reaches(tmp_path: Path) -> None:
    with Session(tmp_path, track=False, progress=False) as session:
        session.run(Copied(rows=Upper(rows=Numbers(count=3))), name="kept")
        session.run(Copied(rows=Numbers(count=4)), name="moved")
        session.names.pin("moved")
        session.run(Copied(rows=Numbers(count=5)), name="moved")
        session.run(Copied(rows=Numbers(count=6)))
        assert list(garbage(session.store)) == []
        named = [item.path.name for item in garbage(session.store, keep_seconds=0)]
        assert len(named) == 2
        removed = collect(session.store, keep_seconds=0)
        assert [item.path.name for item in removed] == named
        session.run(Copied(rows=Upper(rows=Numbers(count=3))))
        assert len(list(tmp_path.glob("artifacts-v1/*/*"))) == 7
        session.names.remove("kept")
        with pytest.raises(RecipeError, match="pinned"):
            session.names.remove("moved")
        assert len(collect(session.store, keep_seconds=0)) == 3
