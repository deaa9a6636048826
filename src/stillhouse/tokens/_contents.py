"""Digests of documents that do not tell how a store was cut into segments.

Each document has a digest of 128 bits. That of a run of documents is the polynomial of these in a fixed base, modulo a
prime, so that two runs are joined without looking at their documents again. It finds accidents, not forgeries: the
digest of each file is for those.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_PRIME = (1 << 127) - 1
_BASE = int.from_bytes(blake2b(b"documents in a row", digest_size=15).digest(), "little")
_DOCUMENTS = 65_536
_HEAD = np.dtype([("length", "<i4"), ("weight", "<f4"), ("roles", "<i4"), ("row_id", "<i4")])


def joined(one: str, other: str, count: int) -> str:
    """The digest of two runs of documents, of which the second has `count`."""
    return f"{(int(one, 16) * pow(_BASE, count, _PRIME) + int(other, 16)) % _PRIME:032x}"


NOTHING = f"{0:032x}"
"""The digest of no documents."""


def documents_digest(docs: pa.RecordBatch, aligned: Sequence[tuple[Path, int]]) -> str:
    """Of the documents in an index, with what the files hold for them; each with its bytes for one token."""
    return _run(_described(docs, aligned))


def array_digest(docs: pa.RecordBatch, file: Path, token_bytes: int) -> str:
    """Of what a file alone holds for the documents in an index."""
    data = _bytes_of(file)
    bounds = _bounds(docs)
    return _run(data[a * token_bytes : b * token_bytes] for a, b in bounds)


def _run(documents: Iterable[bytes | memoryview]) -> str:
    found = 0
    for document in documents:
        found = (found * _BASE + int.from_bytes(blake2b(document, digest_size=16).digest(), "little")) % _PRIME
    return f"{found:032x}"


def _described(docs: pa.RecordBatch, aligned: Sequence[tuple[Path, int]]) -> Iterator[bytes]:
    """All that a document is, as bytes: their number of each kind first, so that no two documents give the same."""
    files = [(_bytes_of(path), width) for path, width in aligned]
    for first in range(0, docs.num_rows, _DOCUMENTS):
        some = docs.slice(first, _DOCUMENTS)
        names = [row_id.encode() for row_id in some.column("row_id").to_pylist()]
        sources = [source.encode() for source in some.column("source").cast(pa.string()).to_pylist()]
        offsets = some.column("roles").offsets.to_numpy()
        roles = _roles(some.column("roles").values.slice(offsets[0], offsets[-1] - offsets[0]))
        heads = np.empty(len(some), _HEAD)
        heads["length"] = some.column("length").to_numpy()
        heads["weight"] = some.column("weight").to_numpy()
        heads["roles"] = np.diff(offsets)
        heads["row_id"] = [len(name) for name in names]
        head, spans, size = heads.tobytes(), (12 * (offsets - offsets[0])).tolist(), _HEAD.itemsize
        for number, (a, b) in enumerate(_bounds(some)):
            yield b"".join(
                (
                    head[number * size : (number + 1) * size],
                    *(data[a * width : b * width] for data, width in files),
                    roles[spans[number] : spans[number + 1]],
                    names[number],
                    sources[number],
                )
            )


def _roles(spans: pa.StructArray) -> bytes:
    columns = [spans.field(name).to_numpy() for name in ("role", "start", "stop")]
    return np.stack([column.astype("<i4") for column in columns], axis=1).tobytes()


def _bounds(docs: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    starts: npt.NDArray[np.int64] = docs.column("offset").to_numpy()
    return zip(starts.tolist(), (starts + docs.column("length").to_numpy()).tolist(), strict=True)


def _bytes_of(path: Path) -> memoryview:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
