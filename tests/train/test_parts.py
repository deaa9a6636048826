"""Schedules and optimisers as they are declared."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from stillhouse.models.loading import load_model
from stillhouse.train._optimiser import load_state_by_name, state_by_name, trainable
from stillhouse.train.optimiser import AdamW
from stillhouse.train.schedule import Constant, Cosine


def test_the_cosine_rises_to_the_peak_and_falls_to_its_end() -> None:
    factors = [Cosine(warmup=0.1, final=0.2)(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert factors[10] == max(factors) == 1.0
    assert factors[55] == pytest.approx(0.6)
    assert all(left > right for left, right in pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.2, abs=0.001)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_short_runs_have_a_learning_rate_at_every_update(num_steps: int) -> None:
    for schedule in (Cosine(), Cosine(warmup=1.0), Constant(warmup=0.5), Constant()):
        assert all(0 < schedule(step, num_steps) <= 1 for step in range(num_steps))


@pytest.mark.parametrize("decayed", ["matrices", "all"])
def test_weight_decay_leaves_norms_and_embeddings_alone_unless_asked(base: Path, decayed: str) -> None:
    model = load_model(base)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = AdamW(weight_decay=0.5, decayed=decayed)(model, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    shrunk = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    matrices = {name for name in before if "proj" in name}
    assert shrunk == (matrices if decayed == "matrices" else set(before))
    assert matrices


def test_the_optimisers_state_is_known_by_parameter_names(base: Path) -> None:
    model = load_model(base)
    optimiser = AdamW()(model, 0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    state = state_by_name(optimiser, model)
    assert {name.rpartition("/")[0] for name in state} == {name for name, _ in trainable(model)}
    assert torch.equal(state["model.norm.weight/exp_avg"], torch.full((32,), 0.1))
    fresh = AdamW()(model, 0.1)
    load_state_by_name(fresh, model, state)
    again = state_by_name(fresh, model)
    assert all(torch.equal(again[name], value) for name, value in state.items())
    assert set(again) == set(state)
