"""A training whose process gets no more memory from the operating system."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import pytest

from stillhouse.core.errors import TrainError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.train.finetune import Finetune
from tests.models.tiny import tiny_model, tiny_tokenizer
from tests.train.small import contents, options, recipe, train


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process can be set on Linux alone")
def test_a_training_without_memory_says_what_to_make_smaller_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listen(event: Event) -> None:
        if event.kind == "metric" and event.data["step"] == 7:
            for child in psutil.Process().children():
                held = child.memory_info().vms
                child.rlimit(resource.RLIMIT_AS, (held // 2, -1))  # whatever is asked for from here on is refused

    base = tiny_model(tmp_path / "base", tiny_tokenizer(tmp_path / "tokenizer"))
    step = recipe(base, steps=60)
    with (
        Session(tmp_path / "broken", options=options(), track=False, progress=False, on_event=listen) as session,
        pytest.raises(TrainError, match="memory ran out") as caught,
    ):
        session.run(step)
    assert "micro_batch" in str(caught.value)
    assert list(tmp_path.glob("broken/work-v1/*/scratch/checkpoints/step-*"))
    monkeypatch.setattr(Finetune, "isolated", False)  # saves the seconds of two more processes
    assert contents(train(tmp_path / "broken", step)) == contents(train(tmp_path / "whole", step))
