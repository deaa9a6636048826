"""Walking a row back to its seed and forward to what it shaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .artifact import Rows
from .errors import RecipeError
from .outcome import Row
from .store import Store


@dataclass(slots=True)
class Ancestor:
    """One row on the way: the row itself, the step that made it, the calls it came from, its parents."""

    row: Row
    tag: str
    build_key: str
    calls: tuple[str, ...] = ()
    parents: list[Ancestor] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trace:
    """A row with all that is behind it and what was made from it."""

    origin: Ancestor
    children: list[Ancestor]
    used_by: list[Mapping[str, Any]]


def trace(store: Store, row: str) -> Trace:
    """Follow a row id (or the beginning of one, at least six digits) both ways.

    `used_by` lists the artifacts that are not tables and hold the row: tokens, models trained on them, reports. Raises
    `RecipeError` when no row or more than one begins so.
    """
    tables = [_table(store, record) for record in store.records() if record["kind"] == "Rows"]
    found = _find(tables, row)
    origin = _ancestor(tables, found, set())
    return Trace(origin, list(_children(tables, found)), list(_users(store, tables, found)))


@dataclass(frozen=True, slots=True)
class _Table:
    tag: str
    build_key: str
    outputs: tuple[Rows, ...]
    started: float


def _table(store: Store, record: Mapping[str, Any]) -> _Table:
    folder = store.artifact_folder(record["build_key"])
    names = list(record.get("outputs", {})) or [None]
    outputs = tuple(Rows(folder, record, name) for name in names)
    return _Table(record["tag"], record["build_key"], outputs, record["started"])


def _find(tables: list[_Table], row: str) -> str:
    from ._tables import ids_that_start_with

    if len(row) < 6:
        raise RecipeError(f"`{row}` is too short for a row id", "Give at least six digits.")
    found: set[str] = set()
    for table in tables:
        for rows in table.outputs:
            found |= ids_that_start_with(rows.paths, row)
    if not found:
        raise RecipeError(f"no row begins with `{row}`", "`stillhouse show NAME` prints row ids.")
    if len(found) > 1:
        raise RecipeError(f"{len(found)} rows begin with `{row}`: {', '.join(sorted(found)[:5])}", "Give more digits.")
    return found.pop()


def _ancestor(tables: list[_Table], row: str, open_ids: set[str]) -> Ancestor:
    """The earliest artifact that holds the row is the one whose step made it."""
    from ._tables import rows_with_ids

    for table in sorted(tables, key=lambda entry: entry.started):
        for rows in table.outputs:
            for found in rows_with_ids(rows.paths, {row}):
                parents = tuple(found.pop("_parents") or ())
                calls = tuple(found.pop("_calls") or ())
                made = Ancestor(found, table.tag, table.build_key, calls)
                fresh = [parent for parent in parents if parent not in open_ids]
                made.parents = [_ancestor(tables, parent, open_ids | {row}) for parent in fresh]
                return made
    return Ancestor({"_id": row}, "(gone)", "")


def _children(tables: list[_Table], row: str) -> Iterator[Ancestor]:
    from ._tables import rows_with_parent

    seen: set[str] = set()
    for table in sorted(tables, key=lambda entry: entry.started):
        for rows in table.outputs:
            for found in rows_with_parent(rows.paths, row):
                if found["_id"] not in seen:
                    seen.add(found["_id"])
                    found.pop("_parents")
                    calls = tuple(found.pop("_calls") or ())
                    yield Ancestor(found, table.tag, table.build_key, calls)


def _users(store: Store, tables: list[_Table], row: str) -> Iterator[Mapping[str, Any]]:
    """Artifacts that were made, directly or not, from a table or token file that holds the row or its offspring."""
    from ._tables import ids_with_parents, rows_with_ids

    family = {row}
    holding: set[str] = set()
    for table in sorted(tables, key=lambda entry: entry.started):
        for rows in table.outputs:
            family |= ids_with_parents(rows.paths, family)
            if next(iter(rows_with_ids(rows.paths, family)), None) is not None:
                holding.add(table.build_key)
    for record in sorted(store.records(), key=lambda entry: entry["started"]):
        if record["kind"] == "Rows":
            continue
        if any(entry["build_key"] in holding for entry in record["inputs"]):
            holding.add(record["build_key"])
            yield {"tag": record["tag"], "kind": record["kind"], "build_key": record["build_key"]}
