"""Holding rows against what an import asks for, and against the rows and files before."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from ..core.errors import RecipeError, RowFault
from ..core.writer import RowsWriter
from ._readers import COLUMNAR

if TYPE_CHECKING:
    from .import_ import Import
    from .place import Format

TEXT_COLUMNS = ("input", "output", "thinking")
NUM_SHOWN = 3
MOST_PATHS = 10_000
MOST_SHAPES = 1_000
_PLAIN = frozenset((str, int, float, bool, type(None)))
# What people call the columns that we call input and output.
OTHER_NAMES = {
    "input": ("prompt", "instruction", "question", "query", "text", "source", "request"),
    "output": ("completion", "response", "answer", "reply", "label", "target"),
}


class Spot(NamedTuple):
    """A file and a line or row in it."""

    file: str
    line: int


class Checks:
    """Holds each row against what the step asks for and against the rows before it."""

    def __init__(self, step: Import) -> None:
        self._columns, self._require = step.columns, step.require
        self._file, self._unit, self._typed, self._headed = "Import", "row", False, False
        self._kinds: dict[str, tuple[str, Spot]] = {}
        self._first: tuple[str, dict[str, str]] | None = None
        self._shapes: set[tuple[Any, ...]] = set()
        self._num_rows = 0
        self._lacking: list[str] = []
        self._num_lacking = 0
        self._names: dict[str, None] = {}

    def enter(self, file: str, form: Format, schema: pa.Schema | None) -> None:
        """The rows that follow are of this file; raises `RecipeError` where its columns do not go with those before."""
        self._file, self._unit = file, "row" if form in COLUMNAR else "line"
        self._typed, self._headed = schema is not None, form in ("csv", "tsv")
        self._shapes.clear()
        if schema is None:
            return
        kinds: dict[str, str] = {}
        for field in schema:
            self._names.setdefault(field.name)
            if self._columns is None or field.name in self._columns:
                if field.name[:1] in ("", "_"):
                    raise self._bad_name(field.name, None)
                kinds.update(kinds_in(field.name, field.type))
        for name in self._columns or ():
            if name not in kinds:
                raise RecipeError(f"{file}: it has no column `{name}`", f"Its columns are {_list(schema.names)}.")
        self._same_columns(kinds)

    def _same_columns(self, kinds: dict[str, str]) -> None:
        """Hold a file's columns, and what is in them, against those of the first file."""
        if self._first is None:
            self._first = (self._file, kinds)
            return
        first, known = self._first
        for path in dict.fromkeys((*known, *kinds)):
            here, there = kinds.get(path), known.get(path)
            if here == there or _within_nothing(path, kinds, known):
                continue
            if here is None or there is None:
                has, lacks = (first, self._file) if here is None else (self._file, first)
                message = f"{self._file}: its columns are not those of {first}: `{path}` is in {has}, not in {lacks}"
            else:
                message = f"{self._file}: the column `{path}` holds {here} here and {there} in {first}"
            raise RecipeError(message, "Take with `columns` what all have alike, or make each a source of its own.")
        known.update({path: kind for path, kind in kinds.items() if known.get(path, "nothing") == "nothing"})

    def checked(self, line: int, row: Any) -> Mapping[str, Any] | None:
        """The content of the row; None where it lacks a column, which `finish` will report."""
        # Most rows are like ones that were looked at: the same columns with plain values of the same types.
        shape = (*row, *map(type, row.values())) if type(row) is dict else None
        if shape is not None and shape in self._shapes:
            self._num_rows += 1
            return row if self._columns is None else {name: row.get(name) for name in self._columns}
        return self._looked_at(line, row, shape)

    def _looked_at(self, line: int, row: Any, shape: tuple[Any, ...] | None) -> Mapping[str, Any] | None:
        if not isinstance(row, Mapping):
            raise RecipeError(
                f"{self._at(line)}: expected an object with columns, found {_kind(row)}",
                f"It holds: {json.dumps(row, ensure_ascii=False, default=str)[:100]}",
            )
        self._num_rows += 1
        lacking = [name for name in self._require if row.get(name) is None]
        if lacking or len(self._names) < 64:
            self._names.update(dict.fromkeys(row))
        if lacking:
            self._num_lacking += 1
            if len(self._lacking) < NUM_SHOWN:
                has = ", ".join(f"`{name}`" for name in row) or "no columns"
                self._lacking.append(f"{self._unit} {line} lacks {_and(lacking)} (it has {has})")
            return None
        if self._headed:  # the columns of the first row are those of all
            self._same_columns(dict.fromkeys(row, "text"))
            self._headed = False
        content = dict(row) if self._columns is None else {name: row.get(name) for name in self._columns}
        plain = shape is not None
        for name, value in content.items():
            if name[:1] in ("", "_"):
                raise self._bad_name(name, line)
            if name in TEXT_COLUMNS:
                plain = plain and (value is None or type(value) is str)
                content[name] = _as_text(value)
            elif not self._typed:
                self._watch(name, value, line)
        if plain and len(self._shapes) < MOST_SHAPES and self._is_plain(row):
            assert shape is not None
            self._shapes.add(shape)
        return content

    def _is_plain(self, row: Mapping[str, Any]) -> bool:
        return all(type(name) is str and (self._typed or type(value) in _PLAIN) for name, value in row.items())

    def emitted(self, writer: RowsWriter, line: int, content: Mapping[str, Any]) -> None:
        """Write the row; raises `RecipeError` where it holds what no table can."""
        try:
            writer.emit(content)
        except RowFault as fault:
            raise RecipeError(f"{self._at(line)}: {fault.message}", _remedy(fault.message)) from fault

    def finish(self, files: Sequence[str]) -> None:
        """Raise for what only the whole shows: no rows, rows with other keys, a column that is nowhere."""
        place = _and_more(files)
        if self._num_rows == 0:
            raise RecipeError(f"{place}: there are no rows in {'it' if len(files) == 1 else 'them'}")
        if self._num_lacking:
            raise RecipeError(self._lacking_message(place), self._lacking_hint())
        unknown = [name for name in self._columns or () if name not in self._names]
        if unknown:
            raise RecipeError(
                f"{place}: no row has the column `{unknown[0]}`", f"The columns are {_list(self._names)}."
            )

    def _lacking_message(self, place: str) -> str:
        if self._num_lacking == self._num_rows:
            lacking = [name for name in self._require if name not in self._names] or list(self._require)
            return f"{place}: no row has {_and(lacking)}"
        more = self._num_lacking - len(self._lacking)
        listed = "; ".join(self._lacking) + (f"; and {more} more" if more else "")
        return f"{place}: {self._num_lacking} of {self._num_rows} rows have other keys: {listed}"

    def _lacking_hint(self) -> str:
        meant = {}
        for name in self._require:
            if name in self._names:
                continue
            known = [other for other in OTHER_NAMES.get(name, ()) if other in self._names]
            close = known or difflib.get_close_matches(name, list(self._names), n=1)
            if close:
                meant[name] = close[0]
        if meant:
            renamed = ", ".join(f"`{other}` to `{name}`" for name, other in meant.items())
            return f"Did you mean to rename {renamed}? Rows that are no tasks: `require=()`."
        names = _list(self._names) or "none"
        return f"The columns found are {names}. Give every row {_and(self._require)}, or set `require`."

    def _watch(self, path: str, value: Any, line: int) -> None:
        """Hold the kind of a value, and of all that is in it, against the kind that stood there before."""
        if value is None:
            return
        kind = _kind(value)
        here = (kind, Spot(self._file, line))
        if len(self._kinds) < MOST_PATHS:
            known, first = self._kinds.setdefault(path, here)
        else:
            known, first = self._kinds.get(path, here)
        if known != kind:
            before = f"{self._unit} {first.line}" + ("" if first.file == self._file else f" of {first.file}")
            raise RecipeError(
                f"{self._at(line)}: the column `{path}` holds {kind} here and {known} on {before}",
                "Give every row the same type there, or text.",
            )
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self._watch(f"{path}.{name}", inner, line)
        elif isinstance(value, list | tuple):
            for inner in value:
                self._watch(f"{path}[]", inner, line)

    def _bad_name(self, name: str, line: int | None) -> RecipeError:
        place = self._file if line is None else self._at(line)
        if not name:
            return RecipeError(f"{place}: a column has no name", "Name it, or take others with `columns`.")
        return RecipeError(
            f"{place}: the column `{name}` has a name of ours: those begin with an underscore",
            "Rename it, or name the columns to take in `columns`.",
        )

    def _at(self, line: int) -> str:
        return f"{self._file}, {self._unit} {line}"


