"""The kernels that take documents as they lie give what attention by groups gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from stillhouse.models import documents as module_of_documents
from stillhouse.models._varlen import _works, by_flash, by_memory_efficient, kernel_for
from stillhouse.models.documents import document_attention, documents_of
from stillhouse.models.forward import Forward, PackedTokens
from tests.models.tiny import randomised

LENGTHS = (30, 1, 5, 64, 24)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def states(
    dtype: torch.dtype, width: int, device: str, heads: tuple[int, int] = (4, 2)
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> Tensor:
        return torch.randn(1, count, sum(LENGTHS), width, generator=generator).to(device, dtype).requires_grad_()

    return drawn(heads[0]), drawn(heads[1]), drawn(heads[1])


def test_the_cpu_has_no_such_kernel() -> None:
    assert kernel_for(*states(torch.bfloat16, 16, "cpu")) is None


def by_documents(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float, scaling: float | None,
    window: int | None,
) -> Tensor:  # fmt: skip
    """What a kernel should give, in torch's own words and in its precision."""
    del longest, dropout
    lengths, found = bounds.diff().tolist(), []
    parts = (part.transpose(0, 1)[None].split(lengths, 2) for part in (query, key, value))
    for one, other, third in zip(*parts, strict=True):
        seen = torch.ones(one.shape[2], one.shape[2], dtype=torch.bool).tril()
        seen = seen if window is None else seen.triu(1 - window)
        found.append(
            functional.scaled_dot_product_attention(one, other, third, attn_mask=seen, scale=scaling, enable_gqa=True)
        )
    return torch.cat(found, dim=2)[0].transpose(0, 1)


def one_document(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float, scaling: float | None,
    window: int | None,
) -> Tensor:  # fmt: skip
    return by_documents(query, key, value, bounds[[0, -1]], longest, dropout, scaling, window)


def without_window(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float, scaling: float | None,
    window: int | None,
) -> Tensor:  # fmt: skip
    if query.shape[-1] > 192:
        raise RuntimeError("no way back for this width")
    return by_documents(query, key, value, bounds, longest, dropout, scaling, None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("width", [8, 16, 64, 128, 256])
def test_a_kernel_is_believed_after_a_trial_of_its_width_and_window(dtype: torch.dtype, width: int) -> None:
    cpu = torch.device("cpu")
    with torch.no_grad():
        for windowed in (False, True):
            assert _works(by_documents, cpu, dtype, width, windowed)
            assert not _works(one_document, cpu, dtype, width, windowed)
        assert _works(without_window, cpu, dtype, width, False) == (width < 192)
        assert not _works(without_window, cpu, dtype, width, True)
        assert not torch.is_grad_enabled()


def test_memory_that_runs_out_says_nothing_of_a_kernel() -> None:
    def full(*given: Any) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        _works(full, torch.device("cpu"), torch.float32, 16, False)


@needs_gpu
@pytest.mark.parametrize(("dtype", "width", "window", "expected"), [
    (torch.bfloat16, 64, None, by_flash), (torch.bfloat16, 64, 7, by_flash), (torch.float16, 128, None, by_flash),
    (torch.float32, 64, None, by_memory_efficient), (torch.float32, 64, 7, None),
    (torch.bfloat16, 4, None, None), (torch.bfloat16, 264, None, None),
])  # fmt: skip
def test_which_kernel_takes_which_states(dtype: torch.dtype, width: int, window: int | None, expected: Any) -> None:
    assert kernel_for(*states(dtype, width, "cuda"), window) is expected


@needs_gpu
@pytest.mark.parametrize(("dtype", "window", "near"), [
    (torch.bfloat16, None, 2e-2), (torch.bfloat16, 7, 2e-2), (torch.float16, None, 4e-3), (torch.float32, None, 1e-5),
])  # fmt: skip
@pytest.mark.parametrize("width", [16, 64, 120])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_outputs_and_gradients_are_those_of_groups(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, window: int | None, near: float, width: int, scaling: float
) -> None:
    own, documents = states(dtype, width, "cuda"), documents_of(LENGTHS, "cuda")
    query, key, value = (part.detach().double().requires_grad_() for part in own)
    exact = query, key, value

    def attention(part: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        module = nn.Module()
        return document_attention(module, *part, None, scaling=scaling, documents=documents, sliding_window=window)[0]

    found = attention(own)
    monkeypatch.setattr(module_of_documents, "kernel_for", lambda *given: None)
    wanted = attention(exact)
    assert found.dtype == dtype
    assert found.shape == wanted.shape
    slopes = torch.randn_like(wanted)
    pairs = [(found, wanted)]
    pairs += zip(
        torch.autograd.grad((found.double() * slopes).sum(), own),
        torch.autograd.grad((wanted * slopes).sum(), exact),
        strict=True,
    )
    for mine, other in pairs:
        assert float((mine.detach().double() - other.detach()).norm() / other.detach().norm()) < near


@needs_gpu
@pytest.mark.parametrize("kind", [LlamaConfig, Qwen3Config, MistralConfig])
def test_a_model_under_autocast_keeps_documents_apart(kind: Any) -> None:
    config = kind(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, **({"sliding_window": 9} if kind is MistralConfig else {}),
    )  # fmt: skip
    model = randomised(AutoModelForCausalLM.from_config(config)).cuda()
    forward = Forward(model)
    assert forward.layout == "joined"
    ids = torch.randint(97, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0)).cuda()
    edited = ids.clone()
    edited[:30] = (edited[:30] + 1) % 97
    keep = torch.arange(30, len(ids), device="cuda")
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        before = forward.logits(PackedTokens.of(ids, LENGTHS), keep)
        after = forward.logits(PackedTokens.of(edited, LENGTHS), keep)
        alone = torch.cat([model(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(LENGTHS)])
    assert torch.equal(before, after)
    assert float((before - alone[30:]).float().norm() / alone[30:].float().norm()) < 2e-2
