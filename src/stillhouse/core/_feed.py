"""Rows of a step that still runs, for the step that takes them: no row waits for the last of its table.

What is taken ahead is kept with the ids and column types that it was made from. When the step that gave the rows is
finished, those pieces count whose rows stand in its table just so; the others are made again, from the call cache.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from ._chunks import Reader
from ._tables import common_schema, read_part, schema_of_part
from .artifact import Rows
from .errors import Interrupted
from .keys import digest


class Feed:
    """What a map step has committed so far, in order, from its first row on without a gap."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[int, tuple[Mapping[str, Any], Path]] = {}
        self._next = 0
        self.parts: list[Path] = []
        """The files of rows that can be taken; a piece of which nothing came out has none."""
        self.made: Rows | None = None
        self.over = False

    def add(self, entry: Mapping[str, Any], folder: Path) -> None:
        """A piece is committed; its rows can be taken once all before it are."""
        with self._changed:
            self._entries[entry["start"]] = (entry, folder)
            while self._next in self._entries:
                found, place = self._entries.pop(self._next)
                if found["out"]:
                    self.parts.append(place / f"{found['start']:012d}.rows")
                self._next += found["in"]
            self._changed.notify_all()

    def finish(self, made: Rows | None) -> None:
        """The step is finished, or (without its result) will not be."""
        with self._changed:
            self.made, self.over = made, True
            self._changed.notify_all()

    def moved(self, old: Path, new: Path) -> None:
        """The files of pieces are in another folder now."""
        with self._changed:
            self.parts = [new / part.name if part.parent == old else part for part in self.parts]

    def schema(self) -> pa.Schema | None:
        """Columns and types of the first rows; None where there are none."""
        if self.made is not None:
            return self.made.schema if len(self.made) else None
        try:
            return schema_of_part(self.parts[0]) if self.parts else None
        except FileNotFoundError:  # finished just now
            return None

    def wait(self, seconds: float, num_parts: int) -> None:
        """Until there are more than `num_parts` files, or no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or len(self.parts) > num_parts, timeout=seconds)


class Flow:
    """A feed as the source of a map step."""

    tail = 0

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._num_opened = 0
        self._open: pa.Table | None = None
        self._rest: Reader | None = None
        self.place = 0

    @property
    def total(self) -> int | None:
        return None if self._feed.made is None else len(self._feed.made)

    @property
    def ended(self) -> bool:
        return self.total is not None and self.place >= self.total

    def next(self, size: int) -> tuple[int, pa.Table] | None:
        """Rows that were committed, or what is left of the finished table. Raises `Interrupted` when none will be."""
        table = self._next(size)
        if table is None or table.num_rows == 0:
            return None
        start = self.place
        self.place += table.num_rows
        return start, table

    def _next(self, size: int) -> pa.Table | None:
        feed = self._feed
        if feed.over and feed.made is None:
            raise Interrupted("the step before it did not come to its end")
        if feed.made is not None:
            if self._rest is None:
                self._rest = Reader(feed.made.paths)
                self._rest.skip(self.place)
            return self._rest.take(size)
        if self._open is None and self._num_opened < len(feed.parts):
            try:
                self._open = read_part(feed.parts[self._num_opened])
            except FileNotFoundError:
                return None  # the step has just become finished, and its pieces are gone
            self._num_opened += 1
        if self._open is None:
            return None
        taken = self._open.slice(0, size)
        self._open = self._open.slice(size) if self._open.num_rows > size else None
        return taken

    def wait(self, seconds: float) -> None:
        self._feed.wait(seconds, self._num_opened)


class NotYet(Exception):
    """A mapper looks at more of a table than there is so far: its step has to wait for the whole."""


class SomeRows(Rows):
    """A table of which the columns are known and not all rows."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__(Path(), {})
        self._schema = common_schema([schema])

    @property
    def schema(self) -> pa.Schema:
        return self._schema

    def __getattribute__(self, name: str) -> Any:
        if name in _WHOLE:
            raise NotYet(name)
        return super().__getattribute__(name)

    def __len__(self) -> int:
        raise NotYet("len")

    def __iter__(self) -> NoReturn:
        raise NotYet("rows")


_WHOLE = {
    *("paths", "batches", "arrow_batches", "head", "dropped", "failed", "aside_path"),
    *("digest", "key", "record", "folder", "data", "unanswered"),
}


def mark(table: pa.Table) -> dict[str, str]:
    """What a piece was made from, to be held against the finished table: columns, their types and the rows' ids."""
    names = ",".join(f"{field.name}:{_type(field.type)}" for field in table.schema)
    return {"of": digest(f"{names};{''.join(table.column('_id').to_pylist())}".encode())}


def _type(kind: pa.DataType) -> str:
    return str(kind).replace("<element:", "<item:")  # what Parquet calls the values of a list


def still_true(entries: Sequence[dict[str, Any]], made: Rows) -> list[dict[str, Any]]:
    """The pieces whose rows stand in the finished table as they were when they were taken."""
    found: list[dict[str, Any]] = []
    reader = Reader(made.paths)
    for entry in sorted(entries, key=lambda entry: entry["start"]):
        reader.skip(entry["start"] - reader.place)
        table = reader.take(entry["in"])
        if "of" not in entry or (table.num_rows == entry["in"] and mark(table)["of"] == entry["of"]):
            found.append(entry)
    return found
