"""Rows out of one file, a piece at a time, with the line or row of each; errors name the file as the user knows it."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ..core._tables import dict_rows
from ..core.errors import RecipeError
from ._files import is_compressed
from ._json_stream import Located, json_values, loads, not_json, not_utf8
from .place import Format

COLUMNAR: tuple[Format, ...] = ("parquet", "arrow")
BATCH_ROWS = 1024
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FILE_MAGIC, _FEATHER_1, _PARQUET_MAGIC = b"ARROW1", b"FEA1", b"PAR1"
# What pandas writes beside the columns for its row labels.
_INDEX = re.compile(r"__index_level_[0-9]+__")


def rows_in(path: Path, name: str, form: Format, columns: Sequence[str] | None = None) -> Iterator[Located]:
    """The rows of the file at `path`, called `name`; of columnar files only `columns`, where they are given."""
    if form in COLUMNAR:
        return _columnar_rows(path, name, form, columns)
    return _text_rows(path, name, _READERS[form])


def schema_in(path: Path, name: str, form: Format) -> pa.Schema:
    """The columns of a Parquet or Arrow file, without the row labels of pandas."""
    with _batches(path, name, form, None) as (schema, _):
        twice = [column for column in schema.names if schema.names.count(column) > 1]
        if twice:
            raise RecipeError(f"{name}: the column `{twice[0]}` is there twice", "Give each column a name of its own.")
        return pa.schema([field for field in schema if not _INDEX.fullmatch(field.name)])


def num_rows_in(path: Path, form: Format) -> int | None:
    """How many rows there are, by the end of a Parquet file or the lines of a text; None where only reading tells."""
    try:
        if form == "parquet":
            return int(pq.ParquetFile(path).metadata.num_rows)
        if form in ("json", "arrow") or is_compressed(str(path)):
            return None
        with open(path, "rb") as file:
            lines, last = 0, b"\n"
            while block := file.read(1 << 20):
                lines, last = lines + block.count(b"\n"), block[-1:]
        lines += last != b"\n"
    except (OSError, pa.ArrowInvalid):
        return None
    return max(0, lines - 1) if form in ("csv", "tsv") else lines


def _text_rows(path: Path, name: str, read: Callable[[BinaryIO, str], Iterator[Located]]) -> Iterator[Located]:
    if not is_compressed(name):
        with open(path, "rb") as file:
            yield from read(file, name)
        return
    kind = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}[Path(name).suffix.lower()]
    try:
        with pa.input_stream(str(path), compression=kind) as stream:
            yield from read(cast("BinaryIO", io.BufferedReader(stream, 1 << 20)), name)
    except (OSError, pa.ArrowInvalid) as error:
        raise RecipeError(
            f"{name}: it cannot be unpacked ({_first_line(error)})",
            "It may have been cut short, or be of another compression than its name says.",
        ) from error


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The lines of a UTF-8 file, with their ends; bytes that are no UTF-8 are told where they are."""
    offset = 0
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                raise not_utf8(name, offset + len(line) - len(text) + error.start, number, line) from None
        yield text
        offset += len(line)


def _json_lines(file: BinaryIO, name: str) -> Iterator[Located]:
    for number, line in enumerate(_lines(file, name), start=1):
        try:
            # orjson makes a fraction of a whole number that is too long for it, without a word.
            value = loads(line.decode()) if _LONG_NUMBER.search(line) else orjson.loads(line)
        except orjson.JSONDecodeError:
            text = line.decode()
            if not text.strip():
                continue
            try:
                value = loads(text)  # says more precisely what is wrong, and knows NaN
            except json.JSONDecodeError as error:
                raise not_json(name, number, error.msg[:1].lower() + error.msg[1:], error.pos, text) from None
            except RecursionError:
                raise not_json(name, number, "nested too deeply", 0, text) from None
        yield Located(number, value)


