"""SQL over the store: DuckDB in memory, over documented views, read-only and locked to the store's own files.

| view | one row for | columns |
|---|---|---|
| `runs` | run | id, name, kind, status, started, ended, seconds, parent, step_key, host, error, config, record |
| `metrics` | logged value | run, metric, step, time, value, text |
| `latest` | run and metric | run, metric, step, time, value, text: the last step |
| `best` | run and metric | run, metric, lowest, lowest_step, highest, highest_step |
| `samples` | logged or evaluated row | source, step, time, item, model, reply, error, data |
| `artifacts` | result | key, kind, step, names, finished, seconds, num_rows, dropped, failed, cost_usd, … |
| `rows` | row of any table | id, artifact, output, step, parents, calls, content |
| `edges` | row and parent | child, parent, artifact, step |
| `dropped` | row that was not wanted | id, artifact, step, reason, detail, content |
| `failed` | row that could not be made | id, artifact, step, kind, message, raw, content |
| `calls` | model call in the cache | see `DESCRIBE calls` |
| `attempts` | attempt at a call | made, key, model, made_for, outcome, message, seconds, cost_usd |
| `spending` | day, model and step | day, model, made_for, batch, calls, tokens by kind, cost_usd, unpriced, seconds |

`config`, `record`, `data` and `content` are JSON (`content->>'input'`), times are UTC. A named table has a view of its
own, with its own columns: `SELECT * FROM named."orders"`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import RecipeError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa

VIEWS = (
    "runs",
    "metrics",
    "latest",
    "best",
    "samples",
    "artifacts",
    "rows",
    "edges",
    "dropped",
    "failed",
    "calls",
    "attempts",
    "spending",
)


def query(
    store: str | os.PathLike[str],
    sql: str,
    *,
    limit: int | None = None,
    warn: Callable[[str], None] = lambda text: print(f"stillhouse: {text}", file=sys.stderr),
) -> pa.Table:
    """The answer to one SELECT over the views of the session folder `store`, at most `limit` rows of it.

    A file that cannot be read is left out and said through `warn`. Raises `RecipeError` for anything but one SELECT
    and for SQL that DuckDB refuses, `StoreError` when there is no such folder.
    """
    from ._views import answer

    folder = Path(store)
    if not folder.is_dir():
        raise StoreError(f"there is no folder `{folder}`", "Name the session folder, `out` where none was chosen.")
    return answer(folder, checked(sql), limit, warn)


def checked(sql: str) -> str:
    """`sql` if it is one statement that only reads; otherwise `RecipeError`."""
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise sql_error(str(error)) from None
    if len(statements) != 1:
        raise RecipeError(f"expected one statement, found {len(statements)}", "Give one SELECT at a time.")
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        checked(re.sub(r"(?is)^\s*explain(\s+analyze)?\b(\s*\([^)]*\))?", "", statements[0].query))
    elif kind != duckdb.StatementType.SELECT:
        raise RecipeError(
            f"a query only reads, and this is {kind.name}", f'Give one SELECT over {", ".join(VIEWS)} or named."NAME".'
        )
    return sql


def sql_error(message: str) -> RecipeError:
    """DuckDB's message as ours: its guesses at table names come from its own catalogue and are left out."""
    text = re.sub(r"\n?Did you mean \"[^\"]*\"\??", "", message).strip()
    missing = "does not exist" in text and "Table" in text
    return RecipeError(text, f'The views: {", ".join(VIEWS)}, named."NAME".' if missing else None)
