"""Megatron's indexed data set: `.bin` holds ids one after another, `.idx` says where sequences and documents stand.

The index: nine bytes of magic, the version 1 (8 bytes), a code for the type of the ids (1 byte), the number of
sequences and of document bounds (8 bytes each), then of each sequence its length (int32) and the place of its first
byte (int64), the bounds of documents as numbers of sequences (int64), and, in multimodal sets, a mode of each sequence
(int8).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.errors import RecipeError
from ._foreign import Run
from .store import TokenStore

_MAGIC = b"MMIDIDX\x00\x00"
_HEADER = struct.Struct("<9sQBQQ")
_TYPES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_NARROW_BELOW = 65_500
"""Vocabularies of which Megatron keeps ids in 16 bits."""
_DOCUMENTS, _TOKENS = 512, 1 << 24


def read_megatron(tokens: Path, index: Path) -> Iterator[Run]:
    """The documents of a data set, some hundreds at a time; both files stay on the disk."""
    damaged = f"`{index}` is damaged"
    with index.open("rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:9] != _MAGIC:
        raise RecipeError(f"`{index}` is no Megatron index: it does not begin with MMIDIDX")
    _, version, code, num_sequences, num_bounds = _HEADER.unpack(head)
    if version != 1 or code not in _TYPES:
        what = f"version {version}" if version != 1 else f"type {code} of its numbers, which are no ids"
        raise RecipeError(f"`{index}` cannot be read: {what}", "Version 1 with whole numbers can.")
    size = index.stat().st_size
    needed = _HEADER.size + 12 * num_sequences + 8 * num_bounds
    if size not in (needed, needed + num_sequences):
        raise RecipeError(f"{damaged}: it has {size} bytes, expected {needed}", "Copy it again.")
    data = np.memmap(index, np.uint8, mode="r").view(np.ndarray)
    place = _HEADER.size
    lengths = data[place : place + 4 * num_sequences].view("<i4")
    place += 4 * num_sequences
    pointers = data[place : place + 8 * num_sequences].view("<i8")
    place += 8 * num_sequences
    bounds = data[place : place + 8 * num_bounds].view("<i8")
    dtype = np.dtype(_TYPES[code])
    ids = np.memmap(tokens, np.uint8, mode="r").view(np.ndarray) if tokens.stat().st_size else np.empty(0, np.uint8)
    if len(bounds) and (bounds[0] != 0 or bounds[-1] != num_sequences or bool((np.diff(bounds) < 0).any())):
        raise RecipeError(f"{damaged}: its documents do not cover its {num_sequences} sequences in order")
    for first in range(0, num_bounds - 1, _DOCUMENTS):
        chosen = bounds[first : first + _DOCUMENTS + 1]
        begin, stop = int(chosen[0]), int(chosen[-1])
        counts, starts = lengths[begin:stop].astype(np.int64), pointers[begin:stop]
        outside = (counts < 0) | (starts < 0) | (starts + counts * dtype.itemsize > len(ids))
        for number in np.flatnonzero(outside)[:1].tolist():
            raise RecipeError(
                f"`{tokens}` ends at byte {len(ids)}; sequence {begin + number} has {int(counts[number])} tokens from "
                f"byte {int(starts[number])}",
                "One of the two files was cut short, or they do not belong together.",
            )
        spans = zip(starts.tolist(), (starts + counts * dtype.itemsize).tolist(), strict=True)
        parts = [ids[start:end] for start, end in spans]
        flat = np.concatenate(parts).view(dtype) if parts else np.empty(0, dtype)
        ends = np.concatenate(([0], np.cumsum(counts)))
        yield Run(f"`{tokens}`, document {first}", flat, np.diff(ends[chosen - begin]))


def write_megatron(store: TokenStore, prefix: Path) -> list[Path]:
    """One sequence a document. The index comes last, by a rename."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    files = [prefix.with_name(f"{prefix.name}{suffix}") for suffix in (".bin", ".idx")]
    parts = [file.with_name(f"{file.name}.part") for file in files]
    code = 8 if store.layout.vocab_size < _NARROW_BELOW else 4
    dtype = np.dtype(_TYPES[code])
    with parts[0].open("wb") as data:
        for tokens in store.tokens:
            for first in range(0, len(tokens), _TOKENS):
                data.write(tokens[first : first + _TOKENS].astype(dtype).tobytes())
    lengths = store.lengths.astype("<i4")
    count = len(lengths)
    ends = np.cumsum(lengths, dtype=np.int64) * dtype.itemsize
    with parts[1].open("wb") as index:
        index.write(_HEADER.pack(_MAGIC, 1, code, count, count + 1))
        index.write(lengths.tobytes())
        index.write((ends - lengths.astype(np.int64) * dtype.itemsize).astype("<i8").tobytes())
        index.write(np.arange(count + 1, dtype="<i8").tobytes())
    for part, file in zip(parts, files, strict=True):
        os.replace(part, file)
    return files
