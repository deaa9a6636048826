"""Checkpoints: a folder each, there whole or not at all, believed only if its digests fit.

```
step-00000120/   parameters.safetensors   what learns, by name
                 optimiser.safetensors    its state as <parameter>/<key>
                 state.json               the rest, and the digests of the two
```
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..core.keys import digest_of, file_digest
from ..core.store import disk_error

PARAMETERS = "parameters.safetensors"
OPTIMISER = "optimiser.safetensors"
STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What was read back; tensors lie on the CPU."""

    step: int
    parameters: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(
    root: Path, step: int, parameters: Mapping[str, Tensor], optimiser: Mapping[str, Tensor], state: Mapping[str, Any]
) -> Path:
    """Write the checkpoint of `step` under `root`, in place of one of that name; returns its folder."""
    target = root / f"step-{step:08d}"
    temporary = root / f".writing-{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file({name: tensor.detach().contiguous() for name, tensor in parameters.items()}, temporary / PARAMETERS)
        save_file({name: tensor.detach().contiguous() for name, tensor in optimiser.items()}, temporary / OPTIMISER)
        files = {name: file_digest(temporary / name) for name in (PARAMETERS, OPTIMISER)}
        content = {"step": step, "files": files, "state": state}
        text = json.dumps({**content, "digest": digest_of(content)}, indent=1)
        (temporary / STATE).write_text(text + "\n", encoding="utf-8")
        for path in temporary.iterdir():
            _flush(path)
        if target.exists():
            shutil.rmtree(target)
        os.rename(temporary, target)
        _flush(root)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise disk_error(cause, target) from error
    return target


def newest_checkpoint(root: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; a damaged one is set aside with a warning and the one before it taken."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        found = read_checkpoint(folder)
        if isinstance(found, Checkpoint):
            return found
        aside = root / f"damaged-{folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
        warn(f"the checkpoint `{folder.name}` is damaged ({found}); set aside, training goes on from the one before")
    return None


def read_checkpoint(folder: Path) -> Checkpoint | str:
    """The checkpoint in `folder`, or what is wrong with it."""
    try:
        content = json.loads((folder / STATE).read_text(encoding="utf-8"))
        expected = content.pop("digest")
        if digest_of(content) != expected:
            return f"the content of {STATE} is not what was written"
        for name, digest in content["files"].items():
            if file_digest(folder / name) != digest:
                return f"the content of {name} is not what was written"
        parameters, optimiser = load_file(folder / PARAMETERS), load_file(folder / OPTIMISER)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        return f"it cannot be read: {error}"
    return Checkpoint(content["step"], parameters, optimiser, content["state"])


def drop_all_but(root: Path, num_kept: int) -> None:
    """Remove the oldest checkpoints, and what an interrupted write left."""
    for folder in sorted(root.glob("step-*"))[:-num_kept]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in root.glob(".writing-*"):
        if folder.name != f".writing-{os.getpid()}":
            shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
