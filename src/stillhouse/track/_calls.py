"""The call cache as tables. It is SQLite, which DuckDB cannot open without a network, so it is read here."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from ..calls.archive import Archive, Call
from ..core.errors import StoreError

_TOKENS = tuple((name, pa.int64()) for name in ("prompt_tokens", "reply_tokens", "cached_tokens", "reasoning_tokens"))
CALLS = pa.schema(
    [
        ("key", pa.string()),
        ("made", pa.timestamp("us")),
        ("seconds", pa.float64()),
        ("form", pa.string()),
        ("model", pa.string()),
        ("made_for", pa.string()),
        ("batch", pa.bool_()),
        *_TOKENS,
        ("cost_usd", pa.float64()),
        ("request", pa.string()),
        ("reply", pa.string()),
    ]
)
ATTEMPTS = pa.schema(
    [
        ("made", pa.timestamp("us")),
        ("key", pa.string()),
        ("model", pa.string()),
        ("made_for", pa.string()),
        ("outcome", pa.string()),
        ("message", pa.string()),
        ("seconds", pa.float64()),
        ("cost_usd", pa.float64()),
    ]
)
SPENDING = pa.schema(
    [
        ("day", pa.string()),
        ("model", pa.string()),
        ("made_for", pa.string()),
        ("batch", pa.bool_()),
        ("calls", pa.int64()),
        *_TOKENS,
        ("cost_usd", pa.float64()),
        ("unpriced", pa.int64()),
        ("seconds", pa.float64()),
    ]
)
_AT_ONCE = 10_000


def call_table(store: Path, warn: Callable[[str], None], *, texts: bool = True) -> pa.RecordBatchReader:
    """Every kept call; without `texts` there is no column for request (JSON) and reply (the wire form as text)."""
    schema = CALLS if texts else pa.schema([field for field in CALLS if field.name not in ("request", "reply")])
    return _table(store, schema, warn, lambda archive: (_call(call, texts) for call in archive.calls(texts=texts)))


def attempt_table(store: Path, warn: Callable[[str], None]) -> pa.RecordBatchReader:
    """Every attempt at a call: those that were answered (`ok`) and those that failed, with the cause."""

    def rows(archive: Archive) -> Iterator[Sequence[Any]]:
        for call in archive.calls(texts=False):
            made = round(call.made * 1e6)
            yield made, call.key, call.model, call.step, "ok", None, call.seconds, call.cost_usd
        for trouble in archive.troubles():
            made = round(trouble.made * 1e6)
            yield made, trouble.key, trouble.model, trouble.step, trouble.cause, trouble.message, trouble.seconds, None

    return _table(store, ATTEMPTS, warn, rows)


def spending_table(store: Path, warn: Callable[[str], None]) -> pa.RecordBatchReader:
    """What was paid by day, model and step."""

    def rows(archive: Archive) -> Iterator[Sequence[Any]]:
        for paid in archive.spending():
            head = paid.day, paid.model, paid.step, paid.batch, paid.calls
            yield *head, *paid.usage[:4], paid.cost_usd, paid.unpriced, paid.seconds

    return _table(store, SPENDING, warn, rows)


def _call(call: Call, texts: bool) -> Sequence[Any]:
    head = call.key, round(call.made * 1e6), call.seconds, call.form, call.model, call.step, call.batch
    facts = (*head, *call.usage[:4], call.cost_usd)
    return (*facts, _text(call.request), _text(call.wire)) if texts else facts


def _table(
    store: Path,
    schema: pa.Schema,
    warn: Callable[[str], None],
    rows: Callable[[Archive], Iterable[Sequence[Any]]],
) -> pa.RecordBatchReader:
    """As many rows as can be read, a few at a time; each gives its values in the order of the schema."""

    def batches() -> Iterator[pa.RecordBatch]:
        damaged = 0
        try:
            with Archive(store / "calls-v1") as archive:
                found = iter(rows(archive))
                while part := list(islice(found, _AT_ONCE)):
                    columns = zip(zip(*part, strict=True), schema, strict=True)
                    arrays = [pa.array(values, field.type) for values, field in columns]
                    yield pa.RecordBatch.from_arrays(arrays, schema=schema)
                damaged = archive.num_damaged
        except (sqlite3.Error, StoreError) as error:
            warn(f"`calls-v1/calls.sqlite` cannot be read whole: {error}")
        if damaged:
            warn(f"{damaged:,} damaged replies of `calls-v1/calls.sqlite` are left out")

    return pa.RecordBatchReader.from_batches(schema, batches())


def _text(data: bytes) -> str:
    try:
        return orjson.dumps(orjson.loads(data)).decode()
    except orjson.JSONDecodeError:
        return data.decode(errors="replace")
