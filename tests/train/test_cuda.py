"""Training on a GPU; what it comes to there is held against the CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.core.errors import Interrupted
from stillhouse.models.adapter import Lora
from stillhouse.models.generate import Generator
from stillhouse.train.muon import Muon
from tests.models.tiny import conversation
from tests.train.small import history, recipe, train, train_until

os.environ.setdefault(
    "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
)  # torch looks once a process; trainings have one of their own

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.usefixtures("in_process"),
]


def losses(model: Any) -> list[float]:
    return [line["loss"] for line in history(model) if "loss" in line]


@pytest.mark.parametrize("changes", [{}, {"adapter": Lora(rank=2), "learning_rate": 1e-2}, {"optimiser": Muon()}])
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_a_gpu_learns_as_the_cpu_does(tmp_path: Path, base: Path, precision: str, changes: dict[str, Any]) -> None:
    expected = losses(train(tmp_path / "cpu", recipe(base, precision="float32", **changes)))
    model = train(tmp_path / "cuda", recipe(base, precision=precision, **changes), device="cuda")
    exact = precision == "float32" and "optimiser" not in changes  # Muon multiplies in bfloat16 there
    assert losses(model) == pytest.approx(expected, rel=1e-3 if exact else 0.1)
    facts = model.record["facts"]
    assert facts["device"] == torch.cuda.get_device_name()
    assert facts["precision"] == ("float32" if precision == "float32" else "bfloat16")
    assert facts["layout"] == "joined"


def test_the_device_is_found_by_itself_and_its_model_answers_as_on_the_cpu(tmp_path: Path, base: Path) -> None:
    model = train(tmp_path, recipe(base), device="auto")
    assert model.record["facts"]["device"] == torch.cuda.get_device_name()
    asked = [conversation(number)[:1] for number in range(4)]
    assert Generator(model.path).replies(asked, max_new_tokens=12) == Generator(model.path, device="cpu").replies(
        asked, max_new_tokens=12
    )


@pytest.mark.parametrize("changes", [{}, {"adapter": Lora(rank=2, dropout=0.3)}])
def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, dropping_base: Path, changes: dict[str, Any]) -> None:
    """Its dropout draws what it would have drawn; sums of a GPU need not be the same to the last bit."""
    step = recipe(dropping_base, precision="float32", **changes)
    whole = train(tmp_path / "whole", step, device="cuda")
    for update in (2, 7):
        with pytest.raises(Interrupted):
            train_until(tmp_path / "broken", step, update, device="cuda")
    resumed = train(tmp_path / "broken", step, device="cuda")
    assert [line["step"] for line in history(resumed) if "loss" in line] == list(range(1, 13))
    assert losses(resumed) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_in_one_order_a_stopped_run_ends_bit_for_bit_as_a_whole_one(tmp_path: Path, base: Path, precision: str) -> None:
    step = recipe(base, precision=precision)
    whole = train(tmp_path / "whole", step, device="cuda", deterministic=True)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, 5, device="cuda", deterministic=True)
    assert losses(train(tmp_path / "broken", step, device="cuda", deterministic=True)) == losses(whole)


def test_a_run_begun_on_a_gpu_can_end_on_the_cpu(tmp_path: Path, base: Path) -> None:
    step = recipe(base, precision="float32")
    whole = train(tmp_path / "whole", step)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, 5, device="cuda")
    assert losses(train(tmp_path / "broken", step)) == pytest.approx(losses(whole), rel=1e-3)


def test_rows_brought_ahead_are_those_that_come(tmp_path: Path, base: Path) -> None:
    """With micro-batches, whose pieces wait on the device while the update before them is computed."""
    step = recipe(base, precision="float32")
    whole = train(tmp_path / "whole", step, device="cuda")
    pieces = train(tmp_path / "pieces", step, device="cuda", micro_batch=1)
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-3)


def test_memory_that_runs_out_says_what_to_change(tmp_path: Path, base: Path) -> None:
    from stillhouse.core.errors import TrainError

    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    del free
    torch.cuda.set_per_process_memory_fraction(2e6 / total)
    try:
        with pytest.raises(TrainError, match="memory ran out"):
            train(tmp_path, recipe(base, precision="float32", batch_size=40), device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
