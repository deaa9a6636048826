"""Shuffling and sorting through files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ..core.artifact import Rows
from ..core.context import Context
from ._apportion import Keys, mixed
from ._sql import column, connection, sql_tables
from .transform import lacks, missing_column

if TYPE_CHECKING:
    from .order import Shuffle, Sort

BUCKET_ROWS = 32_768
MOST_BUCKETS = 256  # files that are open at once; of more rows the buckets are larger


def write_shuffled(step: Shuffle, context: Context) -> None:
    """The work of `Shuffle`: rows go to buckets by the high bits of a random key, each bucket is then sorted by it."""
    source = context.get(step.rows)
    buckets = Buckets(context.scratch, source, step.seed)
    with context.rows() as writer:
        for table in buckets.tables():
            writer.write_table(table)
            context.progress(writer.counts["out"], len(source))
            context.check_stop()


class Buckets:
    """The rows of a table in files of about `BUCKET_ROWS`, of which each holds a range of random keys."""

    def __init__(self, folder: Path, source: Rows, seed: int) -> None:
        self._source, self._folder = source, folder
        self._num = min(MOST_BUCKETS, max(1, -(-len(source) // BUCKET_ROWS)))
        self._salt = mixed(np.array([seed % 2**64], dtype=np.uint64))

    def tables(self) -> Iterator[pa.Table]:
        """The rows in the order of their keys, a bucket at a time."""
        self._scatter()
        for number in range(self._num):
            path = self._path(number)
            with pa.memory_map(str(path)) as file:
                table = pa.ipc.open_stream(file).read_all()
                keys = table.column("_key").to_numpy()
                yield table.take(pa.array(np.argsort(keys, kind="stable"))).drop_columns(["_key"])
            path.unlink()

    def _scatter(self) -> None:
        schema = self._source.schema.append(pa.field("_key", pa.uint64()))
        writers = [pa.ipc.new_stream(str(self._path(number)), schema) for number in range(self._num)]
        start = 0
        for batch in self._source.arrow_batches():
            keys = self._keys(start, batch.num_rows)
            table = pa.Table.from_batches([batch]).append_column("_key", pa.array(keys))
            # The high 32 bits choose the bucket: equal widths, so equal sizes up to chance.
            number = ((keys >> np.uint64(32)) * np.uint64(self._num)) >> np.uint64(32)
            for wanted in np.unique(number).tolist():
                writers[wanted].write_table(table.filter(pa.array(number == wanted)))
            start += batch.num_rows
        for writer in writers:
            writer.close()

    def _keys(self, start: int, num: int) -> Keys:
        return mixed(np.arange(start, start + num, dtype=np.uint64) ^ self._salt)

    def _path(self, number: int) -> Path:
        return self._folder / f"bucket-{number:05d}.arrow"


def write_sorted(step: Sort, context: Context) -> None:
    """The work of `Sort`."""
    source = context.get(step.rows)
    for name in (*step.by, *step.descending):
        if lacks(source, name):
            raise missing_column("Sort", name, source.columns)
    schema = source.schema
    if len(source) == 0:
        with context.rows() as writer:
            writer.write_table(schema.empty_table())
        return
    directions = {name: "DESC" if name in step.descending else "ASC" for name in step.by}
    order = ", ".join(f"{column(source, name)} {direction} NULLS LAST" for name, direction in directions.items())
    columns = ", ".join(column(source, name) for name in schema.names)
    with connection(context) as database, context.rows() as writer:
        sql_tables(database, rows=source)
        found = database.sql(f"SELECT {columns} FROM rows ORDER BY {order}, place")
        for batch in found.to_arrow_reader(8192):
            writer.write_table(pa.Table.from_batches([batch]).rename_columns(schema.names).cast(schema))
            context.progress(writer.counts["out"], len(source))
            context.check_stop()
