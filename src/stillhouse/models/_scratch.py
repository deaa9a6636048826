"""The work behind `FromScratch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from ..text.tokenizer import load_tokenizer
from .loading import BUILDING, save_model

if TYPE_CHECKING:
    from .scratch import FromScratch


def build(step: FromScratch, tokenizer_folder: Path, folder: Path) -> int:
    """Write the model to `folder`; returns its number of parameters."""
    tokenizer = load_tokenizer(tokenizer_folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=step.hidden,
        intermediate_size=step.feed_forward,
        num_hidden_layers=step.layers,
        num_attention_heads=step.heads,
        num_key_value_heads=step.kv_heads or step.heads,
        max_position_embeddings=step.max_length,
        tie_word_embeddings=step.tie_embeddings,
        initializer_range=step.init_std,
        rope_theta=step.rope_theta,  # type: ignore[call-arg]  # the older name, which all versions take
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with BUILDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(step.seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    save_model(model, folder, dtype=torch.float32, tokenizer_from=tokenizer_folder)
    return int(sum(parameter.numel() for parameter in model.parameters()))
