"""Tables on disk: row ids, Arrow parts while a step works, Parquet shards when it is done; all in constant memory."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .errors import RecipeError, RowFault, StoreError
from .outcome import Row, content_of

ID_BYTES = 12
SHARD_ROWS = 262_144
GROUP_ROWS = 16_384  # rows of one Parquet row group, the unit a reader holds in memory
GROUP_BYTES = 128 << 20  # of long rows fewer: a group ends with the block of rows that reaches this
_BLOCK_ROWS = 64
_READ_BYTES = 32 << 20  # of long rows fewer are read at once than were asked for

LINEAGE = ("_id", "_parents", "_calls")
_TEXTS = pa.list_(pa.string())
_DROPPED = pa.schema([("_id", pa.string()), ("reason", pa.string()), ("detail", pa.string()), ("row", pa.string())])
_FAILED = pa.schema(
    [("_id", pa.string()), ("kind", pa.string()), ("message", pa.string()), ("raw", pa.string()), ("row", pa.string())]
)
ASIDE_SCHEMAS = {"dropped": _DROPPED, "failed": _FAILED}
PLACE = ("_place", "_at", "_outs", "_attempt")
"""What a map step adds to each row that failed, so that it can be tried again where it stands: its number among the
rows in, how many rows came out before its own, how many of its own came out, how often it was tried again."""


def content_bytes(content: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a row's content: keys sorted, types kept. Raises `RowFault` for what no table can hold."""
    try:
        data = orjson.dumps(content, default=_plain, option=_OPTIONS)
        if b"null" in data:  # what it writes for numbers that are none, too; looked for only here: this is a hot path
            data = orjson.dumps(_with_marks(content), default=_plain, option=_OPTIONS)
        return data
    except (TypeError, orjson.JSONEncodeError) as error:
        raise RowFault("invalid", f"the row cannot be written: {error}", raw=repr(content)[:2000]) from error


_READABLE = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY
_OPTIONS = _READABLE | orjson.OPT_PASSTHROUGH_DATETIME


def same_content(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether two rows hold the same columns and values, types included."""
    try:
        if content_bytes(left) != content_bytes(right):
            return False
    except RowFault:
        return False
    # orjson writes a UUID as its text, and cannot be told not to.
    return left == right or not (_holds_uuid(left) or _holds_uuid(right))


def _holds_uuid(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_uuid, value.values()))
    return any(map(_holds_uuid, value)) if isinstance(value, list | tuple) else isinstance(value, uuid.UUID)


def _with_marks(value: Any) -> Any:
    """The value with a mark in place of each NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, dict):
        return {name: _with_marks(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_marks(inner) for inner in value]
    return _with_marks(value.tolist()) if type(value).__module__ == "numpy" else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, dt.datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, dt.date):
        return {"date": value.isoformat()}
    if isinstance(value, dt.time):
        return {"time": value.isoformat()}
    if isinstance(value, dt.timedelta):
        return {"timedelta": [value.days, value.seconds, value.microseconds]}
    raise TypeError(f"{type(value).__name__} is not a value a table can hold")


def row_id(parents: Sequence[str], content: bytes, occurrence: int = 0) -> str:
    """hash(parent ids, content, occurrence): 24 hexadecimal digits."""
    head = ",".join(parents)
    return blake2b(b"%b\n%d\n%b" % (head.encode(), occurrence, content), digest_size=ID_BYTES).hexdigest()


@dataclass(slots=True)
class RowBuffer:
    """Rows on their way to a part: parallel lists of ids, parents, calls and contents."""

    ids: list[str]
    parents: list[Sequence[str]]
    calls: list[Sequence[str]]
    contents: list[Mapping[str, Any]]

    @classmethod
    def empty(cls) -> RowBuffer:
        return cls([], [], [], [])

    def add(self, row: str, parents: Sequence[str], calls: Sequence[str], content: Mapping[str, Any]) -> None:
        self.ids.append(row)
        self.parents.append(parents)
        self.calls.append(calls)
        self.contents.append(content)

    def table(self, like: pa.Schema | None = None) -> pa.Table:
        """The buffered rows as an Arrow table; columns in order of first mention.

        Numbers of a column that `like` has too are of its type, where that holds all of them as they are: Python knows
        one kind of whole numbers and one of others.
        """
        names = list(dict.fromkeys(name for content in self.contents for name in content if name[0:1] != "_"))
        arrays = [pa.array(self.ids, pa.string()), pa.array(self.parents, _TEXTS), pa.array(self.calls, _TEXTS)]
        for name in names:
            column = self._column(name)
            place = -1 if like is None else like.get_field_index(name)
            arrays.append(column if like is None or place < 0 else _of_type(column, like.field(place).type))
        return pa.table(arrays, names=[*LINEAGE, *names])

    def _column(self, name: str) -> pa.Array:
        values = [content.get(name) for content in self.contents]
        try:
            made = pa.array(values)
            return pa.array([_without_hollow(value) for value in values]) if _is_hollow(made.type) else made
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            kinds: dict[str, int] = {}
            for index, value in enumerate(values):
                if value is not None:
                    kinds.setdefault(type(value).__name__, index)
            if set(kinds) == {"int", "float"}:
                return pa.array([None if value is None else float(value) for value in values])
            found = ", ".join(f"{kind} (row {self.ids[index]})" for kind, index in kinds.items())
            raise RecipeError(
                f"the column `{name}` holds values that do not go together: {found}",
                f"Give every row the same type there, or text. ({error})",
            ) from error


