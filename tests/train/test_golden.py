"""What training came to when its tags got their numbers; another result needs another number.

After a change that is meant: raise the number in the tag, then `python -m tests.train.test_golden`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.models.adapter import Lora
from stillhouse.models.scratch import FromScratch
from stillhouse.train.finetune import Finetune
from stillhouse.train.losses.cross_entropy import CrossEntropy
from stillhouse.train.objectives.sft import Sft
from stillhouse.train.optimiser import AdamW
from stillhouse.train.schedule import Constant
from tests.models.tiny import tiny_model, tiny_tokenizer
from tests.train.small import conversations, history, recipe, train

GOLDEN = Path(__file__).with_name("golden.json")

RECIPES: dict[str, dict[str, Any]] = {
    "train.finetune/2 train.sft/1 train.adamw/1 train.cosine/1": {},
    "models.lora/1": {"adapter": Lora(rank=2, dropout=0.1), "learning_rate": 1e-2},
    "train.constant/1 train.cross_entropy/1": {
        "schedule": Constant(warmup=0.3),
        "objective": Sft(loss=CrossEntropy(smoothing=0.1)),
        "optimiser": AdamW(weight_decay=0.2, decayed="all"),
        "clip": 0.5,
    },
}


def losses(folder: Path, base: Path, changes: dict[str, Any]) -> list[float]:
    """The loss of each update, then that of the best evaluation."""
    model = train(folder, recipe(base, steps=6, **changes))
    return [line["loss"] for line in history(model) if "loss" in line] + [model.record["facts"]["eval_loss"]]


def scratch_losses(folder: Path) -> list[float]:
    from tests.models.test_scratch import TinyTokenizer

    base = FromScratch(tokenizer=TinyTokenizer(), hidden=32, layers=2, heads=2, max_length=64)
    step = Finetune(base=base, rows=conversations(0, 30), steps=6, seq_len=64)
    return [line["loss"] for line in history(train(folder, step))]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", list(RECIPES))
def test_training_comes_to_what_it_came_to(tmp_path: Path, base: Path, name: str) -> None:
    expected = json.loads(GOLDEN.read_text())[name]
    # float32 sums differ by machine and library; six updates carry that to the fifth digit.
    assert losses(tmp_path, base, RECIPES[name]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.usefixtures("in_process")
def test_a_fresh_model_begins_where_it_began(tmp_path: Path) -> None:
    expected = json.loads(GOLDEN.read_text())["models.from_scratch/1"]
    assert scratch_losses(tmp_path) == pytest.approx(expected, rel=1e-3)


def update() -> None:
    """Write the file anew."""
    torch.set_num_threads(1)
    Finetune.isolated = False
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        base = tiny_model(root / "base", tiny_tokenizer(root / "tokenizer"))
        found = {
            key: losses(root / str(number), base, changes) for number, (key, changes) in enumerate(RECIPES.items())
        }
        found["models.from_scratch/1"] = scratch_losses(root / "scratch")
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    update()
