"""The work behind `AdamW`, and optimiser state by the names of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from .optimiser import AdamW


def adamw(recipe: AdamW, model: nn.Module, learning_rate: float) -> Optimizer:
    """See `AdamW.__call__`."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embeddings = {id(parameter) for table in tables for parameter in table.parameters()}
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for _, parameter in trainable(model):
        matrix = parameter.ndim >= 2 and id(parameter) not in embeddings
        (decayed if matrix or recipe.decayed == "all" else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=learning_rate,
        betas=recipe.betas,
        eps=recipe.epsilon,
        fused=all(parameter.device.type in ("cpu", "cuda") for _, parameter in trainable(model)),
    )


def trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and parameters that learn, each once, in the model's order."""
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def state_by_name(optimiser: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's tensors as `<parameter>/<key>`, such as `model.norm.weight/exp_avg`."""
    return {
        f"{name}/{key}": value
        for name, parameter in trainable(model)
        for key, value in optimiser.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_state_by_name(optimiser: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_by_name` gave."""
    parameters = dict(trainable(model))
    states: dict[str, dict[str, Any]] = {}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition("/")
        states.setdefault(name, {})[key] = value.to(parameters[name].device, copy=True)
    for name, state in states.items():
        optimiser.state[parameters[name]] = state