def _of_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in another type of the same numbers, or of lists of them, if no value changes by it."""
    kind, given = _in_lists(kind), column.type
    if given == kind or not (_of_numbers(kind) and _of_numbers(given)):
        return column
    try:
        found = column.cast(kind, safe=False)
        back = found.cast(given, safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return column
    return found if _same_numbers(back, column) else column


def _in_lists(kind: pa.DataType) -> pa.DataType:
    """The type with lists of one kind, which go together in whatever pieces they come."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return pa.list_(_in_lists(kind.value_type)) if is_list else kind


def _of_numbers(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _same_numbers(left: pa.Array, right: pa.Array) -> bool:
    """Of arrays that have nulls and lists in the same places."""
    if pa.types.is_list(left.type):
        return _same_numbers(left.flatten(), right.flatten())
    if left.null_count:
        left, right = left.drop_null(), right.drop_null()
    if not pa.types.is_floating(left.type):
        return bool(left.equals(right))
    wrong = pc.invert(pc.or_(pc.equal(left, right), pc.and_(pc.is_nan(left), pc.is_nan(right))))
    return not pc.any(wrong).as_py()


def _is_hollow(kind: pa.DataType) -> bool:
    """Whether objects without any field are in it, which Parquet cannot hold."""
    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_hollow(field.type) for field in kind)
    return pa.types.is_list(kind) and _is_hollow(kind.value_type)


def _without_hollow(value: Any) -> Any:
    """The value with None in place of empty objects."""
    if isinstance(value, Mapping):
        return {name: _without_hollow(inner) for name, inner in value.items()} or None
    if isinstance(value, list | tuple):
        return [_without_hollow(inner) for inner in value]
    return value


def aside_table(kind: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Dropped or failed rows as a table of their fixed schema; failed ones of a map step with their place."""
    schema = ASIDE_SCHEMAS[kind]
    table = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in schema.names}
    if rows and PLACE[0] in rows[0]:
        table |= {name: pa.array([row[name] for row in rows], pa.int64()) for name in PLACE}
    return pa.table(table)


def row_text(row: Mapping[str, Any]) -> str:
    """A row's content as JSON text, for the files of dropped and failed rows."""
    try:
        return orjson.dumps(content_of(row), default=_plain, option=_READABLE).decode()
    except (TypeError, orjson.JSONEncodeError):
        return repr(row)


def table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def read_part(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def merge_aside(kind: str, parts: Sequence[Path], target: Path) -> int:
    """Write the dropped or failed rows of all parts into one Parquet file; none, no file. Returns their number."""
    return write_aside(kind, map(read_part, parts), target)


def write_aside(kind: str, tables: Iterable[pa.Table], target: Path) -> int:
    """The same for tables, which all have the same columns."""
    count = 0
    writer: pq.ParquetWriter | None = None
    try:
        for group in _groups(tables):
            if writer is None:
                writer = pq.ParquetWriter(target, group.schema, compression="zstd")
            count += group.num_rows
            writer.write_table(group, row_group_size=GROUP_ROWS)
    finally:
        if writer is not None:
            writer.close()
    return count


def moved(failed: pa.Table, rows_in: int, rows_out: int) -> pa.Table:
    """Failed rows of a piece in which places are counted from its own start, as they stand in the whole."""
    for name, before in (("_place", rows_in), ("_at", rows_out)):
        if before and name in failed.column_names:
            column = pc.add(failed.column(name), pa.scalar(before, pa.int64()))
            failed = failed.set_column(failed.column_names.index(name), name, column)
    return failed


def merge_parts(parts: Sequence[Path], folder: Path, of_none: pa.Schema | None = None) -> tuple[int, str]:
    """Write the rows of all parts, in order, into Parquet shards under `folder`; returns (rows, content digest).

    The digest covers column names, types and row ids; a row id commits to its content and parents. Column types are
    widened to what all parts share, and a column that has no common type raises `RecipeError`. `of_none` is the schema
    where there are no parts.
    """
    schema = common_schema(map(schema_of_part, parts)) if parts or of_none is None else of_none
    return write_tables(map(read_part, parts), schema, folder)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, folder: Path) -> tuple[int, str]:
    """The same for tables, each of which is made to follow `schema`."""
    folder.mkdir(parents=True, exist_ok=True)
    state = blake2b("\n".join(f"{field.name}:{field.type}" for field in schema).encode(), digest_size=16)
    total = 0
    writer = _Shards(folder, schema)
    try:
        for group in _groups(_as(table, schema) for table in tables):
            for chunk in group.column("_id").chunks:
                state.update("".join(chunk.to_pylist()).encode())
            total += group.num_rows
            writer.write(group)
        if total == 0:
            writer.write(schema.empty_table())
    finally:
        writer.close()
    return total, state.hexdigest()


def schema_of_part(path: Path) -> pa.Schema:
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).schema


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """All rows in tables of `GROUP_ROWS`, or fewer of `GROUP_BYTES`, the last with the rest.

    What rows hold decides where a table ends: files do not show in what pieces rows came.
    """
    waiting: list[pa.Table] = []
    num_waiting = size = 0
    for table in tables:
        waiting.append(table)
        num_waiting += table.num_rows
        size += table.nbytes
        while num_waiting >= GROUP_ROWS or size >= GROUP_BYTES:
            whole = pa.concat_tables(waiting)
            end = _end_of_group(whole)
            if end is None:
                break
            yield whole.slice(0, end).combine_chunks()
            waiting = [whole.slice(end)]
            num_waiting, size = waiting[0].num_rows, waiting[0].nbytes
    if num_waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _end_of_group(table: pa.Table) -> int | None:
    """How many of the rows make a group; None where more may come into it."""
    first = table.slice(0, GROUP_ROWS)
    if first.nbytes >= GROUP_BYTES:  # what it holds is less than what it takes, which depends on how it came
        held = 0
        for end in range(_BLOCK_ROWS, first.num_rows + 1, _BLOCK_ROWS):
            block = first.slice(end - _BLOCK_ROWS, _BLOCK_ROWS)
            held += sum(_bytes_in(chunk) for column in block.columns for chunk in column.chunks)
            if held >= GROUP_BYTES:
                return end
    return GROUP_ROWS if first.num_rows == GROUP_ROWS else None


