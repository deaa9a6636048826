"""Reading token files: documents by number, without loading them.

Documents are numbered over all segments in the order in which they were written; appended segments never renumber.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import RecipeError, StoreError
from ..core.keys import digest
from ._contents import array_digest
from ._segments import (
    SET_WEIGHTS,
    WEIGHT_TYPES,
    Extra,
    Layout,
    Segment,
    begin_store,
    close_durably,
    content_digest,
    fit_to_weigh,
    link_file,
    read_docs,
    read_manifest,
    reweighted,
    sample_digest,
    write_manifest,
)

Tokens1D = npt.NDArray[Any]
"""A memory map of ids, uint16 or uint32."""

_SAMPLED_SEGMENTS = 16
_ATTEMPTS = 5
_BESIDE = ("rejects.jsonl", "tokenizer", "plans", "packing.json", "split.jsonl", "left_out.jsonl")
_AGAIN = "Remove the store and tokenise again; its source rows are not touched."


class RemoteFiles(Protocol):
    """Where token files are fetched from."""

    max_bytes: int
    """How many bytes of them may be on this machine at once."""

    def path(self, segment: Segment, name: str) -> Path:
        """A file of a segment on this machine, fetched if need be."""
        ...

    def fetch_ahead(self, wanted: Sequence[tuple[Segment, str]]) -> None:
        """Begin to fetch what will be needed next, in this order, in place of what was wanted before."""
        ...


class Fetched(Sequence[Tokens1D]):
    """Memory maps of files that are fetched when they are asked for; who needs one for long holds it."""

    def __init__(self, open_map: Callable[[int], Tokens1D], count: int) -> None:
        self._open_map, self._count = open_map, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: Any) -> Any:  # an index; a slice, as `Sequence` has it, gives a list
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(self._count))]
        if not -self._count <= number < self._count:
            raise IndexError(number)
        for _ in range(_ATTEMPTS):  # it may be deleted, to make room, between the look for it and the opening
            with contextlib.suppress(FileNotFoundError):
                return self._open_map(number % self._count)
        return self._open_map(number % self._count)


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
    Raises `StoreError` where it never had it, and where the files are not those that the manifest names.
    """

    def __init__(
        self, folder: Path | str, *, fingerprint: str | None = None, remote: RemoteFiles | None = None
    ) -> None:
        self.folder = Path(folder)
        self.remote = remote
        """Where the token files are, if not in `folder`; they are fetched when they are first read."""
        manifest = read_manifest(self.folder)
        self.layout: Layout = manifest.layout
        opened = manifest.opened(fingerprint)
        if opened is None:
            raise StoreError(
                f"the store in `{self.folder}` never had the fingerprint {fingerprint}",
                "Give the fingerprint that it had, as a loader's state names it, or none to open it as it is.",
            )
        count, self._written, self._set_weights = opened
        segments = manifest.segments[:count]
        self.segments: list[Segment] = segments
        documents = np.cumsum([0, *(segment.num_documents for segment in segments)])
        self.document_bounds: npt.NDArray[np.int64] = documents.astype(np.int64)
        """[segments + 1] number of the first document of each segment, then that of all."""
        tokens = np.cumsum([0, *(segment.num_tokens for segment in segments)])
        self.token_bounds: npt.NDArray[np.int64] = tokens.astype(np.int64)
        if remote is None:
            self._check_sizes()
            self._check_samples()

    @property
    def fingerprint(self) -> str:
        """Digest of all documents: equal for equal ones in the same order, however they are cut into segments.

        A store that was written before fingerprints were so keeps the one that its manifest names.
        """
        return self._written if self._set_weights is None else reweighted(self._written, self._set_weights)

    def had(self, fingerprint: str) -> bool:
        """Whether the store in this folder had a fingerprint once, so that it can be opened as it was."""
        return read_manifest(self.folder).opened(fingerprint) is not None

    @property
    def num_documents(self) -> int:
        return int(self.document_bounds[-1])

    @property
    def num_tokens(self) -> int:
        return int(self.token_bounds[-1])

    @property
    def num_learnt(self) -> int:
        """Tokens with a weight above 0, the first of each document and examples that weigh 0 aside."""
        learnt = sum(segment.num_learnt for segment in self.segments)
        examples = self.example_weights
        if examples is None or bool(examples.all()):
            return learnt
        for number, (first, stop) in enumerate(pairwise(self.document_bounds.tolist())):
            silent = np.flatnonzero(examples[first:stop] == 0)
            starts, lengths = self.starts[first:stop][silent], self.lengths[first:stop][silent]
            if self.weights is None:
                learnt -= int((lengths - 1).sum(dtype=np.int64))
            elif len(silent):
                weights = self.weights[number]
                spans = zip((starts + 1).tolist(), (starts + lengths).tolist(), strict=True)
                learnt -= sum(int(np.count_nonzero(weights[a:b])) for a, b in spans)
        return learnt

    @property
    def num_rejected(self) -> int:
        """Rows that could not be used; `rejects` reads them."""
        return sum(segment.num_rejected for segment in self.segments)

    def rejects(self) -> Iterator[dict[str, Any]]:
        """The rows that could not be used, in their order: `_id`, `kind`, `message` (why), `row` (what was in it).

        They stand in `rejects.jsonl`, which stays where it is: none come for a store elsewhere.
        """
        path = self.folder / "rejects.jsonl"
        if path.is_file():
            with path.open(encoding="utf-8") as lines:
                yield from map(json.loads, islice(lines, self.num_rejected))

    @cached_property
    def tokens(self) -> Sequence[Tokens1D]:
        """A memory map of each segment's ids."""
        return self._maps("tokens.bin", self.layout.dtype)

    @cached_property
    def weights(self) -> Sequence[npt.NDArray[Any]] | None:
        """A memory map of each segment's loss weights, aligned with `tokens`; None where every token counts 1."""
        if self.layout.weighting == "none":
            return None
        return self._maps("weights.bin", WEIGHT_TYPES[self.layout.weighting])

    @cached_property
    def extras(self) -> dict[str, Sequence[npt.NDArray[Any]]]:
        """The extra arrays by name: of each segment a memory map [tokens, width], aligned with `tokens`."""
        return {extra.name: self._maps(extra.file, extra.dtype, extra.width) for extra in self.layout.extras}

    @cached_property
    def docs(self) -> list[pa.RecordBatch]:
        """The document index of each segment, memory-mapped."""
        return [read_docs(self._path(segment, "docs.arrow")) for segment in self.segments]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32]:
        """[documents] number of tokens of each."""
        return self._column("length", np.int32)

    @cached_property
    def example_weights(self) -> npt.NDArray[np.float32] | None:
        """[documents] weight of each example; None where all weigh 1."""
        if self._set_weights is not None:
            return np.memmap(self.folder / SET_WEIGHTS, dtype="<f4", mode="r").view(np.ndarray)
        if all(segment.uniform for segment in self.segments):
            return None
        return self._column("weight", np.float32)

    @property
    def packing_fingerprint(self) -> str:
        """Digest of what packing depends on, the documents and their order: equal under other example weights."""
        names = [[segment.num_documents, segment.num_tokens, segment.files["docs.arrow"]] for segment in self.segments]
        return digest(repr(names).encode())

    def with_weights(self, weights: Mapping[str, float], *, others: float | None = None) -> TokenStore:
        """The same tokens with other example weights, by row id, for this process; nothing on the disk changes.

        Rows that `weights` does not name keep theirs, or weigh `others`. Raises `RecipeError` for a row id that is not
        here and for weights that are negative or not finite. `reweighted_store` writes such a store down.
        """
        values = weights_of(self, [*weights], [*weights.values()], others=others, strict=True)
        other = copy.copy(self)
        other.__dict__["example_weights"] = values
        other._set_weights = digest(values.astype("<f4").tobytes())
        return other

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
        examples = self.example_weights
        weight = 1.0 if examples is None else float(examples[number])
        return Document(
            number,
            row["row_id"],
            self.tokens[segment][start:stop].astype(np.int64),
            weights * np.float32(weight),
            row["source"],
            weight,
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
            equal = pc.equal(docs.column(0), row_id).to_numpy(zero_copy_only=False)
            found += (np.flatnonzero(equal) + first).tolist()
        return found

    def verify(self) -> None:
        """Read every file and raise `StoreError` for the first whose content is not what was written."""
        files = [
            (self._path(segment, name), wanted) for segment in self.segments for name, wanted in segment.files.items()
        ]
        if self._set_weights is not None and (self.folder / SET_WEIGHTS).exists():
            files.append((self.folder / SET_WEIGHTS, self._set_weights))
        for path, expected in files:
            if content_digest(path) != expected:
                raise StoreError(f"`{path}` is damaged: its content is not what was written", _AGAIN)

    def _check_sizes(self) -> None:
        for segment in self.segments:
            for name, token_bytes in self.layout.token_files().items():
                self._check_size(self._path(segment, name), segment.num_tokens * token_bytes)
        if self._set_weights is not None:
            self._check_size(self.folder / SET_WEIGHTS, self.num_documents * 4)

    def _check_size(self, path: Path, size: int) -> None:
        found = path.stat().st_size if path.exists() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes, expected {size}"
            raise StoreError(f"`{path}` {state}", _AGAIN)

    def _check_samples(self) -> None:
        """A look at a few blocks of some segments; a damaged disk seldom hits one byte alone. `verify` reads all."""
        step = -(-len(self.segments) // _SAMPLED_SEGMENTS) or 1
        for segment in self.segments[::step]:
            for name, expected in segment.samples.items():
                path = self._path(segment, name)
                if not path.exists():
                    raise StoreError(f"`{path}` is missing", _AGAIN)
                if sample_digest(path) != expected:
                    raise StoreError(f"`{path}` is damaged: its content is not what was written", _AGAIN)

    def _path(self, segment: Segment, name: str) -> Path:
        if self.remote is not None and name in self.layout.token_files():
            return self.remote.path(segment, name)
        return self.folder / "segments" / segment.name / name

    def _maps(self, name: str, dtype: npt.DTypeLike, width: int | None = None) -> Sequence[npt.NDArray[Any]]:
        """Maps of all segments' files of a name: [tokens], or [tokens, width] where there is one."""

        def of(segment: Segment) -> npt.NDArray[Any]:
            found = self._map(segment, name, dtype)
            return found if width is None else found.reshape(segment.num_tokens, width)

        if self.remote is not None:
            return Fetched(lambda number: of(self.segments[number]), len(self.segments))
        return [of(segment) for segment in self.segments]

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


def weights_of(
    store: TokenStore,
    row_ids: Sequence[str],
    weights: Sequence[float],
    *,
    others: float | None = None,
    strict: bool = False,
) -> npt.NDArray[np.float32]:
    """[documents] the example weights of a store in which these rows have these weights, other rows theirs or `others`.

    A row that stands there twice has its weight twice. Raises `RecipeError` for weights that are negative or not
    finite, where no row is known, and, if `strict`, where one is not.
    """
    values = np.asarray(weights, dtype=np.float32)
    for number in np.flatnonzero(~fit_to_weigh(values))[:1].tolist():
        raise RecipeError(
            f"the weight of row {row_ids[number]} is {weights[number]!r}", "Weights are finite and not negative."
        )
    wanted = pa.array(row_ids, pa.string())
    found = store.example_weights
    new = np.ones(store.num_documents, np.float32) if found is None else found.astype(np.float32)
    if others is not None:
        new[:] = others
    known = np.zeros(len(values), np.bool_)
    for docs, first in zip(store.docs, store.document_bounds.tolist(), strict=False):
        place = pc.index_in(docs.column("row_id"), value_set=wanted)
        here = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        chosen = place.drop_null().to_numpy(zero_copy_only=False)
        new[first + here] = values[chosen]
        known[chosen] = True
    missing = np.flatnonzero(~known).tolist()
    if missing and (strict or len(missing) == len(values)):
        raise RecipeError(
            f"{len(missing)} of {len(values)} rows with a weight are not among the tokens, {row_ids[missing[0]]} first",
            "Name rows by the ids that the tokens carry: `_id` of the rows that were tokenised.",
        )
    return new


def reweighted_store(store: TokenStore, weights: npt.NDArray[np.float32], folder: Path | str) -> TokenStore:
    """Write a store with these example weights [documents] into `folder`: the same segments, as links, and the weights.

    The fingerprint is another; plans of packing stay valid. Raises `RecipeError` where `folder` is not empty.
    """
    if weights.shape != (store.num_documents,):
        raise RecipeError(f"{len(weights)} example weights for {store.num_documents} documents")
    for number in np.flatnonzero(~fit_to_weigh(weights))[:1].tolist():
        raise RecipeError(
            f"the weight of document {number} is {weights[number]!r}", "Weights are finite and not negative."
        )
    target = Path(folder)
    link_segments(store, target)
    write_manifest(target, store.layout, store.segments, weights=weights)
    return TokenStore(target)


def store_with_extra(
    store: TokenStore, extra: Extra, values: Callable[[Document], npt.ArrayLike], folder: Path | str
) -> TokenStore:
    """Write a store with one more array beside the tokens into `folder`: `values` gives [tokens, width] of a document.

    The segments that were there are linked, not copied; `folder` must be empty. For what is found out about tokens
    after tokenising, as the probabilities that a teacher gives them.
    """
    if extra.name in {known.name for known in store.layout.extras} or not extra.name.isidentifier():
        raise RecipeError(f"an extra array cannot be called `{extra.name}`", "Give a new name of letters and digits.")
    target = Path(folder)
    link_segments(store, target)
    layout = replace(store.layout, extras=(*store.layout.extras, extra))
    segments = []
    for number, segment in enumerate(store.segments):
        path = target / "segments" / segment.name / extra.file
        with path.open("xb") as file:
            for document in range(*store.document_bounds[number : number + 2].tolist()):
                given = np.asarray(values(store.document(document)), dtype=extra.dtype)
                if given.size != store.lengths[document] * extra.width or len(given) != store.lengths[document]:
                    shape = f"[{store.lengths[document]}, {extra.width}]"
                    raise RecipeError(f"document {document}: `{extra.name}` has shape {list(given.shape)}, not {shape}")
                file.write(given.tobytes())
            close_durably(file)
        files = {**segment.files, extra.file: content_digest(path)}
        samples = {**segment.samples, extra.file: sample_digest(path)}
        contents = {**segment.contents, extra.file: array_digest(store.docs[number], path, extra.token_bytes)}
        segments.append(replace(segment, files=files, samples=samples, contents=contents))
    own = store.example_weights if store._set_weights is not None else None
    write_manifest(target, layout, segments, weights=own)
    return TokenStore(target)


def link_store(store: TokenStore, folder: Path) -> None:
    """Write the same store into `folder`, as links."""
    link_segments(store, folder)
    own = store.example_weights if store._set_weights is not None else None
    write_manifest(folder, store.layout, store.segments, weights=own)


def link_segments(store: TokenStore, folder: Path) -> None:
    """Put the files of the segments, and what lies beside them, under `folder`, which must not hold a store."""
    begin_store(folder)
    for segment in store.segments:
        for name in (*segment.files, "rejects.jsonl"):
            path = store.folder / "segments" / segment.name / name
            if path.is_file():
                link_file(path, folder / "segments" / segment.name / name)
    for name in _BESIDE:
        beside = store.folder / name
        for path in sorted(beside.rglob("*") if beside.is_dir() else [beside]):
            if path.is_file() and not path.name.endswith(".part") and not path.name.startswith("cached-"):
                link_file(path, folder / path.relative_to(store.folder))
