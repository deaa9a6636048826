"""DuckDB over the Parquet shards of tables, for what must see all rows: it works through files when memory is short."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from ..core.artifact import Rows
from ..core.context import Context

MEMORY_LIMIT = "1GB"


@contextlib.contextmanager
def connection(context: Context) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database that spills into the step's scratch folder and reaches nothing else on its own."""
    folder = context.scratch / "spill"
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(":memory:") as database:
        database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
        database.execute(f"SET temp_directory = {text(str(folder))}")
        database.execute("SET autoinstall_known_extensions = false")
        database.execute("SET preserve_insertion_order = true")
        if context.options.threads is not None:
            database.execute(f"SET threads = {context.options.threads}")
        yield database


def sql_tables(database: duckdb.DuckDBPyConnection, **tables: Rows) -> None:
    """A view for each table: its columns as `column` names them, and `place`, the number of the row.

    The columns have no names of their own there: DuckDB takes `a` and `A` for one.
    """
    for name, rows in tables.items():
        names = rows.schema.names
        columns = ", ".join(f"c{index}" for index in range(len(names)))
        selects = []
        start = 0
        for path in rows.paths:
            if any(own.lower() == "file_row_number" for own in names):
                file = f"(SELECT *, row_number() OVER () - 1 FROM read_parquet({text(str(path))}))"
            else:
                file = f"read_parquet({text(str(path))}, file_row_number = true)"
            selects.append(f"SELECT {columns}, place + {start} AS place FROM {file} AS file({columns}, place)")
            start += _num_rows(path)
        database.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(selects)}")


def column(rows: Rows, name: str) -> str:
    """What a column is called in the view of its table."""
    return f"c{rows.schema.names.index(name)}"


def _num_rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def text(value: str) -> str:
    """A text in SQL."""
    return "'" + value.replace("'", "''") + "'"