def _csv_rows(file: BinaryIO, name: str, delimiter: str = ",") -> Iterator[Located]:
    limit = csv.field_size_limit(sys.maxsize)
    try:
        lines = (line.decode() for line in _lines(file, name))
        yield from _csv_lines(name, csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise RecipeError(f"{name}: this is not CSV ({error})") from None
    finally:
        csv.field_size_limit(limit)


def _tsv_rows(file: BinaryIO, name: str) -> Iterator[Located]:
    return _csv_rows(file, name, "\t")


def _csv_lines(name: str, reader: Any) -> Iterator[Located]:
    header: list[str] | None = None
    line = 1
    for fields in reader:
        if header is None:
            header = [column.strip() for column in fields]
            twice = [column for column in header if header.count(column) > 1]
            if twice:
                raise RecipeError(
                    f"{name}, line 1: the column `{twice[0]}` stands there twice", "Give each column a name of its own."
                )
        elif fields:
            if len(fields) != len(header):
                raise RecipeError(
                    f"{name}, line {line}: {len(fields)} fields, but {len(header)} columns in the first line",
                    'A field that holds a comma, a quote or a line end stands in quotes: "one, two".',
                )
            yield Located(line, dict(zip(header, fields, strict=True)))
        line = reader.line_num + 1


_READERS: dict[Format, Callable[[BinaryIO, str], Iterator[Located]]] = {
    "json": json_values,
    "jsonl": _json_lines,
    "csv": _csv_rows,
    "tsv": _tsv_rows,
}


def _columnar_rows(path: Path, name: str, form: Format, columns: Sequence[str] | None) -> Iterator[Located]:
    number = 0
    taken = [field.name for field in schema_in(path, name, form) if columns is None or field.name in columns]
    try:
        with _batches(path, name, form, taken) as (_, batches):
            for batch in batches:
                try:
                    rows = dict_rows(batch)
                except (UnicodeDecodeError, OverflowError) as error:  # no reader checks this before Python does
                    raise _no_value(batch, number, name) from error
                for row in rows:
                    number += 1
                    yield Located(number, row)
    except (pa.ArrowInvalid, OSError) as error:
        raise RecipeError(
            f"{name}, after row {number}: it cannot be read on ({_first_line(error)})",
            "It may have been cut short or damaged; copy it anew.",
        ) from error


def _no_value(batch: pa.RecordBatch, before: int, name: str) -> RecipeError:
    """The error for the first cell that Python cannot hold: a text that is no UTF-8, a date beyond its calendar."""
    for number in range(batch.num_rows):
        for column, values in zip(batch.schema.names, batch.columns, strict=True):
            place = f"{name}, row {before + number + 1}: the column `{column}` holds"
            try:
                values[number].as_py()
            except UnicodeDecodeError as error:
                found = error.object[max(0, error.start - 20) : error.end + 20]
                return RecipeError(
                    f"{place} a text whose byte {error.start} is not UTF-8: {found!r}",
                    "Decode it from what it is (perhaps `latin1`) where the file is made, or leave the row out.",
                )
            except OverflowError as error:
                return RecipeError(f"{place} a value that cannot be read ({error})", "Mend it, or leave the row out.")
    raise AssertionError("every cell can be read alone")


@contextmanager
def _batches(
    path: Path, name: str, form: Format, columns: Sequence[str] | None
) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema and the rows of an open file. Both kinds are mapped: what was read may leave the memory again."""
    with open(path, "rb") as file:
        start = file.read(len(_FILE_MAGIC))
    if form == "parquet":
        with _parquet(path, name, start) as parquet:
            yield parquet.schema_arrow, _parquet_batches(path, parquet, columns)
        return
    if start.startswith(_FEATHER_1):
        raise RecipeError(f"{name}: this is Feather of version 1, which is no more", "Write it anew as version 2.")
    with pa.memory_map(str(path)) as source:
        try:
            opened = pa.ipc.open_file(source) if start == _FILE_MAGIC else pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError) as error:
            raise RecipeError(
                f"{name}: this is no Arrow file, or it was cut short ({_first_line(error)})",
                "Arrow, Feather (version 2) and the files of `save_to_disk` are read; copy it anew if it is one.",
            ) from error
        yield opened.schema, _arrow_batches(opened, columns)


def _parquet(path: Path, name: str, start: bytes) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        if start.startswith(_PARQUET_MAGIC):
            raise RecipeError(
                f"{name}: this Parquet file was cut short: its end is missing or damaged", "Copy or download it anew."
            ) from None
        raise RecipeError(f"{name}: this is not a Parquet file ({_first_line(error)})") from None


def _parquet_batches(path: Path, opened: pq.ParquetFile, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Each row group from a mapping of its own: the pages of a single one count as memory until the file's end."""
    for group in range(opened.num_row_groups):
        with pq.ParquetFile(path, memory_map=True, metadata=opened.metadata) as file:
            yield from file.iter_batches(batch_size=BATCH_ROWS, use_threads=False, columns=columns, row_groups=[group])


def _arrow_batches(opened: Any, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if isinstance(opened, pa.ipc.RecordBatchFileReader):
        whole = (opened.get_batch(number) for number in range(opened.num_record_batches))
    else:
        whole = iter(opened)
    for batch in whole:
        chosen = batch if columns is None else batch.select(columns)
        for begin in range(0, chosen.num_rows, BATCH_ROWS):
            yield chosen.slice(begin, BATCH_ROWS)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
