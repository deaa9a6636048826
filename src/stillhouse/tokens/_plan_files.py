"""Plans of packing on the disk: made once for a store, then mapped into memory.

A file is a line of JSON (the report, and of each array its name, type and length), padded, and the arrays. It lies in
the folder `plans` of the store and is named for all that the plan depends on. Files that the loader leaves there are a
cache: any of them may be deleted, and one that is damaged, or that cannot be written, costs time alone.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..core.keys import digest
from ._packing import Arrays, PackingReport, Plan, RowName, make_plan, plan_of_arrays
from ._segments import close_durably
from .packing import Packing
from .store import TokenStore

FOLDER = "plans"
_FORMAT = "stillhouse-plan/1"
_CACHED = "cached-"
"""What the loader leaves begins so; it is no part of an artifact, and is deleted when there are too many."""
_FEWEST_DOCUMENTS = 4096
"""Fewer are packed about as fast as a file is read."""
_MOST_CACHED = 12
_ALIGNED = 64
_BLOCK = 1 << 19
"""Words of eight bytes in a block whose sum is kept."""


class PlanKey(NamedTuple):
    """What a plan depends on, the documents aside."""

    packing: Packing
    seq_len: int
    key: int = 0
    shuffle: bool = True

    def file_name(self, store: TokenStore) -> str:
        """The name of the plan's file: equal for equal plans."""
        packing = self.packing
        parts: list[object] = [_FORMAT, store.packing_fingerprint, packing.method, packing.too_long, self.seq_len]
        if packing.renewed:
            parts += [packing.documents_together, packing.open_rows, self.key, self.shuffle]
        return f"{digest(json.dumps(parts).encode())}.plan"


def kept_plan(store: TokenStore, key: PlanKey, row_id: RowName | None = None, fewest: int = _FEWEST_DOCUMENTS) -> Plan:
    """The plan of a store: from its files, else made and, of a store of at least `fewest` documents, kept there."""
    folder, name = store.folder / FOLDER, key.file_name(store)
    for path in (folder / name, folder / f"{_CACHED}{name}"):
        found = read_plan(path, store, key)
        if found is not None:
            return found
    plan = make_plan(key.packing, store.lengths, key.seq_len, key.key, row_id, shuffle=key.shuffle)
    if store.num_documents >= fewest:
        with suppress(OSError):  # a folder that cannot be written, a full disk: then the plan lives in memory alone
            write_plan(folder / f"{_CACHED}{name}", plan)
            _delete_oldest(folder)
    return plan


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan under a name of its own, then give it `path`."""
    arrays = {name: np.ascontiguousarray(values) for name, values in plan.arrays().items()}
    described = {name: [values.dtype.str, len(values)] for name, values in arrays.items()}
    size, places = _laid_out(described)
    payload = np.zeros(size, np.uint8)
    for name, values in arrays.items():
        payload[places[name] : places[name] + values.nbytes] = values.view(np.uint8)
    header = {"format": _FORMAT, "report": asdict(plan.report), "arrays": described, "sums": _sums(payload)}
    line = json.dumps(header).encode()
    line += b" " * (-(len(line) + 1) % _ALIGNED) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(line)
            payload.tofile(file)
            close_durably(file)  # else a power cut may leave a file of its name that holds zeros
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_plan(path: Path, store: TokenStore, key: PlanKey) -> Plan | None:
    """The plan in a file; None where there is none, or not what was written."""
    try:
        with path.open("rb") as file:
            line = file.readline(1 << 24)
            header = json.loads(line)
            if header["sums"] != _sums_of_file(file):
                return None
        if header["format"] != _FORMAT:
            return None
        size, places = _laid_out(header["arrays"])
        if path.stat().st_size != len(line) + size:
            return None
        payload = np.empty(0, np.uint8)
        if size:
            payload = np.memmap(path, dtype=np.uint8, mode="r", offset=len(line), shape=(size,)).view(np.ndarray)
        arrays = {
            name: payload[places[name] : places[name] + count * np.dtype(dtype).itemsize].view(dtype)
            for name, (dtype, count) in header["arrays"].items()
        }
        report = PackingReport(**header["report"])
        with suppress(OSError):
            os.utime(path)  # what was read last is deleted last
        return _rebuilt(store, key, arrays, report)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _rebuilt(store: TokenStore, key: PlanKey, arrays: Arrays, report: PackingReport) -> Plan | None:
    if report.num_documents != store.num_documents:
        return None
    return plan_of_arrays(key.packing, store.lengths, key.seq_len, key.key, key.shuffle, arrays, report)


def _laid_out(described: dict[str, Any]) -> tuple[int, dict[str, int]]:
    """Bytes of all arrays, and where each begins."""
    place, places = 0, {}
    for name, (dtype, count) in described.items():
        places[name] = place
        place += -(-count * np.dtype(dtype).itemsize // _ALIGNED) * _ALIGNED
    return place, places


def _sums(payload: npt.NDArray[np.uint8]) -> list[int]:
    """The sum, modulo 2^64, of every block: a flipped bit changes it."""
    words = payload.view(np.uint64)
    return [int(words[first : first + _BLOCK].sum(dtype=np.uint64)) for first in range(0, len(words), _BLOCK)]


def _sums_of_file(file: BufferedReader) -> list[int]:
    """The same of the rest of a file: read, not mapped, so that the memory of a large plan is not taken for this."""
    block = bytearray(8 * _BLOCK)
    found = []
    while size := file.readinto(block):
        found += _sums(np.frombuffer(block, np.uint8, size))
    return found


def _delete_oldest(folder: Path) -> None:
    cached = sorted(folder.glob(f"{_CACHED}*.plan"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in cached[_MOST_CACHED:]:
        path.unlink(missing_ok=True)
