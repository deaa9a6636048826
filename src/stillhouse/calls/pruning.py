"""Making the call cache smaller, beside living runs.

Never taken: replies younger than an hour, those of steps that run or are unfinished, which would pay again, and those
that such steps have found, whoever paid for them. Results with rows that got no answer, and what is made from them,
are unfinished. What was spent stays written down.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stillhouse.core.artifact import Rows
from stillhouse.core.collect import YOUNG_SECONDS
from stillhouse.core.errors import RecipeError
from stillhouse.core.found import found_in
from stillhouse.core.lease import leased
from stillhouse.core.mapped_ahead import asked_as, work_keys
from stillhouse.core.store import Store

from .database import FILE, as_store_error, connected, halves, opening, transaction

_AT_ONCE = 500  # replies of one transaction: a living run waits no longer than for that
_PAGES_AT_ONCE = 1000
_AROUND = 110  # bytes of a record and its place in the index beside its two texts, measured

_OF_A_NOTE = 60  # the same of an attempt that failed, beside its message


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to go: replies older than so many seconds, of a model (a part of its name), that no artifact names.

    `max_size` (bytes) takes the oldest that no artifact names until the rest fits; before them, what is written of
    failed attempts and of replies that were set aside. Conditions are met together.
    """

    older_than: float | None = None
    model: str | None = None
    unreferenced: bool = False
    max_size: int | None = None

    def __post_init__(self) -> None:
        if all(value is None for value in (self.older_than, self.model, self.max_size)) and not self.unreferenced:
            raise RecipeError(
                "nothing says which calls should go",
                "Give an age, a model, `unreferenced` or a size; several are met together.",
            )


class Pruned(NamedTuple):
    """What went, or would go, of one model."""

    model: str
    calls: int
    referenced: int
    """Of them, calls that rows or other results came from: their lineage ends there then."""
    size_bytes: int


def prune(store: Store, wanted: Wanted, *, keep_seconds: float = YOUNG_SECONDS, dry_run: bool = False) -> list[Pruned]:
    """Remove replies (or say which) by model; raises `StoreError` where the file cannot be written."""
    path = store.folder / "calls-v1" / FILE
    if not path.exists():
        return []
    with as_store_error(path):
        with opening(path):
            connection = connected(path, lambda message: None)
        with closing(connection):
            return _pruned(connection, store, wanted, keep_seconds, dry_run)


def _pruned(
    connection: sqlite3.Connection, store: Store, wanted: Wanted, keep_seconds: float, dry_run: bool
) -> list[Pruned]:
    connection.execute("PRAGMA temp_store = FILE")  # the references may be many
    _write_references(connection, store, time.time() - keep_seconds)
    _choose(connection, wanted, time.time(), keep_seconds)
    found = [
        Pruned(*row)
        for row in connection.execute(
            "SELECT w.text, count(*), sum(g.referenced), sum(g.size) FROM going g JOIN words w ON w.id = g.model "
            "GROUP BY w.id ORDER BY 4 DESC"
        )
    ]
    if not dry_run and (found or connection.execute("SELECT 1 FROM notes").fetchone()):
        _remove_notes(connection)
        _remove(connection)
        if wanted.older_than is not None:
            _remove_old_notes(connection, time.time() - max(wanted.older_than, keep_seconds))
        _give_back(connection)
    return found


