"""Garbage collection: what no name reaches is removed, safe while runs live."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lease import gate, leased
from .locks import is_locked, taken
from .names import Names
from .store import Store

YOUNG_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Garbage:
    """Something that can go: an artifact, unfinished work, or what was set aside."""

    kind: str
    path: Path
    size_bytes: int


def garbage(store: Store, *, keep_seconds: float = YOUNG_SECONDS) -> Iterator[Garbage]:
    """What `collect` would remove.

    Kept is every artifact that a name, a pin, a living run or unfinished work reaches, with all it was made from, what
    a run used that failed within `keep_seconds`, and whatever is younger than that.
    """
    newest = time.time() - keep_seconds
    work = sorted(path for path in store.work.iterdir() if path.is_dir())
    idle = [folder for folder in work if _last_change(folder) < newest and not is_locked(_lock(folder))]
    needed = _reached(store, newest, [folder for folder in work if folder not in idle])
    for folder in sorted(store.artifacts.glob("*/*")):
        if folder.name not in needed and folder.stat().st_mtime < newest:
            yield Garbage("artifact", folder, _size(folder))
    for folder in idle:
        yield Garbage("unfinished work", folder, _size(folder))
    for folder in sorted((store.folder / "set-aside-v1").glob("*")):
        yield Garbage("set aside", folder, _size(folder))


def collect(store: Store, *, keep_seconds: float = YOUNG_SECONDS) -> list[Garbage]:
    """Remove it; each folder leaves its place by one rename, so that no reader sees half an artifact.

    What a run has begun to use meanwhile stays.
    """
    removed = []
    for item in garbage(store, keep_seconds=keep_seconds):
        gone = store.work / f".gone-{item.path.name}-{os.getpid()}"
        lock = taken(_lock(item.path)) if item.kind == "unfinished work" else contextlib.nullcontext(True)
        with gate(store), lock as free:
            if not free or item.path.name in leased(store, time.time() - keep_seconds):
                continue
            os.rename(item.path, gone)
        shutil.rmtree(gone, ignore_errors=True)
        removed.append(item)
    return removed


def _reached(store: Store, newest: float, work: Sequence[Path]) -> set[str]:
    records: dict[str, dict[str, Any]] = {record["build_key"]: record for record in store.records()}
    waiting = [key for name in Names(store).all() for key in (name.build_key, *name.pinned)]
    waiting += leased(store, newest)
    for folder in work:
        waiting += store.inputs_of_work(folder.name)
    reached: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        waiting += [entry["build_key"] for entry in records.get(key, {}).get("inputs", [])]
    return reached


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _last_change(folder: Path) -> float:
    return max((path.stat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)