def _bytes_in(array: pa.Array) -> int:
    """Bytes of the values themselves, however deep."""
    kind = array.type
    if pa.types.is_struct(kind):
        return sum(map(_bytes_in, array.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _bytes_in(array.flatten())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return int(pc.sum(pc.binary_length(array)).as_py() or 0)
    return 8 * int(len(array) - array.null_count)


class _Shards:
    """Parquet files of `SHARD_ROWS` rows, written group by group; boundaries depend on rows alone."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._writer: pq.ParquetWriter | None = None
        self._num_shards = 0
        self._in_shard = 0

    def write(self, group: pa.Table) -> None:
        if self._in_shard >= SHARD_ROWS:
            self.close()
        if self._writer is None:
            path = self._folder / f"rows-{self._num_shards:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
            self._num_shards += 1
            self._in_shard = 0
        self._writer.write_table(group, row_group_size=GROUP_ROWS)
        self._in_shard += group.num_rows

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Columns in order of first mention, each of a type that all values fit; raises `RecipeError` where none does."""
    schema = pa.schema([("_id", pa.string()), ("_parents", _TEXTS), ("_calls", _TEXTS)])
    for found in map(_item_named, schemas):
        if found.equals(schema):
            continue
        try:
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            clash = [
                f"`{field.name}` is {schema.field(field.name).type} in one row and {field.type} in another"
                for field in found
                if field.name in schema.names and schema.field(field.name).type != field.type
            ]
            raise RecipeError(
                f"rows do not go into one table: {'; '.join(clash) or error}",
                "Give every row the same type in that column, or text.",
            ) from error
    return schema


def _item_named(schema: pa.Schema) -> pa.Schema:
    """The schema where lists are as Arrow makes them: Parquet calls their values by another name.

    Else the name would tell whether rows were read or made, and in which pieces.
    """
    if not any(pa.types.is_nested(field.type) for field in schema):
        return schema.remove_metadata()
    return pa.schema([field.with_type(_item_type(field.type)) for field in schema])


def _item_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_item_type(kind.value_type))
    if pa.types.is_large_list(kind):
        return pa.large_list(_item_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_item_type(field.type)) for field in kind])
    return kind


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
                column = pa.array(column.to_pylist(), field.type)  # nested types that Arrow cannot cast
        columns.append(column)
    return pa.table(columns, schema=schema)


def schema_of(paths: Sequence[Path]) -> pa.Schema:
    if not paths:
        raise StoreError("the artifact has no Parquet file", "Remove it with `stillhouse rm` and run the step again.")
    return pq.read_schema(paths[0])


