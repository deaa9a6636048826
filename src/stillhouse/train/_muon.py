"""The work behind `Muon`: two optimisers that look like one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim import Optimizer

from ._optimiser import trainable

if TYPE_CHECKING:
    from .muon import Muon


class Together(Optimizer):
    """Several optimisers with parameters of their own: one state, one list of groups, one step."""

    def __init__(self, parts: list[Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._parts = parts
        for part in parts:
            part.state = self.state  # so that saving and loading see one optimiser

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step of each; `closure` is not supported, as no part needs it."""
        del closure
        for part in self._parts:
            part.step()


def muon(recipe: Muon, model: nn.Module, learning_rate: float) -> Optimizer:
    """See `Muon.__call__`."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embeddings = {id(parameter) for table in tables for parameter in table.parameters()}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is not None:
        embeddings |= {id(parameter) for parameter in head.parameters()}
    matrices = [one for _, one in trainable(model) if one.ndim == 2 and id(one) not in embeddings]
    chosen = {id(one) for one in matrices}
    others = [one for _, one in trainable(model) if id(one) not in chosen]
    parts: list[Optimizer] = []
    if matrices:
        parts.append(
            torch.optim.Muon(
                matrices,
                lr=learning_rate,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if others:
        rest = recipe.rest
        decay = rest.weight_decay if rest.decayed == "all" else 0.0
        parts.append(
            torch.optim.AdamW(others, lr=learning_rate, betas=rest.betas, eps=rest.epsilon, weight_decay=decay)
        )
    return Together(parts)
