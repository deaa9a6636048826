"""The work of compaction: merging settled runs into shared files."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ._tables import METRICS, run_metrics, settle, write_parquet
from .compaction import Manifest, Shared
from .run import read_record, status_of, write_record

RECORDS = pa.schema([("run", pa.string()), ("record", pa.string())])
MERGE_AT = 8
"""Shared files of one kind from which all are merged into one."""


def move(store: Path, at_least: int) -> int:
    """Move every loose run that is over behind the manifest. The caller holds the lock."""
    manifest = Manifest.read(store)
    over = [(folder, record) for folder in loose_runs(store, manifest) if (record := _ended(folder)) is not None]
    if len(over) < at_least or not over:
        return 0
    manifest.number += 1
    part = Shared(manifest.number, [folder.name for folder, _ in over])
    _write_metrics([folder for folder, _ in over], manifest.folder / part.metrics_name)
    table = pa.table({"run": part.runs, "record": [json.dumps(record) for _, record in over]}, schema=RECORDS)
    write_parquet(table, manifest.folder / part.runs_name)
    manifest.parts.append(part)
    replaced = _merge(manifest) if len(manifest.parts) >= MERGE_AT else []
    manifest.write()
    for path in [folder / "metrics.parquet" for folder, _ in over] + replaced:
        path.unlink(missing_ok=True)
    return len(over)


def restore(store: Path, run_id: str) -> None:
    """Give a run's folder its metrics back and strike it out. The caller holds the lock."""
    manifest = Manifest.read(store)
    for part in manifest.parts:
        if run_id not in part.runs or run_id in part.struck:
            continue
        settled = store / "runs" / run_id / "metrics.parquet"
        if not settled.exists():
            kept = pq.read_table(manifest.folder / part.metrics_name, schema=METRICS, filters=[("run", "=", run_id)])
            write_parquet(kept, settled)
        part.struck.append(run_id)
    manifest.write()


def loose_runs(store: Path, manifest: Manifest) -> list[Path]:
    """Folders of runs that count by themselves."""
    held = manifest.held
    with os.scandir(store / "runs") as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    return [store / "runs" / name for name in sorted(names) if name not in held]


def _ended(folder: Path) -> dict[str, Any] | None:
    """The record of a run that is over, settled; None for one that runs or cannot be read."""
    record = read_record(folder)
    if record is None:
        return None
    status = status_of(folder, record)
    if status == "running":
        return None
    try:
        settle(folder)
        if record.get("status") == "running":
            record.update(status=status, ended=_last_sign(folder))
            write_record(folder, record)
    except (OSError, pa.ArrowException):
        return None  # left as it is: queries set the broken file aside and say so
    return record


def _last_sign(folder: Path) -> float:
    times = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=time.time())


def _write_metrics(folders: list[Path], path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with pq.ParquetWriter(temporary, METRICS, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        rows = 0
        for folder in folders:
            table = run_metrics(folder)
            waiting.append(table)
            rows += table.num_rows
            if rows >= 200_000:
                writer.write_table(pa.concat_tables(waiting))
                waiting, rows = [], 0
        writer.write_table(pa.concat_tables([METRICS.empty_table(), *waiting]))
    os.replace(temporary, path)


def _merge(manifest: Manifest) -> list[Path]:
    """Merge the shared files into one pair, without struck runs; returns the files that are no longer used."""
    old = manifest.parts
    manifest.number += 1
    merged = Shared(manifest.number, sorted(manifest.held))
    temporary = manifest.folder / f".{merged.metrics_name}-{os.getpid()}"
    records = []
    with pq.ParquetWriter(temporary, METRICS, compression="zstd") as writer:
        for part in old:
            struck = pa.array(part.struck, pa.string())
            file = pq.ParquetFile(manifest.folder / part.metrics_name)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group).cast(METRICS)
                writer.write_table(table.filter(pc.invert(pc.is_in(table["run"], struck))))
            known = pq.read_table(manifest.folder / part.runs_name, schema=RECORDS)
            records.append(known.filter(pc.invert(pc.is_in(known["run"], struck))))
    os.replace(temporary, manifest.folder / merged.metrics_name)
    write_parquet(pa.concat_tables(records), manifest.folder / merged.runs_name)
    manifest.parts = [merged]
    return [manifest.folder / name for part in old for name in (part.metrics_name, part.runs_name)]
