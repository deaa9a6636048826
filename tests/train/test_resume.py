"""A run that was stopped, killed or damaged ends as one that was not: every file, byte for byte."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from stillhouse.core.errors import Interrupted, TrainError
from stillhouse.core.events import Event
from stillhouse.core.session import Session
from stillhouse.models.adapter import Lora
from stillhouse.train.checkpoint import newest_checkpoint
from stillhouse.train.finetune import Finetune
from tests.train.small import contents, history, options, recipe, train, train_until


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("work-v1/*/scratch/checkpoints/step-*"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("update", [1, 5, 6, 11])
def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path: Path, dropping_base: Path, update: int) -> None:
    """With dropout, in mid-epoch (an epoch has about four updates), before and after evaluations."""
    step = recipe(dropping_base, checkpoints=2)
    whole = train(tmp_path / "whole", step)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, update)
    resumed = train(tmp_path / "broken", step)
    assert contents(resumed) == contents(whole)
    assert [line["step"] for line in history(resumed) if "loss" in line] == list(range(1, 13))


@pytest.mark.usefixtures("in_process")
def test_a_run_stopped_many_times_ends_the_same(tmp_path: Path, dropping_base: Path) -> None:
    step = recipe(dropping_base, adapter=Lora(rank=2, dropout=0.3))
    whole = train(tmp_path / "whole", step)
    for update in (2, 3, 7, 10):
        with pytest.raises(Interrupted):
            train_until(tmp_path / "broken", step, update)
    assert contents(train(tmp_path / "broken", step)) == contents(whole)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", ["parameters.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["flipped", "torn", "gone"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(
    tmp_path: Path, dropping_base: Path, name: str, damage: str
) -> None:
    step = recipe(dropping_base, steps=8)
    whole = train(tmp_path / "whole", step)
    for update in (3, 6):
        with pytest.raises(Interrupted):
            train_until(tmp_path / "broken", step, update)
    found = checkpoints(tmp_path / "broken")
    assert len(found) == 2
    spoil(found[-1] / name, damage)
    warnings: list[str] = []

    def listen(event: Event) -> None:
        if event.kind == "warning":
            warnings.append(event.data["message"])

    with Session(tmp_path / "broken", options=options(), track=False, progress=False, on_event=listen) as session:
        resumed = session.run(step)
    assert contents(resumed) == contents(whole)
    assert any(found[-1].name in message and "damaged" in message for message in warnings)


def spoil(path: Path, damage: str) -> None:
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(data[: len(data) * 2 // 3])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.mark.usefixtures("in_process")
def test_a_run_goes_on_with_another_micro_batch(tmp_path: Path, base: Path) -> None:
    """Micro-batches belong to the session: the sums are the same but for their rounding."""
    step = recipe(base)
    whole = train(tmp_path / "whole", step)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, 4, micro_batch=1)
    resumed = train(tmp_path / "broken", step, micro_batch=2)
    for line, other in zip(history(resumed), history(whole), strict=True):
        assert line == pytest.approx(other, rel=1e-3)


def test_a_killed_child_ends_as_an_uninterrupted_one(
    tmp_path: Path, dropping_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = recipe(dropping_base, steps=40)
    with monkeypatch.context() as patch:
        patch.setattr(Finetune, "isolated", False)
        whole = train(tmp_path / "whole", step, checkpoint_seconds=30.0)
    kills = 0
    for update in (7, 23):
        with contextlib.suppress(TrainError):
            train_and_kill(tmp_path / "broken", step, update)
            continue
        kills += 1
    assert kills == 2
    assert checkpoints(tmp_path / "broken")
    assert contents(train(tmp_path / "broken", step)) == contents(whole)


def train_and_kill(folder: Path, step: Finetune, update: int) -> None:
    """Kill the training process, with no chance to clean up, when it tells of `update`."""

    def listen(event: Event) -> None:
        if event.kind == "metric" and event.data["step"] == update:
            for child in psutil.Process().children():
                if "stillhouse.core.child" in child.cmdline():
                    child.kill()

    with Session(folder, options=options(), track=False, progress=False, on_event=listen) as session:
        session.run(step)


@pytest.mark.usefixtures("in_process")
def test_one_order_changes_nothing_on_the_cpu_but_is_told(tmp_path: Path, dropping_base: Path) -> None:
    step = recipe(dropping_base, steps=3)
    plain, ordered = (train(tmp_path / str(given), step, deterministic=given) for given in (False, True))
    assert ordered.record["facts"]["deterministic"] is True
    assert "deterministic" not in plain.record["facts"]
    assert ordered.key == plain.key
    assert history(ordered) == history(plain)


@pytest.mark.usefixtures("in_process")
def test_only_the_last_checkpoints_are_kept_while_training(tmp_path: Path, base: Path) -> None:
    with pytest.raises(Interrupted):
        train_until(tmp_path / "store", recipe(base), 10)
    found = checkpoints(tmp_path / "store")
    assert len(found) <= 2
    newest = newest_checkpoint(found[-1].parent, print)
    assert newest is not None
    assert newest.step >= 10
    assert "model.embed_tokens.weight/exp_avg_sq" in newest.optimiser
