"""The call cache: replies found again by the key of their request, whatever step or process asks.

One SQLite file in WAL mode, one writer thread, group commit. `put` returns when its record is committed: from then on
kill -9 of any process cannot lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import shutil
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

from stillhouse.core.errors import StoreError

if TYPE_CHECKING:
    from stillhouse.core.events import Bus

_VERSION = 1
_PACK_OVER = 1024  # bytes; below, zlib saves less than the row costs anyway
_MANY = 500  # keys of one look-up
_RAW, _ZLIB = 0, 1
_BUSY_SECONDS = 60.0
_LITTLE_ROOM = 1 << 18  # bytes; its shared memory grows by 32 kB

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, form TEXT NOT NULL, packing INTEGER NOT NULL, body BLOB NOT NULL,
    checksum INTEGER NOT NULL, made REAL NOT NULL, seconds REAL NOT NULL, request BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS replies_by_key ON replies (key);
CREATE TABLE IF NOT EXISTS rejected (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, form TEXT NOT NULL, packing INTEGER NOT NULL, body BLOB NOT NULL,
    checksum INTEGER NOT NULL, made REAL NOT NULL, seconds REAL NOT NULL, request BLOB NOT NULL, why TEXT NOT NULL
);
"""
_COLUMNS = "key, form, packing, body, checksum"
_INSERT = f"INSERT OR IGNORE INTO replies ({_COLUMNS}, made, seconds, request) VALUES (?,?,?,?,?,?,?,?)"


class Entry(NamedTuple):
    """A reply to keep: the wire form as it came and the canonical request, zlib-packed above 1 kB."""

    key: bytes
    form: str
    wire: bytes
    request: bytes
    seconds: float = 0.0


Kept: TypeAlias = tuple[str, bytes]
"""A reply found again: its form and its wire bytes."""


