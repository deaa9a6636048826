"""The gradient of an update is that of the mean over all its learnt tokens, however the work is cut up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from stillhouse.models.forward import Forward
from stillhouse.models.loading import load_model
from stillhouse.tokens._segments import Layout, SegmentWriter, write_manifest
from stillhouse.tokens.loader import get_loader
from stillhouse.tokens.packing import Packing
from stillhouse.tokens.store import TokenStore
from stillhouse.train._batches import micro_batches
from stillhouse.train.objectives.sft import Sft

LENGTHS = (5, 9, 40, 60)
CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    """Documents of very different lengths; the first third of each is a prompt, later tokens have odd weights."""
    layout = Layout(vocab_size=320, pad_id=0, end_ids=(1,), weighting="float")
    writer = SegmentWriter(tmp_path / "segments", 0, layout)
    draw = torch.Generator().manual_seed(3)
    for length in LENGTHS:
        ids = torch.randint(2, 320, (length,), generator=draw).tolist()
        weights = [0.0 if place < length / 3 else 0.5 + place % 3 for place in range(length)]
        writer.add(f"{length:032x}", ids, weights)
    write_manifest(tmp_path, layout, [writer.close((0, len(LENGTHS)))])
    return TokenStore(tmp_path)


def gradients(
    model: Any, store: TokenStore, packing: Packing, batch_size: int, num_rows: int | None
) -> dict[str, Tensor]:
    """Of one pass over the store, as the loop forms them: sums backward, one division."""
    model.zero_grad(set_to_none=True)
    forward, objective = Forward(model), Sft()
    denominator = 0.0
    for batch in get_loader(store, seq_len=64, batch_size=batch_size, packing=packing).once():
        for micro in micro_batches(batch, num_rows, CPU):
            measured = objective(forward, micro)
            torch.autograd.backward(measured.sum)
            denominator += float(measured.denominator)
    return {name: parameter.grad / denominator for name, parameter in model.named_parameters()}


def naive_gradients(model: Any, store: TokenStore, *, mean_of_means: bool = False) -> dict[str, Tensor]:
    """Each document on its own through transformers alone."""
    model.zero_grad(set_to_none=True)
    losses, weights = [], []
    for document in store:
        ids = torch.from_numpy(document.ids)
        weight = torch.from_numpy(document.weights)[1:]
        logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
        losses.append(functional.cross_entropy(logits, ids[1:], reduction="none") @ weight)
        weights.append(weight.sum())
    if mean_of_means:
        loss = sum((loss / weight for loss, weight in zip(losses, weights, strict=True)), torch.zeros(())) / len(losses)
    else:
        loss = torch.stack(losses).sum() / torch.stack(weights).sum()
    torch.autograd.backward(loss)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    difference = torch.cat([(found[name] - expected[name]).flatten() for name in expected])
    return float(difference.norm() / torch.cat([tensor.flatten() for tensor in expected.values()]).norm())


@pytest.mark.parametrize(
    ("packing", "batch_size", "num_rows"),
    [("one", 4, None), ("one", 4, 1), ("one", 4, 3), ("best_fit", 2, None), ("best_fit", 2, 1), ("best_fit", 8, 2)],
)
def test_accumulated_and_packed_gradients_equal_those_of_separate_documents(
    base: Path, store: TokenStore, packing: Any, batch_size: int, num_rows: int | None
) -> None:
    model = load_model(base)
    expected = naive_gradients(model, store)
    found = gradients(model, store, Packing(packing), batch_size, num_rows)
    assert relative_error(found, expected) < 1e-5


def test_the_mean_of_means_would_be_noticed(base: Path, store: TokenStore) -> None:
    model = load_model(base)
    expected = naive_gradients(model, store)
    assert relative_error(naive_gradients(model, store, mean_of_means=True), expected) > 0.1


def test_the_first_token_of_a_document_is_not_predicted_from_its_neighbour(base: Path, store: TokenStore) -> None:
    (batch,) = get_loader(store, seq_len=128, batch_size=1).once()
    assert len(set(batch.document_ids.flatten().tolist()) - {-1}) > 1
    (micro,) = micro_batches(batch, None, CPU)
    starts = torch.tensor([0, *micro.tokens.lengths]).cumsum(0)
    assert not set((starts - 1).tolist()) & set(micro.keep.tolist())
    assert torch.equal(micro.targets, micro.tokens.ids[micro.keep + 1])


def test_rows_without_a_learnt_token_are_left_out(store: TokenStore, tmp_path: Path) -> None:
    layout = Layout(vocab_size=320, pad_id=0, end_ids=(1,), weighting="float")
    writer = SegmentWriter(tmp_path / "more" / "segments", 0, layout)
    writer.add("0" * 32, [4, 5, 6], [1.0, 0.0, 0.0])  # the first token counts for nothing, whatever its weight
    writer.add("1" * 32, [4, 5, 6], [0.0, 0.0, 2.0])
    write_manifest(tmp_path / "more", layout, [writer.close((0, 2))])
    (batch,) = get_loader(tmp_path / "more", seq_len=8, batch_size=2, packing=Packing("one"), shuffle=False).once()
    pieces = list(micro_batches(batch, 1, CPU))
    assert [piece.weights.tolist() for piece in pieces] == [[2.0]]
