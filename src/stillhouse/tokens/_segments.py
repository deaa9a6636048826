"""Writing token files: immutable segments, then a manifest that names them.

A segment is a folder: `tokens.bin` (flat little-endian ids), `weights.bin` (aligned loss weights, where the store has
them), `docs.arrow` (the document index) and `segment.json` (counts and digests). It is written under another name and
renamed, so a segment that has its name is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..core.errors import StoreError
from ..core.keys import DIGEST_BYTES, digest

FORMAT = "stillhouse-tokens/1"
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

    @property
    def dtype(self) -> np.dtype[Any]:
        return token_type(self.vocab_size)

    @property
    def digest(self) -> str:
        return digest(json.dumps(asdict(self), sort_keys=True).encode())


@dataclass(frozen=True)
class Segment:
    """The record of one segment, as `segment.json` and the manifest hold it."""

    name: str
    num_documents: int
    num_tokens: int
    num_learnt: int
    """Tokens with a weight above 0, the first token of each document aside."""
    rows: tuple[int, int]
    """The input rows that it was made from, rejected ones included: first, and one past the last."""
    num_rejected: int
    uniform: bool
    """Whether every example weighs 1."""
    files: Mapping[str, str]
    """Digest of each file."""

    @property
    def digest(self) -> str:
        return digest(json.dumps([self.num_documents, self.num_tokens, dict(self.files)], sort_keys=True).encode())

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Segment:
        return cls(**{**fields, "rows": tuple(fields["rows"])})


def content_digest(path: Path) -> str:
    """Digest of a file as it is on the disk now; never remembered, since damage does not change a file's time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


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
    ) -> None:
        """Append one document. `weights` are aligned with `ids` and must be given where the layout has weights."""
        tokens = np.asarray(ids, dtype=np.int64)
        if not len(tokens):
            raise ValueError(f"document {row_id} has no tokens")
        if int(tokens.min()) < 0 or int(tokens.max()) >= self._layout.vocab_size:
            raise ValueError(f"document {row_id} has an id outside the vocabulary of {self._layout.vocab_size}")
        self._tokens.write(tokens.astype(self._layout.dtype).tobytes())
        self.num_learnt += self._add_weights(row_id, weights, len(tokens))
        values = (row_id, self.num_tokens, len(tokens), source, weight, self._role_spans(roles))
        for name, value in zip(DOCS_SCHEMA.names, values, strict=True):
            self._docs[name].append(value)
        self._uniform = self._uniform and weight == 1.0
        self.num_tokens += len(tokens)

    def reject(self, row_id: str, kind: str, message: str, row: Mapping[str, Any]) -> None:
        """Note a row that could not be used; it can be read in the artifact's `rejects.jsonl`."""
        line = {"_id": row_id, "kind": kind, "message": message, "row": row}
        self._rejects.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self.num_rejected += 1

    def close(self, rows: tuple[int, int]) -> Segment:
        """Write the index, make everything durable and give the segment its name."""
        for file in (self._tokens, self._weights, self._rejects):
            if file is not None:
                _close_durably(file)
        self._write_docs()
        names = ["tokens.bin", "docs.arrow"] + (["weights.bin"] if self._weights is not None else [])
        segment = Segment(
            name=self.name,
            num_documents=self.num_documents,
            num_tokens=self.num_tokens,
            num_learnt=self.num_learnt,
            rows=rows,
            num_rejected=self.num_rejected,
            uniform=self._uniform,
            files={name: content_digest(self._folder / name) for name in names},
        )
        with (self._folder / "segment.json").open("w", encoding="utf-8") as file:
            json.dump(asdict(segment), file)
            _close_durably(file)
        os.replace(self._folder, self._target)
        return segment

    def _add_weights(self, row_id: str, weights: Sequence[float] | None, length: int) -> int:
        if self._weights is None:
            if weights is not None:
                raise ValueError("this store keeps no loss weights; its layout says `none`")
            return length - 1
        if weights is None or len(weights) != length:
            raise ValueError(f"document {row_id}: {length} tokens need as many loss weights")
        values = np.asarray(weights, dtype=np.float32)
        if self._layout.weighting == "mask" and not bool(np.isin(values, (0.0, 1.0)).all()):
            raise ValueError(f"document {row_id}: a mask holds 0 and 1 only; use the weighting `float`")
        if not bool(np.isfinite(values).all()) or float(values.min()) < 0.0:
            raise ValueError(f"document {row_id}: loss weights must be finite and not negative")
        self._weights.write(values.astype(WEIGHT_TYPES[self._layout.weighting]).tobytes())
        return int(np.count_nonzero(values[1:]))

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


def write_manifest(folder: Path, layout: Layout, segments: Sequence[Segment]) -> None:
    """Name the segments of the store in `folder`: the last thing written, by one rename."""
    chain = layout.digest
    entries = []
    for segment in segments:
        chain = chained(chain, segment)
        entries.append({**asdict(segment), "fingerprint": chain})
    manifest = {"format": FORMAT, "layout": asdict(layout), "segments": entries, "fingerprint": chain}
    part = folder / "manifest.json.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        _close_durably(file)
    os.replace(part, folder / "manifest.json")


def chained(chain: str, segment: Segment) -> str:
    """The fingerprint of a store that is one segment longer: a store that grew knows its former fingerprints."""
    return digest(f"{chain} {segment.digest}".encode())


def read_manifest(folder: Path) -> tuple[Layout, list[Segment], list[str]]:
    """The layout, the segments and the fingerprint of the store up to each of them."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StoreError(f"`{folder}` holds no finished token store: there is no manifest.json") from error
    except ValueError as error:
        raise StoreError(f"`{path}` is damaged: {error}", "Remove the store and tokenise again.") from error
    if manifest.get("format") != FORMAT:
        raise StoreError(f"`{path}` has the format `{manifest.get('format')}`, expected `{FORMAT}`")
    fields = manifest["layout"]
    layout = Layout(**{**fields, "end_ids": tuple(fields["end_ids"]), "roles": tuple(fields["roles"])})
    prints = [entry.pop("fingerprint") for entry in manifest["segments"]]
    return layout, [Segment.of(entry) for entry in manifest["segments"]], prints


def _close_durably(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
