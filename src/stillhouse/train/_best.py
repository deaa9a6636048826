"""The best weights so far, a file for each time they were beaten, until no checkpoint looks back to them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.errors import StoreError
from ..core.keys import file_digest
from ..core.store import disk_error
from .checkpoint import STATE


class BestWeights:
    """See the module."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, step: int, parameters: Mapping[str, Tensor]) -> str:
        """Write the weights of `step`; returns the digest of the file."""
        temporary = self.folder / f".writing-{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({name: tensor.detach().contiguous() for name, tensor in parameters.items()}, temporary)
            os.replace(temporary, self._path(step))
            return file_digest(self._path(step))
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise disk_error(error if isinstance(error, OSError) else OSError(str(error)), self.folder) from error

    def load(self, step: int, digest: str, parameters: Mapping[str, Tensor]) -> None:
        """Put the weights of `step` into `parameters`; raises `StoreError` where the file has another digest."""
        path = self._path(step)
        if not path.exists() or file_digest(path) != digest:
            raise StoreError(
                f"the best weights, of update {step}, are damaged or gone: `{path}`",
                f"Remove `{self.folder.parent}` and run again: training starts anew.",
            )
        found = load_file(path)
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(found[name])

    def drop_unreferenced(self, checkpoints: Path) -> None:
        """Remove what no checkpoint under `checkpoints` calls the best."""
        named = set()
        for path in checkpoints.glob(f"step-*/{STATE}"):
            with suppress(ValueError):  # a damaged state refers to nothing
                step = json.loads(path.read_text(encoding="utf-8"))["state"]["position"]["best_step"]
                named.add(self._path(step).name if step is not None else "")
        for path in self.folder.glob("*.safetensors"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}.safetensors"
