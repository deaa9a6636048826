"""Writing token files: immutable segments, then a manifest that names them.

A segment is a folder: `tokens.bin` (flat little-endian ids), `weights.bin` (aligned loss weights, where the store has
them), `extra-NAME.bin` (any other aligned arrays), `docs.arrow` (the document index) and `segment.json` (counts and
digests). It is written under another name and renamed, so a segment that has its name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core.errors import RecipeError, StoreError
from ..core.keys import DIGEST_BYTES, digest
from ._contents import NOTHING, array_digest, documents_digest, joined

FORMAT = "stillhouse-tokens/3"
"""The fingerprint is that of the documents, however they are cut into segments."""
FORMER_FORMAT = "stillhouse-tokens/1"
"""The fingerprint is that of the segments as they were cut."""
FORMER_FORMAT_WITH_MORE = "stillhouse-tokens/2"
"""The same with extra arrays or with example weights set later."""
_KNOWN_FORMATS = (FORMER_FORMAT, FORMER_FORMAT_WITH_MORE, FORMAT)
SET_WEIGHTS = "example_weights.bin"
"""[documents] float32: the weights of the examples that were set after tokenising, for all segments."""
Weighting = Literal["none", "mask", "float"]
"""How loss weights are kept: every token counts 1; 0 or 1 in a byte; float32."""

WEIGHT_TYPES: dict[str, npt.DTypeLike] = {"mask": np.dtype("u1"), "float": np.dtype("<f4")}

DOCS_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int32()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("weight", pa.float32()),
        ("roles", pa.list_(pa.struct([("role", pa.uint8()), ("start", pa.int32()), ("stop", pa.int32())]))),
    ]
)
"""`offset` counts tokens from the segment's start; `weight` is the example's; `role` indexes the manifest's `roles`."""


@dataclass(frozen=True)
class Extra:
    """An array aligned with the tokens: `width` values of `dtype` (as numpy writes it: `<f2`, `|u1`) for each token."""

    name: str
    dtype: str
    width: int = 1

    @property
    def token_bytes(self) -> int:
        return np.dtype(self.dtype).itemsize * self.width

    @property
    def file(self) -> str:
        return f"extra-{self.name}.bin"


@dataclass(frozen=True)
class Layout:
    """What all segments of a store share; part of its fingerprint."""

    vocab_size: int
    pad_id: int
    end_ids: tuple[int, ...]
    """Tokens after which a reply, or a document, stops."""
    weighting: Weighting = "none"
    roles: tuple[str, ...] = ("system", "user", "assistant", "tool")
    tokenizer: str = ""
    """Digest of the tokenizer's files."""
    template: str = ""
    """Digest of the chat template; empty in text mode."""
    extras: tuple[Extra, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return token_type(self.vocab_size)

    @property
    def digest(self) -> str:
        return digest(json.dumps(self.described(), sort_keys=True).encode())

    def described(self) -> dict[str, Any]:
        """The fields as JSON values; without `extras` where there are none, as stores had it that know of none."""
        found = asdict(self)
        if not self.extras:
            del found["extras"]
        return found

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Layout:
        extras = tuple(Extra(**extra) for extra in found.get("extras", ()))
        tuples = {"end_ids": tuple(found["end_ids"]), "roles": tuple(found["roles"]), "extras": extras}
        return cls(**{**found, **tuples})

    def token_files(self) -> dict[str, int]:
        """The files that are aligned with the tokens, each with its bytes for one token."""
        return self.document_files() | {extra.file: extra.token_bytes for extra in self.extras}

    def document_files(self) -> dict[str, int]:
        """Those without the extra arrays."""
        sizes = {"tokens.bin": self.dtype.itemsize}
        if self.weighting != "none":
            sizes["weights.bin"] = np.dtype(WEIGHT_TYPES[self.weighting]).itemsize
        return sizes


@dataclass(frozen=True)
class Segment:
    """The record of one segment, as `segment.json` and the manifest hold it."""

    name: str
    num_documents: int
    num_tokens: int
    num_learnt: int
    """Tokens with a weight above 0, the first token of each document aside, whatever the examples weigh."""
    rows: tuple[int, int]
    """The input rows that it was made from, rejected ones included: first, and one past the last."""
    num_rejected: int
    uniform: bool
    """Whether every example weighs 1."""
    files: Mapping[str, str]
    """Digest of each file."""
    samples: Mapping[str, str] = field(default_factory=dict)
    """Digest of a few blocks of each file, which is looked at whenever the store is opened."""
    first_row: str = ""
    """Id of the first input row; with `row_ids` it tells whether other rows are the same, not to repeat them."""
    row_ids: str = ""
    """Digest of the ids of all its input rows, in order."""
    rejects: str = ""
    """Digest of its lines in `rejects.jsonl`."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Digest of its documents, and of each extra array, that can be joined with those of other segments; segments that
    were written under a former format have none."""

    @property
    def digest(self) -> str:
        return digest(json.dumps([self.num_documents, self.num_tokens, dict(self.files)], sort_keys=True).encode())

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Segment:
        known = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in found.items() if name in known} | {"rows": tuple(found["rows"])})


