"""Garbage collection: what no name reaches is removed, safe while runs live."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    Kept is every artifact that a name or pin reaches, with all it was made from, and whatever is younger than
    `keep_seconds`: a living run may be about to use it.
    """
    needed = _reached(store)
    newest = time.time() - keep_seconds
    for folder in sorted(store.artifacts.glob("*/*")):
        if folder.name not in needed and folder.stat().st_mtime < newest:
            yield Garbage("artifact", folder, _size(folder))
    for folder in sorted(path for path in store.work.iterdir() if path.is_dir()):
        if _last_change(folder) < newest and not _locked(store, folder.name):
            yield Garbage("unfinished work", folder, _size(folder))
    for folder in sorted((store.folder / "set-aside-v1").glob("*")):
        yield Garbage("set aside", folder, _size(folder))


def collect(store: Store, *, keep_seconds: float = YOUNG_SECONDS) -> list[Garbage]:
    """Remove it; each folder leaves its place by one rename, so that no reader sees half an artifact."""
    removed = []
    for item in garbage(store, keep_seconds=keep_seconds):
        gone = store.work / f".gone-{item.path.name}-{os.getpid()}"
        os.rename(item.path, gone)
        shutil.rmtree(gone, ignore_errors=True)
        removed.append(item)
    return removed


def _reached(store: Store) -> set[str]:
    records: dict[str, dict[str, Any]] = {record["build_key"]: record for record in store.records()}
    waiting = [key for name in Names(store).all() for key in (name.build_key, *name.pinned)]
    reached: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key in reached:
            continue
        reached.add(key)
        waiting += [entry["build_key"] for entry in records.get(key, {}).get("inputs", [])]
    return reached


def _locked(store: Store, build_key: str) -> bool:
    from filelock import FileLock, Timeout

    lock = FileLock(store.work / f"{build_key}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _last_change(folder: Path) -> float:
    return max((path.stat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)