class CallCache:
    """Replies in `folder/calls.sqlite`, shared by all steps of a store and by any number of processes.

    A record whose checksum is wrong goes to the table `rejected`, counts in `num_rejected` and reads as missing. A file
    that is no database any more is moved aside with a `warning` event, and a new one begun. Raises `StoreError` where
    the disk is full or may not be written.
    """

    def __init__(self, folder: Path, *, bus: Bus) -> None:
        self._folder = folder
        self._path = folder / "calls.sqlite"
        self._bus = bus
        # Two locks, so that a commit that waits for another process does not hold up look-ups. Both: writing first.
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self.num_rejected = 0
        with _as_store_error(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._reader, self._writer = self._opened()
        self._thread = threading.Thread(target=self._write_all, name="stillhouse-call-cache", daemon=True)
        self._thread.start()

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """The replies known for `keys`; several hundred keys are one query."""
        found: dict[bytes, Kept] = {}
        broken: list[bytes] = []
        for start in range(0, len(keys), _MANY):
            for key, form, packing, body, checksum in self._rows_of(keys[start : start + _MANY]):
                if checksum != crc32(body, crc32(key, _form_sum(form))):
                    broken.append(key)
                else:
                    found[key] = (form, body if packing == _RAW else zlib.decompress(body))
        if broken:
            self.reject(broken, "wrong checksum")
        return found

    async def put(self, entries: Sequence[Entry]) -> dict[bytes, Kept]:
        """Keep replies; returns when they are committed.

        Where another process was first, its reply stands and is what later runs will find: it is returned, by key.
        """
        loop = asyncio.get_running_loop()
        order = _Order([_row(entry) for entry in entries], loop, loop.create_future())
        self._orders.put(order)
        return await order.done

    def requests(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The canonical requests of `keys`, for a reader who wants to see what was asked."""
        with self._reading, _as_store_error(self._path):
            marks = ",".join("?" * len(keys))
            query = f"SELECT key, request FROM replies WHERE key IN ({marks})"
            rows = self._reader.execute(query, list(keys)).fetchall()
        return {key: _unpacked_request(request) for key, request in rows}

    def __len__(self) -> int:
        with self._reading, _as_store_error(self._path):
            (number,) = self._reader.execute("SELECT count(*) FROM replies").fetchone()
        return int(number)

    def close(self) -> None:
        """Commit what was put and close the file."""
        if self._thread.is_alive():
            self._orders.put(None)
            self._thread.join()
            self._reader.close()
            self._writer.close()

    # reading

    def _rows_of(self, keys: Sequence[bytes]) -> list[_Found]:
        """The records of `keys`; what was kept together, as what is asked together mostly was, is read in one piece."""
        if len(keys) < _MANY:
            return self._rows_with(keys)
        ends = self._rows(_PLACES, (keys[0], keys[-1]))
        first, last = min(ends, default=(0,))[0], max(ends, default=(0,))[0]
        if len(ends) < 2 or last - first >= 2 * len(keys):
            return self._rows_with(keys)
        wanted = set(keys)
        found = [row for row in self._rows(_NEIGHBOURS, (first, last)) if row[0] in wanted]
        missing = wanted.difference([row[0] for row in found])
        return found + self._rows_with(list(missing)) if missing else found

    def _rows_with(self, keys: Sequence[bytes]) -> list[_Found]:
        # Few distinct texts, so that SQLite prepares each statement once: the keys are padded with the last one.
        width = next(width for width in (1, 8, 64, _MANY) if len(keys) <= width)
        # Sorted, they also go faster into the tree that SQLite makes of them.
        return self._rows(_QUERIES[width], [*sorted(keys), *[keys[-1]] * (width - len(keys))])

    def _rows(self, query: str, values: Sequence[bytes | int]) -> list[Any]:  # tuples of what the query names
        with _as_store_error(self._path):
            try:
                with self._reading:
                    return self._reader.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                if not _is_damage(error):
                    raise
                with self._writing:
                    self._replace(error)
                return []

    def reject(self, keys: Sequence[bytes], why: str) -> None:
        """Move records that cannot be used to the table `rejected`; they will be asked for again."""
        with self._writing, _as_store_error(self._path), self._transaction():
            for key in keys:
                self._writer.execute(
                    f"INSERT INTO rejected ({_COLUMNS}, made, seconds, request, why) "
                    f"SELECT {_COLUMNS}, made, seconds, request, ? FROM replies WHERE key = ?",
                    (why, key),
                )
                self._writer.execute("DELETE FROM replies WHERE key = ?", (key,))
        self.num_rejected += len(keys)
        self._bus.publish(
            "warning",
            message=f"{len(keys)} kept replies in `{self._path}` cannot be used ({why}) and will be asked for again",
            calls=[key.hex() for key in keys],
        )

    # writing

    def _write_all(self) -> None:
        while (order := self._orders.get()) is not None:
            orders, last = [order], False
            with contextlib.suppress(queue.Empty):
                while not last:
                    more = self._orders.get_nowait()
                    last = more is None
                    if more is not None:
                        orders.append(more)
            self._commit(orders)
            if last:
                return

    def _commit(self, orders: list[_Order]) -> None:
        """One transaction for all that waits; every order learns how it ended."""
        rows = orders[0].rows if len(orders) == 1 else [row for order in orders for row in order.rows]
        failure: BaseException | None = None
        earlier: dict[bytes, Kept] = {}
        try:
            with self._writing, _as_store_error(self._path):
                try:
                    earlier = self._insert(rows)
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._replace(error)
                    earlier = self._insert(rows)
        except BaseException as error:
            failure = error
        by_loop: dict[asyncio.AbstractEventLoop, list[_Order]] = {}
        for order in orders:
            by_loop.setdefault(order.loop, []).append(order)
        for loop, theirs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # a loop that was closed has nobody left to tell
                loop.call_soon_threadsafe(_tell, theirs, earlier, failure)

    def _insert(self, rows: list[_Row]) -> dict[bytes, Kept]:
        with self._transaction() as writer:
            before = writer.total_changes
            writer.executemany(_INSERT, rows)
            all_new = writer.total_changes - before == len(rows)
            return {} if all_new else self._standing(rows)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise

    def _standing(self, rows: list[_Row]) -> dict[bytes, Kept]:
        """Replies under these keys that another process kept first."""
        standing: dict[bytes, Kept] = {}
        for row in rows:
            found = self._writer.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (row[0],)).fetchone()
            key, form, packing, body, checksum = found
            if body != row[3] and checksum == _checksum(key, form, body):
                standing[key] = (form, body if packing == _RAW else zlib.decompress(body))
        return standing

    # opening

    def _opened(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        try:
            writer = self._connected()
            return self._connected(), writer
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._set_aside(error)
            writer = self._connected()
            return self._connected(), writer

    def _connected(self) -> sqlite3.Connection:
        # Autocommit mode: transactions are begun by hand, so that each commit is one we mean.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA cache_size=-32000")  # the index of a million keys fits
            connection.execute("PRAGMA wal_autocheckpoint=16000")  # random keys touch the same pages many times
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={_VERSION}")
                connection.execute("COMMIT")
            elif version != _VERSION:
                raise StoreError(
                    f"`{self._path}` has format {version}, this version of stillhouse reads {_VERSION}",
                    "Use the version that wrote it, or another session folder.",
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _replace(self, error: sqlite3.DatabaseError) -> None:
        with self._reading:
            for connection in (self._reader, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            self._set_aside(error)
            self._reader, self._writer = self._connected(), self._connected()

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self._path.with_name(f"calls.damaged-{time.time_ns()}.sqlite")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        self._bus.publish(
            "warning",
            message=f"the call cache was damaged ({error}); it is kept as `{aside}` and a new one begun",
            path=str(aside),
        )


_Row = tuple[bytes, str, int, bytes, int, float, float, bytes]
_Found: TypeAlias = tuple[bytes, str, int, bytes, int]
_PLACES = "SELECT id FROM replies WHERE key IN (?, ?)"
_NEIGHBOURS = f"SELECT {_COLUMNS} FROM replies WHERE id BETWEEN ? AND ?"
_QUERIES = {
    width: f"SELECT {_COLUMNS} FROM replies WHERE key IN ({','.join('?' * width)})" for width in (1, 8, 64, _MANY)
}


class _Order(NamedTuple):
    rows: list[_Row]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[dict[bytes, Kept]]


def _row(entry: Entry) -> _Row:
    key, form, wire, request, seconds = entry
    packing = _RAW
    if len(wire) > _PACK_OVER:
        wire, packing = zlib.compress(wire, 1), _ZLIB
    if len(request) > _PACK_OVER:
        request = zlib.compress(request, 1)
    return key, form, packing, wire, _checksum(key, form, wire), time.time(), seconds, request


def _checksum(key: bytes, form: str, body: bytes) -> int:
    return crc32(body, crc32(key, _form_sum(form)))


@functools.lru_cache(maxsize=64)
def _form_sum(form: str) -> int:
    return crc32(form.encode())


def _unpacked_request(request: bytes) -> bytes:
    return request if request[:1] == b"{" else zlib.decompress(request)  # zlib's first byte is 0x78


def _tell(orders: list[_Order], earlier: dict[bytes, Kept], failure: BaseException | None) -> None:
    for order in orders:
        if order.done.done():
            continue
        if failure is None:
            order.done.set_result(earlier)
        else:
            order.done.set_exception(failure)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_full(folder: Path) -> bool:
    """Whether there is hardly any room: SQLite calls it an I/O error when it is its shared memory that cannot grow."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _LITTLE_ROOM
    return False


@contextlib.contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_full(path.parent)):
            hint = "Free some space; the same command goes on."
            raise StoreError(f"the disk is full: `{path}` cannot grow", hint) from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            hint = "Choose a folder that you may write to."
            raise StoreError(f"`{path}` cannot be written: {error}", hint) from error
        raise StoreError(f"the call cache `{path}` failed: {error}") from error
    except OSError as error:
        raise StoreError(f"`{path.parent}` cannot be used: {error.strerror or error}") from error
