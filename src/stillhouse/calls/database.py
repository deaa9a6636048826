"""The SQLite file of the call cache: its tables, how it is opened, and how one of an earlier format is upgraded."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from stillhouse.core.errors import StoreError
from stillhouse.core.locks import taken

from .packing import RAW, ZLIB
from .reply import NO_USAGE, Usage, read_reply

FORMAT = 2
FILE = "calls.sqlite"

BUSY_SECONDS = 60.0
_LITTLE_ROOM = 1 << 18  # bytes; its shared memory grows by 32 kB

# A key's 16 bytes stand as two whole numbers, and the index holds the first alone: it is a third smaller than one over
# the key. `made` and `ms` are milliseconds, money is nanodollars: small numbers take few bytes. The long columns come
# last, that of the request after that of the reply, which is read a thousand times as often.
_CALL = """
    id INTEGER PRIMARY KEY, head INTEGER NOT NULL, tail INTEGER NOT NULL, form INTEGER NOT NULL,
    packing INTEGER NOT NULL, checksum INTEGER NOT NULL, made INTEGER NOT NULL, ms INTEGER NOT NULL,
    model INTEGER NOT NULL, step INTEGER NOT NULL, batch INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    reply_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    nano_usd INTEGER, request_packing INTEGER NOT NULL, body BLOB NOT NULL, request BLOB NOT NULL
"""
TABLES = (
    f"CREATE TABLE replies ({_CALL})",
    "CREATE INDEX replies_by_head ON replies (head)",
    f"CREATE TABLE rejected ({_CALL}, why TEXT NOT NULL)",
    "CREATE TABLE words (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE dictionaries (id INTEGER PRIMARY KEY, family BLOB NOT NULL, body BLOB NOT NULL, "
    "checksum INTEGER NOT NULL)",
    # What was paid stays written here when replies are pruned.
    "CREATE TABLE spending (day INTEGER, model INTEGER, step INTEGER, batch INTEGER, calls INTEGER NOT NULL, "
    "prompt_tokens INTEGER NOT NULL, reply_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, "
    "reasoning_tokens INTEGER NOT NULL, nano_usd INTEGER NOT NULL, unpriced INTEGER NOT NULL, ms INTEGER NOT NULL, "
    "PRIMARY KEY (day, model, step, batch)) WITHOUT ROWID",
    # Attempts that failed; those that did not are the replies.
    "CREATE TABLE trouble (id INTEGER PRIMARY KEY, made INTEGER NOT NULL, head INTEGER NOT NULL, "
    "tail INTEGER NOT NULL, model INTEGER NOT NULL, step INTEGER NOT NULL, cause INTEGER NOT NULL, "
    "ms INTEGER NOT NULL, message TEXT NOT NULL)",
)
COLUMNS = (
    "head, tail, form, packing, checksum, made, ms, model, step, batch, prompt_tokens, reply_tokens, cached_tokens, "
    "reasoning_tokens, nano_usd, request_packing, body, request"
)
NUM_COLUMNS = COLUMNS.count(",") + 1

_HALVES = struct.Struct(">qq")
halves: Callable[[bytes], tuple[Any, ...]] = _HALVES.unpack
"""The two whole numbers that a key is kept as."""
whole: Callable[[int, int], bytes] = _HALVES.pack
"""The key again."""


class Words:
    """Names that many records share, kept once: text to number. Numbers are only ever added."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._known.get(text)
        if found is None:
            self._connection.execute("INSERT OR IGNORE INTO words (text) VALUES (?)", (text,))
            (found,) = self._connection.execute("SELECT id FROM words WHERE text = ?", (text,)).fetchone()
            self._known[text] = found
        return found

    def forget(self) -> None:
        """After a transaction that was undone: its numbers do not stand."""
        self._known.clear()


