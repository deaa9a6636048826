"""Curation of a large table: Dedup, a quality filter and a grouped, stratified Split; rows per CPU second, peak memory.

Documents of 40 words out of 50,000, each with a source and a kind; every tenth is a copy of one before with one word
changed. Everything runs in one process, from a Parquet file to two parts in the store. The same with ten times fewer
rows says how memory grows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _report import line, show

LENGTH, WORDS, BATCH = 40, 50_000, 50_000
MOST_MB = 2000


def documents(number: int) -> Iterator[pa.Table]:
    """Tables of rows with `input`, `source` (twenty rows each) and `kind`."""
    rng = np.random.default_rng(0)
    words = np.array([f"w{word:05d}" for word in range(WORDS)])
    for start in range(0, number, BATCH):
        size = min(BATCH, number - start)
        # A vocabulary in which common words are common, as in text.
        picked = (WORDS * rng.random((size, LENGTH)) ** 2).astype(np.int64)
        copies = np.arange(9, size, 10)
        picked[copies] = picked[copies - 5]
        picked[copies, rng.integers(LENGTH, size=len(copies))] = rng.integers(WORDS, size=len(copies))
        texts = [" ".join(line) for line in words[picked]]
        numbers = np.arange(start, start + size)
        yield pa.table({"input": texts, "source": numbers // 20, "kind": numbers % 7})


def child(rows: int, folder: Path) -> None:
    """Runs the steps; prints CPU seconds of each, what they kept, and the peak memory as JSON."""
    import stillhouse as sh

    source = folder / "rows.parquet"
    table = sh.Import(path=source, require=())
    unique = sh.Dedup(rows=table)
    rules = (
        sh.Rule(measure="words", at_least=20, at_most=1000),
        sh.Rule(measure="mean_word_length", at_least=3, at_most=10),
        sh.Rule(measure="alphabetic_words", at_least=0.8),
    )
    good = sh.Quality(rows=unique, columns="input", rules=rules)
    split = sh.Split(rows=good, test_size=0.1, by="kind", group="source")
    found: dict[str, Any] = {"seconds": {}, "kept": {}}
    with sh.Session(folder / "store", progress=False, track=False) as session:
        for name, step in (("Import", table), ("Dedup", unique), ("Quality", good), ("Split", split)):
            started = time.process_time()
            made = session.run(step)
            found["seconds"][name] = time.process_time() - started
            found["kept"][name] = made.record["counts"]["out"]
    divide = 1 << 20 if sys.platform == "darwin" else 1 << 10
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / divide
    print(json.dumps(found))


def measured(rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="curate-scale-") as folder:
        writer: pq.ParquetWriter | None = None
        for table in documents(rows):
            writer = writer or pq.ParquetWriter(Path(folder) / "rows.parquet", table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
        command = [sys.executable, __file__, "--child", str(rows), folder]
        found: dict[str, Any] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        )
        return found


def lines(sizes: tuple[int, int]) -> Iterator[dict[str, Any]]:
    small, large = (measured(size) for size in sizes)
    rows = sizes[1]
    for name, seconds in large["seconds"].items():
        before = small["seconds"][name] / sizes[0]
        reference = f"at {sizes[0]:,} rows"
        yield line(f"{name}, {rows:,} rows", 1e6 * seconds / rows, "CPU-µs/row", reference, 1e6 * before, "lower")
    work = sum(seconds for name, seconds in large["seconds"].items() if name != "Import")
    before = sum(seconds for name, seconds in small["seconds"].items() if name != "Import")
    name = f"Dedup, Quality and Split of {rows:,} rows"
    yield line(name, rows / work, "rows/CPU-s", f"at {sizes[0]:,} rows", sizes[0] / before, "higher")
    yield line(f"{name}, peak memory", large["peak_mb"], "MB", f"peak at {sizes[0]:,} rows", small["peak_mb"], "lower")
    yield line(f"{name}, peak memory", large["peak_mb"], "MB", "limit", MOST_MB, "lower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--quick", action="store_true", help="20,000 rows beside 100,000")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large table (default: 1,000,000)")
    parser.add_argument("--child", nargs=2, metavar=("ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(int(options.child[0]), Path(options.child[1]))
        return
    sizes = (20_000, 100_000) if options.quick else (max(1000, options.rows // 10), options.rows)
    for entry in lines(sizes):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
