"""The work behind `Merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.errors import RecipeError, TrainError
from ..text.tokenizer import load_tokenizer
from .loading import base_of, copy_files, dtype_of, is_adapter, load_model, quantisation_of, save_model

TOLERANCE = 1e-4
"""Of the largest logit, in float32: the two ways differ by rounding alone (1e-6 seen)."""


def merge(folder: Path, target: Path) -> dict[str, Any]:
    """Write the merged model to `target`; returns the largest difference of logits before and after rounding."""
    if not is_adapter(folder):
        raise RecipeError(f"Merge: `{folder}` is no adapter, there is nothing to merge")
    base = base_of(folder)
    method = quantisation_of(base)
    if method is not None:
        raise RecipeError(
            f"Merge: the base is quantised ({method}); adding to rounded weights would round them again",
            "Merge into the unquantised base, then quantise the result.",
        )
    model: Any = load_model(folder, dtype=torch.float32)
    probe = _probe(model)
    before = _logits(model, probe)
    merged = model.merge_and_unload(safe_merge=True)
    after = _logits(merged, probe)
    scale = before.abs().max().clamp(min=1.0)
    error = float((after - before).abs().max() / scale)
    if not error <= TOLERANCE:
        raise TrainError(f"Merge: the merged model differs from the adapter by {error:.1e} of the largest logit")
    dtype = dtype_of(base)
    rounded = _logits(merged.to(dtype), probe)
    save_model(merged, target, dtype=dtype, tokenizer_from=folder)
    copy_files(folder, target, ["generation_config.json"])
    load_tokenizer(target)
    return {"merge_error": error, "rounding_error": float((rounded - before).abs().max() / scale)}


def _probe(model: nn.Module) -> torch.Tensor:
    transformer: Any = model
    vocabulary: int = transformer.get_input_embeddings().weight.shape[0]
    return torch.arange(1, 33)[None] * 7919 % vocabulary


def _logits(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits.float()
    return logits