def connected(path: Path, say: Callable[[str], None]) -> sqlite3.Connection:
    """An open connection to a file of this format; an earlier one is upgraded first, which `say` is told of.

    To be called while `opening` is held.
    Raises `sqlite3.Error`, and `StoreError` for a format of a later version.
    """
    # Autocommit mode: transactions are begun by hand, so that each commit is one we mean.
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if not path.stat().st_size:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # lets `prune` give room back beside living runs
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA cache_size=-32000")  # the index of a million keys fits
        connection.execute("PRAGMA wal_autocheckpoint=16000")  # random keys touch the same pages many times
        if _format(connection) != FORMAT:
            with taken(path.with_name(f"{path.name}.lock"), wait=True):
                _to_this_format(connection, path, say)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """Held while the file is opened or moved aside, so that nobody opens it between its parts.

    A log that stands beside another file than its own would be taken for that file's. A folder that cannot be written
    has nobody who moves anything.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(taken(path.with_name(f"{path.name}.opening.lock"), wait=True))
        yield


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that took its place; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _format(connection: sqlite3.Connection) -> int:
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    return int(number)


def _to_this_format(connection: sqlite3.Connection, path: Path, say: Callable[[str], None]) -> None:
    number = _format(connection)
    if number == FORMAT:  # another process was first
        return
    if number not in (0, 1):
        raise StoreError(
            f"`{path}` has format {number}, this version of stillhouse reads {FORMAT}",
            "Use the version that wrote it, or another session folder.",
        )
    with transaction(connection):
        if number == 1:
            connection.execute("ALTER TABLE replies RENAME TO replies_1")
            connection.execute("ALTER TABLE rejected RENAME TO rejected_1")
            connection.execute("DROP INDEX replies_by_key")
        for statement in TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO dictionaries VALUES (?, x'', x'', 0)", (15,))  # the next is FIRST_DICTIONARY
        if number == 1:
            _bring_over(connection, path, say)
        connection.execute(f"PRAGMA user_version={FORMAT}")
    if number == 1:
        with contextlib.suppress(sqlite3.OperationalError):  # another process reads: the room is used again anyway
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("VACUUM")


def _bring_over(connection: sqlite3.Connection, path: Path, say: Callable[[str], None]) -> None:
    """Every record of format 1, its bytes as they were packed; all of it is one transaction, so that none is lost."""
    (number,) = connection.execute("SELECT count(*) FROM replies_1").fetchone()
    say(f"`{path}` is brought to the format of this version, once: {number:,} replies")
    words = Words(connection)
    for old, table, more in (("replies_1", "replies", ""), ("rejected_1", "rejected", ", why")):
        marks = ",".join("?" * (NUM_COLUMNS + bool(more)))
        rows = connection.execute(
            f"SELECT key, form, packing, body, checksum, made, seconds, request{more} FROM {old} ORDER BY id"
        )
        connection.executemany(
            f"INSERT INTO {table} ({COLUMNS}{more}) VALUES ({marks})",
            ((*_of_format_1(row[:8], words), *row[8:]) for row in rows),
        )
        connection.execute(f"DROP TABLE {old}")


def _of_format_1(row: tuple[Any, ...], words: Words) -> tuple[Any, ...]:
    key, form, packing, body, checksum, made, seconds, request = row
    request_packing = RAW if request[:1] == b"{" else ZLIB  # zlib's first byte is 0x78
    model, usage = "?", NO_USAGE
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, zlib.error):
        by = orjson.loads(zlib.decompress(request) if request_packing else request)["by"]
        model = str(by.get("deployment") or by.get("model") or "?")
    with contextlib.suppress(ValueError, KeyError, TypeError, zlib.error):
        usage = Usage(*read_reply(form, zlib.decompress(body) if packing else body).usage)
    return (
        *halves(key),
        words.number(form),
        packing,
        checksum,
        round(made * 1000),
        round(seconds * 1000),
        words.number(model),
        words.number(""),
        0,
        *usage[:4],
        None,
        request_packing,
        body,
        request,
    )


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All of it or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def dictionaries(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, bytes]]:
    """Number, family and content of the dictionaries that are whole."""
    for number, family, body, checksum in connection.execute("SELECT id, family, body, checksum FROM dictionaries"):
        if family and zlib.crc32(body, number) == checksum:
            yield number, family, body


def is_damage(error: sqlite3.DatabaseError) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_full(folder: Path) -> bool:
    """Whether there is hardly any room: SQLite calls it an I/O error when it is its shared memory that cannot grow."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < _LITTLE_ROOM
    return False


@contextlib.contextmanager
def as_store_error(path: Path) -> Iterator[None]:
    """SQLite's errors in words that say what to do."""
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
