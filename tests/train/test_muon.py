"""Muon: which parameters it moves, by how much, and that its runs are taken up exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillhouse.core.errors import Interrupted
from stillhouse.models.loading import load_model
from stillhouse.train._optimiser import load_state_by_name, state_by_name, trainable
from stillhouse.train.muon import Muon
from stillhouse.train.optimiser import AdamW
from tests.train.small import contents, history, recipe, train, train_until


def test_the_first_update_of_a_matrix_is_orthogonal_and_of_the_size_of_adamw(base: Path) -> None:
    """The gradient's polar factor from a singular value decomposition in float64 is the reference.

    Newton-Schulz runs in bfloat16 and stops where singular values lie between about 0.7 and 1.2.
    """
    torch.manual_seed(0)
    model = load_model(base)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimiser = Muon(weight_decay=0.0)(model, 0.01)
    for one in model.parameters():
        one.grad = torch.randn_like(one)
    optimiser.step()
    matrices = [name for name in before if "proj" in name]
    assert matrices
    for name in matrices:
        one = model.get_parameter(name)
        assert one.grad is not None
        left, _, right = torch.linalg.svd(one.grad.double(), full_matrices=False)
        moved = (before[name] - one.detach()).double() / (0.01 * 0.2 * max(one.shape) ** 0.5)
        along = torch.einsum("ik,ij,kj->k", left, moved, right)
        assert 0.6 < float(along.min()) <= float(along.max()) < 1.3
        assert float((moved - left @ torch.diag(along) @ right).abs().max()) < 0.05


def test_embeddings_and_norms_move_as_under_adamw(base: Path) -> None:
    moved = {}
    for optimiser in (Muon(rest=AdamW(betas=(0.8, 0.9))), AdamW(betas=(0.8, 0.9))):
        torch.manual_seed(0)
        model = load_model(base)
        made = optimiser(model, 0.01)
        for _ in range(3):
            for one in model.parameters():
                one.grad = torch.randn_like(one)
            made.step()
        moved[optimiser.tag] = {name: one for name, one in model.named_parameters() if "proj" not in name}
    first, second = moved.values()
    assert len(first) > 2
    for name, one in first.items():
        torch.testing.assert_close(one, second[name], rtol=1e-5, atol=1e-7)


def test_its_state_is_known_by_parameter_names(base: Path) -> None:
    model = load_model(base)
    optimiser = Muon()(model, 0.1)
    for one in model.parameters():
        one.grad = torch.ones_like(one)
    optimiser.step()
    state = state_by_name(optimiser, model)
    assert {name.rpartition("/")[0] for name in state} == {name for name, _ in trainable(model)}
    fresh = Muon()(model, 0.1)
    load_state_by_name(fresh, model, state)
    again = state_by_name(fresh, model)
    assert set(again) == set(state)
    assert all(torch.equal(again[name], value) for name, value in state.items())


@pytest.mark.usefixtures("in_process")
def test_a_stopped_run_ends_as_an_uninterrupted_one(tmp_path: Path, dropping_base: Path) -> None:
    step = recipe(dropping_base, optimiser=Muon())
    whole = train(tmp_path / "whole", step)
    with pytest.raises(Interrupted):
        train_until(tmp_path / "broken", step, 5)
    assert contents(train(tmp_path / "broken", step)) == contents(whole)
    losses = [line["loss"] for line in history(whole) if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
