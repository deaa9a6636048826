"""Rows of a step that still runs, for the step that takes them: no row waits for the last of its table.

What is taken ahead is kept with the ids and column types that it was made from. When the step that gave the rows is
finished, those pieces count whose rows stand in its table just so; the others are made again, from the call cache.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

from ._chunks import Reader
from ._occurrence import without_numbers
from ._tables import common_schema, read_part, schema_of_part
from .artifact import Rows, columns_of
from .errors import Ended
from .keys import digest


@dataclass(slots=True, eq=False)
class Part:
    """Rows of one committed piece: their file, how many they are, and the number of the piece's first row in."""

    path: Path
    num_rows: int
    start: int
    offset: int | None = None
    """How many rows stand before them in the finished table; None until it is."""


class Feed:
    """What a map step has committed so far, piece by piece, in any order."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.parts: list[Part] = []
        self._by_start: dict[int, Part] = {}
        self.made: Rows | None = None
        self.over = False
        self.broken = False
        """The step had to make anew what others have taken."""
        self.wanted = False
        """Another step takes the rows, so they should come soon, a few at a time."""

    def add(self, entry: Mapping[str, Any], folder: Path) -> None:
        """A piece is committed. One that is known already was made ahead and has been taken up."""
        with self._changed:
            if entry["out"] and entry["start"] not in self._by_start:
                part = Part(folder / f"{entry['start']:012d}.rows", entry["out"], entry["start"])
                self.parts.append(part)
                self._by_start[part.start] = part
                self._changed.notify_all()

    def renumber(self, starts: Mapping[int, int], folder: Path) -> None:
        """Pieces that were made ahead have the numbers now that they have in the build, and stand in its folder."""
        with self._changed:
            for part in self.parts:
                self.broken = self.broken or part.start not in starts
                part.start = starts.get(part.start, -1)
                part.path = folder / f"{part.start:012d}.rows"
            self._by_start = {part.start: part for part in self.parts}

    def finish(self, made: Rows | None) -> None:
        """The step is finished, or (without its result) will not be."""
        with self._changed:
            before = 0
            for part in sorted(self.parts, key=lambda part: part.start):
                part.offset = before
                before += part.num_rows
            self.broken = self.broken or (made is not None and before != len(made))
            self.made, self.over = made, True
            self._changed.notify_all()

    def schema(self) -> pa.Schema | None:
        """Columns and types of the first rows; None where there are none."""
        if self.made is not None:
            return self.made.schema if len(self.made) else None
        try:
            return schema_of_part(self.parts[0].path) if self.parts else None
        except FileNotFoundError:  # finished just now
            return None

    def wait(self, seconds: float, num_parts: int) -> None:
        """Until there are more than `num_parts` pieces, or no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or len(self.parts) > num_parts, timeout=seconds)


class Flow:
    """A feed as the source of a map step. Rows are numbered as they come; `true_starts` tells where they stand."""

    tail = 0
    flows = True

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._next_part = 0
        self._open: pa.Table | None = None
        self._open_part: Part | None = None
        self._taken_of_open = 0
        self._place = 0
        self._came_from: dict[int, tuple[Part, int]] = {}

    @property
    def total(self) -> int | None:
        return None if self._feed.made is None else len(self._feed.made)

    @property
    def ended(self) -> bool:
        return self._feed.made is not None and self._open is None and self._next_part >= len(self._feed.parts)

    def next(self, size: int) -> tuple[int, pa.Table] | None:
        """Rows that were committed. Raises `Ended` when the rest will not be, `NotYet` when they changed."""
        if self._feed.broken:
            raise NotYet("rows that were taken are made anew")
        if self._feed.over and self._feed.made is None:
            raise Ended
        if self._open is None and not self._open_next():
            return None
        assert self._open is not None
        assert self._open_part is not None
        taken, start = self._open.slice(0, size), self._place
        self._came_from[start] = (self._open_part, self._taken_of_open)
        self._place += taken.num_rows
        self._taken_of_open += taken.num_rows
        self._open = self._open.slice(size) if self._open.num_rows > size else None
        return start, taken

    def _open_next(self) -> bool:
        feed = self._feed
        if self._next_part >= len(feed.parts):
            return False
        part = feed.parts[self._next_part]
        if feed.made is not None:
            reader = Reader(feed.made.paths)
            reader.skip(part.offset or 0)
            table = reader.take(part.num_rows)
        else:
            try:
                table = read_part(part.path)
            except FileNotFoundError:
                return False  # moved, or its step is finished: the next look shows which
        self._open, self._open_part, self._taken_of_open = table, part, 0
        self._next_part += 1
        return True

    def true_starts(self) -> dict[int, int]:
        """For the number of each first row as it came, the one that it has in the finished table."""
        return {start: (part.offset or 0) + before for start, (part, before) in self._came_from.items()}

    def wait(self, seconds: float) -> None:
        self._feed.wait(seconds, self._next_part)


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


def mark(table: pa.Table) -> dict[str, Any]:
    """What a piece was made from, to be held against the finished table: the rows' ids, their numbers where there are
    any, columns and their types."""
    table, numbers = without_numbers(table)
    ids = "".join(table.column("_id").to_pylist())
    of = digest(f"{ids}{'' if numbers is None else numbers}".encode())
    return {"of": of, "types": dict(columns_of(table.schema))}


def still_true(
    entries: Sequence[dict[str, Any]], made: Rows, number: Callable[[int, pa.Table], pa.Table]
) -> list[dict[str, Any]]:
    """The pieces whose rows stand in the finished table, and are numbered there, as when they were taken."""
    found: list[dict[str, Any]] = []
    reader = Reader(made.paths)
    for entry in sorted(entries, key=lambda entry: entry["start"]):
        reader.skip(entry["start"] - reader.place)
        table = number(entry["start"], reader.take(entry["in"]))
        if "of" not in entry or (table.num_rows == entry["in"] and _is_of(entry, table)):
            found.append(entry)
    return found


def _is_of(entry: Mapping[str, Any], table: pa.Table) -> bool:
    """A column that holds nothing has no type yet in a piece; in the table it has that which the others gave it."""
    known, types = mark(table), entry["types"]
    return (
        known["of"] == entry["of"]
        and list(known["types"]) == list(types)
        and all(
            types[name] == kind or (types[name] == "null" and table.column(name).null_count == table.num_rows)
            for name, kind in known["types"].items()
        )
    )
