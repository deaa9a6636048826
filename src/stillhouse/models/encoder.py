"""Encoders and classifiers of transformers, read as all models here: safetensors alone, no code that comes along."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from .loading import load_as

_OFFSET = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl"})
"""Architectures whose positions begin after that of the padding token."""


def load_encoder(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The model in `folder` without a head, in eval mode and float32 on a CPU. A pooler of its own may be missing."""
    return _placed(load_as(AutoModel, folder, None, spared=("pooler.",), surplus=True), device)


def load_classifier(folder: Path, device: torch.device | str = "cpu") -> nn.Module:
    """The text classifier in `folder`, in eval mode; a missing head is an error, not a random one."""
    return _placed(load_as(AutoModelForSequenceClassification, folder, None), device)


def longest_input(config: Any, tokenizer: Any, more: int | None = None) -> int | None:
    """Tokens that the model takes, by its positions, its tokenizer and `more`; None where nothing says."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _OFFSET:
        positions -= (config.pad_token_id or 0) + 1
    named = tokenizer.model_max_length if tokenizer.model_max_length < 1_000_000 else None
    known = [int(limit) for limit in (positions, named, more) if limit]
    return min(known) if known else None


def _placed(model: nn.Module, device: torch.device | str) -> nn.Module:
    target = torch.device(device)
    return (model.float() if target.type == "cpu" else model).to(target).eval()