def arrow_batches(paths: Iterable[Path], size: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            rows = min(size, _READ_BYTES * file.metadata.num_rows // max(1, _bytes_of(file, columns)) or 1)
            yield from file.iter_batches(batch_size=rows, columns=columns, use_threads=False)


def _bytes_of(file: pq.ParquetFile, columns: Sequence[str] | None) -> int:
    """Bytes of the columns before they were compressed."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if columns is None or chunk.path_in_schema.partition(".")[0] in columns
    )


def row_batches(paths: Sequence[Path], size: int, lineage: bool = False, skip: int = 0) -> Iterator[list[Row]]:
    """Rows as dicts in lists of exactly `size` (the last may be shorter), from row number `skip` on."""
    columns = None
    if not lineage and paths:
        columns = [name for name in schema_of(paths).names if name not in ("_parents", "_calls")]
    waiting: list[Row] = []
    for batch in arrow_batches(paths, 8192, columns):
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        rows = dict_rows(batch.slice(skip) if skip else batch)
        skip = 0
        waiting = [*waiting, *rows] if waiting else rows
        start = 0
        while len(waiting) - start >= size:
            yield waiting[start : start + size]
            start += size
        waiting = waiting[start:]
    if waiting:
        yield waiting


def dict_rows(batch: pa.RecordBatch | pa.Table) -> list[Row]:
    """The rows of a batch as dicts."""
    names = batch.schema.names
    values = [column.to_pylist() for column in batch.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]


def plain_rows(path: Path) -> Iterator[Row]:
    """All rows of a Parquet file; where failed rows stand is left out."""
    columns = [name for name in schema_of([path]).names if name not in PLACE]
    for batch in arrow_batches([path], 1024, columns):
        yield from dict_rows(batch)


class Occurrences:
    """How often the same (parents, content) came before, in eight bytes a row.

    Sorted runs of 64-bit hashes, merged like a log-structured tree; only values seen twice enter a dict.
    """

    def __init__(self) -> None:
        import numpy as np

        self._np = np
        self._runs: list[Any] = []
        self._recent: dict[int, int] = {}
        self._repeated: dict[int, int] = {}

    def count(self, key: bytes) -> int:
        """The number of earlier rows with this key; counts this one."""
        value = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        seen = self._recent.get(value)
        if seen is None:
            seen = self._repeated.get(value, 1 if self._in_runs(value) else 0)
        self._recent[value] = seen + 1
        if len(self._recent) >= 65_536:
            self._flush()
        return seen

    def _in_runs(self, value: int) -> bool:
        np = self._np
        for run in self._runs:
            place = int(np.searchsorted(run, np.uint64(value)))
            if place < len(run) and int(run[place]) == value:
                return True
        return False

    def _flush(self) -> None:
        np = self._np
        fresh = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
        self._repeated.update({value: count for value, count in self._recent.items() if count > 1})
        self._recent = {}
        self._runs.append(np.sort(fresh))
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(np.union1d(before, last))


def ids_that_start_with(paths: Sequence[Path], start: str) -> set[str]:
    """Row ids that begin with `start`."""
    found: set[str] = set()
    for batch in arrow_batches(paths, 65_536, ["_id"]):
        column = batch.column("_id")
        found.update(column.filter(pc.starts_with(column, start)).to_pylist())
    return found


def rows_with_ids(paths: Sequence[Path], ids: set[str]) -> Iterator[Row]:
    """Rows, lineage included, whose id is one of `ids`."""
    wanted = pa.array(sorted(ids), pa.string())
    for batch in arrow_batches(paths, 8192):
        chosen = batch.filter(pc.is_in(batch.column("_id"), wanted))
        if chosen.num_rows:
            yield from dict_rows(chosen)


def rows_with_parent(paths: Sequence[Path], parent: str) -> Iterator[Row]:
    """Rows, lineage included, of which `parent` is a parent."""
    for batch in arrow_batches(paths, 8192):
        places = _places_with_parents(batch, {parent})
        if len(places):
            yield from dict_rows(batch.take(places))


def ids_with_parents(paths: Sequence[Path], parents: set[str]) -> set[str]:
    """Ids of rows that have one of `parents` among theirs."""
    found: set[str] = set()
    for batch in arrow_batches(paths, 65_536, ["_id", "_parents"]):
        found.update(batch.column("_id").take(_places_with_parents(batch, parents)).to_pylist())
    return found


def _places_with_parents(batch: pa.RecordBatch, parents: set[str]) -> pa.Array:
    lists = batch.column("_parents")
    hits = pc.is_in(pc.list_flatten(lists), pa.array(sorted(parents), pa.string()))
    return pc.unique(pc.list_parent_indices(lists).filter(hits))
