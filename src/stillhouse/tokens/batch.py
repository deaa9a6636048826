"""What the loader hands out: one rank's share of one optimiser step, as numpy arrays.

Axes: `B` rows of this rank, `T` tokens of a row, `S` spans. A span is a run of tokens of one document inside one row
(a whole document, or a marked piece of a split one) or the padding at the end of a row. The spans of a batch tile its
flattened `B * T` positions in order, so `cu_seqlens` is what variable-length attention wants, padding included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""The label of a position that is not learnt (PyTorch's `ignore_index`)."""

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
Float32s = npt.NDArray[np.float32]
RowIds = Callable[[int, Sequence[int]], list[str]]
"""(source, documents) -> the row ids of these documents."""


@dataclass(frozen=True)
class Batch:
    """One rank's rows of one step.

    The arrays in the constructor are gathered; the others follow from them and are made when first asked for, so a
    reader pays only for what it uses. Pass `ids` and `position_ids` to the model, no attention mask and
    `use_cache=False`: then transformers keeps the documents of a row apart by the restarts of `position_ids`.
    """

    ids: Int64s
    """[B, T] token ids; padding holds the tokenizer's pad id, but is known by `document_ids`, never by its id."""
    cu_seqlens: Int32s
    """[S + 1] where the spans begin in the flattened batch; the last entry is `B * T`."""
    source_ids: Int32s
    """[S] number of the source in `source_names`; -1 for padding."""
    documents: Int64s
    """[S] number of the document in its source; -1 for padding."""
    offsets: Int64s
    """[S] position of the span's first token in its document: above 0 in the continuation of a split document."""
    token_weights: Float32s | None
    """[B, T] loss weights as stored, times the example's weight; None where every token of a document counts 1."""
    source_names: tuple[str, ...]
    step: int
    """The optimiser step that these rows belong to, from 0."""
    first_row: int
    """Global number of the first row in this batch (the rank's rows follow one another)."""
    lookup: RowIds | None = field(default=None, repr=False, compare=False)
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Arrays that stand beside the tokens, by name: each [B, T, width], 0 on padding and where a source has none."""

    @property
    def num_rows(self) -> int:
        return int(self.ids.shape[0])

    @cached_property
    def document_ids(self) -> Int32s:
        """[B, T] number of the span that a position belongs to; -1 on padding."""
        numbers = np.arange(len(self.source_ids), dtype=np.int32)
        numbers[self.source_ids < 0] = -1
        return np.repeat(numbers, np.diff(self.cu_seqlens)).reshape(self.ids.shape)

    @cached_property
    def position_ids(self) -> Int64s:
        """[B, T] position within the span, from 0: restarts at each document, at each row and at the padding."""
        starts = np.repeat(self.cu_seqlens[:-1].astype(np.int64), np.diff(self.cu_seqlens))
        return (np.arange(self.ids.size, dtype=np.int64) - starts).reshape(self.ids.shape)

    @cached_property
    def weights(self) -> Float32s:
        """[B, T] weight of the token *at* each position as a target; 0 on padding and on the first token of a span."""
        if self.token_weights is None:
            weights = np.ones(self.ids.size, dtype=np.float32)
        else:
            weights = self.token_weights.reshape(-1).copy()
        weights[self.cu_seqlens[:-1]] = 0.0
        for span in np.flatnonzero(self.source_ids < 0).tolist():
            weights[self.cu_seqlens[span] : self.cu_seqlens[span + 1]] = 0.0
        return weights.reshape(self.ids.shape)

    @cached_property
    def labels(self) -> Int64s:
        """[B, T] the id at each position where it is learnt, else -100.

        In the convention of transformers: `labels[:, t]` is scored against the logits of position `t - 1`. The first
        token of a span is never learnt, so that shift does not cross from one document, or one row, into the next.
        """
        return np.where(self.weights != 0.0, self.ids, np.int64(IGNORED))

    @cached_property
    def denominator(self) -> float:
        """The sum of `weights`, in float64."""
        return float(self.weights.sum(dtype=np.float64))

    @property
    def max_seqlen(self) -> int:
        """Length of the longest span."""
        return int(np.diff(self.cu_seqlens).max(initial=0))

    @property
    def num_learnt(self) -> int:
        """Number of positions with a weight."""
        return int(np.count_nonzero(self.weights))

    @property
    def num_tokens(self) -> int:
        """Number of positions that hold a document's token."""
        return int(np.diff(self.cu_seqlens)[self.source_ids >= 0].sum())

    @cached_property
    def row_ids(self) -> tuple[str | None, ...]:
        """The row id of each span; None for padding."""
        if self.lookup is None:
            raise ValueError("this batch was made without a lookup of row ids")
        found: list[str | None] = [None] * len(self.source_ids)
        for source in np.unique(self.source_ids[self.source_ids >= 0]).tolist():
            spans = np.flatnonzero(self.source_ids == source).tolist()
            for span, row_id in zip(spans, self.lookup(source, self.documents[spans].tolist()), strict=True):
                found[span] = row_id
        return tuple(found)

    def tokens_by_source(self) -> dict[str, int]:
        """Number of document tokens in the batch from each source."""
        lengths = np.diff(self.cu_seqlens)
        return {name: int(lengths[self.source_ids == number].sum()) for number, name in enumerate(self.source_names)}


def named_arrays(batch: Batch, fields: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of these fields by name, and the extras as `extras.NAME`."""
    extras = {f"extras.{name}": values for name, values in batch.extras.items()}
    return {name: getattr(batch, name) for name in fields} | extras
