"""Attention inside documents by one kernel for all of them, on GPUs that have such a kernel.

Documents need no groups and no padding there, and a layer costs one launch for its attention, not dozens. There are two
kernels: flash attention for half precision, and torch's memory-efficient attention for the rest. Both stand below what
torch promises to keep, and some cards lack the way back for some widths of heads, so each is believed after a trial
alone: for each dtype and width, with and without a window. Attention goes by groups where there is none.

Axes: `N` tokens of all documents, `H` heads, `D` width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

_WIDEST = 256
_STEP = 8
"""Widths of heads that the kernels take are multiples of it."""
_HALF = (torch.bfloat16, torch.float16)

Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor, int, float, float | None, int | None], Tensor]
"""(query, key, value [N, H, D], bounds, longest, dropout, scaling, window) -> [N, H, D]"""


def kernel_for(query: Tensor, key: Tensor, value: Tensor, window: int | None = None) -> Kernel | None:
    """The kernel that takes these states [1, H, N, D]; None where attention must go by groups."""
    width = query.shape[-1]
    if not query.is_cuda or width != key.shape[-1] or width != value.shape[-1] or width % _STEP or width > _WIDEST:
        return None
    return _tried(query.device, working_dtype(query), width, window is not None)


def varlen_attention(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Causal attention of [1, H, N, D] inside each document; [N, H, D] comes back.

    `bounds` [documents + 1] int32 says where documents begin, `window` how many tokens one sees, itself included.
    """
    dtype = working_dtype(query)
    query, key, value = (part[0].transpose(0, 1).to(dtype) for part in (query, key, value))
    return kernel(query, key, value, bounds, longest, dropout, scaling, window)


def working_dtype(query: Tensor) -> torch.dtype:
    """What autocast makes of it: the kernels stand below autocast and must be given that."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


def by_flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Half precision; fewer heads for keys than for queries are its own affair."""
    output: Tensor = torch.ops.aten._flash_attention_forward(
        query, key, value, bounds, bounds, longest, longest, dropout, True, False,
        scale=scaling,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
    )[0]  # fmt: skip
    return output


def by_memory_efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Any precision; knows no window on its way back."""
    assert window is None, "a window is for attention by groups"
    times = query.shape[1] // key.shape[1]
    if times > 1:
        key, value = (part.repeat_interleave(times, dim=1) for part in (key, value))
    output: Tensor = torch.ops.aten._efficient_attention_forward(
        query[None], key[None], value[None], None, bounds, bounds, longest, longest, dropout, _CAUSAL, True,
        scale=scaling,
    )[0]  # fmt: skip
    return output[0]


_CAUSAL = 1
"""From the top left corner, as `_efficient_attention_forward` counts its masks."""


@cache
def _tried(device: torch.device, dtype: torch.dtype, width: int, windowed: bool) -> Kernel | None:
    kernels = [by_flash] if dtype in _HALF else []
    kernels += [] if windowed else [by_memory_efficient]
    return next((kernel for kernel in kernels if _works(kernel, device, dtype, width, windowed)), None)


def _works(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int, windowed: bool) -> bool:
    """A trial, forward and backward, with fewer heads for keys than for queries."""
    lengths, window = (5, 3), 2 if windowed else None
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            values = torch.linspace(-2, 2, 8 * 4 * width, device=device).sin().to(dtype).view(8, 4, width)
            scaling = width**-0.5
            states = [values[:, :heads].clone().requires_grad_() for heads in (4, 2, 2)]
            bounds = torch.tensor([0, 5, 8], dtype=torch.int32, device=device)
            found = kernel(states[0], states[1], states[2], bounds, max(lengths), 0.0, scaling, window)
            parts = [
                functional.scaled_dot_product_attention(
                    query, key, value, attn_mask=_seen(query.shape[1], window, device), scale=scaling, enable_gqa=True
                )
                for query, key, value in zip(
                    *(part.float().transpose(0, 1).split(lengths, 1) for part in states), strict=True
                )
            ]
            expected = torch.cat(parts, dim=1).transpose(0, 1)
            slopes = torch.linspace(-1, 1, found.numel(), device=device).view_as(found)
            pairs = [(found, expected)]
            pairs += zip(
                torch.autograd.grad((found.float() * slopes).sum(), states),
                torch.autograd.grad((expected * slopes).sum(), states),
                strict=True,
            )
            near = 3e-2 if dtype in _HALF else 1e-4
            return all(_are_near(mine.float(), other.float(), near) for mine, other in pairs)
    except torch.OutOfMemoryError:
        raise  # it says nothing of the kernel
    except (RuntimeError, TypeError, AttributeError):
        return False


def _are_near(mine: Tensor, other: Tensor, near: float) -> bool:
    return bool((mine - other).abs().max() < near * other.abs().max().clamp(min=1.0))


def _seen(length: int, window: int | None, device: torch.device) -> Tensor:
    """[length, length] what each token of a document sees: itself and those before, as far as the window goes."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)