def kinds_in(path: str, kind: pa.DataType) -> dict[str, str]:
    """What a column of an Arrow type holds, and all that is in it, by path: as for the values of JSON."""
    types = pa.types
    if types.is_dictionary(kind):
        return kinds_in(path, kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return kinds_in(path, kind.storage_type)
    if types.is_struct(kind):
        found = {path: "an object"}
        for field in kind:
            found.update(kinds_in(f"{path}.{field.name}", field.type))
        return found
    if types.is_map(kind):
        return {path: "a map", **kinds_in(f"{path}[]", kind.item_type)}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {path: "a list", **kinds_in(f"{path}[]", kind.value_type)}
    for is_kind, name in (
        (types.is_null, "nothing"),
        (types.is_boolean, "true or false"),
        (types.is_integer, "a number"),
        (types.is_floating, "a number"),
        (types.is_string, "text"),
        (types.is_large_string, "text"),
        (types.is_string_view, "text"),
    ):
        if is_kind(kind):
            return {path: name}
    return {path: str(kind)}


def _within_nothing(path: str, *sides: Mapping[str, str]) -> bool:
    """Whether the path, or what it is in, holds nothing at all on one side, and so goes with everything."""
    while path:
        if any(side.get(path) == "nothing" for side in sides):
            return True
        cut = max(path.rfind("."), path.rfind("[]"))
        path = path[:cut] if cut > 0 else ""
    return False


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _remedy(message: str) -> str | None:
    if "64-bit" in message:
        return "Write numbers as long as this as text."
    return "Half a character stands in a text: write it anew with its other half." if "surrogates" in message else None


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else type(value).__name__


def _and(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _list(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _and_more(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
