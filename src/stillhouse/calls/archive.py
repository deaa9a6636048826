"""Looking through the kept calls: in order, one at a time, whatever their number; nothing here writes a reply."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias
from zlib import crc32

import orjson

from stillhouse.core.errors import RecipeError

from .database import FILE, FORMAT, as_store_error, connected, halves, opening, whole
from .packing import unpacked
from .reply import Garbled, Reply, Usage, read_reply

_AT_ONCE = 500  # records of one query: readers hold no transaction open, which would keep the log from being folded in

End: TypeAlias = Literal["ok", "cut", "refused", "empty", "unreadable"]


class Call(NamedTuple):
    """One kept call. `request` (JSON) and `wire` are empty where they were not asked for."""

    key: str
    made: float
    """Seconds since 1970."""
    seconds: float
    model: str
    step: str
    """Build key of the step that asked first; empty where no step did."""
    batch: bool
    usage: Usage
    cost_usd: float | None
    form: str
    num_bytes: int
    """Bytes on disk of request and reply."""
    request: bytes = b""
    wire: bytes = b""

    def reply(self) -> Reply:
        """Raises `Garbled` where nothing reads it."""
        return read_reply(self.form, self.wire)

    def end(self) -> End:
        """How the reply ended."""
        try:
            reply = self.reply()
        except Garbled:
            return "unreadable"
        if reply.refusal is not None or reply.finish == "refused":
            return "refused"
        if reply.finish == "length":
            return "cut"
        return "ok" if reply.text.strip() else "empty"


class Trouble(NamedTuple):
    """An attempt that failed."""

    made: float
    key: str
    model: str
    step: str
    cause: str
    message: str
    seconds: float


class Spending(NamedTuple):
    """What one model cost on one day (`YYYY-MM-DD`, UTC) for one step."""

    day: str
    model: str
    step: str
    batch: bool
    calls: int
    usage: Usage
    cost_usd: float
    unpriced: int
    seconds: float


class Selection(NamedTuple):
    """Which calls; None and the empty string set no bound. `model` and `step` match a part of the name."""

    model: str | None = None
    steps: Sequence[str] | None = None
    since: float | None = None
    until: float | None = None
    """Seconds since 1970."""
    text: str | None = None
    """Stands in the request or the reply, small or capital."""
    ends: Sequence[End] = ()


EVERYTHING = Selection()


class Archive:
    """The calls of a folder (`out/calls-v1`), for a `with` block; of living runs it sees what is committed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._dictionaries: dict[int, bytes] = {}
        self.num_damaged = 0
        """Records that were passed over."""
        self._connection: sqlite3.Connection | None = None
        if self.path.exists():
            with as_store_error(self.path):
                self._connection = _opened(self.path)

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def size_bytes(self) -> int:
        """Of the file with its log."""
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{FILE}*"))

    def __len__(self) -> int:
        ((number,),) = self._rows("SELECT count(*) FROM replies") or [(0,)]
        return int(number)

    def calls(
        self, chosen: Selection = EVERYTHING, *, texts: bool = True, newest_first: bool = False
    ) -> Iterator[Call]:
        """The calls that were chosen, oldest first; without `texts` requests and replies stay where they are."""
        texts = texts or bool(chosen.text or chosen.ends)
        where, values = self._where(chosen)
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        bodies = ", r.packing, r.checksum, r.body, r.request_packing, r.request" if texts else ""
        query = (
            "SELECT r.id, r.head, r.tail, r.made, r.ms, m.text, s.text, r.batch, r.prompt_tokens, r.reply_tokens, "
            "r.cached_tokens, r.reasoning_tokens, r.nano_usd, f.text, length(r.body) + length(r.request)"
            f"{bodies} FROM replies r JOIN words m ON m.id = r.model JOIN words s ON s.id = r.step "
            f"JOIN words f ON f.id = r.form WHERE r.id {beyond} ? {where} ORDER BY r.id {order} LIMIT {_AT_ONCE}"
        )
        place = (1 << 62) if newest_first else -1
        while rows := self._rows(query, (place, *values)):
            place = rows[-1][0]
            for row in rows:
                call = self._call(row)
                if call is not None and _matches(call, chosen):
                    yield call

    def one(self, key: str) -> Call:
        """The call whose key begins so (six digits at least); raises `RecipeError` where none or several do."""
        found = self.begins(key)
        if len(found) != 1:
            what = "no call begins" if not found else f"{len(found)} calls begin"
            shown = f": {', '.join(found[:5])}" if found else ""
            raise RecipeError(f"{what} with `{key}`{shown}", "`stillhouse calls list` prints the keys.")
        return next(self.of_keys(found))

    def begins(self, key: str) -> list[str]:
        """The keys that begin so."""
        digits = key.lower()
        if len(digits) < 6 or len(digits) > 32 or set(digits) - set("0123456789abcdef"):
            raise RecipeError(f"`{key}` is not the beginning of a call's key", "Give at least six of its digits.")
        low, _ = halves(bytes.fromhex(digits.ljust(32, "0")))
        high, _ = halves(bytes.fromhex(digits.ljust(32, "f")))
        rows = self._rows("SELECT head, tail FROM replies WHERE head BETWEEN ? AND ?", (low, high))
        keys = [whole(*row).hex() for row in rows]
        return [found for found in keys if found.startswith(digits)]

    def of_keys(self, keys: Sequence[str]) -> Iterator[Call]:
        """The calls of these keys that are kept, in any order."""
        query = (
            "SELECT r.id, r.head, r.tail, r.made, r.ms, m.text, s.text, r.batch, r.prompt_tokens, r.reply_tokens, "
            "r.cached_tokens, r.reasoning_tokens, r.nano_usd, f.text, length(r.body) + length(r.request), r.packing, "
            "r.checksum, r.body, r.request_packing, r.request FROM replies r JOIN words m ON m.id = r.model "
            "JOIN words s ON s.id = r.step JOIN words f ON f.id = r.form WHERE r.head = ? AND r.tail = ?"
        )
        for key in keys:
            for row in self._rows(query, halves(bytes.fromhex(key))):
                call = self._call(row)
                if call is not None:
                    yield call

    def troubles(self, chosen: Selection = EVERYTHING) -> Iterator[Trouble]:
        """Attempts that failed, newest first."""
        where, values = self._where(chosen)
        query = (
            "SELECT r.made, r.head, r.tail, m.text, s.text, c.text, r.message, r.ms, r.id FROM trouble r "
            "JOIN words m ON m.id = r.model JOIN words s ON s.id = r.step JOIN words c ON c.id = r.cause "
            f"WHERE r.id < ? {where} ORDER BY r.id DESC LIMIT {_AT_ONCE}"
        )
        place = 1 << 62
        while rows := self._rows(query, (place, *values)):
            place = rows[-1][-1]
            for made, head, tail, model, step, cause, message, ms, _ in rows:
                found = Trouble(made / 1000, whole(head, tail).hex(), model, step, cause, message, ms / 1000)
                if not chosen.text or chosen.text.casefold() in message.casefold():
                    yield found

    def spending(self) -> list[Spending]:
        """What was paid by day, model and step, oldest first; pruning replies takes nothing away from it."""
        query = (
            "SELECT date(p.day * 86400, 'unixepoch'), m.text, s.text, p.batch, p.calls, p.prompt_tokens, "
            "p.reply_tokens, p.cached_tokens, p.reasoning_tokens, p.nano_usd, p.unpriced, p.ms FROM spending p "
            "JOIN words m ON m.id = p.model JOIN words s ON s.id = p.step ORDER BY p.day, m.text, s.text, p.batch"
        )
        return [
            Spending(
                row[0], row[1], row[2], bool(row[3]), row[4], Usage(*row[5:9]), row[9] / 1e9, row[10], row[11] / 1000
            )
            for row in self._rows(query)
        ]

    def sums(self, chosen: Selection = EVERYTHING) -> list[dict[str, Any]]:
        """By model: calls, tokens, money, bytes on disk, and how long calls took (quantiles in seconds)."""
        where, values = self._where(chosen)
        query = (
            "SELECT m.text, count(*), sum(r.prompt_tokens), sum(r.reply_tokens), sum(r.cached_tokens), "
            "sum(r.reasoning_tokens), sum(r.nano_usd), sum(r.nano_usd IS NULL), sum(r.batch), "
            "sum(length(r.body) + length(r.request)), min(r.made), max(r.made), m.id "
            f"FROM replies r JOIN words m ON m.id = r.model WHERE 1 {where} GROUP BY m.id ORDER BY 2 DESC"
        )
        names = ("prompt_tokens", "reply_tokens", "cached_tokens", "reasoning_tokens")
        found = []
        for row in self._rows(query, values):
            calls = row[1]
            found.append(
                {
                    "model": row[0],
                    "calls": calls,
                    **dict(zip(names, row[2:6], strict=True)),
                    "cost_usd": None if row[7] == calls else row[6] / 1e9,
                    "unpriced": row[7],
                    "batch": row[8],
                    "size_bytes": row[9],
                    "first": row[10] / 1000,
                    "last": row[11] / 1000,
                    "seconds": self._quantiles(row[12], where, values),
                }
            )
        return found

    def _quantiles(self, model: int, where: str, values: Sequence[Any]) -> dict[str, float]:
        """Of live calls; nothing where all came from batch jobs. SQLite sorts them, beyond its memory on disk."""
        base = f"FROM replies r WHERE r.model = ? AND r.batch = 0 {where}"
        ((number,),) = self._rows(f"SELECT count(*) {base}", (model, *values))
        found = {}
        for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)) if number else ():
            query = f"SELECT r.ms {base} ORDER BY r.ms LIMIT 1 OFFSET ?"
            ((ms,),) = self._rows(query, (model, *values, int(share * (number - 1) + 0.5)))
            found[name] = ms / 1000
        return found

    def _where(self, chosen: Selection) -> tuple[str, list[Any]]:
        parts: list[str] = []
        values: list[Any] = []
        if chosen.model:
            parts.append("AND r.model IN (SELECT id FROM words WHERE instr(text, ?))")
            values.append(chosen.model)
        if chosen.steps is not None:
            parts.append(f"AND r.step IN (SELECT id FROM words WHERE text IN ({','.join('?' * len(chosen.steps))}))")
            values.extend(chosen.steps)
        if chosen.since is not None:
            parts.append("AND r.made >= ?")
            values.append(round(chosen.since * 1000))
        if chosen.until is not None:
            parts.append("AND r.made < ?")
            values.append(round(chosen.until * 1000))
        return " ".join(parts), values

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._connection is None:
            return []
        with as_store_error(self.path):
            return self._connection.execute(query, values).fetchall()

    def _call(self, row: Sequence[Any]) -> Call | None:
        key, form = whole(row[1], row[2]), row[13]
        request = wire = b""
        if len(row) > 15:
            packing, checksum, body, request_packing, packed_request = row[15:]
            if checksum != crc32(body, crc32(key, crc32(form.encode()))):
                self.num_damaged += 1
                return None
            try:
                wire = unpacked(packing, body, self._dictionary)
                request = unpacked(request_packing, packed_request, self._dictionary)
            except zlib.error:
                self.num_damaged += 1
                return None
        return Call(
            key=key.hex(),
            made=row[3] / 1000,
            seconds=row[4] / 1000,
            model=row[5],
            step=row[6],
            batch=bool(row[7]),
            usage=Usage(*row[8:12]),
            cost_usd=None if row[12] is None else row[12] / 1e9,
            form=form,
            num_bytes=row[14],
            request=request,
            wire=wire,
        )

    def _dictionary(self, number: int) -> bytes:
        if number not in self._dictionaries:
            rows = self._rows("SELECT body, checksum FROM dictionaries WHERE id = ?", (number,))
            if not rows or crc32(rows[0][0], number) != rows[0][1]:
                raise zlib.error(f"dictionary {number} is damaged")
            self._dictionaries[number] = rows[0][0]
        return self._dictionaries[number]


def _opened(path: Path) -> sqlite3.Connection:
    """A connection that only reads; a file of an earlier format is upgraded before."""
    place = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
    try:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
    except BaseException:
        connection.close()
        raise
    if number == FORMAT:
        return connection
    connection.close()
    with opening(path), closing(connected(path, lambda message: None)):
        return sqlite3.connect(place, uri=True, timeout=10, isolation_level=None, check_same_thread=False)


def _matches(call: Call, chosen: Selection) -> bool:
    if chosen.text and not _holds(call, chosen.text):
        return False
    return not chosen.ends or call.end() in chosen.ends


def _holds(call: Call, text: str) -> bool:
    """Whether the text stands in what was asked or answered, as a reader would see it."""
    wanted = text.casefold()
    request = call.request.decode(errors="replace").casefold()
    if wanted in request or orjson.dumps(wanted)[1:-1].decode() in request:  # quotes are escaped in it
        return True
    try:
        return wanted in call.reply().text.casefold()
    except Garbled:
        return wanted in call.wire.decode(errors="replace").casefold()
