"""Which weights are handed out, and when training ends before its time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stillhouse.models.adapter import Lora
from stillhouse.train.finetune import Finetune
from tests.train.small import conversations, history, recipe, train


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
