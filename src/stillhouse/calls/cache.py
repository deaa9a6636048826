"""The call cache: replies found again by the key of their request, whatever step or process asks.

One SQLite file in WAL mode (`database.py`), one writer thread, group commit. `put` returns when its record is
committed: from then on kill -9 of any process cannot lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from zlib import crc32

from .database import (
    COLUMNS,
    FILE,
    NUM_COLUMNS,
    Words,
    as_store_error,
    connected,
    dictionaries,
    halves,
    identity,
    is_damage,
    opening,
    transaction,
    whole,
)
from .packing import Packer, unpacked
from .reply import NO_USAGE, Usage

if TYPE_CHECKING:
    from stillhouse.core.events import Bus

_MANY = 500  # keys of one look-up
DAY = 86_400_000
"""Milliseconds of a day; days begin at midnight UTC."""
_MOST_SHOWN = 300  # characters of an error's message

_FOUND = "head, tail, packing, body, checksum, form"
_INSERT = f"INSERT INTO replies ({COLUMNS}) VALUES ({','.join('?' * NUM_COLUMNS)})"
_SET_BESIDE = f"INSERT INTO rejected ({COLUMNS}, why) VALUES ({','.join('?' * (NUM_COLUMNS + 1))})"
_IN_A_JOB = "SELECT 1 FROM replies WHERE head = ? AND tail = ? AND batch"
_BESIDE = "asked live while its batch job was open"
_SPEND = (
    "INSERT INTO spending VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, "
    "prompt_tokens = prompt_tokens + excluded.prompt_tokens, reply_tokens = reply_tokens + excluded.reply_tokens, "
    "cached_tokens = cached_tokens + excluded.cached_tokens, "
    "reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, nano_usd = nano_usd + excluded.nano_usd, "
    "unpriced = unpriced + excluded.unpriced, ms = ms + excluded.ms"
)
_TROUBLE = "INSERT INTO trouble (made, head, tail, model, step, cause, ms, message) VALUES (?,?,?,?,?,?,?,?)"


class Entry(NamedTuple):
    """A reply to keep: the wire form as it came, the canonical request, and what is known of the call.

    `model` is what ledgers call who answered, `step` the build key of the step that asked, or nothing. `cost_usd` is
    None where nobody knows the price. `batch`: it came from a provider's batch job.
    """

    key: bytes
    form: str
    wire: bytes
    request: bytes
    seconds: float = 0.0
    model: str = "?"
    step: str = ""
    usage: Usage = NO_USAGE
    cost_usd: float | None = None
    batch: bool = False


class Trouble(NamedTuple):
    """An attempt that failed: whose, why (`throttled`, `server`, `refused`, …), and how long it took."""

    key: bytes
    model: str
    step: str
    cause: str
    message: str
    seconds: float


Kept: TypeAlias = tuple[str, bytes]
"""A reply found again: its form and its wire bytes."""


class CallCache:
    """Replies in `folder/calls.sqlite`, shared by all steps of a store and by any number of processes.

    A record whose checksum is wrong goes to the table `rejected`, counts in `num_rejected` and reads as missing. A file
    that is no database any more is moved aside with a `warning` event, and a new one begun. A file of an earlier format
    is upgraded when it is opened. Raises `StoreError` where the disk is full or may not be written.
    """

    def __init__(self, folder: Path, *, bus: Bus) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._bus = bus
        # Two locks, so that a commit that waits for another process does not hold up look-ups. Both: writing first.
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self.num_rejected = 0
        with as_store_error(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._open()
        self._thread = threading.Thread(target=self._write_all, name="stillhouse-call-cache", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        return self._path

    def look_up(self, keys: Sequence[bytes]) -> dict[bytes, Kept]:
        """The replies known for `keys`; several hundred keys are one query."""
        found: dict[bytes, Kept] = {}
        broken: list[bytes] = []
        for start in range(0, len(keys), _MANY):
            part = keys[start : start + _MANY]
            for head, tail, packing, body, checksum, number in self._rows_of(part):
                key, form = whole(head, tail), self._forms.get(number) or self._form(number)
                if checksum != crc32(body, crc32(key, _form_sum(form))):
                    broken.append(key)
                    continue
                try:
                    found[key] = (form, body if packing == 0 else unpacked(packing, body, self._dictionary))
                except zlib.error:
                    broken.append(key)
        if broken:
            asked = set(keys)
            self.reject([key for key in broken if key in asked], "wrong checksum")
        return found

    async def put(self, entries: Sequence[Entry]) -> dict[bytes, Kept]:
        """Keep replies; returns when they are committed.

        Where another process was first, its reply stands and is what later runs will find: it is returned, by key.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[dict[bytes, Kept]] = loop.create_future()
        self._orders.put(_Order(entries, (), loop, done))
        return await done

    def note(self, troubles: Sequence[Trouble]) -> None:
        """Write down attempts that failed. It is done soon; nobody waits for it, and a full disk does not stop it."""
        self._orders.put(_Order((), troubles, None, None))

    def paid(self, entries: Sequence[Entry]) -> None:
        """Count what was paid for and is not kept, as another reply came first. Nobody waits for it."""
        self._orders.put(_Order((), (), None, None, entries))

    def requests(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The canonical requests of `keys`, for a reader who wants to see what was asked."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT head, tail, request_packing, request FROM replies WHERE head IN ({marks})"
        rows = self._rows(query, [halves(key)[0] for key in keys])
        wanted = set(keys)
        return {
            key: unpacked(packing, request, self._dictionary)
            for head, tail, packing, request in rows
            if (key := whole(head, tail)) in wanted
        }

    def forget(self, keys: Collection[bytes], why: str = "asked again") -> int:
        """Let these calls be made again; returns how many there were. The old replies move to the table `rejected`."""
        with self._writing, as_store_error(self._path), transaction(self._writer):
            return sum(self._move_aside(key, why) for key in keys)

    def reject(self, keys: Sequence[bytes], why: str) -> None:
        """Move records that cannot be used to the table `rejected`; they will be asked for again."""
        self.forget(keys, why)
        self.num_rejected += len(keys)
        self._bus.publish(
            "warning",
            message=f"{len(keys)} kept replies in `{self._path}` cannot be used ({why}) and will be asked for again",
            calls=[key.hex() for key in keys],
        )

    def spent_usd(self, *, day: int | None = None, step: str | None = None) -> float:
        """Dollars spent on a day (days since 1970, UTC) or by a step, by all processes and whatever was pruned since.

        What is committed counts: calls on the wire do not yet.
        """
        if day is not None:
            query, value = "SELECT total(nano_usd) FROM spending WHERE day = ?", day
        else:
            query = "SELECT total(nano_usd) FROM spending WHERE step = (SELECT id FROM words WHERE text = ?)"
            value = step  # type: ignore[assignment]
        ((nano_usd,),) = self._rows(query, [value]) or [(0.0,)]
        return float(nano_usd) / 1e9

    def mean_seconds(self, model: str) -> float | None:
        """How long the latest live calls of a model took; None where there are none."""
        query = (
            "SELECT avg(ms) FROM (SELECT ms FROM replies WHERE batch = 0 AND "
            "model = (SELECT id FROM words WHERE text = ?) ORDER BY id DESC LIMIT 1000)"
        )
        ((ms,),) = self._rows(query, (model,))
        return None if ms is None else float(ms) / 1000

    def __len__(self) -> int:
        ((number,),) = self._rows("SELECT count(*) FROM replies", ())
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
        """The records of `keys` (and some others); what was kept together, as what is asked together mostly was, is
        read in one piece."""
        if len(keys) < _MANY:
            return self._rows_with(keys)
        ends = self._rows(_PLACES, (halves(keys[0])[0], halves(keys[-1])[0]))
        first, last = min(ends, default=(0,))[0], max(ends, default=(0,))[0]
        if len(ends) < 2 or last - first >= 2 * len(keys):
            return self._rows_with(keys)
        wanted = dict.fromkeys(map(halves, keys))
        found = [row for row in self._rows(_NEIGHBOURS, (first, last)) if row[:2] in wanted]
        if len(found) < len(wanted):
            there = {row[:2] for row in found}
            found += self._rows_with([whole(*pair) for pair in wanted if pair not in there])
        return found

    def _rows_with(self, keys: Sequence[bytes]) -> list[_Found]:
        if not keys:
            return []
        # Few distinct texts, so that SQLite prepares each statement once: the keys are padded with the last one.
        width = next(width for width in (1, 8, 64, _MANY) if len(keys) <= width)
        pairs = dict.fromkeys(map(halves, keys))
        # Sorted, they also go faster into the tree that SQLite makes of them.
        heads = sorted([head for head, _ in pairs])
        rows = self._rows(_QUERIES[width], [*heads, *[heads[-1]] * (width - len(heads))])
        return rows if len(rows) <= len(pairs) else [row for row in rows if row[:2] in pairs]

    def _rows(self, query: str, values: Sequence[bytes | int | str]) -> list[Any]:  # tuples of what the query names
        with as_store_error(self._path):
            try:
                with self._reading:
                    reader = self._reader
                    return reader.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                with self._writing:
                    if self._reader is reader:  # else another thread met the damage first
                        self._replace(error)
            with self._reading:
                return self._reader.execute(query, values).fetchall()

    def _form(self, number: int) -> str:
        rows = self._rows("SELECT text FROM words WHERE id = ?", (number,))
        form: str = rows[0][0] if rows else "?"
        self._forms[number] = form
        return form

    def _dictionary(self, number: int) -> bytes:
        """What replies were packed with; nothing, with which none unpacks, where it is damaged."""
        return self._dictionary_of(number, self._rows)

    def _dictionary_in_commit(self, number: int) -> bytes:
        """The same for the one who writes: damage ends the transaction, and the file is replaced after it."""
        return self._dictionary_of(number, lambda query, values: self._writer.execute(query, values).fetchall())

    def _dictionary_of(self, number: int, rows_of: Callable[[str, Sequence[int]], list[Any]]) -> bytes:
        found = self._dictionaries.get(number)
        if found is None:
            rows = rows_of("SELECT body, checksum FROM dictionaries WHERE id = ?", (number,))
            found = rows[0][0] if rows and crc32(rows[0][0], number) == rows[0][1] else None
            if found is None:
                raise zlib.error(f"dictionary {number} is damaged")
            self._dictionaries[number] = found
        return found

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
        entries = [entry for order in orders for entry in order.entries]
        troubles = [trouble for order in orders for trouble in order.troubles]
        paid = [entry for order in orders for entry in order.paid]
        failure: BaseException | None = None
        earlier: dict[bytes, Kept] = {}
        try:
            with self._writing, as_store_error(self._path):
                try:
                    earlier = self._write(entries, troubles, paid)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    self._replace(error)
                    earlier = self._write(entries, troubles, paid)
                while identity(self._path) != self._file:  # it was moved aside: what is written there nobody finds
                    self._replace(None)
                    earlier = self._write(entries, troubles, paid)
        except BaseException as error:
            failure = error
        by_loop: dict[asyncio.AbstractEventLoop, list[_Order]] = {}
        for order in orders:
            if order.loop is not None:
                by_loop.setdefault(order.loop, []).append(order)
        for loop, theirs in by_loop.items():
            with contextlib.suppress(RuntimeError):  # a loop that was closed has nobody left to tell
                loop.call_soon_threadsafe(_tell, theirs, earlier, failure)

    def _write(
        self, entries: Sequence[Entry], troubles: Sequence[Trouble], paid: Sequence[Entry] = ()
    ) -> dict[bytes, Kept]:
        # Packed before the transaction: other processes wait for its end.
        packed = [self._packed(entry) for entry in entries]
        try:
            with transaction(self._writer) as writer:
                now = round(time.time() * 1000)
                rows = [self._row(entry, *bodies, now) for entry, bodies in zip(entries, packed, strict=True)]
                there = self._there(rows)
                mixed = bool(there) or len({row[:2] for row in rows}) < len(rows)
                self._spend(self._unpaid(entries, rows, there) if there else entries, now)
                self._spend(paid, now)
                writer.executemany(_INSERT, _first_of_each(rows, there) if mixed else rows)
                writer.executemany(_TROUBLE, [self._trouble(trouble, now) for trouble in troubles])
                return self._standing(rows) if mixed else {}
        except BaseException:
            self._words.forget()
            raise

    def _packed(self, entry: Entry) -> tuple[Any, Any]:
        return self._packer.reply(entry.form, entry.model, entry.wire), self._packer.request(entry.request)

    def _there(self, rows: Sequence[tuple[Any, ...]]) -> set[tuple[int, int]]:
        """Which of their keys, as they are kept, have a record already."""
        pairs = {row[:2] for row in rows}
        heads = sorted(pair[0] for pair in pairs)
        found: set[tuple[int, int]] = set()
        for start in range(0, len(heads), _MANY):
            part = heads[start : start + _MANY]
            width = next(width for width in _THERE if len(part) <= width)
            values = [*part, *[part[-1]] * (width - len(part))]
            found |= pairs.intersection(self._writer.execute(_THERE[width], values).fetchall())
        return found

    def _unpaid(
        self, entries: Sequence[Entry], rows: Sequence[tuple[Any, ...]], there: set[tuple[int, int]]
    ) -> list[Entry]:
        """Those whose money is not written yet.

        What came of a batch job is put again when the process was killed before the job was settled: the reply that is
        kept tells, or where that one was asked live, the job's own among the rejected.
        """
        from_jobs = {row[:2]: row for entry, row in zip(entries, rows, strict=True) if entry.batch and row[:2] in there}
        known = {pair for pair in from_jobs if self._writer.execute(_IN_A_JOB, pair).fetchone()}
        if len(known) < len(from_jobs):
            known.update(self._writer.execute("SELECT head, tail FROM rejected WHERE why = ?", (_BESIDE,)))
        beside = [(*row, _BESIDE) for pair, row in from_jobs.items() if pair not in known]
        self._writer.executemany(_SET_BESIDE, beside)
        return [entry for entry in entries if not entry.batch or halves(entry.key) not in known]

    def _row(self, entry: Entry, reply: Any, request: Any, now: int) -> tuple[Any, ...]:
        number, usage = self._words.number, entry.usage
        return (
            *halves(entry.key),
            number(entry.form),
            reply.packing,
            crc32(reply.body, crc32(entry.key, _form_sum(entry.form))),
            now,
            round(entry.seconds * 1000),
            number(entry.model),
            number(entry.step),
            entry.batch,
            *usage[:4],
            _nano(entry.cost_usd),
            request.packing,
            reply.body,
            request.body,
        )

    def _spend(self, entries: Sequence[Entry], now: int) -> None:
        """Add what was paid to the sums by day, model and step."""
        groups: dict[tuple[str, str, bool], list[Entry]] = {}
        for entry in entries:
            groups.setdefault((entry.model, entry.step, entry.batch), []).append(entry)
        number, rows = self._words.number, []
        for (model, step, batch), own in groups.items():
            usages = [entry.usage for entry in own if entry.usage is not NO_USAGE]
            tokens = [sum(column) for column in zip(*usages, strict=True)][:4] or [0, 0, 0, 0]
            costs = [entry.cost_usd for entry in own]
            nano_usd = _nano(sum(cost for cost in costs if cost is not None))
            ms = round(1000 * sum(entry.seconds for entry in own))
            rows.append(
                (now // DAY, number(model), number(step), batch, len(own), *tokens, nano_usd, costs.count(None), ms)
            )
        self._writer.executemany(_SPEND, rows)

    def _trouble(self, trouble: Trouble, now: int) -> tuple[Any, ...]:
        number = self._words.number
        names = (number(trouble.model), number(trouble.step), number(trouble.cause))
        ms = round(trouble.seconds * 1000)
        return (now, *halves(trouble.key), *names, ms, trouble.message[:_MOST_SHOWN])

    def _add_dictionary(self, family: bytes, content: bytes) -> int:
        """A commit of its own: one that no record uses yet does no harm."""
        with transaction(self._writer) as writer:
            cursor = writer.execute(
                "INSERT INTO dictionaries (family, body, checksum) VALUES (?, ?, 0)", (family, content)
            )
            number = int(cursor.lastrowid or 0)
            writer.execute("UPDATE dictionaries SET checksum = ? WHERE id = ?", (crc32(content, number), number))
        return number

    def _move_aside(self, key: bytes, why: str) -> bool:
        pair = halves(key)
        where = "WHERE head = ? AND tail = ?"
        self._writer.execute(
            f"INSERT INTO rejected ({COLUMNS}, why) SELECT {COLUMNS}, ? FROM replies {where}", (why, *pair)
        )
        return self._writer.execute(f"DELETE FROM replies {where}", pair).rowcount > 0

    def _standing(self, rows: Sequence[tuple[Any, ...]]) -> dict[bytes, Kept]:
        """Replies under these keys that another process kept first."""
        standing: dict[bytes, Kept] = {}
        for row in rows:
            query = f"SELECT {_FOUND} FROM replies WHERE head = ? AND tail = ?"
            head, tail, packing, body, checksum, number = self._writer.execute(query, row[:2]).fetchone()
            (form,) = self._writer.execute("SELECT text FROM words WHERE id = ?", (number,)).fetchone()
            key = whole(head, tail)
            if body != row[_BODY] and checksum == crc32(body, crc32(key, _form_sum(form))):
                with contextlib.suppress(zlib.error):
                    standing[key] = (form, unpacked(packing, body, self._dictionary_in_commit))
        return standing

    # opening

    def _open(self) -> None:
        with opening(self._path):
            try:
                self._connect()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._set_aside(error)
                self._connect()

    def _connect(self) -> None:
        """Both connections, and what is remembered of the file."""
        self._path.touch()
        self._file = identity(self._path)
        self._writer = connected(self._path, self._warn)
        self._reader = connected(self._path, self._warn)
        self._words = Words(self._writer)
        self._forms: dict[int, str] = {}
        self._dictionaries: dict[int, bytes] = {}
        known = {family: (number, body) for number, family, body in dictionaries(self._reader)}
        self._packer = Packer(known, self._add_dictionary)

    def _replace(self, error: sqlite3.DatabaseError | None) -> None:
        """Go on with a new file, or with that which another process began where it met the damage first."""
        with self._reading, opening(self._path):
            for connection in (self._reader, self._writer):
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            standing = identity(self._path)
            if standing is None or (error is not None and standing == self._file):
                self._set_aside(error)
            self._connect()

    def _set_aside(self, error: sqlite3.DatabaseError | None) -> None:
        aside = self._path.with_name(f"calls.damaged-{time.time_ns()}.sqlite")
        for suffix in ("-wal", "-shm", ""):  # in this order, who only reads never finds a log without its file
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        what = "has gone" if error is None else f"was damaged ({error}); it is kept as `{aside}`"
        self._warn(f"the call cache {what} and a new one begun", path=str(aside))

    def _warn(self, message: str, **facts: Any) -> None:
        self._bus.publish("warning", message=message, **facts)


_Found: TypeAlias = tuple[int, int, int, bytes, int, int]
_BODY = COLUMNS.split(", ").index("body")
_PLACES = "SELECT id FROM replies WHERE head IN (?, ?)"
_NEIGHBOURS = f"SELECT {_FOUND} FROM replies WHERE id BETWEEN ? AND ?"
_QUERIES = {
    width: f"SELECT {_FOUND} FROM replies WHERE head IN ({','.join('?' * width)})" for width in (1, 8, 64, _MANY)
}


_THERE = {
    width: f"SELECT head, tail FROM replies WHERE head IN ({','.join('?' * width)})" for width in (1, 8, 64, _MANY)
}


class _Order(NamedTuple):
    entries: Sequence[Entry]
    troubles: Sequence[Trouble]
    loop: asyncio.AbstractEventLoop | None
    done: asyncio.Future[dict[bytes, Kept]] | None
    paid: Sequence[Entry] = ()


def _first_of_each(rows: Sequence[tuple[Any, ...]], there: set[tuple[int, int]]) -> list[tuple[Any, ...]]:
    """The rows of new keys, one for each."""
    return list({row[:2]: row for row in reversed(rows) if row[:2] not in there}.values())


def _nano(usd: float | None) -> int | None:
    return None if usd is None else round(usd * 1e9)


@functools.lru_cache(maxsize=64)
def _form_sum(form: str) -> int:
    return crc32(form.encode())


def _tell(orders: list[_Order], earlier: dict[bytes, Kept], failure: BaseException | None) -> None:
    for order in orders:
        if order.done is None or order.done.done():
            continue
        if failure is None:
            order.done.set_result(earlier)
        else:
            order.done.set_exception(failure)
