"""Whether a model keeps the documents of one row apart, for training loops that call the model themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..core.errors import RecipeError

_LENGTHS = (9, 2, 12)


def check_boundaries(model: nn.Module, **options: Any) -> None:
    """Raise `RecipeError` where documents that share a row see each other in a causal language model.

    The model is tried on a few tokens as `model(input_ids=…, position_ids=…, **options)` with position ids that begin
    anew with each document, as the batches of a loader have them; the logits must be those of each document alone.
    `options` default to `use_cache=False`: with a cache, transformers lets documents see each other and says nothing.
    `Finetune` needs no such check: it computes attention by documents, or gives each a row of its own.
    """
    options = options or {"use_cache": False}
    wrapper: Any = model
    inner: Any = wrapper.get_base_model() if hasattr(wrapper, "get_base_model") else wrapper
    name, config = type(inner).__name__, inner.config.get_text_config()
    remedy = "Pass no mask and `use_cache=False`; where that does not help, give each document a row: `Packing('one')`."
    kinds: list[str] = getattr(config, "layer_types", None) or []
    if getattr(config, "attention_chunk_size", None) or "chunked_attention" in kinds:
        raise RecipeError(f"`{name}` cuts attention at places of the row, not of the document", remedy)
    embeddings = inner.get_input_embeddings().weight
    ids = torch.arange(1, 1 + sum(_LENGTHS), device=embeddings.device) * 7919 % embeddings.shape[0]
    positions = torch.cat([torch.arange(length) for length in _LENGTHS]).to(ids.device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            apart = torch.cat(
                [model(input_ids=part[None], **options).logits[0] for part in ids.split(_LENGTHS)]
            ).float()
            packed = model(input_ids=ids[None], position_ids=positions[None], **options).logits[0].float()
    except (TypeError, ValueError) as error:
        raise RecipeError(f"`{name}` cannot be told where documents begin: {error}", remedy) from error
    finally:
        model.train(training)
    tolerance = 1e-3 if embeddings.dtype == torch.float32 else 5e-2
    difference = float((packed - apart).abs().max())
    if not difference <= tolerance * max(float(apart.abs().max()), 1e-3):
        raise RecipeError(
            f"`{name}` lets documents of one row see each other: logits are {difference:.2g} off those of each alone",
            remedy,
        )
