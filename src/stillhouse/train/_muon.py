"""The work behind `Muon`: orthogonalised momentum for many matrices at once, and two optimisers that look like one.

Axes: `R` rows, `C` columns of a matrix, `N` matrices of one shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ._optimiser import trainable

if TYPE_CHECKING:
    from .muon import Muon

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of x, x³ and x⁵ in each iteration: steep at 0, so that five bring singular values of any size near 1."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7
AT_ONCE = 1 << 24
"""Elements of the matrices that are orthogonalised in one go: bounds the memory of a step."""


class Orthogonalised(Optimizer):
    """Nesterov momentum of matrices, orthogonalised; updates have the root mean square of AdamW's, about 0.2.

    Matrices of one shape go through the iterations together: small ones are bound by calls, not by arithmetic.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One step; `closure` is not supported."""
        del closure
        for group in self.param_groups:
            learning = [one for one in group["params"] if one.grad is not None]
            for matrices in _alike(learning):
                along = [self._along(one, group["momentum"]) for one in matrices]
                moves = orthogonalised(torch.stack(along)).to(matrices[0].dtype)
                scale = 0.2 * max(matrices[0].shape) ** 0.5
                moved: list[Tensor] = list(matrices)
                torch._foreach_mul_(moved, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(moved, list(moves), alpha=-group["lr"] * scale)

    def _along(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """The direction to move against, before it is orthogonalised."""
        gradient = matrix.grad
        assert gradient is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average: Tensor = state["momentum_buffer"]
        average.lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def _alike(matrices: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Matrices of one shape, type and device, in lists of bounded size."""
    kinds: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for one in matrices:
        kinds.setdefault((one.shape, one.dtype, one.device), []).append(one)
    for same in kinds.values():
        size = max(1, AT_ONCE // same[0].numel())
        yield from (same[start : start + size] for start in range(0, len(same), size))


def orthogonalised(matrices_NRC: Tensor) -> Tensor:
    """Each matrix with its singular values brought near 1 (0.7 to 1.2) and its singular vectors kept, in float32 or
    bfloat16: Newton-Schulz iterations with the quintic polynomial of Jordan et al. (2024).

    On GPUs in bfloat16, which suffices there; on CPUs in float32, for few of them multiply bfloat16 at any speed.
    """
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    found = matrices_NRC.mT if tall else matrices_NRC
    found = found.to(torch.bfloat16 if found.device.type == "cuda" else torch.float32)
    found = found / torch.linalg.matrix_norm(found, keepdim=True).clamp(min=SMALLEST_NORM)
    first, third, fifth = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = found @ found.mT
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), found, beta=first)
    return found.mT if tall else found


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
        parts.append(Orthogonalised(matrices, learning_rate, recipe.momentum, recipe.weight_decay))
    if others:
        rest = recipe.rest
        decay = rest.weight_decay if rest.decayed == "all" else 0.0
        parts.append(
            torch.optim.AdamW(others, lr=learning_rate, betas=rest.betas, eps=rest.epsilon, weight_decay=decay)
        )
    return Together(parts)
