"""Which recipe key a step's calls stand under that were made before its build key was known.

Spending, replies and unfinished work are known by the key of the step that asked: of a step that was mapped ahead, its
recipe key. Finished results name it in their record; here stands that of unfinished work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .store import Store, write_bytes

_FILE = "recipe_key"


def write_recipe_key(work: Path, recipe_key: str) -> None:
    """Beside unfinished work, as its rows are taken up."""
    write_bytes(work / _FILE, recipe_key.encode())


def work_keys(store: Store) -> set[str]:
    """All keys that unfinished work of a store is known by."""
    found: set[str] = set()
    for folder in store.work.iterdir():
        if folder.is_dir():
            found.add(folder.name)
            with contextlib.suppress(OSError, UnicodeDecodeError):
                found.add((folder / _FILE).read_text())
    return found


def asked_as(records: Iterable[Mapping[str, Any]]) -> set[str]:
    """The keys that the calls of these results stand under."""
    return {str(record[name]) for record in records for name in ("build_key", "recipe_key") if name in record}


def build_key_of(store: Store, key: str) -> str:
    """The build key of a step that asked under its recipe key, once it is known; any other key as it is."""
    entry = store.entry(key) if key else None
    return key if entry is None else str(entry.get("build_key", key))
