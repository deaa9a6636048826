"""Muon: which parameters it moves, by how much, and that its runs are taken up exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillhouse.core.errors import Interrupted
from stillhouse.models.loading import load_model
from stillhouse.train import _muon
from stillhouse.train._optimiser import load_state_by_name, state_by_name, trainable
from stillhouse.train.muon import Muon
from stillhouse.train.optimiser import AdamW
from tests.train.small import contents, history, recipe, train, train_until


def test_the_first_update_is_what_the_polynomial_makes_of_the_singular_values(base: Path) -> None:
    """The reference: a singular value decomposition in float64, the iterations on each singular value alone."""
    torch.manual_seed(0)
    model = load_model(base)
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    optimiser = Muon(weight_decay=0.0)(model, 0.01)
    for one in model.parameters():
        one.grad = torch.randn_like(one)
    optimiser.step()
    matrices = [name for name in before if "proj" in name]
    assert len({before[name].shape for name in matrices}) > 2
    for name in matrices:
        one = model.get_parameter(name)
        assert one.grad is not None
        left, values, right = torch.linalg.svd(one.grad.double(), full_matrices=False)
        values /= values.norm()
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
        expected = left @ torch.diag(values) @ right * 0.01 * 0.2 * max(one.shape) ** 0.5
        torch.testing.assert_close((before[name] - one.detach()).double(), expected, rtol=1e-3, atol=1e-6)


def test_many_updates_are_those_of_torch(base: Path) -> None:
    """torch iterates in bfloat16, whose rounding is all that may lie between the two."""
    model, other = load_model(base), load_model(base)
    names = [name for name, _ in trainable(model) if "proj" in name]
    mine = Muon(momentum=0.9, weight_decay=0.3)(model, 0.01)
    reference = torch.optim.Muon(
        [other.get_parameter(name) for name in names],
        lr=0.01,
        momentum=0.9,
        weight_decay=0.3,
        adjust_lr_fn="match_rms_adamw",
    )
    for number in range(4):
        torch.manual_seed(number)
        for name in names:
            gradient = torch.randn_like(model.get_parameter(name))
            model.get_parameter(name).grad = gradient
            other.get_parameter(name).grad = gradient.clone()
        mine.step()
        reference.step()
    began = load_model(base)
    for name in names:
        moved, expected = (one.get_parameter(name) - began.get_parameter(name) for one in (model, other))
        assert float((moved - expected).detach().norm() / expected.detach().norm()) < 0.05


def test_matrices_go_through_the_iterations_in_bounded_groups(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for size in (1 << 24, 1):
        monkeypatch.setattr(_muon, "AT_ONCE", size)
        torch.manual_seed(0)
        model = load_model(base)
        optimiser = Muon()(model, 0.01)
        for one in model.parameters():
            one.grad = torch.randn_like(one)
        optimiser.step()
        moved.append(dict(model.named_parameters()))
    for name, one in moved[0].items():
        torch.testing.assert_close(one, moved[1][name], rtol=1e-5, atol=1e-6)


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
