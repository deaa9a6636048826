"""The call cache as a table. It is SQLite, which DuckDB cannot open without a network, so it is read here."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("made", pa.timestamp("us")),
        ("seconds", pa.float64()),
        ("form", pa.string()),
        ("request", pa.string()),
        ("reply", pa.string()),
    ]
)


def call_table(store: Path, warn: Callable[[str], None]) -> pa.Table:
    """Every kept call: key, time, seconds, form, request (JSON) and reply (the wire form as text)."""
    path = store / "calls-v1" / "calls.sqlite"
    if not path.exists():
        return SCHEMA.empty_table()
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
            query = "SELECT key, made, seconds, form, request, packing, body FROM replies ORDER BY id"
            for key, made, seconds, form, request, packing, body in connection.execute(query):
                columns["key"].append(key.hex())
                columns["made"].append(round(made * 1e6))
                columns["seconds"].append(seconds)
                columns["form"].append(form)
                columns["request"].append(_text(request if request[:1] == b"{" else zlib.decompress(request)))
                columns["reply"].append(_text(zlib.decompress(body) if packing else body))
    except (sqlite3.Error, zlib.error) as error:
        warn(f"`calls-v1/calls.sqlite` cannot be read whole: {error}")
        shortest = min(len(values) for values in columns.values())
        columns = {name: values[:shortest] for name, values in columns.items()}
    return pa.table({f.name: pa.array(columns[f.name], f.type) for f in SCHEMA}, schema=SCHEMA)


def _text(data: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(data)).decode()
    except orjson.JSONDecodeError:
        return data.decode(errors="replace")
