"""What is asked in batch jobs, written down before it is sent: requests and jobs in `calls-v1/batches.sqlite`.

A request stands here from when it is gathered until its reply is in the call cache. All that happens to it is one
transaction, so whatever moment a process is killed at, the next one knows what may have been sent.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..database import as_store_error, transaction

FILE = "batches.sqlite"
_FORMAT = 2
_TABLES = (
    "CREATE TABLE places (route TEXT PRIMARY KEY, place TEXT NOT NULL)",
    "CREATE TABLE requests (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, route TEXT NOT NULL, path TEXT NOT NULL, "
    "step TEXT NOT NULL, session TEXT NOT NULL, state TEXT NOT NULL, job TEXT, tries INTEGER NOT NULL DEFAULT 0, "
    "made REAL NOT NULL, size INTEGER NOT NULL, estimate REAL, kind TEXT, message TEXT, raw TEXT, "
    "canonical BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE INDEX requests_by_job ON requests (job)",
    "CREATE TABLE jobs (id TEXT PRIMARY KEY, route TEXT NOT NULL, path TEXT NOT NULL, step TEXT NOT NULL, "
    "state TEXT NOT NULL, made REAL NOT NULL, sent REAL, looked REAL, ended REAL, file TEXT NOT NULL DEFAULT '', "
    "remote TEXT, num INTEGER NOT NULL, size INTEGER NOT NULL, estimate REAL, done INTEGER NOT NULL DEFAULT 0, "
    "failed INTEGER NOT NULL DEFAULT 0, kept INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '')",
)
_SINCE_2 = (
    "ALTER TABLE jobs ADD COLUMN guessed INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN strangers TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN untold TEXT NOT NULL DEFAULT ''",
)
_OLD_SECONDS = 30 * 86400.0
_MANY = 500


class Gathered(NamedTuple):
    """A request to be asked in a job. `estimate`: about what it will cost, None where nobody knows."""

    key: bytes
    path: str
    canonical: bytes
    body: bytes
    estimate: float | None


class Known(NamedTuple):
    """What is known of a request: `new`, `sent`, `live` (it is to be asked so) or `fault`, with what that is."""

    state: str
    kind: str | None
    message: str | None
    raw: str | None
    job: str | None
    """That which holds it, while it is `sent`."""


class Job(NamedTuple):
    """One job. States: `written` (not sent, or nobody noted that it was), `running`, `ended`, `cancelled`, `failed`."""

    id: str
    route: str
    path: str
    step: str
    state: str
    made: float
    sent: float | None
    """When it was first tried to begin it."""
    looked: float | None
    ended: float | None
    file: str
    remote: str | None
    num: int
    size: int
    estimate: float | None
    done: int
    failed: int
    kept: int
    """Replies that were collected."""
    message: str
    guessed: int
    """1 while it is not known whether `remote` is this job or somebody else's."""
    strangers: str
    """Ids at the provider that turned out to be somebody else's, with spaces between."""
    untold: str
    """Why its step must stop, until the step has heard it; the next line says what to do."""

    @property
    def is_open(self) -> bool:
        return self.state in ("written", "running")


