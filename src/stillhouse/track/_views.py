"""The views behind `query`: which files they read, and a connection that can reach nothing else."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import StoreError
from ._artifacts import Kept, artifact_table, kept_artifacts
from ._tables import METRICS, SAMPLES, live_files, live_metrics, live_samples, run_metrics
from .compaction import Manifest
from .query import VIEWS, sql_error
from .run import read_record, status_of

Warn = Callable[[str], None]

RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "name", "kind", "status")),
        ("started", pa.timestamp("us")),
        ("ended", pa.timestamp("us")),
        ("seconds", pa.float64()),
        *((name, pa.string()) for name in ("parent", "step_key", "host", "error", "config", "record")),
    ]
)


def answer(store: Path, sql: str, limit: int | None, warn: Warn) -> pa.Table:
    """Run the checked `sql`. A file that turns out broken is left out and the query is run again without it."""
    broken: set[str] = set()
    while True:
        database = _Database(store, _wanted(sql), broken, warn)
        before = _manifest_mark(store)
        try:
            with database.connect() as connection:
                relation = connection.sql(sql)
                if limit is not None:
                    relation = relation.limit(limit)
                found = relation.to_arrow_table()
        except duckdb.Error as error:
            bad = {} if isinstance(error, OF_THE_TEXT) else _unreadable(database.files, str(error))
            if not bad:
                raise sql_error(str(error)) from None
            for path, why in bad.items():
                if os.path.exists(path):  # else it was moved by a compaction and stands elsewhere now
                    warn(f"`{os.path.relpath(path, store)}` cannot be read and is left out: {why:.200}")
            broken.update(bad)
        else:
            if _manifest_mark(store) == before:
                return found


def _manifest_mark(store: Path) -> tuple[int, int] | None:
    """What changes when a compaction moves files: an answer that spans one may have missed them."""
    try:
        stat = (store / "runs" / ".index" / "manifest.json").stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


OF_THE_TEXT = (duckdb.ParserException, duckdb.CatalogException, duckdb.PermissionException)
"""Errors that no file can be the cause of."""


def _unreadable(paths: Iterable[str], message: str) -> dict[str, str]:
    """The files an error is about, each with the reason: those it names, else all that cannot be read through."""
    named = {path: message for path in paths if path in message}
    if named:
        return named
    found = {}
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                for _ in file.iter_batches():
                    pass
        except FileNotFoundError:
            found[path] = "it is gone"
        except (OSError, ValueError) as error:
            found[path] = str(error)
    return found


def _wanted(sql: str) -> set[str]:
    """Names of the views that the text mentions: too many cost time, too few would be wrong."""
    words = set(re.findall(r"\w+", sql.casefold()))
    wanted = {name for name in (*VIEWS, "named") if name in words}
    if words & {"show", "describe", "information_schema", "duckdb_views", "summarize"}:
        wanted |= {*VIEWS, "named"}
    if wanted & {"latest", "best"}:
        wanted.add("metrics")
    stars = re.sub(r"count\s*\(\s*\*\s*\)", "", sql.casefold())
    if "*" not in stars and not words & {"request", "reply", "columns", "describe", "summarize"}:
        wanted.add(WITHOUT_TEXTS)
    return wanted


WITHOUT_TEXTS = "calls without texts"
"""What is asked for names neither request nor reply: millions of calls are then a small table."""


@dataclass
class _Database:
    store: Path
    wanted: set[str]
    broken: set[str]
    warn: Warn
    files: list[str] = field(default_factory=list)
    """Every file that the views read: nothing else can be reached."""

    def connect(self) -> duckdb.DuckDBPyConnection:
        quiet: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        connection = duckdb.connect(":memory:", config=quiet)
        connection.execute("SET enable_progress_bar = false")
        spill = os.path.join(tempfile.gettempdir(), f"stillhouse-duckdb-{os.getpid()}")
        connection.execute(f"SET temp_directory = {_text(spill)}")
        if self.wanted & {"runs", "metrics", "samples"}:
            self._run_views(connection)
        if self.wanted & {"artifacts", "rows", "edges", "dropped", "failed", "samples", "named"}:
            self._artifact_views(connection)
        if self.wanted & {"calls", "attempts", "spending"}:
            self._call_views(connection)
        connection.execute(f"SET allowed_paths = [{', '.join(map(_text, self.files))}]")
        for setting in (
            "enable_external_access = false",
            "python_enable_replacements = false",
            "lock_configuration = true",
        ):
            connection.execute(f"SET {setting}")
        return connection

    def _run_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        runs = _Runs.find(self.store, self.warn)
        if "runs" in self.wanted:
            self._table(connection, "runs", runs.table(self._readable))
        if "samples" in self.wanted:
            parts = [_reads([path]) for path in self._readable([str(f / "samples.parquet") for f in runs.folders])]
            live = pa.concat_tables([SAMPLES.empty_table(), *(live_samples(folder) for folder in runs.folders)])
            connection.register("_given", live)
            connection.execute("CREATE TEMP TABLE _live_samples AS SELECT * FROM _given")
            self._union(connection, "_logged", ["SELECT * FROM _live_samples", *(f"SELECT * FROM {p}" for p in parts)])
        if "metrics" not in self.wanted:
            return
        selects = runs.shared_metrics(self._readable)
        both = [f for f in runs.folders if live_files(f, "live")]
        settled = self._readable([str(f / "metrics.parquet") for f in runs.folders if f not in both])
        if settled:
            selects.append(f"SELECT * FROM {_reads(settled)}")
        live = [self._live(folder) for folder in both]
        connection.register("_given", pa.concat_tables([METRICS.empty_table(), *live]))
        connection.execute("CREATE TEMP TABLE _live AS SELECT * FROM _given")
        selects.append("SELECT * FROM _live")
        self._union(connection, "_metrics", selects)
        connection.execute(
            "CREATE VIEW metrics AS SELECT run, metric, step, make_timestamp((ts * 1e6)::BIGINT) AS time, value, text "
            "FROM _metrics"
        )
        connection.execute(
            "CREATE VIEW latest AS SELECT run, metric, max(step) AS step, arg_max(time, step) AS time, "
            "arg_max(value, step) AS value, arg_max(text, step) AS text FROM metrics GROUP BY run, metric"
        )
        finite = "FILTER (WHERE isfinite(value))"
        connection.execute(
            f"CREATE VIEW best AS SELECT run, metric, min(value) {finite} AS lowest, arg_min(step, value) {finite} AS "
            f"lowest_step, max(value) {finite} AS highest, arg_max(step, value) {finite} AS highest_step "
            "FROM metrics WHERE value IS NOT NULL GROUP BY run, metric"
        )

    def _live(self, folder: Path) -> pa.Table:
        try:
            return run_metrics(folder)
        except (pa.ArrowException, OSError) as error:
            self.warn(f"`{folder.name}/metrics.parquet` cannot be read and is left out: {error}")
            return live_metrics(folder)

    def _artifact_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        kept = kept_artifacts(self.store, self.warn)
        if "artifacts" in self.wanted:
            self._table(connection, "artifacts", artifact_table(kept))
        tables = [
            (artifact, output, found)
            for artifact in kept
            for output, paths in artifact.tables()
            if (found := self._readable(paths))
        ]
        if self.wanted & {"rows", "edges"}:
            empty = (
                "SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS artifact, NULL::VARCHAR AS output, "
                "NULL::VARCHAR AS step, "
                "NULL::VARCHAR[] AS parents, NULL::VARCHAR[] AS calls, NULL::JSON AS content WHERE false"
            )
            selects = [
                f"SELECT _id, {_text(a.key)}, {_text(output)}, {_text(a.step)}, _parents, _calls, "
                f"{_content(paths[0])} FROM {_reads(paths)}"
                for a, output, paths in tables
            ]
            self._union(connection, "rows", [empty, *selects])
            connection.execute(
                "CREATE VIEW edges AS SELECT id AS child, unnest(parents) AS parent, artifact, step FROM rows"
            )
        self._aside(connection, kept, "dropped", ("reason", "detail"))
        self._aside(connection, kept, "failed", ("kind", "message", "raw"))
        if "samples" in self.wanted:
            self._samples(connection, kept)
        if "named" in self.wanted:
            connection.execute("CREATE SCHEMA named")
            for artifact, output, paths in tables:
                for name in artifact.names:
                    title = name if output is None else f"{name}.{output}"
                    connection.execute(f"CREATE VIEW named.{_name(title)} AS SELECT * FROM {_reads(paths)}")

    def _aside(
        self, connection: duckdb.DuckDBPyConnection, kept: Iterable[Kept], kind: str, columns: tuple[str, ...]
    ) -> None:
        if kind not in self.wanted:
            return
        names = ", ".join(columns)
        selects = [
            f"SELECT NULL::VARCHAR AS id, NULL::VARCHAR AS artifact, NULL::VARCHAR AS step, "
            f"{', '.join(f'NULL::VARCHAR AS {c}' for c in columns)}, NULL::JSON AS content WHERE false"
        ]
        for artifact in kept:
            for path in self._readable(artifact.asides(kind)):
                own = f"_id, {_text(artifact.key)}, {_text(artifact.step)}"
                selects.append(f"SELECT {own}, {names}, TRY_CAST(row AS JSON) FROM {_reads([path])}")
        self._union(connection, kind, selects)

    def _samples(self, connection: duckdb.DuckDBPyConnection, kept: Iterable[Kept]) -> None:
        selects = [
            "SELECT run AS source, step, make_timestamp((ts * 1e6)::BIGINT) AS time, item, data->>'model' AS model, "
            "data->>'reply' AS reply, data->>'error' AS error, data::JSON AS data FROM _logged"
        ]
        for artifact in kept:
            own = f"SELECT {_text(artifact.key)}, NULL, NULL, item, model, reply, error, to_json(x)"
            paths = self._readable([str(artifact.folder / "data" / "items.parquet")])
            selects.extend(f"{own} FROM {_reads([path])} x" for path in paths)
        self._union(connection, "samples", selects)

    def _call_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        from ._calls import attempt_table, call_table, spending_table

        if "calls" in self.wanted:
            texts = WITHOUT_TEXTS not in self.wanted
            self._table(connection, "calls", call_table(self.store, self.warn, texts=texts))
        if "attempts" in self.wanted:
            self._table(connection, "attempts", attempt_table(self.store, self.warn))
        if "spending" in self.wanted:
            self._table(connection, "spending", spending_table(self.store, self.warn))

    def _table(self, connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table | pa.RecordBatchReader) -> None:
        connection.register("_given", table)
        json_columns = [c for c in ("config", "record", "inputs", "usage", "data") if c in table.schema.names]
        casts = f" REPLACE ({', '.join(f'{c}::JSON AS {c}' for c in json_columns)})" if json_columns else ""
        connection.execute(f"CREATE TABLE {name} AS SELECT *{casts} FROM _given")

    def _union(self, connection: duckdb.DuckDBPyConnection, name: str, selects: Sequence[str]) -> None:
        connection.execute(f"CREATE VIEW {name} AS {' UNION ALL '.join(selects)}")

    def _readable(self, paths: Iterable[str]) -> list[str]:
        """The Parquet files among `paths` that exist and are whole; they become readable for the query."""
        found = []
        for path in paths:
            if path in self.broken:
                continue
            try:
                with open(path, "rb") as file:
                    head = file.read(4)
                    size = file.seek(0, os.SEEK_END)
                    file.seek(max(0, size - 4))
                    whole = size >= 12 and head == file.read(4) == b"PAR1"
            except FileNotFoundError:
                continue
            if whole:
                found.append(path)
            else:
                self.broken.add(path)
                self.warn(f"`{os.path.relpath(path, self.store)}` is no whole Parquet file and is left out")
        self.files.extend(found)
        return found


@dataclass
class _Runs:
    """The runs of a store: those that count by their own folder, and the shared files."""

    store: Path
    folders: list[Path]
    manifest: Manifest
    present: set[str]

    @classmethod
    def find(cls, store: Path, warn: Warn) -> _Runs:
        try:
            with os.scandir(store / "runs") as entries:
                present = {entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()}
            manifest = Manifest.read(store)
        except FileNotFoundError:
            return cls(store, [], Manifest(store), set())
        except StoreError as error:
            warn(str(error))
            manifest = Manifest(store / "runs" / ".index")
        loose = sorted(present - manifest.held)
        return cls(store, [store / "runs" / name for name in loose], manifest, present)

    def shared_metrics(self, readable: Callable[[Iterable[str]], list[str]]) -> list[str]:
        selects: list[str] = []
        for part in self.manifest.parts:
            gone = [*part.struck, *(run for run in part.runs if run not in self.present)]
            where = f" WHERE run NOT IN ({', '.join(map(_text, gone))})" if gone else ""
            paths = readable([str(self.manifest.folder / part.metrics_name)])
            selects.extend(f"SELECT * FROM {_reads([path])}{where}" for path in paths)
        return selects

    def table(self, readable: Callable[[Iterable[str]], list[str]]) -> pa.Table:
        records = [(name.name, record) for name in self.folders if (record := read_record(name)) is not None]
        for part in self.manifest.parts:
            for path in readable([str(self.manifest.folder / part.runs_name)]):
                shared = pq.read_table(path)
                struck = set(part.struck)
                for run, text in zip(shared["run"].to_pylist(), shared["record"].to_pylist(), strict=True):
                    if run not in struck and run in self.present:
                        records.append((run, json.loads(text)))
        rows = [
            _run_row(self.store / "runs" / run, record) for run, record in sorted(records, key=lambda entry: entry[0])
        ]
        return pa.Table.from_pylist(rows, schema=RUNS)


def _run_row(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    def moment(value: Any) -> dt.datetime | None:
        return None if value is None else dt.datetime.fromtimestamp(value, dt.UTC).replace(tzinfo=None)

    started, ended = record.get("started"), record.get("ended")
    texts = {
        name: None if record.get(name) is None else str(record[name])
        for name in ("name", "kind", "parent", "step_key", "host", "error")
    }
    return {
        "id": folder.name,
        **texts,
        "status": status_of(folder, record),
        "started": moment(started),
        "ended": moment(ended),
        "seconds": None if started is None or ended is None else ended - started,
        "config": json.dumps(record.get("config", {})),
        "record": json.dumps(record),
    }


def _content(path: str) -> str:
    """The user's columns of a table as one JSON value."""
    names = [name for name in pq.read_schema(path).names if not name.startswith("_")]
    fields = ", ".join(f"{_name(name)} := {_name(name)}" for name in names)
    return f"to_json(struct_pack({fields}))" if names else "'{}'::JSON"


def _reads(paths: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(map(_text, paths))}])"


def _text(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
