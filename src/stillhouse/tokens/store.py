"""Reading token files: documents by number, without loading them.

Documents are numbered over all segments in the order in which they were written; appended segments never renumber.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core.errors import StoreError
from ._segments import WEIGHT_TYPES, Layout, Segment, content_digest, read_manifest

Tokens1D = npt.NDArray[Any]
"""A memory map of ids, uint16 or uint32."""


class Document(NamedTuple):
    """One document as stored."""

    number: int
    row_id: str
    ids: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    """Token weight times example weight; the first token's is as stored, though no loss ever reads it."""
    source: str
    weight: float
    roles: tuple[tuple[str, int, int], ...]


class TokenStore:
    """The token files in `folder`, memory-mapped; several may be open on one folder.

    `fingerprint` opens the store as it was when it had that fingerprint, should segments have been appended since.
    Raises `StoreError` where the files are not those that the manifest names.
    """

    def __init__(self, folder: Path | str, *, fingerprint: str | None = None) -> None:
        self.folder = Path(folder)
        self.layout: Layout
        self.layout, segments, prints = read_manifest(self.folder)
        if fingerprint is not None and fingerprint in prints:
            segments = segments[: prints.index(fingerprint) + 1]
        self.segments: list[Segment] = segments
        self.fingerprint: str = prints[len(segments) - 1] if segments else self.layout.digest
        self._check_sizes()
        documents = np.cumsum([0, *(segment.num_documents for segment in segments)])
        self.document_bounds: npt.NDArray[np.int64] = documents.astype(np.int64)
        """[segments + 1] number of the first document of each segment, then that of all."""
        tokens = np.cumsum([0, *(segment.num_tokens for segment in segments)])
        self.token_bounds: npt.NDArray[np.int64] = tokens.astype(np.int64)

    @property
    def num_documents(self) -> int:
        return int(self.document_bounds[-1])

    @property
    def num_tokens(self) -> int:
        return int(self.token_bounds[-1])

    @property
    def num_learnt(self) -> int:
        """Tokens with a weight above 0, the first of each document aside."""
        return sum(segment.num_learnt for segment in self.segments)

    @property
    def num_rejected(self) -> int:
        """Rows that could not be used; they stand in `rejects.jsonl`."""
        return sum(segment.num_rejected for segment in self.segments)

    @cached_property
    def tokens(self) -> list[Tokens1D]:
        """A memory map of each segment's ids."""
        return [self._map(segment, "tokens.bin", self.layout.dtype) for segment in self.segments]

    @cached_property
    def weights(self) -> list[npt.NDArray[Any]] | None:
        """A memory map of each segment's loss weights, aligned with `tokens`; None where every token counts 1."""
        if self.layout.weighting == "none":
            return None
        return [self._map(segment, "weights.bin", WEIGHT_TYPES[self.layout.weighting]) for segment in self.segments]

    @cached_property
    def docs(self) -> list[pa.RecordBatch]:
        """The document index of each segment, memory-mapped."""
        found = []
        for segment in self.segments:
            with pa.memory_map(str(self._path(segment, "docs.arrow"))) as source:
                found.append(pa.ipc.open_file(source).get_batch(0))
        return found

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """[documents] number of tokens of each."""
        return self._column("length", np.int32)

    @cached_property
    def example_weights(self) -> npt.NDArray[np.float32] | None:
        """[documents] weight of each example; None where all weigh 1."""
        if all(segment.uniform for segment in self.segments):
            return None
        return self._column("weight", np.float32)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """[documents] position of each document's first token in its segment."""
        return self._column("offset", np.int64)

    def segment_of(self, documents: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The segment that holds each document."""
        if len(self.segments) == 1:
            return np.zeros_like(documents)
        return np.searchsorted(self.document_bounds, documents, side="right") - 1

    def document(self, number: int) -> Document:
        """One document with all that is known about it."""
        if not 0 <= number < self.num_documents:
            raise IndexError(f"document {number} of {self.num_documents}")
        segment = int(self.segment_of(np.array([number]))[0])
        row: dict[str, Any] = self.docs[segment].slice(number - int(self.document_bounds[segment]), 1).to_pylist()[0]
        start, stop = row["offset"], row["offset"] + row["length"]
        stored = self.weights
        weights = (
            np.ones(row["length"], np.float32) if stored is None else stored[segment][start:stop].astype(np.float32)
        )
        return Document(
            number,
            row["row_id"],
            self.tokens[segment][start:stop].astype(np.int64),
            weights * np.float32(row["weight"]),
            row["source"],
            row["weight"],
            tuple((self.layout.roles[span["role"]], span["start"], span["stop"]) for span in row["roles"]),
        )

    def __iter__(self) -> Iterator[Document]:
        return (self.document(number) for number in range(self.num_documents))

    def row_ids(self, documents: Sequence[int]) -> list[str]:
        """The row id of each document."""
        numbers = np.asarray(documents, dtype=np.int64)
        segments = self.segment_of(numbers).tolist()
        bounds = self.document_bounds.tolist()
        return [
            self.docs[segment].column(0)[number - bounds[segment]].as_py()
            for number, segment in zip(numbers.tolist(), segments, strict=True)
        ]

    def documents_of(self, row_id: str) -> list[int]:
        """The documents made from a row: usually one, none if it was rejected, several if it stands there twice."""
        found: list[int] = []
        for segment, docs in enumerate(self.docs):
            first = int(self.document_bounds[segment])
            equal = pa.compute.equal(docs.column(0), row_id).to_numpy(zero_copy_only=False)
            found += (np.flatnonzero(equal) + first).tolist()
        return found

    def verify(self) -> None:
        """Read every file and raise `StoreError` for the first whose content is not what was written."""
        for segment in self.segments:
            for name, expected in segment.files.items():
                path = self._path(segment, name)
                if content_digest(path) != expected:
                    raise StoreError(
                        f"`{path}` is damaged: its content is not what was written",
                        "Remove the store and tokenise again; its source rows are not touched.",
                    )

    def _check_sizes(self) -> None:
        for segment in self.segments:
            sizes = {"tokens.bin": segment.num_tokens * self.layout.dtype.itemsize}
            if self.layout.weighting != "none":
                sizes["weights.bin"] = segment.num_tokens * np.dtype(WEIGHT_TYPES[self.layout.weighting]).itemsize
            for name, size in sizes.items():
                path = self._path(segment, name)
                found = path.stat().st_size if path.exists() else None
                if found != size:
                    state = "is missing" if found is None else f"has {found} bytes, expected {size}"
                    raise StoreError(f"`{path}` {state}", "Remove the store and tokenise again.")

    def _path(self, segment: Segment, name: str) -> Path:
        return self.folder / "segments" / segment.name / name

    def _map(self, segment: Segment, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        if segment.num_tokens == 0:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        return np.memmap(self._path(segment, name), dtype=dtype, mode="r").view(np.ndarray)

    def _column(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        parts = [docs.column(name).to_numpy() for docs in self.docs]
        if len(parts) == 1:
            view: npt.NDArray[Any] = parts[0]  # of the file
            return view
        return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)
