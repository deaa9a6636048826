"""Rows per CPU second of a map step that asks a model of no latency, end to end to a finished artifact; memory too.

Each case runs in a process of its own, after a few rows to load what is loaded once: 200-byte rows, a prompt template,
every call written to the cache (cold) or found there (cached). Memory is the peak resident size of the process that
maps, at a tenth of the rows and at all of them. How fast the machine is just now is told by a bare loop that does by
hand what a cold run cannot do without: fill, digest, keep in SQLite, name each row by its content, write Parquet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import line, show

COLD, CACHED, MEMORY_MB, GROWTH = 20_000, 50_000, 600, 1.2


def echo(messages: list[dict[str, str]], schema: dict[str, object] | None, sample: int) -> str:
    """The model: says the beginning back."""
    return messages[-1]["content"][:40]


def child(case: str, rows: int, folder: Path) -> None:
    """One case in this process; prints CPU seconds of the step and the peak memory as JSON."""
    from stillhouse.calls.ask import Ask
    from stillhouse.core.session import Session
    from stillhouse.generate.prompt import Prompt
    from stillhouse.rows.import_ import Import
    from stillhouse.rows.slices import Take

    source = folder / "rows.jsonl"
    if case == "bare":
        print(json.dumps({"seconds": bare(folder)}))
        return
    if not source.exists():
        with source.open("w") as file:
            for number in range(rows):
                file.write(json.dumps({"number": number, "text": f"row {number} ".ljust(200, "x")}) + "\n")
    asked = Import(path=source, require=())
    column = "reply" if case == "cold" else "again"
    step = Prompt(
        rows=asked, by=Ask(model="python:map_speed:echo"), template="Say this back: {{ text }}", column=column
    )
    with Session(folder / "store", track=False, progress=False) as session:
        if case == "import":
            session.run(asked)
            return
        session.run(asked)
        few = Take(rows=asked, num=5)
        session.run(step.replace(rows=few, template="Warm up {{ number }}"))  # imports are not a row's cost
        started = time.process_time()
        made = session.run(step)
        seconds = time.process_time() - started
        if len(made) != rows:
            raise SystemExit(f"{len(made)} rows came out of {rows}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak_mb": peak / (1024 if sys.platform == "darwin" else 1)}))


def bare(folder: Path) -> float:
    """CPU seconds of the same work in one loop: nothing is resumed, checked, traced or shared."""
    import sqlite3
    from hashlib import blake2b

    import pyarrow as pa
    import pyarrow.parquet as pq

    started = time.process_time()
    calls = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    calls.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;"
        "CREATE TABLE replies (id INTEGER PRIMARY KEY, key BLOB UNIQUE, reply TEXT, request BLOB)"
    )
    writer = None
    with (folder / "rows.jsonl").open() as file:
        while lines := list(itertools.islice(file, 4096)):
            made, kept = [], []
            for text in lines:
                row = json.loads(text)
                messages = [{"role": "user", "content": f"Say this back: {row['text']}"}]
                request = json.dumps(messages).encode()
                row["reply"] = echo(messages, None, 0)
                kept.append((blake2b(request, digest_size=16).digest(), row["reply"], request))
                row["_id"] = blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=12).hexdigest()
                made.append(row)
            calls.execute("BEGIN")
            calls.executemany("INSERT OR IGNORE INTO replies (key, reply, request) VALUES (?, ?, ?)", kept)
            calls.execute("COMMIT")
            table = pa.Table.from_pylist(made)
            writer = writer or pq.ParquetWriter(folder / "bare.parquet", table.schema, compression="zstd")
            writer.write_table(table)
    assert writer is not None
    writer.close()
    calls.close()
    return time.process_time() - started


def measure(rows: int) -> dict[str, dict[str, float]]:
    """Cold and cached figures for one number of rows."""
    folder = Path(tempfile.mkdtemp(prefix="map-speed-"))
    found = {}
    try:
        for case in ("import", "cold", "cached", "bare"):
            command = [sys.executable, __file__, "--child", case, str(rows), str(folder)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            if case != "import":
                found[case] = json.loads(out)
    finally:
        shutil.rmtree(folder)
    return found


def lines(sizes: tuple[int, int]) -> list[dict[str, object]]:
    small, large = (measure(rows) for rows in sizes)
    report: list[dict[str, object]] = []
    for case, wanted in (("cold", COLD), ("cached", CACHED)):
        speed = sizes[1] / large[case]["seconds"]
        report.append(line(f"map step, every call {case}", speed, "rows/CPU-s", "limit", wanted, "higher"))
        by_hand = sizes[1] / large["bare"]["seconds"]
        name = f"map step, every call {case}, beside a bare loop"
        report.append(line(name, speed, "rows/CPU-s", "a bare cold loop just now", by_hand, "higher"))
    for case in ("cold", "cached"):
        peak, before = large[case]["peak_mb"], small[case]["peak_mb"]
        name = f"peak memory, {case}, {sizes[1]:,} rows"
        report.append(line(f"{name} beside {sizes[0]:,}", peak, "MB", f"peak at {sizes[0]:,} rows", before, "lower"))
        report.append(line(name, peak, "MB", "limit", MEMORY_MB, "lower"))
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--quick", action="store_true", help="10,000 and 100,000 rows in place of 100,000 and 1,000,000"
    )
    parser.add_argument("--child", nargs=3, metavar=("CASE", "ROWS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        case, rows, folder = options.child
        child(case, int(rows), Path(folder))
        return
    for entry in lines((10_000, 100_000) if options.quick else (100_000, 1_000_000)):
        show(entry, as_json=options.json)


if __name__ == "__main__":
    main()
