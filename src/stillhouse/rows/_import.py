"""Reading files and lists into rows, with errors that name the file, the line and the column."""

from __future__ import annotations

import csv
import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.context import Context
from ..core.errors import RecipeError, RowFault
from ..core.step import KeyBook
from ..core.writer import RowsWriter
from ._json_stream import Located, json_values, loads, not_json, not_utf8

if TYPE_CHECKING:
    from .import_ import Import

TEXT_COLUMNS = ("input", "output", "thinking")
NUM_SHOWN = 3
MOST_PATHS = 10_000
_LONG_NUMBER = re.compile(r"[0-9]{19}")
# What people call the columns that we call input and output.
OTHER_NAMES = {
    "input": ("prompt", "instruction", "question", "query", "text", "source", "request"),
    "output": ("completion", "response", "answer", "reply", "label", "target"),
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def write_imported(step: Import, context: Context) -> None:
    """The work of `Import`."""
    checks = Checks(step)
    with context.rows() as writer:
        for number, (line, row) in enumerate(source(step)):
            content = checks.checked(line, row)
            if content is not None:
                checks.emitted(writer, line, content)
            if number % 1024 == 0:
                context.progress(number)
                context.check_stop()
        checks.finish()
        if KeyBook().recipe(step) != context.book.recipe(step):  # the file's content is part of it
            raise RecipeError(f"{step.path}: the file was changed since the run began", "Run again.")


def source(step: Import) -> Iterator[Located]:
    """The rows with their lines (or numbers), before anything is checked."""
    if step.path is None:
        return (Located(number, row) for number, row in enumerate(step.data or (), start=1))
    path = step.path.path
    readers = {"json": json_values, "jsonl": _json_lines, "csv": _csv_rows, "tsv": _tsv_rows, "parquet": _parquet_rows}
    assert step.resolved_format is not None
    return readers[step.resolved_format](path)


def counted(step: Import) -> int | None:
    """How many rows there are, by the lines of a text file; None for JSON and for what cannot be read."""
    if step.path is None:
        return len(step.data or ())
    path, form = step.path.path, step.resolved_format
    try:
        if form == "parquet":
            return int(pq.ParquetFile(path).metadata.num_rows)
        if form == "json":
            return None
        with open(path, "rb") as file:
            lines, last = 0, b"\n"
            while block := file.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
        lines += last != b"\n"
    except (OSError, pa.ArrowInvalid):
        return None
    return max(0, lines - 1) if form in ("csv", "tsv") else lines


class Checks:
    """Holds each row against what the step asks for and against the rows before it."""

    def __init__(self, step: Import) -> None:
        self._place = str(step.path) if step.path is not None else "Import"
        self._unit = "row" if step.path is None or step.resolved_format == "parquet" else "line"
        self._columns, self._require = step.columns, step.require
        self._kinds: dict[str, tuple[str, int]] = {}
        self._num_rows = 0
        self._lacking: list[str] = []
        self._num_lacking = 0
        self._names: dict[str, None] = {}

    def checked(self, line: int, row: Any) -> dict[str, Any] | None:
        """The content of the row; None where it lacks a column, which `finish` will report."""
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
        content = dict(row) if self._columns is None else {name: row.get(name) for name in self._columns}
        for name, value in content.items():
            if name[:1] in ("", "_"):
                raise self._bad_name(name, line)
            if name in TEXT_COLUMNS:
                content[name] = _as_text(value)
            else:
                self._watch(name, value, line)
        return content

    def emitted(self, writer: RowsWriter, line: int, content: dict[str, Any]) -> None:
        """Write the row; raises `RecipeError` where it holds what no table can."""
        try:
            writer.emit(content)
        except RowFault as fault:
            raise RecipeError(f"{self._at(line)}: {fault.message}", _remedy(fault.message)) from fault

    def finish(self) -> None:
        """Raise for what only the whole shows: no rows, rows with other keys, a column that is nowhere."""
        if self._num_rows == 0:
            raise RecipeError(f"{self._place}: there are no rows in it")
        if self._num_lacking:
            raise RecipeError(self._lacking_message(), self._lacking_hint())
        unknown = [name for name in self._columns or () if name not in self._names]
        if unknown:
            names = ", ".join(f"`{name}`" for name in self._names)
            raise RecipeError(f"{self._place}: no row has the column `{unknown[0]}`", f"The columns are {names}.")

    def _lacking_message(self) -> str:
        if self._num_lacking == self._num_rows:
            lacking = [name for name in self._require if name not in self._names] or list(self._require)
            return f"{self._place}: no row has {_and(lacking)}"
        more = self._num_lacking - len(self._lacking)
        listed = "; ".join(self._lacking) + (f"; and {more} more" if more else "")
        return f"{self._place}: {self._num_lacking} of {self._num_rows} rows have other keys: {listed}"

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
        names = ", ".join(f"`{name}`" for name in self._names) or "none"
        return f"The columns found are {names}. Give every row {_and(self._require)}, or set `require`."

    def _watch(self, path: str, value: Any, line: int) -> None:
        """Hold the kind of a value, and of all that is in it, against the kind that stood there before."""
        if value is None:
            return
        kind = _kind(value)
        if len(self._kinds) < MOST_PATHS:
            known, first = self._kinds.setdefault(path, (kind, line))
        else:
            known, first = self._kinds.get(path, (kind, line))
        if known != kind:
            raise RecipeError(
                f"{self._at(line)}: the column `{path}` holds {kind} here and {known} on {self._unit} {first}",
                "Give every row the same type there, or text.",
            )
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self._watch(f"{path}.{name}", inner, line)
        elif isinstance(value, list | tuple):
            for inner in value:
                self._watch(f"{path}[]", inner, line)

    def _bad_name(self, name: str, line: int) -> RecipeError:
        if not name:
            return RecipeError(f"{self._at(line)}: a column has no name", "Name it, or take others with `columns`.")
        return RecipeError(
            f"{self._at(line)}: the column `{name}` has a name of ours: those begin with an underscore",
            "Rename it, or name the columns to take in `columns`.",
        )

    def _at(self, line: int) -> str:
        return f"{self._place}, {self._unit} {line}"


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


def _text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, with their ends."""
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
            try:
                yield text.decode()
            except UnicodeDecodeError as error:
                raise not_utf8(path, offset + len(line) - len(text) + error.start, number, line) from None
            offset += len(line)


def _json_lines(path: Path) -> Iterator[Located]:
    for number, line in enumerate(_text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            # orjson makes a fraction of a whole number that is too long for it, without a word.
            value = loads(line) if _LONG_NUMBER.search(line) else orjson.loads(line)
        except orjson.JSONDecodeError:
            try:
                value = loads(line)  # says more precisely what is wrong, and knows NaN
            except json.JSONDecodeError as error:
                raise not_json(path, number, error.msg[:1].lower() + error.msg[1:], error.pos, line) from None
            except RecursionError:
                raise not_json(path, number, "nested too deeply", 0, line) from None
        yield Located(number, value)


def _tsv_rows(path: Path) -> Iterator[Located]:
    return _csv_rows(path, "\t")


def _csv_rows(path: Path, delimiter: str = ",") -> Iterator[Located]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield from _csv_lines(path, csv.reader(_text_lines(path), delimiter=delimiter))
    except csv.Error as error:
        raise RecipeError(f"{path}: this is not CSV ({error})") from None
    finally:
        csv.field_size_limit(limit)


def _csv_lines(path: Path, reader: Any) -> Iterator[Located]:
    header: list[str] | None = None
    line = 1
    for fields in reader:
        if header is None:
            header = [name.strip() for name in fields]
            twice = [name for name in header if header.count(name) > 1]
            if twice:
                raise RecipeError(
                    f"{path}, line 1: the column `{twice[0]}` stands there twice", "Give each column a name of its own."
                )
        elif fields:
            if len(fields) != len(header):
                raise RecipeError(
                    f"{path}, line {line}: {len(fields)} fields, but {len(header)} columns in the first line",
                    'A field that holds a comma, a quote or a line end stands in quotes: "one, two".',
                )
            yield Located(line, dict(zip(header, fields, strict=True)))
        line = reader.line_num + 1


def _parquet_rows(path: Path) -> Iterator[Located]:
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        raise RecipeError(f"{path}: this is not a Parquet file ({str(error).splitlines()[0]})") from None
    number = 0
    with file:
        for batch in file.iter_batches(batch_size=1024, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield Located(number, row)
