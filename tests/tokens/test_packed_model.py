"""Packed rows against each document alone, on a tiny Llama: what the batch promises holds in a real model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM

from stillhouse.core.errors import RecipeError
from stillhouse.models.boundaries import check_boundaries
from stillhouse.models.forward import Forward, PackedTokens
from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest
from stillhouse.tokens.batch import IGNORED, Batch
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.store import TokenStore

VOCABULARY = 61
LENGTHS = [9, 23, 4, 14, 31, 7, 2, 18]
TOLERANCE = 1e-5
"""float32 through two layers; measured 2e-6 for sdpa and less for eager, against 1 and more where documents leak."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    layout = Layout(VOCABULARY, 0, (1,), weighting="mask")
    random = np.random.default_rng(0)
    writer = SegmentWriter(folder / "segments", 0, layout)
    for number, length in enumerate(LENGTHS):
        weights = (np.arange(length) >= length // 3).astype(float).tolist()
        writer.add(str(number), random.integers(2, VOCABULARY, length).tolist(), weights)
    write_manifest(folder, layout, [writer.close((0, len(LENGTHS)))])
    return TokenStore(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(attention: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


def packed_batch(store: TokenStore) -> Batch:
    batch = next(get_loader(store, seq_len=40, batch_size=3, packing=Packing("best_fit")))
    assert int((np.diff(batch.cu_seqlens)[batch.source_ids >= 0] > 0).sum()) == len(LENGTHS)
    return batch


def logits_of(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    ids, positions = torch.from_numpy(batch.ids), torch.from_numpy(batch.position_ids)
    output: torch.Tensor = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    return output


def loss_of(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighted sum over targets, in the convention of `Batch.labels`."""
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (losses * weights[:, 1:].flatten()).sum()


def gradients(model: LlamaForCausalLM) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True])
def test_packed_logits_equal_those_of_each_document_alone(store: TokenStore, attention: str, training: bool) -> None:
    model = tiny(attention).train(training)
    batch = packed_batch(store)
    with torch.no_grad():
        packed = logits_of(model, batch).flatten(0, 1)
        for span in np.flatnonzero(batch.source_ids >= 0).tolist():
            begin, end = batch.cu_seqlens[span : span + 2].tolist()
            ids = store.document(int(batch.documents[span])).ids
            alone = model(input_ids=torch.from_numpy(ids)[None], use_cache=False).logits[0]
            assert torch.allclose(packed[begin:end], alone, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_gradients_equal_the_sum_of_those_alone(store: TokenStore, attention: str) -> None:
    batch = packed_batch(store)
    packed = tiny(attention)
    loss = loss_of(logits_of(packed, batch), torch.from_numpy(batch.ids), torch.from_numpy(batch.weights))
    (loss / batch.denominator).backward()
    alone = tiny(attention)
    total = 0.0
    for document in store:
        ids, weights = torch.from_numpy(document.ids)[None], torch.from_numpy(document.weights.copy())[None]
        part = loss_of(alone(input_ids=ids, use_cache=False).logits, ids, weights)
        (part / batch.denominator).backward()
        total += float(part.detach())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-5)
    wanted = gradients(alone)
    assert float(wanted.norm()) > 0.1
    assert torch.allclose(gradients(packed), wanted, atol=TOLERANCE, rtol=1e-4)


def test_labels_give_the_loss_that_transformers_computes(store: TokenStore) -> None:
    """`labels` in the library's own loss: nothing crosses from one document, or one row, into the next."""
    model, batch = tiny("sdpa"), packed_batch(store)
    assert set(np.unique(batch.weights)) == {0.0, 1.0}
    with torch.no_grad():
        theirs = model(
            input_ids=torch.from_numpy(batch.ids),
            position_ids=torch.from_numpy(batch.position_ids),
            labels=torch.from_numpy(batch.labels),
            use_cache=False,
        ).loss
        ours = loss_of(logits_of(model, batch), torch.from_numpy(batch.ids), torch.from_numpy(batch.weights))
    assert float(theirs) == pytest.approx(float(ours) / batch.denominator, rel=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_editing_one_document_moves_no_other(store: TokenStore, attention: str) -> None:
    model, batch = tiny(attention), packed_batch(store)
    first_row = np.flatnonzero((batch.source_ids >= 0) & (batch.cu_seqlens[:-1] < 40)).tolist()
    assert len(first_row) > 1
    begin, end = batch.cu_seqlens[first_row[0] : first_row[0] + 2].tolist()
    with torch.no_grad():
        before = logits_of(model, batch).flatten(0, 1)
        batch.ids.reshape(-1)[begin:end] = 5
        after = logits_of(model, batch).flatten(0, 1)
    rest = [position for position in range(batch.ids.size) if not begin <= position < end]
    assert torch.equal(before[rest], after[rest])
    assert not torch.allclose(before[begin:end], after[begin:end], atol=0.1)


@pytest.mark.parametrize("options", [{"position_ids": None}, {"use_cache": True}])
def test_without_position_ids_or_with_a_cache_documents_leak(store: TokenStore, options: dict[str, Any]) -> None:
    """Why the contract of `Batch` names both: else transformers lets documents see each other, and says nothing."""
    model, batch = tiny("sdpa"), packed_batch(store)
    ids, positions = torch.from_numpy(batch.ids), torch.from_numpy(batch.position_ids)
    with torch.no_grad():
        right = logits_of(model, batch)
        leaking = model(**{"input_ids": ids, "position_ids": positions, "use_cache": False, **options}).logits
    assert float((right - leaking).abs().max()) > 1000 * TOLERANCE


def test_the_first_token_of_each_document_is_never_a_target(store: TokenStore) -> None:
    batch = packed_batch(store)
    assert set(batch.labels.reshape(-1)[batch.cu_seqlens[:-1]].tolist()) == {IGNORED}
    learnt = sum(int(np.count_nonzero(document.weights[1:])) for document in store)
    assert batch.num_learnt == learnt == batch.denominator


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_model_that_keeps_documents_apart_passes_the_check(attention: str) -> None:
    model = tiny(attention).train()
    check_boundaries(model)
    assert model.training


def test_a_model_that_lets_documents_see_each_other_is_refused() -> None:
    with pytest.raises(RecipeError, match="`LlamaForCausalLM` lets documents of one row see each other"):
        check_boundaries(tiny("sdpa"), use_cache=True)
    recurrent = MambaForCausalLM(MambaConfig(vocab_size=VOCABULARY, hidden_size=16, state_size=4, num_hidden_layers=1))
    with pytest.raises(RecipeError, match="`MambaForCausalLM` (lets documents|cannot be told)"):
        check_boundaries(recurrent)
    chunked = tiny("sdpa")
    chunked.config.attention_chunk_size = 8
    with pytest.raises(RecipeError, match="cuts attention at places of the row"):
        check_boundaries(chunked)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_training_keeps_documents_apart_though_the_cache_is_on_by_default(store: TokenStore, attention: str) -> None:
    """The forward pass of `Finetune`, on a model whose configuration asks for a cache: logits and gradients."""
    lengths = [len(document.ids) for document in store]
    ids = torch.cat([torch.from_numpy(document.ids) for document in store])
    packed, alone = tiny(attention), tiny(attention)
    assert packed.config.use_cache
    forward = Forward(packed)
    assert forward.layout == "joined"
    weights = torch.randn(len(ids), VOCABULARY, generator=torch.Generator().manual_seed(1))
    logits = forward.logits(PackedTokens.of(ids, lengths), torch.arange(len(ids)))
    wanted = torch.cat([alone(input_ids=part[None], use_cache=False).logits[0] for part in ids.split(lengths)])
    assert torch.allclose(logits, wanted, atol=TOLERANCE, rtol=0)
    (logits * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert torch.allclose(gradients(packed), gradients(alone), atol=1e-4, rtol=1e-3)
    edited = ids.clone()
    edited[: lengths[0]] = 5
    with torch.no_grad():
        after = forward.logits(PackedTokens.of(edited, lengths), torch.arange(len(ids)))
        before = forward.logits(PackedTokens.of(ids, lengths), torch.arange(len(ids)))
    assert torch.equal(after[lengths[0] :], before[lengths[0] :])
