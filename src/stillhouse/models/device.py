"""Which device and how many threads: answers to the session's options, never part of what a result is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..core.errors import RecipeError


def resolve_device(name: str = "auto") -> torch.device:
    """The device that `name` (`auto`, `cpu`, `cuda`, `cuda:1`, `mps`) means on this machine."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RecipeError(f"`{name}` is not a device", "Give auto, cpu, cuda, cuda:1 or mps.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RecipeError("the device `cuda` was asked for, but torch sees no CUDA here", "Use `device='auto'`.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RecipeError("the device `mps` was asked for, but torch sees no Metal here", "Use `device='auto'`.")
    return device


def set_threads(threads: int | None) -> int:
    """Let torch use this many threads on the CPU (None: leave its choice); returns how many it uses."""
    if threads is not None and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return int(torch.get_num_threads())


@contextmanager
def in_one_order(wanted: bool) -> Iterator[None]:
    """Where it is wanted, deterministic algorithms of torch only: an operation that has none raises a `RuntimeError`.

    cuBLAS is one of these in a process that used a GPU before, unless its variable was set by then.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
