"""The experiment store: cost of logging, size on disk, queries over many runs, and what kill -9 loses.

Every figure is held against a floor measured in the same run: bare `json.dumps` and `os.write` of the same lines,
DuckDB over one ready-made Parquet file. CPU seconds, because the machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from stillhouse.track.compaction import compact
from stillhouse.track.query import query
from stillhouse.track.run import Run, write_record

TOP5 = "SELECT run, arg_max(value, step) AS last FROM metrics WHERE metric = 'loss' GROUP BY run ORDER BY last LIMIT 5"
CHILD = """
import sys
from stillhouse.track.run import Run
run = Run.start(sys.argv[1])
for step in range(10_000_000):
    run.log({"loss": float(step)}, step=step)
    sys.stdout.write(f"{step}\\n")
    sys.stdout.flush()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="a smaller set, within 50 seconds")
    options = parser.parse_args()
    num_runs, steps, listed = (50, 400, 2000) if options.quick else (200, 1000, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        for line in [
            *writing(Path(folder) / "write", num_runs, steps),
            *listing(Path(folder) / "list", listed),
            *killed(Path(folder) / "kill"),
        ]:
            print(json.dumps(line) if options.json else _readable(line), flush=True)


def values(run: int, steps: int) -> Iterator[dict[str, float]]:
    """Five metrics with noise; the final loss differs by run."""
    draw = random.Random(run)
    floor = 0.5 + draw.random()
    for step in range(steps):
        share = step / max(1, steps - 1)
        loss = floor + 3.0 * math.exp(-4.0 * share) + draw.gauss(0, 0.01)
        yield {
            "loss": loss,
            "grad_norm": abs(draw.gauss(1, 0.2)),
            "lr": 1e-4 * (1 - share),
            "tokens_per_s": 9000 + draw.gauss(0, 50),
            "eval_loss": loss + 0.05,
        }


def writing(folder: Path, num_runs: int, steps: int) -> Iterator[dict[str, object]]:
    """Log whole runs, and ask for the five best, loose and compacted."""
    data = [list(values(run, steps)) for run in range(num_runs)]
    log_cpu = finish_cpu = 0.0
    for run, rows in enumerate(data):
        opened = Run.start(folder, id=f"run-{run:05d}")
        started = time.process_time()
        for row in rows:
            opened.log(row)
        log_cpu += time.process_time() - started
        if run == 0:
            live_bytes = sum(path.stat().st_size for path in opened.folder.glob("live-*"))
        started = time.process_time()
        opened.finish()
        finish_cpu += time.process_time() - started
    bare, one_file, table_cpu = _bare(folder.with_name("bare"), data)
    total = num_runs * steps
    yield _figure(
        "log one step of 5 metrics", log_cpu / total * 1e6, "us CPU", "bare json and write", bare / total * 1e6
    )
    yield _figure("finish a run", finish_cpu / num_runs * 1e3, "ms CPU", "build and write its Parquet", table_cpu * 1e3)
    loose = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    yield _figure("size of a finished run", loose / num_runs, "bytes", "its live JSONL", live_bytes)
    floor = _cpu(lambda: duckdb.sql(TOP5.replace("metrics", f"read_parquet('{one_file}')", 1)).fetchall())
    cold = _cpu(lambda: query(folder, TOP5))
    yield _figure(f"top 5 of {num_runs} loose runs", cold * 1e3, "ms CPU", "DuckDB over one file", floor * 1e3)
    started = time.process_time()
    moved = compact(folder)
    yield _figure(
        "compact one run",
        (time.process_time() - started) / moved * 1e3,
        "ms CPU",
        "finish a run",
        finish_cpu / num_runs * 1e3,
    )
    warm = _cpu(lambda: query(folder, TOP5))
    yield _figure(f"top 5 of {num_runs} compacted runs", warm * 1e3, "ms CPU", "DuckDB over one file", floor * 1e3)
    small = sum(path.stat().st_size for path in (folder / "runs" / ".index").glob("*"))
    yield _figure("size of a compacted run", small / num_runs, "bytes", "its live JSONL", live_bytes)


def _bare(folder: Path, data: list[list[dict[str, float]]]) -> tuple[float, Path, float]:
    """The floor: CPU seconds of writing the same lines, one Parquet file of it all, CPU seconds of one run's table."""
    folder.mkdir()
    started = time.process_time()
    for run, rows in enumerate(data):
        descriptor = os.open(folder / f"{run}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for step, row in enumerate(rows):
            os.write(descriptor, (json.dumps({"step": step, "ts": time.time(), **row}) + "\n").encode())
        os.close(descriptor)
    bare = time.process_time() - started
    tables = []
    started = time.process_time()
    for run, rows in enumerate(data):
        flat = [(f"run-{run:05d}", name, step, value) for step, row in enumerate(rows) for name, value in row.items()]
        tables.append(
            pa.table(dict(zip(("run", "metric", "step", "value"), map(list, zip(*flat, strict=True)), strict=True)))
        )
        pq.write_table(tables[-1], folder / "run.parquet", compression="zstd")
    table_cpu = (time.process_time() - started) / len(data)
    pq.write_table(pa.concat_tables(tables), folder / "all.parquet", compression="zstd")
    return bare, folder / "all.parquet", table_cpu


def listing(folder: Path, num_runs: int) -> Iterator[dict[str, object]]:
    """List very many runs, after compaction; the limit is one second."""
    template = Run.start(folder, id="template", config={"lr": 0.001, "seed": 1})
    template.log({"loss": 1.0})
    template.finish()
    settled = (template.folder / "metrics.parquet").read_bytes()
    for number in range(num_runs):
        place = folder / "runs" / f"r{number:06d}"
        place.mkdir()
        (place / "metrics.parquet").write_bytes(settled)
        write_record(place, {**template.record, "id": place.name})
    compact(folder)
    started = time.perf_counter()
    found = query(folder, "SELECT id, name, status, config->>'lr' AS lr FROM runs ORDER BY started DESC").num_rows
    seconds = time.perf_counter() - started
    assert found == num_runs + 1
    yield _figure(f"list {num_runs} compacted runs", seconds * 1e3, "ms wall", "limit", 1000.0)


def killed(folder: Path) -> Iterator[dict[str, object]]:
    """Kill a run in mid-flight: steps that were acknowledged and are not found again."""
    lost = acknowledged = 0
    for round_number in range(5):
        store = folder / str(round_number)
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(store)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        last = -1
        stop_at = random.Random(round_number).randrange(200, 2000)
        for line in child.stdout:
            last = int(line)
            if last == stop_at:
                child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = query(store, "SELECT count(*) AS n FROM metrics").to_pylist()[0]["n"]
        acknowledged += last + 1
        lost += max(0, last + 1 - found)
    yield _figure("steps lost at 5 kills -9", lost, "steps", "acknowledged steps", acknowledged)


def _cpu(work: Callable[[], object]) -> float:
    """The least CPU seconds of five."""
    times = []
    for _ in range(5):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def _figure(name: str, value: float, unit: str, reference: str, reference_value: float) -> dict[str, object]:
    return {
        "name": f"tracking: {name}",
        "value": round(value, 3),
        "unit": unit,
        "reference": reference,
        "reference_value": round(reference_value, 3),
        "ratio": round(value / reference_value, 3) if reference_value else None,
        "better": "lower",
    }


def _readable(line: dict[str, object]) -> str:
    reference = f"{line['reference']}: {line['reference_value']}, ratio {line['ratio']}"
    return f"{line['name']}: {line['value']} {line['unit']} ({reference})"


if __name__ == "__main__":
    main()
