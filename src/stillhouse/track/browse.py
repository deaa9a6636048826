"""Pages of one table: chosen by a condition in SQL, read by DuckDB, which can reach nothing but its files."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.errors import RecipeError
from .query import checked, sql_error

if TYPE_CHECKING:
    import duckdb

HIDDEN = ("_parents", "_calls", "_place", "_at", "_outs", "_attempt")
"""Columns that are shown when they are asked for by name."""


class Page(NamedTuple):
    """Rows from number `offset` on, of `total` that fulfil the condition."""

    rows: list[dict[str, Any]]
    offset: int
    total: int


class Browser:
    """Looks into the Parquet files of one table; to be closed, or used in a `with` block.

    `where` is a condition over its columns: `length(reply) > 200`. Raises `RecipeError` for columns that are not there
    and for what DuckDB does not understand.
    """

    def __init__(
        self, paths: Sequence[Path], *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> None:
        self._connection = _connected(paths)
        known = [str(row[0]) for row in self._connection.execute("DESCRIBE the_rows").fetchall()]
        self.columns = list(columns) if columns else [name for name in known if name not in HIDDEN]
        for name in self.columns:
            if name not in known:
                raise _no_column(name, [each for each in known if each not in HIDDEN])
        self._filter = "" if where is None else f" WHERE ({where}\n)"  # a comment at its end must not take the bracket
        checked(f"SELECT 1 FROM the_rows{self._filter}")
        self.total = int(self._ask(f"SELECT count(*) AS n FROM the_rows{self._filter}")[0]["n"])

    def page(self, offset: int, limit: int | None) -> Page:
        """`limit` rows (None: all) from number `offset` on, in the order of the table."""
        chosen = ", ".join(_quoted(name) for name in self.columns)
        end = "" if limit is None else f" LIMIT {int(limit)}"
        found = self._ask(f"SELECT {chosen} FROM the_rows{self._filter}{end} OFFSET {int(offset)}")
        return Page(found, offset, self.total)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, sql: str) -> list[dict[str, Any]]:
        import duckdb

        try:
            found: list[dict[str, Any]] = self._connection.sql(sql).to_arrow_table().to_pylist()
            return found
        except duckdb.Error as error:
            raise sql_error(str(error).replace("the_rows", "rows")) from None


def _connected(paths: Sequence[Path]) -> duckdb.DuckDBPyConnection:
    import duckdb

    config: dict[str, Any] = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    connection = duckdb.connect(":memory:", config=config)
    files = ", ".join("'" + str(path.resolve()).replace("'", "''") + "'" for path in paths)
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"CREATE VIEW the_rows AS SELECT * FROM read_parquet([{files}])")
    connection.execute(f"SET allowed_paths = [{files}]")
    for setting in ("enable_external_access", "python_enable_replacements"):
        connection.execute(f"SET {setting} = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _no_column(name: str, known: Sequence[str]) -> RecipeError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean `{close[0]}`?" if close else f"The columns: {', '.join(known)}."
    return RecipeError(f"there is no column `{name}`", hint)