class Jobs:
    """The file, shared by all processes of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / FILE
        with as_store_error(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")  # what may have been paid for must not be forgotten
            self._prepare()

    def _prepare(self) -> None:
        with transaction(self._connection) as connection:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
            if number == 0:
                for statement in _TABLES:
                    connection.execute(statement)
            if number < _FORMAT:
                for statement in _SINCE_2:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={_FORMAT}")
            # What was gathered and never sent, and what nobody came back for.
            before = time.time() - _OLD_SECONDS
            connection.execute("DELETE FROM requests WHERE state != 'sent' AND made < ?", (before,))

    def close(self) -> None:
        self._connection.close()

    # gathering

    def place(self, route: str) -> Mapping[str, Any]:
        """Who is asked there, and where."""
        ((text,),) = self._rows("SELECT place FROM places WHERE route = ?", (route,))
        found: Mapping[str, Any] = orjson.loads(text)
        return found

    def add(self, route: str, place: Mapping[str, Any], step: str, session: str, gathered: Sequence[Gathered]) -> None:
        """Write down what a session wants asked; what is under way already stays as it is."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?)", (route, orjson.dumps(place).decode()))
            connection.executemany(
                "INSERT INTO requests (key, route, path, step, session, state, made, size, estimate, canonical, body) "
                "VALUES (?, ?, ?, ?, ?, 'new', ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "session = excluded.session, step = excluded.step, route = excluded.route, body = excluded.body, "
                "path = excluded.path, size = excluded.size, estimate = excluded.estimate WHERE state = 'new'",
                [
                    (
                        each.key,
                        route,
                        each.path,
                        step,
                        session,
                        time.time(),
                        len(each.body),
                        each.estimate,
                        zlib.compress(each.canonical, 1),
                        zlib.compress(each.body, 1),
                    )
                    for each in gathered
                ],
            )

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Known]:
        found: dict[bytes, Known] = {}
        for start in range(0, len(keys), _MANY):
            part = keys[start : start + _MANY]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, state, kind, message, raw, job FROM requests WHERE key IN ({marks})"
            found |= {row[0]: Known(*row[1:]) for row in self._rows(query, part)}
        return found

    def forget(self, keys: Iterable[bytes]) -> None:
        """They are settled."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.executemany("DELETE FROM requests WHERE key = ?", [(key,) for key in keys])

    def claim(self, keys: Iterable[bytes], session: str) -> None:
        """What of these is not in a job goes into the next one of this session, whoever gathered it."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            query = "UPDATE requests SET session = ? WHERE key = ? AND state = 'new'"
            connection.executemany(query, [(session, key) for key in keys])

    # jobs

    def cut(self, route: str, session: str, max_requests: int, max_bytes: int, around: int) -> Job | None:
        """A job of what this session wants asked at a place, as large as may be; None where nothing is left.

        `around`: bytes that stand about each body.
        """
        with as_store_error(self.path), transaction(self._connection) as connection:
            query = (
                "SELECT id, path, step, size, estimate FROM requests WHERE state = 'new' AND route = ? AND session = ? "
                "ORDER BY id"
            )
            chosen: list[int] = []
            size, estimate, path, step = 0, 0.0, None, ""
            unpriced = False
            for number, own_path, own_step, own_size, own_estimate in connection.execute(query, (route, session)):
                path, step = path or own_path, step or own_step
                if own_path != path or own_step != step:
                    continue
                if len(chosen) >= max_requests or (chosen and size + own_size + around > max_bytes):
                    break
                chosen.append(number)
                size += own_size + around
                estimate += own_estimate or 0.0
                unpriced = unpriced or own_estimate is None
            if not chosen:
                return None
            job = uuid.uuid4().hex[:16]
            connection.execute(
                "INSERT INTO jobs (id, route, path, step, state, made, num, size, estimate) "
                "VALUES (?, ?, ?, ?, 'written', ?, ?, ?, ?)",
                (job, route, path, step, time.time(), len(chosen), size, None if unpriced else estimate),
            )
            connection.executemany(
                "UPDATE requests SET state = 'sent', job = ?, tries = tries + 1 WHERE id = ?",
                [(job, number) for number in chosen],
            )
        return self.job(job)

    def undo(self, job: str) -> None:
        """A job that was never sent: its requests are as before."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.execute(
                "UPDATE requests SET state = 'new', job = NULL, tries = tries - 1 WHERE job = ? AND state = 'sent'",
                (job,),
            )
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def job(self, job: str) -> Job:
        """The job as it is written down now."""
        found = self.find(job)
        assert found is not None
        return found

    def find(self, job: str) -> Job | None:
        """The same, or None where it was taken back meanwhile."""
        rows = self._rows(f"SELECT {', '.join(Job._fields)} FROM jobs WHERE id = ?", (job,))
        return Job(*rows[0]) if rows else None

    def jobs(self, *, only_open: bool = False) -> list[Job]:
        """All of them, oldest first."""
        where = "WHERE state IN ('written', 'running')" if only_open else ""
        rows = self._rows(f"SELECT {', '.join(Job._fields)} FROM jobs {where} ORDER BY made, id")
        return [Job(*row) for row in rows]

    def owing_usd(self) -> float:
        """What the jobs that are under way may cost, as far as that is known."""
        return sum(job.estimate or 0.0 for job in self.jobs(only_open=True) if job.sent is not None)

    def untold(self, step: str) -> list[Job]:
        """Those of a step that say why it must stop, to one who has not heard it."""
        rows = self._rows(f"SELECT {', '.join(Job._fields)} FROM jobs WHERE untold != '' AND step = ?", (step,))
        return [Job(*row) for row in rows]

    def note(self, job: str, **fields: Any) -> Job:
        """Write down what is known of a job now."""
        names = ", ".join(f"{name} = ?" for name in fields)
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*fields.values(), job))
        return self.job(job)

    def bodies(self, job: str) -> Iterator[tuple[bytes, bytes]]:
        """Key and body of each request of a job, in order."""
        place = -1
        query = "SELECT id, key, body FROM requests WHERE job = ? AND id > ? ORDER BY id LIMIT 500"
        while rows := self._rows(query, (job, place)):
            place = rows[-1][0]
            for _, key, body in rows:
                yield key, zlib.decompress(body)

    def waiting(self, job: str, keys: Sequence[bytes]) -> dict[bytes, tuple[bytes, str]]:
        """Of these, those that the job still waits for: the canonical request, and the step that wanted it."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, canonical, step FROM requests WHERE job = ? AND state = 'sent' AND key IN ({marks})"
        return {key: (zlib.decompress(canonical), step) for key, canonical, step in self._rows(query, (job, *keys))}

    def settle(self, job: str, answered: Sequence[bytes], faults: Mapping[bytes, Any]) -> None:
        """Replies of these are kept; others ended in a `RowFault`."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.executemany("DELETE FROM requests WHERE key = ? AND job = ?", [(key, job) for key in answered])
            connection.executemany(
                "UPDATE requests SET state = 'fault', kind = ?, message = ?, raw = ? WHERE key = ? AND job = ?",
                [(fault.kind, fault.message, fault.raw, key, job) for key, fault in faults.items()],
            )
            connection.execute("UPDATE jobs SET kept = kept + ? WHERE id = ?", (len(answered), job))

    def finish(self, job: str, state: str, message: str, *, live_up_to: int, tries: int, session: str) -> int:
        """The job is over. What it left is asked live where that is little, or in another job; returns how much."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            (left,) = connection.execute(
                "SELECT count(*) FROM requests WHERE job = ? AND state = 'sent'", (job,)
            ).fetchone()
            live = "tries >= ?" if left > live_up_to else "tries >= ? OR 1"
            connection.execute(
                f"UPDATE requests SET state = CASE WHEN {live} THEN 'live' ELSE 'new' END, job = NULL, session = ? "
                "WHERE job = ? AND state = 'sent'",
                (tries, session, job),
            )
            connection.execute("UPDATE requests SET job = NULL WHERE job = ?", (job,))
            connection.execute(
                "UPDATE jobs SET state = ?, message = ?, ended = ? WHERE id = ?", (state, message, time.time(), job)
            )
        return int(left)

    def again(self, job: str, message: str, untold: str = "") -> None:
        """The job was not taken: all of it waits for another, as if this had not been."""
        with as_store_error(self.path), transaction(self._connection) as connection:
            connection.execute(
                "UPDATE requests SET state = 'new', job = NULL, tries = tries - 1 WHERE job = ? AND state = 'sent'",
                (job,),
            )
            connection.execute(
                "UPDATE jobs SET state = 'failed', message = ?, untold = ?, ended = ? WHERE id = ?",
                (message, untold, time.time(), job),
            )

    def steps_under_way(self) -> set[str]:
        """The steps whose requests are in jobs that are not over."""
        return {row[0] for row in self._rows("SELECT DISTINCT step FROM requests WHERE state = 'sent'")}

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:  # tuples of what the query names
        with as_store_error(self.path):
            return self._connection.execute(query, values).fetchall()
