"""From the loader's numpy rows to what a model and an objective take.

Axes: `B` rows, `T` tokens of a row, `N` tokens of all documents, `M` positions that are learnt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..models.documents import on_device
from ..models.forward import PackedTokens
from ..tokens.batch import Batch


@dataclass(frozen=True)
class MicroBatch:
    """Documents on the device, without padding: document d has `tokens.lengths[d]` tokens."""

    tokens: PackedTokens
    keep: Tensor
    """[M] positions whose logits are needed: each precedes a learnt token of the same document."""
    targets: Tensor
    """[M] the token that follows."""
    weights: Tensor
    """[M] float32."""
    document_ids: Tensor
    """[M] which document each learnt token stands in."""

    @property
    def num_tokens(self) -> int:
        return int(self.tokens.ids.shape[0])


def micro_batches(batch: Batch, num_rows: int | None, device: torch.device) -> Iterator[MicroBatch]:
    """The batch in pieces of `num_rows` rows (None: in one piece); pieces in which nothing is learnt are left out."""
    rows, width = batch.ids.shape
    size = rows if num_rows is None else num_rows
    bounds = batch.cu_seqlens.astype(np.int64)
    lengths = np.diff(bounds)
    real = batch.source_ids >= 0
    for first in range(0, rows, size):
        begin, end = first * width, min(first + size, rows) * width
        inside = real & (bounds[:-1] >= begin) & (bounds[:-1] < end)
        held = batch.document_ids.reshape(-1)[begin:end] >= 0
        ids = batch.ids.reshape(-1)[begin:end][held]
        weights = batch.weights.reshape(-1)[begin:end][held]
        if np.any(weights):
            yield micro_batch(ids, weights, lengths[inside], device)


def micro_batch(
    ids: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64], device: torch.device
) -> MicroBatch:
    """Documents that follow one another; `weights` must be 0 on the first token of each."""
    learnt = np.flatnonzero(weights)
    documents = np.repeat(np.arange(len(lengths)), lengths)
    parts = (ids, learnt - 1, ids[learnt], weights[learnt], documents[learnt])
    tokens, keep, targets, chosen, numbers = (on_device(torch.from_numpy(part), device) for part in parts)
    return MicroBatch(PackedTokens.of(tokens, lengths.tolist()), keep, targets, chosen, numbers)