def content_digest(path: Path) -> str:
    """Digest of a file as it is on the disk now; never remembered, since damage does not change a file's time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


_DOCUMENTS = "documents"


def contents_of(folder: Path, layout: Layout) -> dict[str, str]:
    """The `contents` of the segment whose files are in `folder`."""
    docs = read_docs(folder / "docs.arrow")
    aligned = [(folder / name, width) for name, width in layout.document_files().items()]
    extras = {e.file: array_digest(docs, folder / e.file, e.token_bytes) for e in layout.extras}
    return {_DOCUMENTS: documents_digest(docs, aligned), **extras}


def read_docs(path: Path) -> pa.RecordBatch:
    """The document index in a file, memory-mapped."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0)


_SAMPLED_BLOCKS, _SAMPLED_BYTES = 4, 4096


def sample_digest(path: Path) -> str:
    """Digest of a file's size and of blocks at its beginning, its end and between: some microseconds at any size."""
    size = path.stat().st_size
    last = max(0, size - _SAMPLED_BYTES)
    places = sorted({last * number // (_SAMPLED_BLOCKS - 1) for number in range(_SAMPLED_BLOCKS)})
    with path.open("rb", buffering=0) as file:
        blocks = [os.pread(file.fileno(), _SAMPLED_BYTES, place) for place in places]
    return digest(str(size).encode() + b"".join(blocks))


def fit_to_weigh(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Which weights are finite and not negative as float32, in which they are kept."""
    with np.errstate(over="ignore"):
        kept = weights.astype(np.float32)
    fit: npt.NDArray[np.bool_] = np.isfinite(kept) & (kept >= 0)
    return fit


def token_type(vocab_size: int) -> np.dtype[Any]:
    """The narrowest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class SegmentWriter:
    """Writes one segment; nothing of it is seen under its name before `close` returns."""

    def __init__(self, segments: Path, number: int, layout: Layout) -> None:
        self.name = f"{number:05d}"
        self._target = segments / self.name
        self._folder = segments / f"{self.name}.part"
        if self._folder.exists():
            shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)
        self._layout = layout
        self._tokens: IO[bytes] = (self._folder / "tokens.bin").open("wb")
        self._weights = None if layout.weighting == "none" else (self._folder / "weights.bin").open("wb")
        self._extras: dict[str, IO[bytes]] = {e.name: (self._folder / e.file).open("wb") for e in layout.extras}
        self._rejects = (self._folder / "rejects.jsonl").open("w", encoding="utf-8")
        self._docs: dict[str, list[Any]] = {name: [] for name in DOCS_SCHEMA.names}
        self._uniform = True
        self.num_tokens = self.num_learnt = self.num_rejected = 0

    @property
    def num_documents(self) -> int:
        return len(self._docs["row_id"])

    def add(
        self,
        row_id: str,
        ids: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        source: str = "",
        weight: float = 1.0,
        roles: Sequence[tuple[str, int, int]] = (),
        extras: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """Append one document. `weights` are aligned with `ids` and must be given where the layout has weights.

        So must `extras`: for each extra of the layout an array [tokens, width], or [tokens] where the width is 1.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        self._check_ids(row_id, tokens)
        values = None if weights is None else np.asarray(weights, dtype=np.float32)
        given = {name: np.asarray(value) for name, value in (extras or {}).items()}
        self._check_aligned(row_id, values, given, len(tokens))
        self._check_examples([row_id], np.array([weight]))
        self._write(tokens, values, given, np.zeros(1, np.int64))
        spans = self._role_spans(roles)
        for name, value in zip(
            DOCS_SCHEMA.names, (row_id, self.num_tokens, len(tokens), source, weight, spans), strict=True
        ):
            self._docs[name].append(value)
        self._uniform = self._uniform and weight == 1.0
        self.num_tokens += len(tokens)

    def add_many(
        self,
        row_ids: Sequence[str],
        ids: npt.NDArray[np.integer],
        lengths: npt.NDArray[np.integer],
        weights: npt.NDArray[np.floating | np.integer] | None = None,
        *,
        sources: Sequence[str] | str = "",
        example_weights: npt.NDArray[np.floating] | None = None,
        roles: Sequence[Sequence[tuple[str, int, int]]] | None = None,
        extras: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        """Append documents that follow one another in the flat `ids`; what `add` checks is checked for all at once."""
        if not len(lengths):
            return
        sizes = np.asarray(lengths, dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        what = f"{row_ids[0]} … {row_ids[-1]}"
        if int(sizes.min()) < 1:
            raise ValueError(f"document {row_ids[int(sizes.argmin())]} has no tokens")
        if int(sizes.sum()) != len(ids) or len(row_ids) != len(sizes):
            raise ValueError(f"documents {what}: {len(ids)} tokens, the lengths add up to {int(sizes.sum())}")
        self._check_ids(what, ids)
        self._check_aligned(what, weights, extras or {}, len(ids))
        if example_weights is not None:
            self._check_examples(row_ids, example_weights)
        self._write(ids, weights, extras or {}, starts)
        count = len(sizes)
        named = [sources] * count if isinstance(sources, str) else sources
        examples = [1.0] * count if example_weights is None else example_weights.tolist()
        spans = [self._role_spans(found) for found in roles] if roles is not None else [[]] * count
        columns = (row_ids, (starts + self.num_tokens).tolist(), sizes.tolist(), named, examples, spans)
        for name, values in zip(DOCS_SCHEMA.names, columns, strict=True):
            self._docs[name].extend(values)
        self._uniform = self._uniform and all(weight == 1.0 for weight in examples)
        self.num_tokens += len(ids)

    def reject(self, row_id: str, kind: str, message: str, row: Mapping[str, Any]) -> None:
        """Note a row that could not be used; it can be read in the artifact's `rejects.jsonl`."""
        line = {"_id": row_id, "kind": kind, "message": message, "row": row}
        self._rejects.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self.num_rejected += 1

    def close(self, rows: tuple[int, int], *, first_row: str = "", row_ids: str = "") -> Segment:
        """Write the index, make everything durable and give the segment its name; see `Segment` for what is given."""
        for file in (self._tokens, self._weights, self._rejects, *self._extras.values()):
            if file is not None:
                close_durably(file)
        self._write_docs()
        names = ["docs.arrow", *self._layout.token_files()]
        segment = Segment(
            name=self.name,
            num_documents=self.num_documents,
            num_tokens=self.num_tokens,
            num_learnt=self.num_learnt,
            rows=rows,
            num_rejected=self.num_rejected,
            uniform=self._uniform,
            files={name: content_digest(self._folder / name) for name in names},
            samples={name: sample_digest(self._folder / name) for name in names},
            first_row=first_row,
            row_ids=row_ids,
            rejects=content_digest(self._folder / "rejects.jsonl"),
            contents=contents_of(self._folder, self._layout),
        )
        with (self._folder / "segment.json").open("w", encoding="utf-8") as file:
            json.dump(asdict(segment), file)
            close_durably(file)
        os.replace(self._folder, self._target)
        return segment

    def _check_ids(self, what: str, tokens: npt.NDArray[np.integer]) -> None:
        if not len(tokens):
            raise ValueError(f"document {what} has no tokens")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self._layout.vocab_size:
            raise ValueError(f"document {what} has an id outside the vocabulary of {self._layout.vocab_size}")

    def _check_examples(self, row_ids: Sequence[str], weights: npt.NDArray[np.floating]) -> None:
        for number in np.flatnonzero(~fit_to_weigh(weights))[:1].tolist():
            raise ValueError(
                f"document {row_ids[number]} weighs {weights[number]}; weights are finite and not negative"
            )

    def _check_aligned(
        self, what: str, weights: npt.NDArray[Any] | None, extras: Mapping[str, npt.NDArray[Any]], length: int
    ) -> None:
        if self._weights is None and weights is not None:
            raise ValueError("this store keeps no loss weights; its layout says `none`")
        if self._weights is not None:
            if weights is None or len(weights) != length:
                raise ValueError(f"document {what}: {length} tokens need as many loss weights")
            if self._layout.weighting == "mask" and not bool(((weights == 0) | (weights == 1)).all()):
                raise ValueError(f"document {what}: a mask holds 0 and 1 only; use the weighting `float`")
            if not bool(fit_to_weigh(weights).all()):
                raise ValueError(f"document {what}: loss weights must be finite and not negative")
        known = {extra.name: extra for extra in self._layout.extras}
        if extras.keys() != known.keys():
            names = ", ".join(f"`{name}`" for name in known) or "none"
            raise ValueError(f"document {what}: the layout's extra arrays are {names}; give each of them")
        for name, values in extras.items():
            if values.size != length * known[name].width or len(values) != length:
                shape = f"[{length}, {known[name].width}]"
                raise ValueError(
                    f"document {what}: the extra `{name}` has shape {list(values.shape)}, expected {shape}"
                )

    def _write(
        self,
        tokens: npt.NDArray[np.integer],
        weights: npt.NDArray[Any] | None,
        extras: Mapping[str, npt.NDArray[Any]],
        starts: npt.NDArray[np.int64],
    ) -> None:
        """Append to the aligned files; `starts` are the places of first tokens, which are never learnt."""
        self._tokens.write(tokens.astype(self._layout.dtype).tobytes())
        self.num_learnt += len(tokens) - len(starts)
        if self._weights is not None and weights is not None:
            self._weights.write(weights.astype(WEIGHT_TYPES[self._layout.weighting]).tobytes())
            nothing = int(np.count_nonzero(weights == 0)) - int(np.count_nonzero(weights[starts] == 0))
            self.num_learnt -= nothing
        for extra in self._layout.extras:
            self._extras[extra.name].write(extras[extra.name].astype(extra.dtype).tobytes())

    def _role_spans(self, roles: Sequence[tuple[str, int, int]]) -> list[dict[str, int]]:
        known = self._layout.roles
        return [{"role": known.index(role), "start": a, "stop": b} for role, a, b in roles if role in known]

    def _write_docs(self) -> None:
        columns = [pa.array(self._docs[field.name], field.type) for field in DOCS_SCHEMA]
        with (
            (self._folder / "docs.arrow").open("wb") as file,
            pa.ipc.new_file(file, DOCS_SCHEMA) as writer,
        ):
            writer.write_batch(pa.record_batch(columns, schema=DOCS_SCHEMA))


def written_segments(segments: Path) -> list[Segment]:
    """The whole segments in a folder, in order, up to the first gap."""
    found: list[Segment] = []
    while (path := segments / f"{len(found):05d}" / "segment.json").exists():
        found.append(Segment.of(json.loads(path.read_text())))
    return found


def write_manifest(
    folder: Path,
    layout: Layout,
    segments: Sequence[Segment],
    *,
    weights: npt.NDArray[np.float32] | None = None,
) -> None:
    """Name the segments of the store in `folder`: the last thing written, by one rename.

    `weights` [documents] take the place of the example weights that were stored with the documents.
    """
    prints, by_content = fingerprints(layout, segments)
    entries = [{**asdict(segment), "fingerprint": own} for segment, own in zip(segments, prints, strict=True)]
    own = prints[-1] if prints else layout.digest
    more: dict[str, Any] = {}
    if weights is not None:
        part = folder / f"{SET_WEIGHTS}.part"
        with part.open("wb") as file:
            file.write(np.ascontiguousarray(weights, dtype="<f4").tobytes())
            close_durably(file)
        os.replace(part, folder / SET_WEIGHTS)
        more["example_weights"] = content_digest(folder / SET_WEIGHTS)
        own = reweighted(own, more["example_weights"])
    former = FORMER_FORMAT_WITH_MORE if more or layout.extras else FORMER_FORMAT
    manifest = {
        "format": FORMAT if by_content else former,
        "layout": layout.described(),
        "segments": entries,
        **more,
        "fingerprint": own,
    }
    path = folder / "manifest.json.part"
    with path.open("w", encoding="utf-8") as text:
        json.dump(manifest, text, indent=1)
        close_durably(text)
    os.replace(path, folder / "manifest.json")


def fingerprints(layout: Layout, segments: Sequence[Segment]) -> tuple[list[str], bool]:
    """The fingerprint of the store up to each segment, and whether it is one of the documents alone.

    Where a segment has no `contents`, all are those of the former formats, so that such a store keeps its own.
    """
    names = [_DOCUMENTS, *(extra.file for extra in layout.extras)]
    if any(name not in segment.contents for segment in segments for name in names):
        return chained(layout, segments), False
    found = []
    count, contents = 0, dict.fromkeys(names, NOTHING)
    for segment in segments:
        count += segment.num_documents
        contents = {name: joined(contents[name], segment.contents[name], segment.num_documents) for name in names}
        found.append(digest(json.dumps([layout.digest, count, contents], sort_keys=True).encode()))
    return found, True


def chained(layout: Layout, segments: Sequence[Segment]) -> list[str]:
    """The fingerprints of the former formats: of the segments as they were cut."""
    found = []
    chain = layout.digest
    for segment in segments:
        chain = digest(f"{chain} {segment.digest}".encode())
        found.append(chain)
    return found


def reweighted(own: str, weights: str) -> str:
    """The fingerprint of a store whose example weights were set later; `weights` is the digest of their file."""
    return digest(f"{own} weights {weights}".encode())


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    layout: Layout
    segments: list[Segment]
    fingerprints: list[str]
    """Of the store up to each segment, with the example weights that were stored."""
    weights: str | None
    """Digest of the example weights that were set later."""

    def opened(self, fingerprint: str | None) -> tuple[int, str, str | None] | None:
        """Number of segments, fingerprint and set weights of the store that has a fingerprint, or of the present one.

        Those of the former formats are known too. None where the store never had it.
        """
        whole = len(self.segments)
        for prints in (self.fingerprints, chained(self.layout, self.segments)):
            present = prints[-1] if prints else self.layout.digest
            if fingerprint is None:
                return whole, present, self.weights
            if self.weights is not None and fingerprint == reweighted(present, self.weights):
                return whole, present, self.weights
            if fingerprint in prints:
                return prints.index(fingerprint) + 1, fingerprint, None
            if fingerprint == present:
                return whole, present, None
        return None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the store in `folder`; raises `StoreError` where there is none, or none that can be read."""
    path = folder / "manifest.json"
    again = "Remove the store and tokenise again."
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"`{folder}` holds no finished token store: there is no manifest.json") from error
    except ValueError as error:
        raise StoreError(f"`{path}` is damaged: {error}", again) from error
    if not isinstance(manifest, dict) or manifest.get("format") not in _KNOWN_FORMATS:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise StoreError(f"`{path}` has the format `{found!s:.40}`, expected `{FORMAT}` or one before it")
    try:
        prints = [entry["fingerprint"] for entry in manifest["segments"]]
        segments = [Segment.of(entry) for entry in manifest["segments"]]
        return Manifest(Layout.of(manifest["layout"]), segments, prints, manifest.get("example_weights"))
    except (KeyError, TypeError) as error:
        raise StoreError(f"`{path}` is damaged: {type(error).__name__} {error}", again) from error


_OF_A_STORE = {"segments", "rejects.jsonl", "tokenizer", "plans", "manifest.json.part", f"{SET_WEIGHTS}.part"}
_OF_A_STORE |= {SET_WEIGHTS, "packing.json", "split.jsonl", "left_out.jsonl"}


def begin_store(folder: Path) -> None:
    """Make `folder` for a new store. What a store that was never finished left there is removed.

    Raises `RecipeError` where anything else is in it: links to the files of another store must not be written through.
    """
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        names = set()
    except NotADirectoryError:
        raise RecipeError(f"`{folder}` is a file", "Give a new folder.") from None
    if names and ("segments" not in names or not names <= _OF_A_STORE):
        held = "holds a store already" if "manifest.json" in names else f"is not empty: it holds `{min(names)}`"
        raise RecipeError(f"`{folder}` {held}", "Give a new folder, or remove this one first.")
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def link_file(source: Path, target: Path) -> None:
    """The same file under another name, which must be new: a hard link where the disk has them, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # another disk, or one without links
        with source.open("rb") as read, target.open("xb") as written:
            shutil.copyfileobj(read, written)
            close_durably(written)


def close_durably(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