def used_bytes(connection: sqlite3.Connection) -> int:
    """Of the file, without pages that are free."""
    (pages,), (free,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _write_references(connection: sqlite3.Connection, store: Store, newest: float) -> None:
    """Temporary tables: keys that rows name, steps that have results, steps that work stands on, and keys that
    such steps have found."""
    connection.execute("CREATE TEMP TABLE named (head INTEGER PRIMARY KEY) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE made (step INTEGER PRIMARY KEY)")
    connection.execute("CREATE TEMP TABLE at_work (step INTEGER PRIMARY KEY)")
    connection.execute("CREATE TEMP TABLE found (head INTEGER PRIMARY KEY) WITHOUT ROWID")
    connection.execute("BEGIN")
    heads = ((halves(key)[0],) for key in found_in(store.work))
    connection.executemany("INSERT OR IGNORE INTO found VALUES (?)", heads)
    records = list(store.records())
    unfinished = _unfinished(records)
    for build_key, keys in _keys_in_rows(store, records):
        numbers = [(halves(bytes.fromhex(key))[0],) for key in keys if _is_key(key)]
        connection.executemany("INSERT OR IGNORE INTO named VALUES (?)", numbers)
        if build_key in unfinished:
            connection.executemany("INSERT OR IGNORE INTO found VALUES (?)", numbers)
    working = work_keys(store) | leased(store, newest) | _steps_in_jobs(store.folder / "calls-v1") | unfinished
    working |= asked_as(record for record in records if record["build_key"] in working)
    with_results = asked_as(records)
    steps = connection.execute("SELECT DISTINCT w.id, w.text FROM words w").fetchall()
    for number, text in steps:
        if text and text in working:
            connection.execute("INSERT INTO at_work VALUES (?)", (number,))
        if text in with_results:
            connection.execute("INSERT INTO made VALUES (?)", (number,))
    connection.execute("COMMIT")


def _steps_in_jobs(folder: Path) -> set[str]:
    """The steps that wait for batch jobs: they find the replies that came by now when the others have come."""
    from .batch.jobs import FILE as JOBS
    from .batch.jobs import Jobs

    if not (folder / JOBS).exists():
        return set()
    jobs = Jobs(folder)
    try:
        return jobs.steps_under_way()
    finally:
        jobs.close()


def _unfinished(records: Sequence[Mapping[str, Any]]) -> set[str]:
    """The keys of results that the next run makes again: rows of them got no answer, or of what they are made from.

    With them those of the shares that they were joined from, under which the calls stand.
    """
    found = {record["build_key"] for record in records if record.get("counts", {}).get("unanswered")}
    new = found
    while new:
        made = {
            record["build_key"]
            for record in records
            if any(entry["build_key"] in new for entry in record.get("inputs", ()))
        }
        new = made - found
        found |= new
    shares = (record.get("shards", ()) for record in records if record["build_key"] in found)
    return found | {part["build_key"] for parts in shares for part in parts}


def _keys_in_rows(store: Store, records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """The calls that tables of the store name, a piece at a time, each with the key of its result."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for record in records:
        if record["kind"] != Rows.kind:
            continue
        folder = store.artifact_folder(record["build_key"])
        for output in record.get("outputs") or [None]:
            for path in Rows(folder, record, output).paths:
                with pq.ParquetFile(path) as file:
                    if "_calls" not in file.schema_arrow.names:
                        continue
                    for batch in file.iter_batches(columns=["_calls"]):
                        keys = pc.unique(pc.list_flatten(batch.column(0)).drop_null()).to_pylist()
                        yield record["build_key"], keys


def _is_key(text: Any) -> bool:
    if not isinstance(text, str) or len(text) < 32:
        return False
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


def _choose(connection: sqlite3.Connection, wanted: Wanted, now: float, keep_seconds: float) -> None:
    """The temporary table `going`: what the conditions choose, oldest first, as far as the size asks for it."""
    connection.execute(
        "CREATE TEMP TABLE going (id INTEGER PRIMARY KEY, model INTEGER, referenced INTEGER, size INTEGER)"
    )
    connection.execute("CREATE TEMP TABLE notes (place TEXT, id INTEGER, size INTEGER)")
    before = now - max(keep_seconds, wanted.older_than or 0.0)
    conditions = ["r.made < ?", "r.step NOT IN (SELECT step FROM at_work)", "r.head NOT IN (SELECT head FROM found)"]
    values: list[Any] = [round(before * 1000)]
    if wanted.model is not None:
        conditions.append("r.model IN (SELECT id FROM words WHERE instr(text, ?))")
        values.append(wanted.model)
    referenced = "(r.head IN (SELECT head FROM named) OR r.step IN (SELECT step FROM made))"
    if wanted.unreferenced or wanted.max_size is not None:
        conditions.append(f"NOT {referenced}")
    query = (
        f"WITH chosen AS (SELECT r.id AS id, r.model AS model, {referenced} AS referenced, "
        f"length(r.body) + length(r.request) + {_AROUND} AS size FROM replies r WHERE {' AND '.join(conditions)}) "
    )
    if wanted.max_size is None:
        query += "SELECT id, model, referenced, size FROM chosen"
    else:
        query += (
            "SELECT id, model, referenced, size FROM (SELECT *, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) "
            "- size AS before FROM chosen) WHERE before < ?"
        )
        values.append(_choose_notes(connection, used_bytes(connection) - wanted.max_size, wanted.model, before))
    connection.execute(f"INSERT INTO going {query}", values)


def _choose_notes(connection: sqlite3.Connection, over: int, model: str | None, before: float) -> int:
    """What nobody will ask for goes first: replies that were set aside, then failed attempts; the bytes still over."""
    sizes = {"rejected": f"length(body) + length(request) + {_AROUND}", "trouble": f"length(message) + {_OF_A_NOTE}"}
    condition = "" if model is None else "AND model IN (SELECT id FROM words WHERE instr(text, ?))"
    for table, size in sizes.items():
        values = [round(before * 1000), *([] if model is None else [model]), over]
        connection.execute(
            f"INSERT INTO notes SELECT '{table}', id, size FROM (SELECT id, {size} AS size, "
            f"sum({size}) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - ({size}) AS before "
            f"FROM {table} WHERE made < ? {condition}) WHERE before < ?",
            values,
        )
        ((taken,),) = connection.execute("SELECT total(size) FROM notes WHERE place = ?", (table,)).fetchall()
        over -= int(taken)
    return over


def _remove_notes(connection: sqlite3.Connection) -> None:
    """Those that were chosen."""
    for table in ("rejected", "trouble"):
        ids = [row[0] for row in connection.execute("SELECT id FROM notes WHERE place = ?", (table,))]
        for start in range(0, len(ids), _AT_ONCE):
            with transaction(connection):
                chosen = [(number,) for number in ids[start : start + _AT_ONCE]]
                connection.executemany(f"DELETE FROM {table} WHERE id = ?", chosen)


def _remove(connection: sqlite3.Connection) -> None:
    place = -1
    while True:
        query = "SELECT id FROM going WHERE id > ? ORDER BY id LIMIT ?"
        ids = [row[0] for row in connection.execute(query, (place, _AT_ONCE))]
        if not ids:
            return
        place = ids[-1]
        with transaction(connection):
            connection.executemany("DELETE FROM replies WHERE id = ?", [(number,) for number in ids])


def _remove_old_notes(connection: sqlite3.Connection, before: float) -> None:
    """Replies that were set aside, and failed attempts, of the same age."""
    for table in ("rejected", "trouble"):
        with transaction(connection):
            connection.execute(f"DELETE FROM {table} WHERE made < ?", (round(before * 1000),))


def _give_back(connection: sqlite3.Connection) -> None:
    """Return the room to the disk in small steps; what cannot be returned now is used again."""
    while True:
        (before,) = connection.execute("PRAGMA freelist_count").fetchone()
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
        (after,) = connection.execute("PRAGMA freelist_count").fetchone()
        if after == 0 or after == before:
            break
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def size_of(folder: Path) -> int:
    """Bytes of the cache's files."""
    return sum(path.stat().st_size for path in folder.glob(f"{FILE}*"))
