"""Which weights are handed out, and when training ends before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.core.artifact import Model
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.models.adapter import Lora
from stillhouse.train.checkpoint import Checkpoint, read_checkpoint
from stillhouse.train.finetune import Finetune
from tests.train.small import conversations, history, options, recipe, train


def overfitting(base: Path, **changes: Any) -> Finetune:
    """Four rows learnt by heart: the loss on others falls, then rises."""
    fields: dict[str, Any] = {
        "rows": conversations(0, 4), "held_out": conversations(40, 60), "steps": 60, "learning_rate": 1e-2,
        "evaluate_every": 2, "batch_size": 2,
    }  # fmt: skip
    return recipe(base, **{**fields, **changes})


def evaluations(model: Any) -> dict[int, float]:
    return {line["step"]: line["eval_loss"] for line in history(model) if "eval_loss" in line and line["step"]}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("adapter", [None, Lora(rank=4, alpha=64)])
def test_the_best_weights_are_handed_out(tmp_path: Path, base: Path, adapter: Lora | None) -> None:
    model = train(tmp_path / "best", overfitting(base, adapter=adapter))
    found = evaluations(model)
    best = min(found, key=lambda step: found[step])
    assert best < 60
    assert model.record["facts"]["best_step"] == best
    assert model.record["facts"]["eval_loss"] == found[best] < found[60]
    # Judged anew, the folder has the loss of its best evaluation.
    again = train(tmp_path / "again", overfitting(model.path, steps=1, learning_rate=1e-9, keep_best=False))
    assert history(again)[0]["eval_loss"] == pytest.approx(found[best], rel=1e-6)


@pytest.mark.usefixtures("in_process")
def test_the_last_weights_are_handed_out_when_asked_for(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path / "last", overfitting(base, keep_best=False))
    found = evaluations(model)
    assert model.record["facts"]["best_step"] is None
    again = train(tmp_path / "again", overfitting(model.path, steps=1, learning_rate=1e-9))
    assert history(again)[0]["eval_loss"] == pytest.approx(found[60], rel=1e-6)


@pytest.mark.usefixtures("in_process")
def test_training_ends_after_evaluations_without_a_better_one(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path, overfitting(base, patience=3))
    found = evaluations(model)
    best = min(found, key=lambda step: found[step])
    facts = model.record["facts"]
    assert facts["stopped_early"] is True
    assert facts["steps"] == max(found) == best + 6
    assert facts["best_step"] == best


def train_and_hear(folder: Path, step: Finetune) -> tuple[Model, list[str]]:
    """The model, and what was warned of."""
    events: list[Event] = []
    with Session(folder, options=options(), track=False, progress=False, on_event=events.append) as session:
        model = session.run(step)
    return model, [event.data["message"] for event in events if event.kind == "warning"]


@pytest.mark.usefixtures("in_process")
def test_where_training_ends_early_the_last_state_is_kept_and_the_rest_is_said_to_lack(
    tmp_path: Path, base: Path
) -> None:
    model, warned = train_and_hear(tmp_path, overfitting(base, patience=3, checkpoints=2))
    facts = model.record["facts"]
    (folder,) = (model.path / "checkpoints").iterdir()
    kept = read_checkpoint(folder)
    assert isinstance(kept, Checkpoint)
    assert kept.step == facts["steps"] < 30
    assert facts["checkpoints"] == 1
    assert warned == [f"1 of 2 `checkpoints` are in the result: training ended after {facts['steps']} of 60 updates"]


@pytest.mark.usefixtures("in_process")
def test_more_checkpoints_than_updates_are_said_to_lack(tmp_path: Path, base: Path) -> None:
    model, warned = train_and_hear(tmp_path, recipe(base, steps=3, checkpoints=10))
    assert len(list((model.path / "checkpoints").iterdir())) == model.record["facts"]["checkpoints"] == 3
    assert warned == ["3 of 10 `checkpoints` are in the result: training ended after 3 of 3 updates"]
