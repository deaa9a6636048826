"""Training that cannot go on says what happened, where, and what to change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from stillhouse.core.errors import StoreError, TrainError
from stillhouse.core.part import Part
from stillhouse.core.session import Session
from stillhouse.core.step import Step
from stillhouse.tokens.store import TokenStore
from stillhouse.train.objective import Measured
from tests.models.tiny import tiny_model
from tests.train.small import options, recipe, train

if TYPE_CHECKING:
    from stillhouse.models.forward import Forward
    from stillhouse.train._batches import MicroBatch


class Greedy(Part, tag="tests.greedy/1"):
    """An objective that wants more memory than there is."""

    def __call__(self, forward: Forward, batch: MicroBatch) -> Measured:
        wanted = torch.empty(1 << 50)
        return Measured(wanted.sum(), batch.weights.sum())


class Unordered(Part, tag="tests.unordered/1"):
    """An objective with an operation that torch has in no fixed order."""

    def __call__(self, forward: Forward, batch: MicroBatch) -> Measured:
        logits = forward.logits(batch.tokens, batch.keep)
        torch.zeros(2).put_(torch.tensor([0]), torch.ones(1))
        return Measured(logits.sum(), batch.weights.sum())


class Exploding(Part, tag="tests.exploding/1"):
    """An objective whose gradient is not finite though its value is."""

    def __call__(self, forward: Forward, batch: MicroBatch) -> Measured:
        logits = forward.logits(batch.tokens, batch.keep)
        zero = (logits - logits.detach()).sum()
        return Measured(torch.sqrt(zero.abs()), batch.weights.sum())


@pytest.mark.usefixtures("in_process")
def test_a_loss_that_is_not_finite_stops_with_the_rows_and_advice(tmp_path: Path, tokenizer_folder: Path) -> None:
    base = tiny_model(tmp_path / "base", tokenizer_folder)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][3] = float("inf")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    step = recipe(base, held_out=None, evaluate_every=None)
    assert isinstance(step.tokens, Step)
    with Session(tmp_path / "store", options=options(), track=False, progress=False) as session:
        with pytest.raises(TrainError, match=r"not finite at update 1 \(loss nan") as caught:
            session.run(step)
        ids = TokenStore(session.run(step.tokens).data).row_ids(range(40))
    assert any(row_id in str(caught.value) for row_id in ids)
    assert "Lower `learning_rate` (now 0.003)" in str(caught.value)


@pytest.mark.usefixtures("in_process")
def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(tmp_path: Path, base: Path) -> None:
    with pytest.raises(TrainError, match="gradient norm nan"):
        train(tmp_path, recipe(base, objective=Exploding(), held_out=None, evaluate_every=None))


@pytest.mark.usefixtures("in_process")
def test_running_out_of_memory_says_what_to_make_smaller(tmp_path: Path, base: Path) -> None:
    with pytest.raises(TrainError, match="memory ran out") as caught:
        train(tmp_path, recipe(base, objective=Greedy(), held_out=None, evaluate_every=None))
    assert "micro_batch" in str(caught.value)


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_while_writing_a_checkpoint_says_so(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system's answer is made up; everything that meets it is real."""

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("stillhouse.train.checkpoint.os.fsync", full)
        with pytest.raises(StoreError, match="disk is full"):
            train(tmp_path, recipe(base))
    assert not list(tmp_path.glob("work-v1/*/scratch/checkpoints/step-*"))
    assert train(tmp_path, recipe(base)).record["facts"]["steps"] == 12


@pytest.mark.usefixtures("in_process")
def test_held_out_rows_without_anything_to_judge_by_are_refused(tmp_path: Path, base: Path) -> None:
    from stillhouse.core.artifact import Tokens
    from stillhouse.core.context import Context
    from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest

    class Unweighted(Step[Tokens], tag="tests.unweighted/1"):
        of: Step[Tokens]

        def run(self, context: Context) -> None:
            layout = TokenStore(context.get(self.of).data).layout
            mute = Layout(**{**vars(layout), "weighting": "mask"})
            writer = SegmentWriter(context.folder / "segments", 0, mute)
            writer.add("0" * 32, [5, 6, 7], [0.0, 0.0, 0.0])
            write_manifest(context.folder, mute, [writer.close((0, 1))])

    step = recipe(base)
    with pytest.raises(TrainError, match="no token to be judged by"):
        train(tmp_path, step.replace(held_out=Unweighted(of=step.tokens)))


@pytest.mark.usefixtures("in_process")
def test_what_has_no_fixed_order_is_named_where_one_was_asked_for(tmp_path: Path, base: Path) -> None:
    step = recipe(base, objective=Unordered(), steps=1, held_out=None)
    with pytest.raises(TrainError, match="trained in one order on this device: put_ does not have") as caught:
        train(tmp_path, step, deterministic=True)
    assert "`deterministic`" in str(caught.value)
    assert not torch.are_deterministic_algorithms_enabled()
