"""Names: two sessions at once, and files that hold something else."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from stillhouse.core.errors import StoreError
from stillhouse.core.names import Names
from stillhouse.core.session import Session
from stillhouse.core.store import Store
from tests.core.steps import Copied, Numbers


def test_sessions_that_point_one_name_at_once_keep_the_whole_history(tmp_path: Path) -> None:
    def point(number: int) -> None:
        names = Names(Store(tmp_path))
        for count in range(20):
            names.point("shared", f"{number}-{count}", "recipe")

    threads = [threading.Thread(target=point, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Names(Store(tmp_path)).need("shared").history) == 80


@pytest.mark.parametrize("text", ["{}", "[]", "1", '{"build_key": 1, "recipe_key": "a", "history": [], "pinned": []}'])
def test_a_file_that_holds_no_name_is_told(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "x.json").write_text(text)
    with pytest.raises(StoreError, match=r"`names/x.json` does not hold a name"):
        Names(store).find("x")


@pytest.mark.parametrize("text", ["[]", "null", '{"format": 1, "kind": "Files"}', '{"format": 1, "kind": []}'])
def test_a_record_of_another_shape_counts_as_damaged(tmp_path: Path, text: str) -> None:
    step = Copied(rows=Numbers(count=1))
    with Session(tmp_path, track=False, progress=False) as session:
        made = session.run(step)
    (made.folder / "record.json").write_text(text)
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(step).digest == made.digest
    assert len(list(tmp_path.glob("set-aside-v1/*"))) == 1


@pytest.mark.parametrize("changed", [{"build_key": 7}, {"inputs": [1]}, {"definition": "x"}, {"outputs": []}])
def test_an_index_entry_of_another_shape_is_a_lost_short_cut(tmp_path: Path, changed: dict[str, object]) -> None:
    step = Copied(rows=Numbers(count=1))
    with Session(tmp_path, track=False, progress=False) as session:
        made = session.run(step)
        for path in tmp_path.glob("recipes-v1/*/*.json"):
            path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        assert session.run(step).digest == made.digest
        assert session.plan(step).to_run == []
