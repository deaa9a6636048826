"""Token stores of a few documents, whose ids say where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stillhouse.tokens._segments import Layout, SegmentWriter, Weighting, write_manifest, written_segments
from stillhouse.tokens.store import TokenStore

VOCABULARY = 60_000
PAD, END = 0, 1


def layout(weighting: Weighting = "none") -> Layout:
    return Layout(vocab_size=VOCABULARY, pad_id=PAD, end_ids=(END,), weighting=weighting, tokenizer="t")


def row_id(document: int, name: str = "") -> str:
    return f"{name}{document:08x}"


def ids_of(document: int, length: int) -> list[int]:
    """Ids from which document and position can be read back, up to 1,000 documents of 50 positions."""
    return [2 + (document * 50 + position) % (VOCABULARY - 2) for position in range(length)]


def make_store(
    folder: Path,
    lengths: Sequence[int],
    *,
    name: str = "",
    weighting: Weighting = "none",
    per_segment: int | None = None,
    example_weights: Sequence[float] | None = None,
    seed: int = 0,
) -> TokenStore:
    """A store with documents of these lengths; loss weights are drawn by `seed` where `weighting` has any."""
    append_documents(folder, lengths, name, weighting, per_segment, example_weights, seed)
    return TokenStore(folder)


def append_documents(
    folder: Path,
    lengths: Sequence[int],
    name: str = "",
    weighting: Weighting = "none",
    per_segment: int | None = None,
    example_weights: Sequence[float] | None = None,
    seed: int = 0,
) -> None:
    """Write further segments with documents that go on counting, and a manifest over all."""
    segments = written_segments(folder / "segments")
    first = segments[-1].rows[1] if segments else 0
    random = np.random.default_rng(seed)
    step = per_segment or max(1, len(lengths))
    for begin in range(0, len(lengths), step):
        writer = SegmentWriter(folder / "segments", len(segments), layout(weighting))
        for offset, length in enumerate(lengths[begin : begin + step]):
            number = first + begin + offset
            weights = None if weighting == "none" else random.integers(0, 2, length).astype(float).tolist()
            example = 1.0 if example_weights is None else example_weights[begin + offset]
            writer.add(row_id(number, name), ids_of(number, length), weights, source=name, weight=example)
        segments.append(writer.close((first + begin, first + begin + len(lengths[begin : begin + step]))))
    write_manifest(folder, layout(weighting), segments)
