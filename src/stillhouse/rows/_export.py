"""Writing rows as JSONL, CSV and Parquet, a batch at a time."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.artifact import Rows
from ..core.errors import RecipeError

if TYPE_CHECKING:
    from datasets import Dataset


def write_jsonl(rows: Rows, path: Path, lineage: bool) -> None:
    with open(path, "wb") as file:
        for batch in _batches(rows, lineage):
            file.writelines(
                orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist()
            )


def write_csv(rows: Rows, path: Path, lineage: bool) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_names(rows, lineage))
        for batch in _batches(rows, lineage):
            writer.writerows([_field(value) for value in row.values()] for row in batch.to_pylist())


def write_parquet(rows: Rows, path: Path, lineage: bool) -> None:
    schema = pa.schema([rows.schema.field(name) for name in _names(rows, lineage)])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(rows, lineage):
            writer.write_batch(batch)


WRITERS: dict[str, Callable[[Rows, Path, bool], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def dataset_of(rows: Rows, lineage: bool) -> Dataset:
    """The rows as a `datasets.Dataset`."""
    try:
        from datasets import Dataset
    except ImportError as error:
        raise RecipeError(
            "Hugging Face data sets need the extra `hub`", "Install it: `pip install 'stillhouse[hub]'`."
        ) from error
    return Dataset.from_parquet([str(path) for path in rows.paths], columns=_names(rows, lineage), keep_in_memory=False)


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """A temporary file beside `target` that takes its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _names(rows: Rows, lineage: bool) -> list[str]:
    return [name for name in rows.schema.names if lineage or name[:1] != "_"]


def _batches(rows: Rows, lineage: bool) -> Iterator[pa.RecordBatch]:
    names = _names(rows, lineage)
    for batch in rows.arrow_batches(4096):
        yield batch.select(names)


def _field(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
