"""Steps in a process of their own: what they are told of the steps before them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stillhouse.core.errors import RecipeError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.core.step import KeyBook, Step
from stillhouse.core.travel import packed, unpacked
from stillhouse.models.pretrained import Pretrained
from stillhouse.train.finetune import Finetune
from tests.core.helpers import direct
from tests.core.steps import Apply, Halves, Judged, Literal, Numbers, Trained


def test_a_training_may_stand_on_functions_that_cannot_be_named(tmp_path: Path) -> None:
    secret = "not for the spec file"
    rows = Apply(rows=Literal(rows=({"text": secret},)), function=lambda row: {"length": len(row["text"])})
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(Trained(rows=rows)).record["facts"]["rows"] == 1


def test_an_output_of_a_step_travels_as_rows(tmp_path: Path) -> None:
    with Session(tmp_path, track=False, progress=False) as session:
        assert session.run(Trained(rows=Halves(rows=Numbers(count=9)).odd)).record["facts"]["rows"] == 4


def test_a_function_of_the_step_itself_is_refused_before_anything_runs(tmp_path: Path) -> None:
    step = Judged(rows=Numbers(count=2), function=lambda row: row["i"])
    events: list[Event] = []
    with Session(tmp_path, on_event=events.append, track=False, progress=False) as session:
        with pytest.raises(RecipeError, match="`Judged` runs in a process of its own, and `.*lambda>` cannot be named"):
            session.plan(step)
        with pytest.raises(RecipeError, match="`Judged` runs in a process of its own"):
            session.run(step)
        assert not [event for event in events if event.kind == "step.started"]
        made = session.run(Judged(rows=Numbers(count=2), function=direct))
        assert (made.data / "texts.txt").exists()


def test_a_pack_holds_no_data_and_keeps_what_models_are(tmp_path: Path) -> None:
    rows = Literal(rows=({"messages": "a thousand rows"},))
    first = Finetune(base=Pretrained(name=str(_weights(tmp_path))), rows=rows, steps=1)
    step = Finetune(base=first, rows=rows, steps=2)
    book = KeyBook()
    pack = json.loads(json.dumps(packed(step, book)))
    assert "thousand" not in json.dumps(pack)
    again, keys = unpacked(pack)
    assert isinstance(again, Finetune)
    assert isinstance(again.base, Finetune)
    assert isinstance(again.base.base, Pretrained)
    assert keys.recipe(again) == book.recipe(step)
    assert isinstance(again.tokens, Step)
    assert isinstance(step.tokens, Step)
    assert keys.recipe(again.tokens) == book.recipe(step.tokens)


def _weights(folder: Path) -> Path:
    (folder / "weights").mkdir()
    (folder / "weights" / "config.json").write_text("{}")
    return folder / "weights"
