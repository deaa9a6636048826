"""A training whose process gets no more memory from the operating system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from stillhouse.core.errors import TrainError
from stillhouse.train.finetune import Finetune
from tests.faults.hungry import STARVES_AT, Hungry
from tests.models.tiny import tiny_model, tiny_tokenizer
from tests.train.small import contents, recipe, train


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a process is read from /proc")
def test_a_training_without_memory_says_what_to_make_smaller_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_model(tmp_path / "base", tiny_tokenizer(tmp_path / "tokenizer"))
    step = recipe(base, objective=Hungry())
    monkeypatch.setenv(STARVES_AT, "9")
    with pytest.raises(TrainError, match="memory ran out") as caught:
        train(tmp_path / "broken", step)
    monkeypatch.delenv(STARVES_AT)
    assert "micro_batch" in str(caught.value)
    assert list(tmp_path.glob("broken/work-v1/*/scratch/checkpoints/step-*"))
    monkeypatch.setattr(Finetune, "isolated", False)  # saves the seconds of two more processes
    assert contents(train(tmp_path / "broken", step)) == contents(train(tmp_path / "whole", step))
