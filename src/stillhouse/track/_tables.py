"""Reading and settling what one run wrote: live lines become sorted Parquet."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

METRICS = pa.schema(
    [
        ("run", pa.string()),
        ("metric", pa.string()),
        ("step", pa.int64()),
        ("ts", pa.float64()),
        ("value", pa.float64()),
        ("text", pa.string()),
    ]
)
SAMPLES = pa.schema(
    [("run", pa.string()), ("step", pa.int64()), ("ts", pa.float64()), ("item", pa.string()), ("data", pa.string())]
)


def settle(folder: Path) -> None:
    """Turn the live files of a run into Parquet: written aside, renamed, and only then are the live files removed.

    Killed at any point, doing it again gives the same: lines that stand in both are the same metric at the same step.
    """
    for kind, name, table in (
        ("live", "metrics.parquet", run_metrics(folder)),
        ("samples", "samples.parquet", run_samples(folder)),
    ):
        lines = live_files(folder, kind)
        if not lines:
            continue
        write_parquet(table, folder / name)
        for path in lines:
            path.unlink()


def run_metrics(folder: Path) -> pa.Table:
    """All metrics of a run, settled and live, sorted; for one metric at one step the last line counts."""
    live = live_metrics(folder)  # first: what is settled meanwhile is found in the Parquet file
    settled = folder / "metrics.parquet"
    tables = [pq.read_table(settled, schema=METRICS)] if settled.exists() else []
    return latest_of_each(pa.concat_tables([*tables, live]))


def run_samples(folder: Path) -> pa.Table:
    live = live_samples(folder)
    settled = folder / "samples.parquet"
    tables = [pq.read_table(settled, schema=SAMPLES)] if settled.exists() else []
    return pa.concat_tables([*tables, live])


def live_metrics(folder: Path) -> pa.Table:
    """The live lines of a run as a table; a torn or foreign line is left out."""
    metrics: list[str] = []
    steps: list[int] = []
    times: list[float] = []
    values: list[float | None] = []
    texts: list[str | None] = []
    for line in _lines(live_files(folder, "live")):
        step, ts = line["step"], line["ts"]
        numbers: dict[str, float] = line.get("m", {})
        odd = {name: float(text) for name, text in line.get("n", {}).items()}
        words: dict[str, str] = line.get("t", {})
        for found in (numbers, odd):
            metrics.extend(found)
            values.extend(found.values())
            texts.extend([None] * len(found))
        metrics.extend(words)
        values.extend([None] * len(words))
        texts.extend(words.values())
        count = len(numbers) + len(odd) + len(words)
        steps.extend([step] * count)
        times.extend([ts] * count)
    columns = [[folder.name] * len(metrics), metrics, steps, times, values, texts]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, METRICS, strict=True)], schema=METRICS)


def live_samples(folder: Path) -> pa.Table:
    lines = list(_lines(live_files(folder, "samples")))
    return pa.table(
        {
            "run": pa.array([folder.name] * len(lines), pa.string()),
            "step": pa.array([line["step"] for line in lines], pa.int64()),
            "ts": pa.array([line["ts"] for line in lines], pa.float64()),
            "item": pa.array([None if line["item"] is None else str(line["item"]) for line in lines], pa.string()),
            "data": pa.array([orjson.dumps(line["data"]).decode() for line in lines], pa.string()),
        },
        schema=SAMPLES,
    )


def latest_of_each(table: pa.Table) -> pa.Table:
    """Sorted by run, metric and step, one row for each: the last by time, of equal times the one that stands last."""
    if table.num_rows == 0:
        return table
    place = pa.array(range(table.num_rows), pa.int64())
    keys = [(name, "ascending") for name in ("run", "metric", "step", "ts", "place")]
    ordered = table.append_column("place", place).sort_by(keys)
    if ordered.num_rows > 1:
        changed = pa.array([False] * (ordered.num_rows - 1))
        for name in ("run", "metric", "step"):
            column = ordered[name].combine_chunks()
            changed = pc.or_(changed, pc.not_equal(column.slice(0, len(column) - 1), column.slice(1)))
        ordered = ordered.filter(pa.concat_arrays([_flat(changed), pa.array([True])]))
    return ordered.drop_columns(["place"])


def last_step(folder: Path) -> int:
    """The highest step that a run logged; -1 for none."""
    highest = max((int(line["step"]) for line in _lines(live_files(folder, "live"))), default=-1)
    settled = folder / "metrics.parquet"
    if settled.exists():
        found = pc.max(pq.read_table(settled, columns=["step"])["step"]).as_py()
        highest = max(highest, -1 if found is None else int(found))
    return highest


def live_files(folder: Path, kind: str) -> list[Path]:
    """Live files of a run in the order in which they were last written to."""
    found = []
    for path in folder.glob(f"{kind}-*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found)]


def write_parquet(table: pa.Table, path: Path) -> None:
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd", row_group_size=100_000)
    os.replace(temporary, path)


def _lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # settled meanwhile
            continue
        for line in content.splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                parsed = orjson.loads(line)
                if isinstance(parsed, dict) and "step" in parsed:
                    yield parsed


def _flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
