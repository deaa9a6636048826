"""Documents in one row must give what they give alone: logits and gradients, for every kind of attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)

from stillhouse.models.documents import documents_of
from stillhouse.models.forward import Forward, PackedTokens
from tests.models.tiny import randomised

VOCABULARY = 97
LENGTHS = (30, 1, 5, 24)

COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip

JOINED: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**COMMON),
    "qwen3": lambda: Qwen3Config(**COMMON, head_dim=8),
    "mistral, window shorter than documents": lambda: MistralConfig(**COMMON, sliding_window=4),
    "gemma3, windows in some layers": lambda: Gemma3TextConfig(**COMMON, head_dim=8, sliding_window=4),
    "gpt2, learnt positions": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2
    ),
}
APART: dict[str, Callable[[], Any]] = {
    "gemma2, soft caps": lambda: Gemma2Config(**COMMON, head_dim=8),
    "bloom, positions in the mask": lambda: BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2),
    "mamba, recurrent": lambda: MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4),
}


def model_of(config: Any) -> Any:
    return randomised(AutoModelForCausalLM.from_config(config))


def documents(seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (sum(LENGTHS),), generator=torch.Generator().manual_seed(seed))


def separate_logits(model: Any, ids: Tensor) -> Tensor:
    return torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(LENGTHS)])


@pytest.mark.parametrize("name", [*JOINED, *APART])
def test_packed_logits_equal_those_of_separate_documents(name: str) -> None:
    model = model_of({**JOINED, **APART}[name]())
    ids = documents()
    keep = torch.randperm(len(ids), generator=torch.Generator().manual_seed(1))[:40]
    with torch.no_grad():
        expected = separate_logits(model, ids)[keep]
        forward = Forward(model)
        found = forward.logits(PackedTokens.of(ids, LENGTHS), keep)
    assert forward.layout == ("joined" if name in JOINED else "apart")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_packed_gradients_equal_those_of_separate_documents(training: bool) -> None:
    model = model_of(LlamaConfig(**COMMON)).train(training)
    ids = documents()
    separate_logits(model, ids).logsumexp(-1).sum().backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    forward = Forward(model)
    assert model.training is training
    forward.logits(PackedTokens.of(ids, LENGTHS), torch.arange(len(ids))).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [None, "apart"])
def test_editing_one_document_leaves_the_others_untouched(layout: Any) -> None:
    model = model_of(LlamaConfig(**COMMON))
    forward = Forward(model, layout)
    ids, keep = documents(), torch.arange(36, 60)
    edited = ids.clone()
    edited[:30] = (edited[:30] + 1) % VOCABULARY
    with torch.no_grad():
        before = forward.logits(PackedTokens.of(ids, LENGTHS), keep)
        after = forward.logits(PackedTokens.of(edited, LENGTHS), keep)
    assert torch.equal(before, after)


def test_an_architecture_that_leaks_is_run_apart() -> None:
    """Recurrent layers between the attention layers would carry one document into the next."""
    config = LlamaConfig(**COMMON)
    config.layer_types = ["full_attention", "linear_attention"]
    model = model_of(LlamaConfig(**COMMON))
    model.config.layer_types = config.layer_types
    assert Forward(model).layout == "apart"


@given(st.lists(st.integers(1, 80), min_size=1, max_size=30))
def test_every_token_finds_its_place_again(lengths: list[int]) -> None:
    found = documents_of(lengths)
    taken = torch.cat([group.tokens for group in found.groups])
    assert torch.equal(taken[found.places], torch.arange(sum(lengths)))
    assert sum(group.count for group in found.groups) == len(lengths)
    assert found.longest == max(lengths)
