"""OLMo's token files, as dolma and open-instruct write them: ids one after another, without a header despite `.npy`.

Beside a file, `.csv.gz` names in each line the first token of a document and the one past its last, then perhaps its
id, source and line. `labels_mask…` holds a byte for each token of `token_ids…`: whether it is learnt.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import RecipeError
from ._foreign import Run, check_no_others, index_of, mask_of
from ._segments import Layout, Weighting, token_type
from .store import TokenStore

_DOCUMENTS, _TOKENS = 512, 1 << 22


def read_olmo(files: Sequence[Path], layout: Layout) -> tuple[Weighting, Iterator[Run]]:
    """The documents of all files, in the order of their names. Without an index each ends with an end token."""
    names = set(files)
    tokens = [file for file in files if file.suffix == ".npy" and not file.name.startswith("labels_mask")]
    masked = [file for file in tokens if mask_of(file) in names]
    if masked and len(masked) < len(tokens):
        other = next(file for file in tokens if file not in masked)
        raise RecipeError(f"`{other}` has no label mask, other files have", "Give all files their masks, or none.")
    return ("mask" if masked else "none"), _runs(tokens, names, layout)


def _runs(files: Sequence[Path], names: set[Path], layout: Layout) -> Iterator[Run]:
    for path in files:
        ids = _mapped(path, token_type(layout.vocab_size))
        mask_path = mask_of(path)
        mask = None
        if mask_path is not None and mask_path in names:
            mask = _mapped(mask_path, np.dtype("|u1"))
            if len(mask) != len(ids):
                raise RecipeError(f"`{mask_path}` has {len(mask)} values for the {len(ids)} tokens of `{path}`")
        spans = _indexed(index_of(path), len(ids)) if index_of(path) in names else _separated(ids, layout, path)
        first = 0
        while chosen := list(islice(spans, _DOCUMENTS)):
            flat = np.concatenate([ids[start:end] for start, end, _ in chosen])
            weights = None
            if mask is not None:
                weights = (np.concatenate([mask[start:end] for start, end, _ in chosen]) != 0).astype(np.float32)
            lengths = np.array([end - start for start, end, _ in chosen], np.int64)
            sources = [source for _, _, source in chosen]
            yield Run(f"`{path}`, document {first}", flat, lengths, weights, sources=sources)
            first += len(chosen)


def _mapped(path: Path, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The numbers of a file: flat, or with numpy's own header where it has one."""
    with path.open("rb") as file:
        has_header = file.read(6) == b"\x93NUMPY"
    try:
        if has_header:
            loaded: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
            if loaded.ndim != 1 or loaded.dtype.kind not in "uib":
                raise RecipeError(f"`{path}` holds {loaded.dtype} of shape {loaded.shape}, expected a line of ids")
            return loaded.view(np.ndarray)
    except (ValueError, EOFError) as error:
        raise RecipeError(f"`{path}` is damaged: {error}") from error
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise RecipeError(
            f"`{path}` has {size} bytes, which are no whole number of {dtype.name} ids", "Was it cut short?"
        )
    return np.memmap(path, dtype, mode="r").view(np.ndarray) if size else np.empty(0, dtype)


def _indexed(path: Path, num_tokens: int) -> Iterator[tuple[int, int, str]]:
    """Begin, end and source of each document."""
    line = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            for line, row in enumerate(csv.reader(file), start=1):
                if row and not row[0].isdigit() and line == 1:
                    continue  # names of columns
                start, end = int(row[0]), int(row[1])
                if not 0 <= start <= end <= num_tokens:
                    raise RecipeError(
                        f"`{path}`, line {line}: a document from {start} to {end} in a file of {num_tokens} tokens",
                        "The index belongs to another file, or one of the two was cut short.",
                    )
                yield start, end, row[3] if len(row) > 3 else ""
    except (ValueError, IndexError) as error:
        raise RecipeError(f"`{path}`, line {line}: no two numbers of tokens: {error}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error, csv.Error) as error:
        raise RecipeError(f"`{path}` is damaged after line {line}: {error}") from error


def _separated(ids: npt.NDArray[Any], layout: Layout, path: Path) -> Iterator[tuple[int, int, str]]:
    if not layout.end_ids:
        raise RecipeError(f"`{path}` has no index of documents (`.csv.gz`)", "Say which token ends one: `end_ids`.")
    start = 0
    for first in range(0, len(ids), _TOKENS):
        block = ids[first : first + _TOKENS]
        for place in np.flatnonzero(np.isin(block, layout.end_ids)).tolist():
            yield start, first + place + 1, ""
            start = first + place + 1
    if start < len(ids):
        yield start, len(ids), ""


def write_olmo(store: TokenStore, folder: Path, *, masked: bool) -> list[Path]:
    """A part for each segment, with its index and, if `masked`, its label mask."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"token_ids_part_{number:04d}.npy" for number in range(len(store.segments))]
    masks = [mask for path in parts if (mask := mask_of(path)) is not None] if masked else []
    check_no_others(folder, "*.npy", [*parts, *masks])
    found: list[Path] = []
    for number, (path, tokens) in enumerate(zip(parts, store.tokens, strict=True)):
        _write(path, tokens, store.layout.dtype)
        found.append(path)
        mask = mask_of(path)
        if masked and store.weights is not None and mask is not None:
            _write(mask, store.weights[number], np.dtype("|u1"))
            found.append(mask)
        _write_index(index_of(path), store, number)
        found.append(index_of(path))
    return found


def _write(path: Path, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        for first in range(0, len(values), _TOKENS):
            file.write(values[first : first + _TOKENS].astype(dtype).tobytes())
    os.replace(part, path)


def _write_index(path: Path, store: TokenStore, number: int) -> None:
    """As dolma writes it: begin, end, id, source, line in the source."""
    part = path.with_name(f"{path.name}.part")
    docs = store.docs[number]
    columns = [docs.column(name).to_pylist() for name in ("offset", "length", "row_id", "source")]
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        for line, (offset, length, row_id, source) in enumerate(zip(*columns, strict=True)):
            writer.writerow((offset, offset + length, row_id, source, line))
    os.replace(part, path)
