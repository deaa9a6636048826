"""Model folders: what is in them, and how they are read and written. Nothing in them is executed or unpickled."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ..core.errors import RecipeError, StoreError

BUILDING = threading.Lock()
"""Held while a model is made: transformers changes torch's initialisers for the whole process meanwhile, and a fresh
model draws from its one random state."""
ADAPTER_CONFIG = "adapter_config.json"
BASE = "base"
"""An adapter's folder holds its base under this name (as links, where the file system has them)."""
BESIDE = f"./{BASE}"
"""How an adapter's config names a base that is on no hub. No hub has such a name, so none is asked for it."""

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model",
    "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def base_of(folder: Path) -> Path:
    """The folder of the full weights: the adapter's base, or the folder itself."""
    if not is_adapter(folder):
        return folder
    if (folder / BASE).is_dir():
        return folder / BASE
    named = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    if named and Path(named).is_dir():
        return Path(named)
    raise RecipeError(
        f"the adapter `{folder}` does not hold its base model",
        f"Put the base (`{named}`) into `{folder / BASE}`." if named else "Put the base model's files there.",
    )


def load_model(
    folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None, trainable: bool = False
) -> nn.Module:
    """The causal language model in `folder`, in eval mode; an adapter comes inside its base.

    `dtype` None keeps the dtype on disk. `trainable` lets an adapter's own weights learn. Raises `RecipeError` where
    the folder is no model that can be used here and `StoreError` where weights are missing or damaged.
    """
    model = load_as(AutoModelForCausalLM, base_of(folder), dtype)
    if is_adapter(folder):
        from ._adapter import attach

        model = attach(model, folder, trainable)
    return model.to(device).eval()


def quantisation_of(folder: Path) -> str | None:
    """The method by which the weights in `folder` are quantised, None for plain weights."""
    settings = _config(folder).get("quantization_config")
    return None if not settings else str(settings.get("quant_method", "unknown"))


def dtype_of(folder: Path) -> torch.dtype:
    """The dtype of the weights on disk, by the largest tensor's."""
    from safetensors import safe_open

    names = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                sizes[part.get_dtype()] = max(sizes.get(part.get_dtype(), 0), torch.Size(part.get_shape()).numel())
    largest = max(sizes, key=lambda name: sizes[name], default="F32")
    return names.get(largest, torch.float32)


def save_model(model: nn.Module, folder: Path, *, dtype: torch.dtype, tokenizer_from: Path) -> None:
    """Write weights, configuration, tokenizer and template, as `AutoModelForCausalLM.from_pretrained` reads them."""
    transformed: Any = model.to(dtype)
    with quiet():
        transformed.save_pretrained(str(folder))
    copy_files(tokenizer_from, folder, TOKENIZER_FILES)


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those of `names` that are in `source`."""
    target.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def link_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """As `copy_files`, but by hard links where the file system allows: the files must never be written in place."""
    for name in names:
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link((source / name).resolve(), place)
        except OSError:
            shutil.copyfile(source / name, place)


def load_as(
    kind: Any, folder: Path, dtype: torch.dtype | None, *, spared: tuple[str, ...] = (), surplus: bool = False
) -> nn.Module:
    """The model in `folder` as `kind`, one of transformers' Auto classes.

    Weights that begin as one of `spared` may be missing; with `surplus`, others than the architecture's may lie there.
    """
    _check_folder(folder)
    try:
        with BUILDING, quiet():
            loaded: Any = kind.from_pretrained(
                str(folder),
                dtype=dtype if dtype is not None else "auto",
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, by name
            )
    except (ValueError, KeyError, ImportError) as error:
        raise RecipeError(f"`{folder}` cannot be used as a model: {_first_line(error)}") from error
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StoreError(f"the weights in `{folder}` cannot be read: {_first_line(error)}") from error
    model, info = loaded
    missing = [key for key in info["missing_keys"] if not key.startswith(spared)] if spared else info["missing_keys"]
    lacking = sorted([*missing, *(str(key[0]) for key in info["mismatched_keys"])])
    if lacking:
        raise StoreError(
            f"the weights in `{folder}` do not fit its config.json: {len(lacking)} are missing or of another shape, "
            f"such as `{lacking[0]}`",
            "The folder is incomplete, or weights and config come from different models.",
        )
    if info["unexpected_keys"] and not surplus:
        first = sorted(info["unexpected_keys"])[0]
        warnings.warn(f"`{folder}` holds weights that its architecture does not use, such as `{first}`", stacklevel=3)
    found: nn.Module = model
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """transformers and PEFT without progress bars and remarks: what matters is raised or said by us."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of one of the two about the other
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise RecipeError(f"`{folder}` is not a model: it has no config.json")
    if "auto_map" in _config(folder) and not _config(folder).get("model_type"):
        raise RecipeError(f"`{folder}` needs code that comes with it, which is never run here")
    if not any(folder.glob("*.safetensors")):
        raise RecipeError(
            f"`{folder}` has no weights as safetensors",
            "Pickled weights (.bin, .pt) are never read; convert them once with transformers' `save_pretrained`.",
        )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"`{folder / 'config.json'}` cannot be read: {_first_line(error)}") from error
    return config


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
